"""A task's data sets with OpenLineage's facets: schema, columnLineage, rows written.

Columns and their origins come from include/lineage/<pipeline>.json, which `make lineage` derives from declarations, SQL and
Spark's plans: docs/adr/0037-derived-column-lineage.md. Imported only when the OpenLineage provider collects a task's lineage.
"""

from __future__ import annotations

from collections.abc import Mapping

from airflow.providers.openlineage.extractors import OperatorLineage
from openlineage.client.event_v2 import InputDataset, OutputDataset
from openlineage.client.facet_v2 import column_lineage_dataset, output_statistics_output_dataset, schema_dataset

from include import column_lineage
from plugins.lineage import DataSet, Lineage


def operator_lineage(lineage: Lineage) -> OperatorLineage:
    """The lineage as the provider takes it. A data set whose lineage is not derived has no columns."""
    data_sets = column_lineage.all_data_sets()
    known = {data_set.key: data_set for data_set in (*lineage.reads, *lineage.writes)}

    def facets(data_set: DataSet) -> dict:
        return _schema(data_sets[data_set.key]["columns"]) if data_set.key in data_sets else {}

    def output(data_set: DataSet) -> OutputDataset:
        own = {**facets(data_set), **_column_lineage(data_sets.get(data_set.key, {}), known)}
        statistics = (
            {}
            if data_set.rows is None
            else {
                "outputStatistics": output_statistics_output_dataset.OutputStatisticsOutputDatasetFacet(
                    rowCount=data_set.rows
                )
            }
        )
        return OutputDataset(data_set.namespace, data_set.name, facets=own, outputFacets=statistics)  # ty: ignore[invalid-argument-type]  # its facets are of subclasses

    return OperatorLineage(
        inputs=[InputDataset(data_set.namespace, data_set.name, facets=facets(data_set)) for data_set in lineage.reads],
        outputs=[output(data_set) for data_set in lineage.writes],
    )


def _schema(columns: Mapping[str, Mapping]) -> dict[str, schema_dataset.SchemaDatasetFacet]:
    fields = [
        schema_dataset.SchemaDatasetFacetFields(name, type=column.get("type"), description=column.get("comment"))
        for name, column in columns.items()
    ]
    return {"schema": schema_dataset.SchemaDatasetFacet(fields=fields)}


def _column_lineage(
    entry: Mapping[str, Mapping], known: Mapping[str, DataSet]
) -> dict[str, column_lineage_dataset.ColumnLineageDatasetFacet]:
    """The lineage of columns that come from data sets of this task; a column of constants has none."""
    fields = {
        name: column_lineage_dataset.Fields(inputFields=inputs)
        for name, column in entry.get("columns", {}).items()
        if (inputs := _inputs(column.get("from", {}), known))
    }
    if not fields:
        return {}
    row_inputs = _inputs(entry.get("rows", {}), known)
    return {"columnLineage": column_lineage_dataset.ColumnLineageDatasetFacet(fields=fields, dataset=row_inputs)}


def _inputs(
    origins: Mapping[str, Mapping[str, str]], known: Mapping[str, DataSet]
) -> list[column_lineage_dataset.InputField]:
    return [
        column_lineage_dataset.InputField(
            known[key].namespace,
            known[key].name,
            column,
            [
                column_lineage_dataset.Transformation("DIRECT" if word in column_lineage.DIRECT else "INDIRECT", word)
                for word in subtypes.split()
            ],
        )
        for key, columns in origins.items()
        if key in known
        for column, subtypes in columns.items()
    ]
