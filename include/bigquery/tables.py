"""The dataset, the table that load jobs append to, and the view of the newest version of each hour."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from include.bigquery.settings import LOCATION, SETTING, BigQueryError, dataset
from include.pipelines import Pipeline
from include.warehouse import bi_views
from include.warehouse.statements import Statements

sql = Statements(__file__)

if TYPE_CHECKING:
    from google.api_core.retry import Retry
    from google.cloud.bigquery import Client, QueryJobConfig, Table
    from google.cloud.bigquery.table import RowIterator

_TOKEN = "BIGQUERY_EMULATOR_TOKEN"  # of an emulator; the client reads BIGQUERY_EMULATOR_HOST itself
TIMEOUT = 60.0  # seconds without an answer to a request


@contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the client's errors as BigQueryError."""
    try:
        from google.api_core.exceptions import GoogleAPICallError, NotFound, RetryError
        from google.auth.exceptions import GoogleAuthError
        from requests.exceptions import RequestException
    except ImportError as error:
        raise BigQueryError(f"{error}. Run `pip install -r include/bigquery/requirements.txt`.") from error
    try:
        yield
    except NotFound as error:
        raise BigQueryError(
            f"{error.message.rstrip('. ')}. Check {SETTING}: it is {dataset()!r}, and its project must exist. The next run "
            "creates a dataset, table or view that is missing."
        ) from error
    except RetryError as error:
        raise BigQueryError(f"BigQuery does not answer: {error.cause}.") from error
    except (RequestException, ConnectionError) as error:  # of an upload, whose retries raise no RetryError
        raise BigQueryError(f"BigQuery does not answer: {error}.") from error
    except TimeoutError as error:  # of a wait for a job, whose own message names no cause
        cause = getattr(error.__context__, "cause", None) or error.__context__ or error
        raise BigQueryError(f"BigQuery does not answer: {cause}.") from error
    except GoogleAuthError as error:
        raise BigQueryError(
            f"BigQuery cannot be used: {str(error).rstrip('. ')}. Check the account's credentials."
        ) from error
    except GoogleAPICallError as error:
        raise BigQueryError(f"A request to BigQuery for {dataset()} failed: {error.message.rstrip('. ')}.") from error


@translate_errors()
def client() -> Client:
    """A client of the project, with Google's application default credentials, or the token of an emulator."""
    from google.cloud import bigquery
    from google.oauth2.credentials import Credentials

    token = os.environ.get(_TOKEN)
    credentials = Credentials(token) if token else None
    result = bigquery.Client(dataset().rpartition(".")[0], credentials)
    # The client waits two minutes for some answers, and without a limit for others. Ours are small.
    session, request = result._http, result._http.request
    session.request = lambda *args, **options: request(*args, **(options | {"timeout": TIMEOUT}))
    return result


def retry() -> Retry:
    """Retries for 20 seconds. The client's own retries last ten minutes, which would hold up a run."""
    from google.cloud.bigquery import DEFAULT_RETRY

    return DEFAULT_RETRY.with_timeout(20)


def query(bigquery: Client, statement: str, config: QueryJobConfig | None = None) -> RowIterator:
    """Run a statement. `query_and_wait` would not report a statement's errors with an emulator.

    `job_retry` is off: by default, the client repeats a query for ten minutes or more if BigQuery does not answer.
    """
    job = bigquery.query(statement, job_config=config, retry=retry(), job_retry=None)
    return job.result(retry=retry())


def loads_table(pipeline: Pipeline) -> str:
    """The table of all loads: a row for each hour and version, or several if a load was repeated."""
    return f"{view(pipeline)}_loads"


def view(pipeline: Pipeline) -> str:
    """The view with one row for each hour."""
    return f"{dataset()}.{pipeline.lakehouse.fact}_hourly"


@translate_errors()
def create_missing(bigquery: Client, pipeline: Pipeline) -> Table:
    """The table that load jobs append to. Creates the dataset, the table, its columns and the view if they are missing.

    Replaces the view if its query differs, updates the descriptions of the columns, and makes required columns nullable.
    """
    from google.api_core.exceptions import NotFound

    try:
        table = bigquery.get_table(loads_table(pipeline), retry=retry())
    except NotFound:
        _create_missing_dataset(bigquery)
        table = bigquery.create_table(_table(pipeline), exists_ok=True, retry=retry())
    columns = {field.name for field in table.schema}
    missing = [name for name in pipeline.lakehouse.measures if name not in columns]
    if missing:
        added = ", ".join(f"ADD COLUMN IF NOT EXISTS {name} INT64" for name in missing)
        query(bigquery, f"ALTER TABLE `{loads_table(pipeline)}` {added}")
    try:
        view_query = bigquery.get_table(view(pipeline), retry=retry()).view_query
    except NotFound:
        view_query = None
    if view_query != newest_versions(pipeline):
        query(bigquery, f"CREATE OR REPLACE VIEW `{view(pipeline)}` AS {newest_versions(pipeline)}")
    for name in (loads_table(pipeline), view(pipeline)):
        _update_columns(bigquery, name, descriptions(pipeline))
    return table


def _create_missing_dataset(bigquery: Client) -> None:
    """Create the dataset only if it is missing: an account with access to only this dataset cannot create one.

    Only this request names a location: a query runs where its dataset is.
    """
    from google.api_core.exceptions import NotFound
    from google.cloud.bigquery import Dataset

    try:
        bigquery.get_dataset(dataset(), retry=retry())
    except NotFound:
        missing = Dataset(dataset())
        if location := os.environ.get(LOCATION):
            missing.location = location
        bigquery.create_dataset(missing, exists_ok=True, retry=retry())


def created_ms(table: Table) -> int:
    """When BigQuery created the table, in milliseconds: a table that was dropped and created again has a different time."""
    return round(table.created.timestamp() * 1000)


def descriptions(pipeline: Pipeline) -> dict[str, str]:
    """The description of each column. Those of hour and measures come from the fact's view for BI tools, if there is one."""
    name = f"{pipeline.database}.bi_{pipeline.lakehouse.fact}"
    view_columns = [view.columns for view in bi_views.views_of(pipeline) if view.name == name]
    view_texts = {column.name: column.description for columns in view_columns for column in columns}
    return {
        "hour": view_texts.get("hour_utc", "Start of the hour of the events, UTC. Filter by this column."),
        "attempt": "Version of this hourly count. A higher version replaces lower ones.",
        **{measure: view_texts[measure] for measure in pipeline.lakehouse.measures if measure in view_texts},
        "counted_at": "When the lakehouse counted the hour, UTC.",
    }


def _update_columns(bigquery: Client, name: str, texts: dict[str, str]) -> None:
    """Give the columns of a table or view their descriptions, and make them nullable.

    The files have nullable columns, which BigQuery refuses to load into required ones.
    """
    from google.cloud.bigquery import SchemaField

    table = bigquery.get_table(name, retry=retry())
    fields = [
        SchemaField.from_api_repr(
            {**field.to_api_repr(), "mode": "NULLABLE", "description": texts.get(field.name, field.description)}
        )
        for field in table.schema
    ]
    if fields != table.schema:
        table.schema = fields
        bigquery.update_table(table, ["schema"], retry=retry())


def _table(pipeline: Pipeline) -> Table:
    from google.cloud.bigquery import SchemaField, Table, TimePartitioning

    table = Table(
        loads_table(pipeline),
        [
            SchemaField("hour", "TIMESTAMP"),
            SchemaField("attempt", "INTEGER"),
            *(SchemaField(name, "INTEGER") for name in pipeline.lakehouse.measures),
            SchemaField("counted_at", "TIMESTAMP"),
        ],
    )
    table.time_partitioning = TimePartitioning(field="hour")
    return table


def newest_versions(pipeline: Pipeline) -> str:
    """The query of the view. Rows of one version have the same counts, so any of them will do."""
    return sql("newest_versions", measures=pipeline.lakehouse.measures, table=loads_table(pipeline))
