"""The task that runs a stream: an error that a retry cannot fix is final. Connections, jars and spark-submit are real."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from include.connections import variable
from local.process import free_port
from tests import airflow_home  # noqa: F401  (before Airflow)

SPARK, KAFKA = variable("spark_default"), variable("kafka_default")


@pytest.fixture
def task(kafka_broker, schemas):
    from plugins.stream import StreamTopic

    return StreamTopic(task_id="follow_topic", pipeline="recruitment")


@pytest.fixture
def change_extra(monkeypatch):
    """Change the extra of a connection, and leave its other fields as they are."""

    def change(name: str, **extra: object) -> None:
        fields = json.loads(os.environ[name])
        monkeypatch.setenv(name, json.dumps({**fields, "extra": {**(fields.get("extra") or {}), **extra}}))

    return change


def must_be_final(task, match: str) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    with pytest.raises(AirflowFailException, match=match):
        task.execute({})


def test_a_connection_that_the_provider_refuses_is_final(task, change_extra):
    change_extra(SPARK, **{"spark-binary": "/bin/sh"})
    must_be_final(task, "Connection 'spark_default' cannot be used: .*spark-binary")


def test_a_missing_connection_is_final(task, monkeypatch):
    monkeypatch.delenv(SPARK)
    must_be_final(task, "'spark_default' is not defined")


def test_missing_jars_are_final(task, monkeypatch, tmp_path: Path):
    monkeypatch.setenv("MINUTEMARK_STREAM_JARS", str(tmp_path))
    must_be_final(task, f"no jars of Spark's Kafka source in {tmp_path}")


def test_a_missing_key_is_final(task, change_extra, tmp_path: Path):
    absent = tmp_path / "client.pem"
    change_extra(KAFKA, **{"ssl.certificate.location": str(absent), "ssl.key.location": str(absent)})
    must_be_final(task, str(absent))


def test_a_stream_without_a_broker_is_retried_and_says_why_it_failed(task, change_extra):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    change_extra(KAFKA, **{"bootstrap.servers": f"127.0.0.1:{free_port()}"})
    with pytest.raises(AirflowException, match="broker") as caught:
        task.execute({})
    assert not isinstance(caught.value, AirflowFailException)
