"""The watch as Airflow runs it: with a receiver that refuses, and with one that accepts."""

from __future__ import annotations

import json
import threading
from datetime import timedelta

import pytest

from include import pipelines
from include.warehouse import ledger
from include.warehouse.session import warehouse
from tests.e2e.runs import query
from tests.plugins.test_notifiers import Receiver

pytestmark = pytest.mark.usefixtures("warehouse_schema")
RECRUITMENT = pipelines.get("recruitment")
AGE = timedelta(minutes=10)


@pytest.fixture(scope="module")
def receiver():
    server = Receiver(404)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def run_watch(airflow, receiver):
    """Runs the watch once, with the receiver as its webhook."""
    connection = json.dumps({"conn_type": "http", "host": receiver.url})
    return lambda: airflow.run("minutemark_watch", environment={"AIRFLOW_CONN_MINUTEMARK_WEBHOOK": connection})


def test_a_receiver_that_refuses_does_not_fail_the_run(run_watch):
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT CURRENT_TIMESTAMP(6)")
        now = cursor.fetchone()[0]
        ledger.record_poll_time(conn, RECRUITMENT, now)
        cursor.execute(
            "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, seen_changed_time) "
            "VALUES ('recruitment', %s, 'x', %s)",
            ((now - AGE).replace(second=0, microsecond=0), now - AGE),
        )
        conn.commit()
    run = run_watch().must_succeed()
    assert "Not sent through minutemark_webhook" in run.log
    assert "recruitment: stale; " in run.log
    assert query("SELECT problem, state, told_at FROM etl.alerts") == [("stale", "open", None)]


def test_a_problem_is_reported_when_a_channel_accepts_it_and_not_again(run_watch, receiver):
    receiver.requests.clear()
    receiver.answers[:] = [200]
    for _ in range(2):
        run_watch().must_succeed()
    [(_, _, body)] = receiver.requests
    assert (body["subject"], body["problem"], body["state"]) == ("recruitment", "stale", "begun")
