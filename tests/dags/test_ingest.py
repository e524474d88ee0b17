"""The DAGs that follow topics: through the Kafka provider's hook, and one after the other without a gap."""

from __future__ import annotations

from datetime import timedelta

import pytest

from include import pipelines
from include.kafka.ingest import SECONDS


@pytest.fixture(params=pipelines.all_pipelines())
def dag(request, dags):
    return dags[f"{request.param}_ingest"]


def test_a_successor_comes_while_its_predecessor_still_follows(dag):
    (task,) = dag.tasks
    assert task.task_id == "follow_topic" and f"**{task.task_id}**" in dag.doc_md
    assert SECONDS > 60 + 20  # a task of the next minute may need so long to come up
    assert timedelta(seconds=SECONDS) + timedelta(seconds=30) < task.execution_timeout
    assert dag.max_active_runs == 2


def test_it_begins_away_from_the_tick_of_the_minute_dags(dag):
    assert dag.timetable.expression == "* * * * * 45"
