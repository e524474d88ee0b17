"""What a task reads and writes, as OpenLineage names it: declared tables and topics at the addresses of the connections.

A name needs no store to be asked. Nothing of OpenLineage is imported until its provider, which is idle without a transport,
asks an operator for its data sets: docs/monitoring.md.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow.providers.openlineage.extractors import OperatorLineage

    from include.connections import Endpoint
    from include.pipelines import Pipeline

CASSANDRA_PORT, MYSQL_PORT, KAFKA_PORT = 9042, 3306, 9092  # where a connection names none


@dataclass(frozen=True)
class DataSet:
    """A table or topic by its OpenLineage name (https://openlineage.io/docs/spec/naming); `rows` were written, None: unknown."""

    namespace: str  # store://host:port
    name: str  # keyspace.table, database.table or topic
    rows: int | None = None


@dataclass(frozen=True)
class Lineage:
    """What one run of a task read and wrote."""

    reads: tuple[DataSet, ...]
    writes: tuple[DataSet, ...]


def of_ingest(pipeline: Pipeline, servers: str, lake: Endpoint, rows: int) -> Lineage:
    """Topic to lake table; `servers` as librdkafka takes them, `rows` events written."""
    topic = DataSet(f"kafka://{_address(servers, None, KAFKA_PORT)}", pipeline.topic)
    return Lineage((topic,), (_of_lake(pipeline, lake, rows),))


def of_transform(pipeline: Pipeline, lake: Endpoint, warehouse: Endpoint) -> Lineage:
    """Lake table to staging tables."""
    return Lineage((_of_lake(pipeline, lake),), _of_warehouse(warehouse, (one.staging for one in pipeline.staged)))


def of_merge(pipeline: Pipeline, warehouse: Endpoint, rows: Mapping[str, int]) -> Lineage:
    """Staging tables and dimensions to contributions and facts; `rows` inserted into contributions by table."""
    staging = [output.staging for output in pipeline.staged]
    published = [*pipeline.contribution_tables, *(fact.table for fact in pipeline.facts)]
    return Lineage(
        _of_warehouse(warehouse, [*staging, *(dimension.table for dimension in pipeline.dimensions)]),
        _of_warehouse(warehouse, published, rows),
    )


def _of_lake(pipeline: Pipeline, lake: Endpoint, rows: int | None = None) -> DataSet:
    return DataSet(f"cassandra://{_address(lake.host, lake.port, CASSANDRA_PORT)}", pipeline.lake_table, rows)


def _of_warehouse(
    target: Endpoint, tables: Iterable[str], rows: Mapping[str, int] | None = None
) -> tuple[DataSet, ...]:
    namespace = f"mysql://{_address(target.host, target.port, MYSQL_PORT)}"
    return tuple(DataSet(namespace, table, (rows or {}).get(table)) for table in tables)


def _address(hosts: str, port: int | None, default: int) -> str:
    """host:port of the first of `hosts`: a cluster goes by one name, whichever node answers."""
    first = hosts.split(",")[0].strip().rpartition("://")[2]
    if first.count(":") > 1 and not first.startswith("["):
        first = f"[{first}]"  # a bare IPv6 address
    host, separator, own_port = first.rpartition(":")
    if separator and own_port.isdigit():
        return f"{host}:{own_port}"
    return f"{first}:{port or default}"


@contextlib.contextmanager
def left_out_while_idle() -> Iterator[None]:
    """Import the Spark operator inside: without a transport it then does not find OpenLineage's helpers.

    It would load listener and client for them, 0.9 s of every task of a chain, and has a way of its own to do without.
    """
    from airflow.providers.openlineage.conf import is_disabled

    helpers = "airflow.providers.openlineage.utils.spark"
    hidden = is_disabled() and helpers not in sys.modules
    if hidden:
        sys.modules[helpers] = None  # so that importing it is an ImportError
    try:
        yield
    finally:
        if hidden:
            del sys.modules[helpers]


class TellsLineage:
    """An operator whose execute() sets `lineage`; the OpenLineage provider asks for it when the task ends.

    It is worked out by then, because the provider asks in a forked process, which should not talk to Airflow.
    """

    lineage: Lineage | None = None

    def get_openlineage_facets_on_complete(self, task_instance) -> OperatorLineage | None:
        """The provider calls this by its name, after a failure too."""
        if self.lineage is None:
            return None
        from airflow.providers.openlineage.extractors import OperatorLineage
        from openlineage.client.event_v2 import InputDataset, OutputDataset
        from openlineage.client.facet_v2 import output_statistics_output_dataset as statistics

        def written(one: DataSet) -> OutputDataset:
            if one.rows is None:
                return OutputDataset(one.namespace, one.name)
            counted = statistics.OutputStatisticsOutputDatasetFacet(rowCount=one.rows)
            return OutputDataset(one.namespace, one.name, outputFacets={"outputStatistics": counted})

        return OperatorLineage(
            inputs=[InputDataset(one.namespace, one.name) for one in self.lineage.reads],
            outputs=[written(one) for one in self.lineage.writes],
        )
