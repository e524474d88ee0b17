"""A Cloud Function that loads the file of an hour into BigQuery when it arrives in the bucket (docs/bigquery.md)."""

import functions_framework

from include.bigquery import loads, tables
from include.lakehouse.hour_file import HourFile


@functions_framework.cloud_event
def load_hour(event) -> None:
    """Handle google.cloud.storage.object.v1.finalized. Other files of the lakehouse are ignored."""
    file = HourFile.at(f"gs://{event.data['bucket']}/{event.data['name']}")
    if file is not None:
        bigquery = tables.client()
        job = loads.load(bigquery, tables.create_missing(bigquery, file.pipeline), file)
        print(f"Job {job.job_id} loaded {file.url}.")
