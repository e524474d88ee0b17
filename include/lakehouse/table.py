"""The Iceberg table of a pipeline's events: a row for each event, partitioned by the hour of its minute of create_time.

An event's fields are columns: those that the declaration calls times and numbers typed, the others text. What the text
does not say, or says unreadably, is null. Minutes are replaced whole, in one commit, so that writing one again changes nothing.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable
from datetime import datetime
from typing import TYPE_CHECKING

from include.connections import endpoint
from include.lakehouse.settings import CATALOG, location
from include.pipelines import Pipeline

if TYPE_CHECKING:
    import pyarrow
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table

KEY = ("minute", "create_time")
_PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    # A commit leaves a metadata file; those of older ones go with it.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
}


def catalog() -> Catalog:
    """The catalog of connection lakehouse_catalog. Its extra holds further properties of pyiceberg."""
    from pyiceberg.catalog import load_catalog
    from sqlalchemy.engine import URL

    target = endpoint(CATALOG)
    if target.conn_type == "http":
        place = {"type": "rest", "uri": f"{target.host}:{target.port}" if target.port else target.host}
    else:
        url = URL.create(
            "postgresql+psycopg2", target.login, target.password, target.host, target.port, target.schema or "lakehouse"
        )
        place = {"type": "sql", "uri": url.render_as_string(hide_password=False)}
    return load_catalog("lakehouse", **place, warehouse=location(), **target.extra)


def schema(pipeline: Pipeline) -> Schema:
    """The columns: the key, then the declared fields in their order."""
    from pyiceberg.schema import Schema
    from pyiceberg.types import DecimalType, NestedField, StringType, TimestampType

    types = dict.fromkeys(pipeline.times, TimestampType()) | dict.fromkeys(pipeline.numbers, DecimalType(38, 18))
    fields = [(name, types.get(name, StringType())) for name in pipeline.fields if name not in KEY]
    return Schema(
        NestedField(1, "minute", TimestampType(), required=True, doc="of create_time, UTC"),
        NestedField(2, "create_time", StringType(), required=True, doc="time-UUID of the event in the lake"),
        *(NestedField(number, name, kind) for number, (name, kind) in enumerate(fields, 3)),
    )


def table(pipeline: Pipeline) -> Table:
    """The pipeline's table, made if it is not there; fields that were declared since become columns."""
    from pyiceberg.exceptions import NoSuchTableError, TableAlreadyExistsError
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import HourTransform

    name, found = pipeline.lakehouse.table, catalog()
    try:
        known = found.load_table(name)
    except NoSuchTableError:
        found.create_namespace_if_not_exists(name.rpartition(".")[0])
        by_hour = PartitionSpec(PartitionField(1, 1000, HourTransform(), "hour"))
        try:
            return found.create_table(name, schema(pipeline), partition_spec=by_hour, properties=_PROPERTIES)
        except TableAlreadyExistsError:  # another process was faster
            known = found.load_table(name)
    missing = [field for field in schema(pipeline).fields if field.name not in known.schema().column_names]
    if missing:
        with known.update_schema() as update:
            for field in missing:
                update.add_column(field.name, field.field_type)
    return known


def replace(into: Table, minutes: Collection[datetime], events: pyarrow.Table) -> None:
    """Replace the events of these minutes in one commit.

    Raises pyiceberg's ValidationException if another writer has committed the same minutes since `into` was loaded.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Delete operation did not match")  # of minutes that are new
        into.overwrite(events, overwrite_filter=within(minutes))


def within(minutes: Iterable[datetime]):
    """The expression that is true of these minutes' events."""
    from pyiceberg.expressions import In

    return In("minute", [minute.isoformat() for minute in minutes])
