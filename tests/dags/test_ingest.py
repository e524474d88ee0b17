"""The DAGs that follow topics: each run takes over from its predecessor without a gap."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include import pipelines
from include.kafka.ingest import FOLLOW_SECONDS
from include.stream import job as stream_job
from tests.dags.conftest import parse_dags


@pytest.fixture(params=pipelines.all_pipelines())
def dag(request, dags):
    return dags[f"{request.param}_ingest"]


def test_a_successor_starts_while_its_predecessor_still_follows_the_topic(dag):
    (task,) = dag.tasks
    assert task.task_id == "follow_topic" and f"**{task.task_id}**" in dag.doc_md
    assert FOLLOW_SECONDS > 60 + 20  # a task of the next minute may need 20 s to start
    assert timedelta(seconds=FOLLOW_SECONDS) + timedelta(seconds=30) < task.execution_timeout
    assert dag.max_active_runs == 2


def test_a_stream_starts_while_its_predecessor_still_writes():
    dag = parse_dags("dags/ingest.py", "spark", "minute").dags["recruitment_ingest"]
    (task,) = dag.tasks
    assert (task.task_id, type(task).__name__) == ("follow_topic", "StreamTopic")
    assert dag.timetable.expression == "*/10 * * * * 45"
    assert stream_job.SECONDS > 600 + 60  # the driver of the next run may need a minute to start
    assert timedelta(seconds=stream_job.SECONDS) + timedelta(minutes=2) < task.execution_timeout
    assert dag.max_active_runs == 2


def test_ingest_runs_do_not_start_at_the_tick_of_the_minute_dags(dag):
    assert dag.timetable.expression == "* * * * * 45"
