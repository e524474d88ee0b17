"""Writes include/lineage/<pipeline>.json: the columns of every data set that the pipeline's tasks report, and their origins.

Nothing in these files is written by hand. The lineage of SQL comes from the files and templates that are run, that of a
transform from Spark's plan, and the rest from the declaration.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from unittest.mock import patch

from pyarrow import parquet

from include import pipelines
from include.bigquery import tables
from include.bigquery.settings import SETTING as BIGQUERY
from include.column_lineage import FOLDER
from include.lakehouse import hourly as hours
from include.lakehouse.settings import SETTING as LAKEHOUSE
from include.lakehouse.table import KEY, schema
from include.pipelines import Pipeline
from include.spark import fate, lake, run
from include.warehouse import bi_views
from include.warehouse import columns as ddl
from include.warehouse.sql import FOLDER as SQL
from include.warehouse.sql import files
from tests.lineage import plan_lineage, sql_lineage
from tests.lineage.origins import IDENTITY, TRANSFORMATION, Origins, Relation, union

MYSQL, DUCKDB = "mysql", "duckdb"


def document(pipeline: Pipeline, spark) -> dict[str, dict]:
    """Data sets by store and name: columns with their origins, and the sources that decide which rows exist."""
    return dict(_data_sets(pipeline, spark))


def text(pipeline: Pipeline, spark) -> str:
    """The text of the file: a line for each column."""
    data_sets = []
    for name, described in document(pipeline, spark).items():
        lines = ",\n".join(
            f"   {json.dumps(column)}: {json.dumps(details)}" for column, details in described["columns"].items()
        )
        members = [f'  "columns": {{\n{lines}\n  }}']
        members += [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in described.items() if key != "columns"]
        data_sets.append(f" {json.dumps(name)}: {{\n" + ",\n".join(members) + "\n }")
    return "{\n" + ",\n".join(data_sets) + "\n}\n"


def _data_sets(pipeline: Pipeline, spark) -> Iterator[tuple[str, dict]]:
    topic, lake_table = f"kafka {pipeline.topic}", f"cassandra {pipeline.lake_table}"
    own_id = () if pipeline.event_id in lake.KEY else (pipeline.event_id,)
    yield _describe(topic, {name: {} for name in dict.fromkeys(("create_time", *own_id, *pipeline.fields))})
    yield _describe(lake_table, _lake_columns(pipeline), _ingest_lineage(pipeline, topic))
    yield from _warehouse_tables(pipeline, _staging_lineage(pipeline, lake_table, spark))
    if pipeline.lakehouse:
        yield from _lakehouse(pipeline, lake_table)


def _lake_columns(pipeline: Pipeline) -> dict[str, dict]:
    """The columns of the lake table, and the payload's members as `payload.<field>`."""
    types = {"minute": "timestamp", "shard": "int", "create_time": "timeuuid"}
    columns = {name: {"type": types.get(name, "text")} for name in (*lake.key_of(pipeline), "payload")}
    return columns | {f"payload.{name}": {} for name in pipeline.fields}


def _ingest_lineage(pipeline: Pipeline, topic: str) -> Relation:
    """A message becomes the payload as it is, and the fields that identify it make the key: include/lake/admission.py.

    A message without an id gets one from all of its fields, which is not reported.
    """
    timed_by = ["create_time", *([pipeline.event_time] if pipeline.event_time else [])]
    identified_by = [*timed_by, pipeline.event_id] if pipeline.event_time else timed_by

    def origins_of(names: list[str]) -> Origins:
        return {(topic, name): TRANSFORMATION for name in names}

    own_id = timed_by if pipeline.event_id == "create_time" else [pipeline.event_id]
    columns = {"minute": origins_of(timed_by), "shard": origins_of(own_id), "create_time": origins_of(identified_by)}
    if pipeline.event_id not in columns:
        columns[pipeline.event_id] = origins_of(own_id)
    return Relation(columns | {f"payload.{name}": {(topic, name): IDENTITY} for name in pipeline.fields})


def _staging_lineage(pipeline: Pipeline, lake_table: str, spark) -> dict[str, Relation]:
    """The lineage of each staging table, from Spark's plan of classify, the common rules and the outputs."""
    transform = run.transform_of(pipeline)
    keys = lake.key_of(pipeline)
    types = {"minute": "timestamp", "shard": "int"}
    schema = ", ".join(f"{name} {types.get(name, 'string')}" for name in (*keys, "payload"))
    source = {name: {(lake_table, name): IDENTITY} for name in (*keys, "payload")}
    rows = lake.with_fields(spark.createDataFrame([], schema), pipeline)
    classified = fate.apply_common_rules(transform.classify(rows, pipeline.options), pipeline)
    counted = classified.where(f"fate = '{fate.COUNTED}'")
    return {
        output.staging: plan_lineage.lineage_of(transform.OUTPUTS[output.name](counted), source)
        for output in pipeline.staged
    }


def _warehouse_tables(pipeline: Pipeline, staged: dict[str, Relation]) -> Iterator[tuple[str, dict]]:
    """Staging, dimensions, published outputs, contributions and facts, and the views over them."""
    created = dict(
        table
        for file in files(pipeline, "warehouse.sql")
        for statement in file.statements
        if (table := ddl.declared(statement))
    )
    reported = [*staged, *(dimension.table for dimension in pipeline.dimensions), *pipeline.tables_by_minute]
    reported = list(dict.fromkeys([*reported, *(fact.table for fact in pipeline.facts)]))
    columns = {table: sql_lineage.columns_of(created[table], MYSQL) for table in reported}
    filled = {table: _with_generated(relation, columns[table]) for table, relation in staged.items()}

    def read(table: str) -> Relation | None:
        """The columns of a reported table; for any other, such as the keys a batch touched, the lineage of what fills it."""
        if table in columns:
            return _identity(f"{MYSQL} {table}", columns[table])
        return filled.get(table)

    for file in files(pipeline, "merge.sql"):
        for statement in file.statements:
            if result := sql_lineage.insert_lineage(statement, read, MYSQL):
                table, relation = result
                known = filled.get(table, Relation())
                known.columns = {
                    name: union(known.columns.get(name, {}), origins) for name, origins in relation.columns.items()
                }
                known.include_rows(relation)
                filled[table] = known
    for table in reported:
        relation = _with_generated(filled.get(table, Relation()), columns[table])
        described = {
            name: {"type": kind, **({"comment": comment} if comment else {})}
            for name, (kind, comment, _) in columns[table].items()
        }
        yield _describe(f"{MYSQL} {table}", described, relation)
    yield from _views(pipeline, {table: list(kinds) for table, kinds in columns.items()})


def _views(pipeline: Pipeline, columns: dict[str, list[str]]) -> Iterator[tuple[str, dict]]:
    """The views of boards and BI tools; `columns` has the columns of each table."""
    described = {
        view.name: {column.name: {"type": column.type, "comment": column.description} for column in view.columns}
        for view in bi_views.views_of(pipeline)
    }

    def read(table: str) -> Relation | None:
        return _identity(f"{MYSQL} {table}", columns[table]) if table in columns else None

    for file in files(pipeline, "*views.sql"):
        for statement in file.statements:
            view, relation = sql_lineage.view_lineage(statement, read, MYSQL)
            columns[view] = list(relation.columns)
            kinds = described.get(view, {})
            name, known = _describe(
                f"{MYSQL} {view}", {column: kinds.get(column, {}) for column in columns[view]}, relation
            )
            yield name, {**known, "view": True}


def _lakehouse(pipeline: Pipeline, lake_table: str) -> Iterator[tuple[str, dict]]:
    """The Iceberg table of the events, and the hours that the pipeline's query counts from it."""
    events, hourly = (f"{kind} {pipeline.lakehouse.table}" for kind in ("iceberg", "hourly"))
    columns = {field.name: {"type": str(field.field_type)} for field in schema(pipeline).fields}
    read = {name: {(lake_table, name): IDENTITY} for name in KEY}
    read |= {name: {(lake_table, f"payload.{name}"): TRANSFORMATION} for name in columns if name not in KEY}
    yield _describe(events, columns, Relation(read))
    query = (SQL / pipeline.name / "lakehouse" / f"{pipeline.lakehouse.fact}.sql").read_text(encoding="utf-8")
    hour_columns = _hour_columns(pipeline)
    yield _describe(
        hourly, hour_columns, sql_lineage.query_lineage(query, lambda _: _identity(events, columns), DUCKDB)
    )
    yield from _bigquery(pipeline, _identity(hourly, hour_columns))


def _bigquery(pipeline: Pipeline, hourly: Relation) -> Iterator[tuple[str, dict]]:
    """The table that load jobs append the hourly files to, column by column, and its view."""
    with patch.dict(os.environ, {BIGQUERY: "project.dataset"}):
        fields, texts = tables._table(pipeline).schema, tables.descriptions(pipeline)
        query, names = tables.newest_versions(pipeline), (tables.loads_table(pipeline), tables.view(pipeline))
    loads, view = (f"bigquery {name.rpartition('.')[2]}" for name in names)
    columns = {field.name: {"type": field.field_type, "comment": texts[field.name]} for field in fields}
    yield _describe(loads, columns, hourly)
    yield _describe(view, columns, sql_lineage.query_lineage(query, lambda _: _identity(loads, columns), "bigquery"))


def _hour_columns(pipeline: Pipeline) -> dict[str, dict]:
    """The columns of an hourly file, read from one written for this purpose."""
    with TemporaryDirectory() as folder, patch.dict(os.environ, {LAKEHOUSE: f"file://{folder}"}):
        zeros = dict.fromkeys(pipeline.lakehouse.measures, 0)
        hours.write_file(pipeline, hours.HourlyCount(datetime(2026, 3, 1), 1, zeros))
        [file] = Path(folder).rglob("*.parquet")
        return {field.name: {"type": str(field.type)} for field in parquet.read_schema(file)}


def _identity(name: str, columns: Iterable[str]) -> Relation:
    """The relation that maps each column of a data set to itself."""
    return Relation({column: {(name, column): IDENTITY} for column in columns})


def _with_generated(relation: Relation, columns: dict) -> Relation:
    """The relation, with the columns that the table computes from its other columns."""
    for name, (_, _, computed) in columns.items():
        if computed:
            relation.columns[name] = computed(relation.columns)
    return relation


def _describe(name: str, columns: dict[str, dict], relation: Relation | None = None) -> tuple[str, dict]:
    """The entry of a data set in the file."""
    relation = relation or Relation()
    described = {
        column: {**kind, **({"from": _by_table(origins)} if (origins := relation.columns.get(column)) else {})}
        for column, kind in columns.items()
    }
    rows = _by_table({source: " ".join(sorted(kinds)) for source, kinds in relation.rows.items()})
    return name, {"columns": described, **({"rows": rows} if rows else {})}


def _by_table(origins: Origins) -> dict[str, dict[str, str]]:
    result: dict[str, dict[str, str]] = {}
    for (table, column), how in sorted(origins.items()):
        result.setdefault(table, {})[column] = how
    return result


def main() -> None:
    from pyspark.sql import SparkSession

    from include.spark import settings

    spark = SparkSession.builder.master("local[1]").config(map=settings.session_settings("local[1]")).getOrCreate()
    for pipeline in pipelines.all_pipelines().values():
        file = FOLDER / f"{pipeline.name}.json"
        file.write_text(text(pipeline, spark), encoding="utf-8")
        print(file)
    spark.stop()


if __name__ == "__main__":
    main()
