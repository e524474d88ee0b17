"""A separate lakehouse for each test: a folder, and a catalog in a real PostgreSQL.

`local` is imported only inside fixtures, because `astro dev pytest` runs without it.
"""

from __future__ import annotations

import os
import signal
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.java import needs_java_compiler
from tests.warehouse.conftest import lab  # noqa: F401 - a fixture
from tests.warehouse.lab import Lab
from tests.warehouse.shop import Shop

if TYPE_CHECKING:
    from local.process import Child

# Accepted by the emulator, as any other would be.
_S3_ACCOUNT = {"aws_access_key_id": "lakehouse", "aws_secret_access_key": "lakehouse"}


@pytest.fixture(scope="session")
def postgres_server(tmp_path_factory) -> Iterator[tuple]:
    """A server and the passwords of its connections."""
    from local import connections
    from local.process import Child, free_port
    from local.servers import postgres

    passwords = connections.new_passwords()
    by_account = connections.postgres_passwords(passwords)
    server = postgres.Server(tmp_path_factory.mktemp("catalog") / "postgres", free_port(), by_account, throw_away=True)
    child = Child(server.prepare(), server.home.with_suffix(".log"))
    try:
        server.wait_until_ready(alive=child.alive, log=str(child.log))
        yield server, passwords
    finally:
        os.kill(child.pid, signal.SIGINT)  # sessions of the catalog are still open
        child.wait()


@pytest.fixture
def lakehouse(postgres_server, tmp_path: Path, monkeypatch) -> Iterator[Path]:
    """The folder of an empty lakehouse; the environment points to it.

    With MINUTEMARK_TEST_BUCKET=gs://bucket, the lakehouse is in that bucket; tests that look into the folder then fail.
    """
    from local import connections

    server, passwords = postgres_server
    for name, value in connections.lakehouse(passwords, server.port).items():
        monkeypatch.setenv(name, value)
    place = os.environ.get("MINUTEMARK_TEST_BUCKET", "file://")
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"{place}{tmp_path}/lakehouse")
    yield tmp_path / "lakehouse"
    from include.lakehouse import table

    if table.catalog().table_exists(Shop.pipeline.lakehouse.table):
        table.catalog().drop_table(Shop.pipeline.lakehouse.table)


@pytest.fixture(scope="session")
def bigquery_emulator(tmp_path_factory) -> Iterator:
    """A BigQuery emulator, with the packages of its lock file."""
    from local.process import Child, free_port
    from local.servers import bigquery_emulator

    bigquery_emulator.install()
    emulator = bigquery_emulator.Emulator(tmp_path_factory.mktemp("bigquery"), free_port(), "secret")
    child = Child(emulator.command(), emulator.home / "log", {**os.environ, **emulator.variables()})
    try:
        emulator.wait_until_ready(alive=child.alive, log=str(child.log))
        yield emulator
    finally:
        child.stop()


@pytest.fixture
def bigquery(bigquery_emulator, monkeypatch):
    """A client with a separate dataset for the test; the environment names the dataset."""
    from include.bigquery import tables

    for name, value in bigquery_emulator.variables(f"minutemark-test.d{uuid.uuid4().hex}").items():
        monkeypatch.setenv(name, value)
    client = tables.client()
    yield client
    client.close()


@pytest.fixture
def bucket(bigquery_emulator) -> Path:
    """A separate bucket for the test: the folder from which the emulator reads it."""
    folder = bigquery_emulator.buckets / f"bucket-{uuid.uuid4().hex}"
    folder.mkdir()
    return folder


@pytest.fixture
def files(tmp_path: Path, monkeypatch) -> Path:
    """The folder of a lakehouse that has only hour files."""
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"file://{tmp_path}")
    return tmp_path


@pytest.fixture
def shop(schemas, lab: Lab, lakehouse) -> Shop:  # noqa: F811
    from tests import emptying

    emptying.empty_lake()
    return Shop(lab.conn)


def _wait_for(url: str, child: Child) -> None:
    """Wait until the server answers at this URL. Raises Problem if it ends, or is not ready within a minute."""
    from local import waiting
    from local.loopback import fetch

    waiting.until(lambda: fetch(url, 5), what=url, seconds=60, errors=(OSError,), alive=child.alive, log=str(child.log))


@pytest.fixture(scope="session")
def storage_emulator(bigquery_emulator) -> Iterator[str]:
    """The URL of an emulator of Cloud Storage with the bucket `lakehouse`, which BigQuery's emulator reads too."""
    from local.layout import BIGQUERY
    from local.process import Child, free_port

    port = free_port()
    program = str(BIGQUERY / "venv" / "bin" / "gcp-storage-emulator")
    options = ["--host", "127.0.0.1", "--port", str(port), "--default-bucket", "lakehouse", "--quiet"]
    home = bigquery_emulator.home
    command = [program, "--data-dir", str(home), "start", *options]
    child = Child(command, home / "storage.log", {**os.environ, "STORAGE_DIR": bigquery_emulator.buckets.name})
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/storage/v1/b/lakehouse", child)
        yield url
    finally:
        child.stop()


@pytest.fixture
def lakehouse_in_bucket(lakehouse: Path, storage_emulator: str, monkeypatch) -> None:
    """The lakehouse is in a bucket instead of a folder."""
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"gs://lakehouse/{uuid.uuid4().hex}")
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage_emulator)
    # Otherwise gcsfs tries for a minute to look up the type of each bucket, through an API that the emulator lacks.
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")


@pytest.fixture(scope="session")
def s3_emulator() -> Iterator[str]:
    """The URL of an emulator of S3 with the bucket `lakehouse`."""
    for name in ("boto3", "moto.server", "s3fs"):
        pytest.importorskip(name, reason=f"{name} is not installed: `make test` installs it.")
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    try:
        host, port = server.get_host_and_port()
        url = f"http://{host}:{port}"
        boto3.client("s3", endpoint_url=url, **_S3_ACCOUNT).create_bucket(Bucket="lakehouse")
        yield url
    finally:
        server.stop()


@pytest.fixture(scope="session")
def rest_catalog(tmp_path_factory) -> Iterator[tuple[str, Path]]:
    """The URL of an Iceberg REST catalog, and the folder of its tables."""
    from local.layout import REST_CATALOG_JARS
    from local.process import Child, free_port
    from local.servers.java import java

    if not REST_CATALOG_JARS.is_dir():
        pytest.skip(f"The jars of an Iceberg REST catalog are not in {REST_CATALOG_JARS}: `make test` fetches them.")
    needs_java_compiler()
    port, home = free_port(), tmp_path_factory.mktemp("rest_catalog")
    source = Path(__file__).parent / "rest_catalog" / "RestCatalog.java"
    child = Child([java(), "-cp", f"{REST_CATALOG_JARS}/*", str(source), str(port), str(home)], home / "log")
    url = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{url}/v1/config", child)
        yield url, home / "lakehouse"
    finally:
        child.stop()


@pytest.fixture(params=["s3", "rest"])
def lakehouse_elsewhere(request, lakehouse: Path, monkeypatch) -> None:
    """The lakehouse is in a bucket of S3, or its catalog is a REST catalog."""
    if request.param == "s3":
        monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"s3://lakehouse/{uuid.uuid4().hex}")
        monkeypatch.setenv("AWS_ENDPOINT_URL", request.getfixturevalue("s3_emulator"))
        for name, value in _S3_ACCOUNT.items():
            monkeypatch.setenv(name.upper(), value)
    else:
        url, folder = request.getfixturevalue("rest_catalog")
        monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", f"file://{folder}")
        monkeypatch.setenv("AIRFLOW_CONN_LAKEHOUSE_CATALOG", url)
