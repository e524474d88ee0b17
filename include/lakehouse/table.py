"""The Iceberg table of a pipeline's events: a row for each event, partitioned by the hour of its minute of create_time.

An event's fields are columns: declared times and numbers have their types, the others are text. An absent or unreadable
value is null. Minutes are replaced as a whole, in one commit, so that writing one again changes nothing.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING

from include.connections import Endpoint, endpoint
from include.lakehouse.settings import CATALOG, SETTING, LakehouseError, location
from include.pipelines import Pipeline
from include.warehouse.folded_hours import hour_of

if TYPE_CHECKING:
    import pyarrow
    from pyiceberg.catalog import Catalog
    from pyiceberg.schema import Schema
    from pyiceberg.table import Table
    from tenacity import Retrying

KEY = ("minute", "create_time")
MAX_MINUTES = 200  # in one expression: with a longer list, pyiceberg reads every file
CONNECT_SECONDS = 20  # after which a catalog that does not answer counts as down
TRIES = 5  # of a commit that conflicts with other writers
_PROPERTIES = {
    "write.parquet.compression-codec": "zstd",
    # Measured in Arrow's memory: some 50,000 events. A late minute rewrites the file that has it.
    "write.target-file-size-bytes": str(16 << 20),
    # Each commit writes a metadata file, and deletes old ones.
    "write.metadata.delete-after-commit.enabled": "true",
    "write.metadata.previous-versions-max": "20",
    # A count reads all manifests: without merging, one for each hour of history. Not the default of 8 MB, because a commit
    # that replaces a file writes the whole manifest again.
    "commit.manifest-merge.enabled": "true",
    "commit.manifest.target-size-bytes": str(1 << 20),
}


def catalog() -> Catalog:
    """The catalog of connection lakehouse_catalog. Its extra holds further properties of pyiceberg.

    For a REST catalog, login and password are the ID and secret of an OAuth2 client. Without a login, the password is the
    whole credential.
    """
    try:
        from pyiceberg.catalog import load_catalog
    except ImportError as error:
        raise LakehouseError(
            f"The lakehouse needs pyiceberg, which is not installed here: {error}. Install include/lakehouse/requirements.txt."
        ) from error
    from pydantic import ValidationError
    from sqlalchemy.engine import URL

    target = endpoint(CATALOG)
    if target.conn_type in ("http", "https"):
        properties = {"type": "rest", "uri": _rest_url(target)}
        if target.password:
            properties["credential"] = ":".join(filter(None, (target.login, target.password)))
    else:
        database, query = target.schema or "lakehouse", {"connect_timeout": str(CONNECT_SECONDS)}
        url = URL.create(
            "postgresql+psycopg2", target.login, target.password, target.host, target.port, database, query
        )
        properties = {"type": "sql", "uri": url.render_as_string(hide_password=False)}
    if not location().startswith("file:"):
        # All other code of the project also uses fsspec for buckets.
        properties["py-io-impl"] = "pyiceberg.io.fsspec.FsspecFileIO"
    with _translate_errors(target, ValidationError):  # the answer of a server that is not a catalog
        return load_catalog("lakehouse", **{**properties, "warehouse": location(), **target.extra})


def _rest_url(target: Endpoint) -> str:
    try:
        return target.url(target.conn_type).rstrip("/")
    except ValueError:  # also a port that is not a number
        raise LakehouseError(
            f"Connection {CATALOG} has no http or https URL. Write the whole URL in its host. With host and port, "
            "put a path into extra `path`, because Airflow reads the path of a connection's URI as the `schema`."
        ) from None  # the cause may quote a login in the URL


@contextmanager
def _translate_errors(target: Endpoint, *others: type[Exception]) -> Iterator[None]:
    """Raise errors of the catalog's client, and these other ones, as LakehouseError with the remedy."""
    from pyiceberg.exceptions import RESTError
    from requests import RequestException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (RESTError, RequestException, SQLAlchemyError, *others) as error:
        login, _, host = target.host.rpartition("@")  # a URL may contain a login
        where = f"{host}:{target.port}" if target.port else host
        text = " ".join(str(getattr(error, "orig", None) or error).split())
        for secret in filter(None, (login, login.rpartition("//")[2])):
            text = text.replace(secret, "…")
        why = re.sub(r"//\S*@", "//", text)[:400].rstrip(". ")
        raise LakehouseError(
            f"The catalog of the lakehouse at connection {CATALOG} ({where}) cannot be used: {why}. Start it (`make run` "
            f"starts one), or correct connection {CATALOG}."
        ) from None  # the cause may quote a login in the URL


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


def find(pipeline: Pipeline) -> Table | None:
    """The pipeline's table as it is; None if it does not exist.

    Raises LakehouseError if it is elsewhere or has lost its metadata, or if the catalog cannot be used.
    """
    from pyiceberg.exceptions import NoSuchTableError

    name = pipeline.lakehouse.table
    try:
        with _translate_errors(endpoint(CATALOG)):
            table = catalog().load_table(name)
    except NoSuchTableError:
        return None
    except FileNotFoundError as error:
        raise LakehouseError(
            f"Table {name} of the catalog has lost its metadata: {error}. {DROP_TABLE_REMEDY}"
        ) from error
    if not table.location().startswith(f"{location()}/"):
        raise LakehouseError(
            f"Table {name} is in {table.location()}, and {SETTING} is {location()}. Set {SETTING} to the folder of the "
            f"lakehouse that has the table. To move it: {DROP_TABLE_REMEDY}"
        )
    return table


def table(pipeline: Pipeline) -> Table:
    """The pipeline's table, created if it does not exist; it gets fields and properties that were added since.

    Raises LakehouseError as `find` does, and for a column that the declaration gives a different type.
    """
    with _translate_errors(endpoint(CATALOG)):
        return _as_declared(find(pipeline) or _create(pipeline), pipeline)


def _as_declared(known: Table, pipeline: Pipeline) -> Table:
    """The table with the declared columns and properties that it lacked."""
    columns = {field.name: field.field_type for field in known.schema().fields}
    declared = schema(pipeline).fields
    for field in declared:
        if columns.get(field.name, field.field_type) != field.field_type:
            raise LakehouseError(
                f"Column {field.name} of table {pipeline.lakehouse.table} is of type {columns[field.name]}, but the "
                f"pipeline declares it as {field.field_type}. {DROP_TABLE_REMEDY}"
            )
    if missing := [field for field in declared if field.name not in columns]:
        with known.update_schema() as update:
            for field in missing:
                update.add_column(field.name, field.field_type)
    if missing := {name: text for name, text in _PROPERTIES.items() if name not in known.properties}:
        with known.transaction() as transaction:
            transaction.set_properties(missing)
    return known


def _create(pipeline: Pipeline) -> Table:
    from pyiceberg.exceptions import TableAlreadyExistsError
    from pyiceberg.partitioning import PartitionField, PartitionSpec
    from pyiceberg.transforms import HourTransform

    name, iceberg = pipeline.lakehouse.table, catalog()
    iceberg.create_namespace_if_not_exists(name.rpartition(".")[0])
    by_hour = PartitionSpec(PartitionField(1, 1000, HourTransform(), "hour"))
    try:
        return iceberg.create_table(name, schema(pipeline), partition_spec=by_hour, properties=_PROPERTIES)
    except TableAlreadyExistsError:  # another process has created it
        return iceberg.load_table(name)


DROP_TABLE_REMEDY = (
    "Drop the table from the catalog (docs/lakehouse.md): the next run makes a new one and writes all events again, "
    "except those of closed minutes."
)


def replace(events_table: Table, minutes: Collection[datetime], events: pyarrow.Table) -> None:
    """Replace the events of these minutes in one commit.

    Raises pyiceberg's ValidationException if another writer has committed the same minutes since `events_table` was loaded.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Delete operation did not match")  # of minutes that are new
        events_table.overwrite(events, overwrite_filter=within(minutes))


def commit_retries(events_table: Table) -> Retrying:
    """Retries of a commit: `for retry in commit_retries(events_table): with retry: …`. Each one refreshes the table first.

    pyiceberg itself repeats a commit unless another writer has replaced the same files. Such a conflict means that the
    commit must be planned again: each retry looks up what to write or delete. The last one raises CommitFailedException or
    ValidationException.
    """
    from pyiceberg.exceptions import CommitFailedException, ValidationException
    from tenacity import Retrying, retry_if_exception_type, stop_after_attempt, wait_random

    return Retrying(
        retry=retry_if_exception_type((CommitFailedException, ValidationException)),
        stop=stop_after_attempt(TRIES),
        wait=wait_random(0, 1),
        before=lambda _: events_table.refresh(),  # ty: ignore[invalid-argument-type]  # the return value is not used
        reraise=True,
    )


def within(minutes: Iterable[datetime]):
    """The expression that is true for events of these minutes."""
    from pyiceberg.expressions import In

    return In("minute", [minute.isoformat() for minute in minutes])  # ty: ignore[missing-argument, too-many-positional-arguments]  # its own __init__ takes the place of Pydantic's


def between(column: str, start: datetime, end: datetime):
    """The expression that is true for events whose time is from `start` to `end` (excluded)."""
    from pyiceberg.expressions import And, GreaterThanOrEqual, LessThan

    return And(GreaterThanOrEqual(column, start.isoformat()), LessThan(column, end.isoformat()))  # ty: ignore[missing-argument, too-many-positional-arguments]  # as above


def path_of(url: str) -> str:
    """The path of a file as its file system lists it. A REST catalog in Java writes file:/folder instead of file:///folder."""
    return url.partition("://")[2] or url.removeprefix("file:")


def hours_of(pipeline: Pipeline, events: Table, minutes: Collection[datetime]) -> set[datetime]:
    """The hours of the fact that the table's events of these minutes belong to."""
    rows = events.scan(row_filter=within(minutes), selected_fields=(pipeline.fact_time,)).to_arrow()  # ty: ignore[invalid-argument-type]
    return hours_in(pipeline, rows)


def hours_in(pipeline: Pipeline, rows) -> set[datetime]:
    """The hours of the fact that these rows belong to."""
    times = rows[pipeline.fact_time].unique().to_pylist()
    return {hour_of(time) for time in times if time}
