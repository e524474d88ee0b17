"""What a task reads and writes, as OpenLineage names it: declared tables and topics at the addresses of the connections.

Naming a data set does not connect to its store. See docs/monitoring.md.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from include import column_lineage
from include.connections import LAKE_READER, WAREHOUSE_ETL, Endpoint, endpoint
from include.lakehouse.hour_file import folder_of
from include.lakehouse.settings import location
from include.pipelines import Pipeline

CASSANDRA_PORT, MYSQL_PORT, KAFKA_PORT = 9042, 3306, 9092  # the ports of connections without a port


@dataclass(frozen=True)
class DataSet:
    """A table, topic or folder of files by its OpenLineage name: https://openlineage.io/docs/spec/naming."""

    namespace: str  # such as mysql://host:port, bigquery or file
    name: str  # such as database.table, a topic or a folder
    key: str  # in include/lineage/<pipeline>.json
    rows: int | None = None  # how many were written; None: unknown


@dataclass(frozen=True)
class Lineage:
    """What one run of a task read and wrote."""

    reads: tuple[DataSet, ...]
    writes: tuple[DataSet, ...]


def ingest_lineage(pipeline: Pipeline, servers: str, lake: Endpoint, rows: int) -> Lineage:
    """Topic to lake table. `servers` is librdkafka's list of brokers, `rows` the number of events written."""
    topic = DataSet(f"kafka://{_address(servers, None, KAFKA_PORT)}", pipeline.topic, f"kafka {pipeline.topic}")
    return Lineage((topic,), (_lake_data_set(pipeline, lake, rows),))


def transform_lineage(pipeline: Pipeline, lake: Endpoint, warehouse: Endpoint) -> Lineage:
    """Lake table to staging tables."""
    staging = _warehouse_data_sets(warehouse, (output.staging for output in pipeline.staged))
    return Lineage((_lake_data_set(pipeline, lake),), staging)


def merge_lineage(pipeline: Pipeline, warehouse: Endpoint, rows: Mapping[str, int]) -> Lineage:
    """Staging tables to contributions, and contributions and dimensions to facts; `rows`: inserted rows by table.

    Contributions are read too: a fact is the sum of those of all minutes.
    """
    staging = [output.staging for output in pipeline.staged]
    contributions = [fact.contributions for fact in pipeline.facts]
    dimensions = [dimension.table for dimension in pipeline.dimensions]
    published = [*pipeline.tables_by_minute, *(fact.table for fact in pipeline.facts)]
    return Lineage(
        _warehouse_data_sets(warehouse, [*staging, *contributions, *dimensions]),
        _warehouse_data_sets(warehouse, published, rows),
    )


def export_lineage(pipeline: Pipeline) -> Lineage:
    """Lake table to the Iceberg table of its events."""
    return Lineage((_lake_data_set(pipeline, endpoint(LAKE_READER)),), (_iceberg_data_set(pipeline),))


def count_lineage(pipeline: Pipeline) -> Lineage:
    """Iceberg table to the files of its hourly counts."""
    return Lineage((_iceberg_data_set(pipeline),), (_hourly_data_set(pipeline),))


def load_lineage(pipeline: Pipeline) -> Lineage:
    """Files of hourly counts to the table that they are appended to, and that table to its view of the newest counts."""
    from include.bigquery import tables

    loads, view = (
        DataSet("bigquery", name, f"bigquery {name.rpartition('.')[2]}")
        for name in (tables.loads_table(pipeline), tables.view(pipeline))
    )
    return Lineage((_hourly_data_set(pipeline), loads), (loads, view))


def views_lineage() -> Lineage:
    """Facts, contributions and dimensions of all pipelines to the views of boards and BI tools, which set-up creates."""
    data_sets = column_lineage.all_data_sets()
    views = [key for key, entry in data_sets.items() if entry.get("view")]
    sources = {source for key in views for source in column_lineage.sources_of(data_sets[key])}
    target = endpoint(WAREHOUSE_ETL)
    reads, writes = (
        _warehouse_data_sets(target, (key.partition(" ")[2] for key in keys)) for keys in (sorted(sources), views)
    )
    return Lineage(reads, writes)


def _iceberg_data_set(pipeline: Pipeline) -> DataSet:
    """The Iceberg table by the lakehouse's location, which is known without the catalog.

    OpenLineage's integration for Spark reports the same name as a symlink.
    """
    scheme, _, path = location().partition("://")
    namespace = f"file:{path}" if scheme == "file" else location()
    return DataSet(namespace, pipeline.lakehouse.table, f"iceberg {pipeline.lakehouse.table}")


def _hourly_data_set(pipeline: Pipeline) -> DataSet:
    """The folder of the hourly counts: a data set per file would be one for each hour and version."""
    scheme, _, path = folder_of(pipeline).partition("://")
    bucket, _, key = path.partition("/")
    namespace, name = ("file", path) if scheme == "file" else (f"{scheme}://{bucket}", key)
    return DataSet(namespace, name, f"hourly {pipeline.lakehouse.table}")


def _lake_data_set(pipeline: Pipeline, lake: Endpoint, rows: int | None = None) -> DataSet:
    namespace = f"cassandra://{_address(lake.host, lake.port, CASSANDRA_PORT)}"
    return DataSet(namespace, pipeline.lake_table, f"cassandra {pipeline.lake_table}", rows)


def _warehouse_data_sets(
    target: Endpoint, tables: Iterable[str], rows: Mapping[str, int] | None = None
) -> tuple[DataSet, ...]:
    namespace = f"mysql://{_address(target.host, target.port, MYSQL_PORT)}"
    return tuple(DataSet(namespace, table, f"mysql {table}", (rows or {}).get(table)) for table in tables)


def _address(hosts: str, port: int | None, default: int) -> str:
    """host:port of the first of `hosts`: a cluster goes by one name, whichever node answers."""
    first = hosts.split(",")[0].strip().rpartition("://")[2]
    if first.count(":") > 1 and not first.startswith("["):
        first = f"[{first}]"  # a bare IPv6 address
    host, separator, own_port = first.rpartition(":")
    if separator and own_port.isdigit():
        return f"{host}:{own_port}"
    return f"{first}:{port or default}"
