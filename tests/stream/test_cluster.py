"""A stream on a standalone cluster: executors are separate processes, which get the project from --py-files alone."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.connections import SPARK, variable
from include.lake.keys import time_uuid
from include.stream.catch_up import run_stream
from local.process import Child, free_port
from local.servers.spark_standalone import Master, Worker
from tests.kafka.conftest import committed, kept, lake_rows, value_of

SECRET = "of-the-streams-cluster"
FIRST = datetime(2026, 9, 2, 10)


@pytest.fixture
def cluster(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A master and a worker that know nothing of the project; spark_default names the master."""
    monkeypatch.delenv("PYTHONPATH", raising=False)
    ports = [free_port() for _ in range(4)]
    master = Master(tmp_path / "master", ports[0], web_port=ports[1], secret=SECRET)
    worker = Worker(tmp_path / "worker", ports[2], web_port=ports[3], secret=SECRET, master_url=master.url, cores=2)
    conf = {
        "spark.authenticate.secret": SECRET,
        "spark.executor.memory": "512m",
        "spark.pyspark.python": sys.executable,
        "spark.driver.host": "127.0.0.1",
        "spark.driver.bindAddress": "127.0.0.1",
    }
    connection = {"conn_type": "spark", "host": "spark://127.0.0.1", "port": ports[0], "extra": {"conf": conf}}
    monkeypatch.setenv(variable(SPARK), json.dumps(connection))
    children = []
    try:
        for server in (master, worker):
            children.append(Child(server.prepare(), tmp_path / f"{server.home.name}.log", server.environment()))
            server.wait_until_ready(alive=children[-1].alive, log=str(children[-1].log))
        yield
    finally:
        for child in reversed(children):
            child.stop(20)


def test_executors_import_the_project_from_py_files_and_write(pipeline, send, cluster):
    for number in range(200):
        identity = time_uuid(FIRST + timedelta(milliseconds=number), str(number))
        send.send(value_of(identity, custom_track="click"), partition=number % 4)
    send.send(b"{not json", partition=1)
    send.flush()
    summary = run_stream(pipeline)
    assert (summary.written, summary.refused, committed(pipeline)) == (200, 1, 201)
    assert len(lake_rows("2026-09-02 10:00")) == 200
    assert [row["place"] for row in kept(pipeline)] == [f"{pipeline.topic}/1/50"]
