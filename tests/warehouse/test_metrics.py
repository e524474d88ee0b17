"""The metrics of batches and of the watch, from a real warehouse to a real StatsD listener."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

import pytest

from include import metrics
from include.operations.watch import watch
from include.pipelines import all_pipelines
from include.warehouse import ledger
from tests import airflow_home  # noqa: F401  (before Airflow)
from tests.statsd import Listener
from tests.warehouse.lab import SECOND, Lab, contribution, minute, touched_at

MINUTE = timedelta(minutes=1)
OURS = "airflow.minutemark"


def initialize() -> None:
    """Initialize the client as Airflow does at the start of each task."""
    from airflow.sdk.configuration import conf
    from airflow.sdk.observability import stats
    from airflow.sdk.observability.metrics.stats_utils import get_stats_factory

    stats.initialize(factory=get_stats_factory(), export_legacy_names=conf.getboolean("metrics", "legacy_names_on"))


@pytest.fixture
def statsd(monkeypatch) -> Iterator[Listener]:
    listener = Listener()
    with monkeypatch.context() as patch:
        for name, value in listener.settings.items():
            patch.setenv(name, value)
        initialize()
        yield listener
    initialize()
    listener.close()


def run_merge(batch_id: int) -> None:
    from plugins.merge import MergeIntoWarehouse

    MergeIntoWarehouse(task_id="merge_into_warehouse", pipeline="recruitment", batch_id=str(batch_id)).execute({})


def checked_batch(lab: Lab) -> int:
    """A batch of two minutes, ready for its merge: three rows counted, twenty ignored in each minute, one rejected."""
    batch_id = lab.open(minute(0), minute(1))
    rows = {minute(0): [contribution(7), contribution(8)], minute(1): [contribution(7)]}
    lab.stage(batch_id, rows, ignored=20, rejects=[(minute(1), "no ts")])
    assert lab.check(batch_id).passed
    return batch_id


def test_a_merge_sends_rows_by_fate_and_its_seconds(lab: Lab, statsd: Listener) -> None:
    batch_id = checked_batch(lab)
    lab.query("UPDATE etl.batches SET opened_at = CURRENT_TIMESTAMP(6) - INTERVAL 12 SECOND")
    run_merge(batch_id)
    sent = statsd.received()
    value, kind = sent.pop(f"{OURS}.batch_duration.recruitment").split("|")
    assert kind == "ms" and 12_000 <= float(value) < 30_000
    assert sent == {
        f"{OURS}.rows.counted.recruitment": "3|c",
        f"{OURS}.rows.ignored.recruitment": "40|c",
        f"{OURS}.rows.rejected.recruitment": "1|c",
    }


def test_a_merge_that_is_repeated_is_counted_once(lab: Lab, statsd: Listener) -> None:
    batch_id = checked_batch(lab)
    run_merge(batch_id)
    assert statsd.received()
    run_merge(batch_id)
    assert statsd.received() == {}


def test_a_batch_whose_minutes_a_newer_read_has_merged_counts_nothing(lab: Lab, statsd: Listener) -> None:
    late = lab.open(minute(0), run_id="late")
    lab.stage(late, {minute(0): [contribution()]})
    assert lab.check(late).passed
    lab.publish({minute(0): [contribution()]}, run_id="newer")
    run_merge(late)
    assert lab.one("SELECT state FROM etl.batches WHERE batch_id = %s", late) == "skipped"
    assert statsd.received() == {}


def test_the_watch_sends_the_state_of_each_pipeline(lab: Lab, statsd: Listener) -> None:
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)")
    this_minute = now.replace(second=0, microsecond=0)
    lab.publish({this_minute - 10 * MINUTE: [contribution()]}, clock=now)
    ledger.record_poll_time(lab.conn, all_pipelines()["recruitment"], now)
    waiting, held = this_minute - 2 * MINUTE, this_minute - 3 * MINUTE
    lab.see(waiting, held, at=now - 100 * SECOND, clock=now)
    ledger.hold(lab.conn.cursor(), "recruitment", [(held, str(touched_at(now - 100 * SECOND)), "shrunk")], None)
    lab.conn.commit()
    metrics.send_gauges(watch(lambda notice: True))
    sent = statsd.received()
    figures = {}
    for name, value in sent.items():
        figure, kind = value.split("|")
        assert kind == "g", name
        if name.endswith(".recruitment"):
            figures[name.split(".")[2]] = float(figure)
    age = (now - (this_minute - 10 * MINUTE + 30 * SECOND)).total_seconds()
    assert figures == {
        "freshness_seconds": pytest.approx(age, abs=10),
        "delay_seconds": pytest.approx(100, abs=10),
        "look_age_seconds": pytest.approx(0, abs=10),
        "merge_age_seconds": pytest.approx(0, abs=10),
        "pending_minutes": 1,
        "held_minutes": 1,
    }
    # The ages of events, polls and merges are sent only if there was one.
    untouched = {name.split(".")[2] for name in sent if not name.endswith(".recruitment")}
    assert untouched == {"delay_seconds", "pending_minutes", "held_minutes"}


def test_without_metrics_nothing_is_opened_or_sent(lab: Lab) -> None:
    from airflow.sdk._shared.observability.metrics import stats
    from airflow.sdk._shared.observability.metrics.base_stats_logger import NoStatsLogger

    initialize()
    run_merge(checked_batch(lab))
    metrics.send_gauges(watch(lambda notice: True))
    assert type(stats._get_backend()) is NoStatsLogger
