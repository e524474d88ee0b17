"""The task that runs a stream: what a retry cannot help is not tried again."""

from __future__ import annotations

import pytest

from include.connections import ConnectionMissing
from include.operations import preflight
from include.stream import submission
from include.stream.kafka_clients import CertificateUnreadable
from tests import airflow_home  # noqa: F401  (before Airflow)


@pytest.fixture
def task(monkeypatch, tmp_path):
    from plugins import stream

    files = {"dir": tmp_path, "job_file": tmp_path / "job", "lock": None}
    prepared = submission.Submission("run.py", "properties", [], driver_key=None, jars=None, env_vars={}, **files)
    monkeypatch.setattr(preflight, "java_problem", lambda: None)
    monkeypatch.setattr(submission, "prepare", lambda *_: prepared)
    monkeypatch.setattr(stream, "endpoint", lambda _: None)
    return stream.StreamTopic(task_id="follow_topic", pipeline="recruitment")


def raising(error: Exception):
    def fails(*_, **__):
        raise error

    return fails


def test_a_connection_that_cannot_be_used_is_final(task, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from plugins import stream

    monkeypatch.setattr(stream, "AttemptHook", raising(ValueError("deploy-mode")))
    with pytest.raises(AirflowFailException, match="cannot be used: deploy-mode"):
        task.execute({})


@pytest.mark.parametrize("error", [CertificateUnreadable("no file"), submission.SubmissionImpossible("no jars")])
def test_what_is_missing_is_final(task, monkeypatch, error):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setattr(submission, "prepare", raising(error))
    with pytest.raises(AirflowFailException, match=str(error)):
        task.execute({})


def test_a_missing_connection_is_final(task, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from plugins import stream

    monkeypatch.setattr(stream, "endpoint", raising(ConnectionMissing("spark_default is not defined")))
    with pytest.raises(AirflowFailException, match="spark_default is not defined"):
        task.execute({})


def test_a_stream_that_failed_is_tried_again(task, monkeypatch):
    from airflow.sdk.exceptions import AirflowException, AirflowFailException

    from plugins import stream

    class Hook:
        reason = "the lake does not answer"
        submit = staticmethod(raising(AirflowException("status 1")))

    monkeypatch.setattr(stream, "AttemptHook", lambda *_, **__: Hook())
    with pytest.raises(AirflowException, match="the lake does not answer") as caught:
        task.execute({})
    assert not isinstance(caught.value, AirflowFailException)
