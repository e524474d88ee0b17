"""Load jobs: each appends the file of one hour, under an id that names the table, the hour and the version.

BigQuery keeps the ids of jobs and refuses a second job with the same id. A repeated load therefore finds the first job,
waits for it, and starts another only if the first one failed.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from include.bigquery.settings import BigQueryError, dataset
from include.bigquery.tables import created_ms, retry, translate_errors
from include.lakehouse.hour_file import HourFile

if TYPE_CHECKING:
    from google.cloud.bigquery import Client, LoadJob, Table

MAX_JOBS = 20  # for one file, failed ones included
UPLOAD_RETRIES = 3  # after 1, 2 and 4 s: a run of many hours must not wait long for each of them


def load(bigquery: Client, table: Table, file: HourFile) -> LoadJob:
    """Append the file to the table, and return the job that appended it, now or in an earlier call.

    Raises BigQueryError if the job or a request fails. After a failed job the next call starts another one.
    """
    with translate_errors():
        from google.api_core.exceptions import NotFound

        try:
            return _load(bigquery, table, file)
        except NotFound as error:
            raise BigQueryError(
                f"{file.url} was not loaded into {table.full_table_id}: {error.message.rstrip('. ')}. The next run creates a "
                "missing table, and loads the hour."
            ) from error


def _load(bigquery: Client, table: Table, file: HourFile) -> LoadJob:
    from google.api_core.exceptions import Conflict, GoogleAPICallError

    for number in range(1, MAX_JOBS + 1):
        name = job_id(table, file, number)
        try:
            job, is_new = _start(bigquery, table, file, name), True
        except Conflict:
            job, is_new = bigquery.get_job(name, location=table.location, retry=retry()), False
        try:
            job.result(retry=retry())
        except GoogleAPICallError as error:
            if not job.error_result:
                raise  # a request failed, not the job
            if is_new:
                raise BigQueryError(
                    f"Load job {name} of {file.url} into {table.full_table_id} failed: "
                    f"{error.message.rstrip('. ')}. Fix the cause. The next run starts another job."
                ) from error
        else:
            return cast("LoadJob", job)  # only load jobs have such an id
    raise BigQueryError(
        f"{MAX_JOBS} load jobs of {file.url} have failed. The last one is {name}. Fix the cause, then count the hour "
        f"again: trigger {file.pipeline.name}_lakehouse with `from` and `to`."
    )


def job_id(table: Table, file: HourFile, number: int = 1) -> str:
    """The id of the first job of a file, or of a later job after failures. A job's id is unique in its project.

    It contains the time when the table was created, because BigQuery keeps the job ids of a table that was dropped.
    """
    names = (*dataset().split(".")[-1:], file.pipeline.name, file.pipeline.lakehouse.fact, str(created_ms(table)))
    base = re.sub(r"[^\w-]", "-", f"{'-'.join(names)}-{file.hour:%Y%m%dT%H}-{file.version}")
    return base if number == 1 else f"{base}-retry{number - 1}"


def _start(bigquery: Client, table: Table, file: HourFile, name: str) -> LoadJob:
    from google.cloud.bigquery import LoadJobConfig

    options: dict[str, Any] = {
        "job_id": name,
        "location": table.location,
        "job_config": LoadJobConfig(
            source_format="PARQUET", write_disposition="WRITE_APPEND", create_disposition="CREATE_NEVER"
        ),
    }
    scheme, _, path = file.url.partition("://")
    if scheme == "gs":
        return bigquery.load_table_from_uri(file.url, table, retry=retry(), **options)
    if scheme != "file":
        raise BigQueryError(
            f"{file.url} is neither in a Google Cloud Storage bucket (gs://) nor in a local folder (file://). Correct "
            "MINUTEMARK_LAKEHOUSE."
        )
    if not Path(path).exists():
        raise BigQueryError(
            f"{path} does not exist. Trigger {file.pipeline.name}_lakehouse with `from` and `to`, which writes it again."
        )
    with Path(path).open("rb") as content:
        return bigquery.load_table_from_file(content, table, num_retries=UPLOAD_RETRIES, **options)
