"""The Cloud Function as its framework serves it, in the environment that is deployed."""

from __future__ import annotations

import json
import os
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from include.bigquery.settings import dataset
from tests.lakehouse.hours import copy_to_bucket, loaded_rows, view_rows, write_hour
from tests.warehouse.lab import TEN


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    from local.cloud_function import write_source

    return write_source(tmp_path_factory.mktemp("function") / "source")


@pytest.fixture
def function(bigquery, bigquery_emulator, bucket: Path, source: Path) -> Iterator[str]:
    """The URL of a function that loads the bucket's files into the test's dataset, with the settings of a deployment."""
    from local import bootstrap, waiting
    from local.layout import LOCAL
    from local.process import Child, free_port

    environment = LOCAL / "cloud_function_test"
    bootstrap.install_separately(
        environment, source / "requirements.txt", "environment of the Cloud Function", "50 packages"
    )
    framework = environment / "venv" / "bin" / "functions-framework"
    port = free_port()
    command = [str(framework), "--target", "load_hour", "--signature-type", "cloudevent", "--port", str(port)]
    settings = {name: os.environ[name] for name in ("PATH", *bigquery_emulator.variables())}
    settings["MINUTEMARK_LAKEHOUSE"] = f"gs://{bucket.name}"
    child = Child([*command, "--host", "127.0.0.1"], source.parent / "function.log", settings, cwd=source)
    try:
        waiting.until(
            lambda: socket.create_connection(("127.0.0.1", port), 5).close(),
            what="the function",
            seconds=60,
            errors=(OSError,),
            alive=child.alive,
            log=str(child.log),
        )
        yield f"http://127.0.0.1:{port}"
    finally:
        child.stop()


def send_finalized(url: str, object_url: str) -> int:
    """Send the event of an object that has arrived, as Eventarc does; returns the status of the response."""
    bucket_name, _, name = object_url.removeprefix("gs://").partition("/")
    headers = {
        "ce-id": "1",
        "ce-specversion": "1.0",
        "ce-type": "google.cloud.storage.object.v1.finalized",
        "ce-source": f"//storage.googleapis.com/projects/_/buckets/{bucket_name}",
        "ce-subject": f"objects/{name}",
        "Content-Type": "application/json",
    }
    body = json.dumps({"bucket": bucket_name, "name": name}).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers), timeout=30) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def test_an_hour_is_loaded_once_for_repeated_reports_of_its_file(
    bigquery,
    function: str,
    bucket,
    files,
) -> None:
    file = copy_to_bucket(bucket, write_hour(1, 10))
    assert [send_finalized(function, file.url), send_finalized(function, file.url)] == [200, 200]
    assert view_rows(bigquery) == [(TEN, 1, 10)]
    assert loaded_rows(bigquery) == 1


def test_other_files_are_ignored_and_a_load_that_fails_is_reported_for_a_retry(bigquery, function: str, bucket) -> None:
    assert send_finalized(function, f"gs://{bucket.name}/ecommerce.db/events/data/1.parquet") == 200
    assert send_finalized(function, f"gs://{bucket.name}/other/hourly/ecommerce.events/2026-03-01T10/1.parquet") == 200
    assert dataset() not in {f"{item.project}.{item.dataset_id}" for item in bigquery.list_datasets()}
    assert send_finalized(function, f"gs://{bucket.name}/hourly/ecommerce.events/2026-03-01T10/1.parquet") == 500
