"""The newest batches and the freshness, as users and dashboards see them."""

from __future__ import annotations

from datetime import timedelta

from include.warehouse import status
from include.warehouse.session import warehouse
from tests.warehouse.lab import CLOCK, SECOND, Lab, contribution, minute


def test_recent_batches_come_newest_first_with_their_rows(lab: Lab) -> None:
    first = lab.publish({minute(0): [contribution()]}, ignored=4)
    second = lab.open(minute(1), run_id="run-2")
    with warehouse("warehouse_bi") as conn:  # the read-only account is enough
        result = status.recent_batches(conn, 10)
    assert [(batch["batch_id"], batch["state"]) for batch in result] == [(second, "open"), (first, "merged")]
    assert (result[1]["raw_rows"], result[1]["counted_rows"], result[1]["ignored_rows"]) == (5, 1, 4)
    assert len(status.recent_batches(lab.conn, 1)) == 1


def test_freshness_ignores_minutes_ahead_of_the_clock(lab: Lab) -> None:
    assert [entry["newest_create_time"] for entry in status.freshness(lab.conn)] == [None, None]
    now = lab.one("SELECT CURRENT_TIMESTAMP(6)").replace(second=0, microsecond=0)
    ahead = now + timedelta(days=30)
    recent = now - timedelta(minutes=2)
    lab.publish({recent: [contribution()], ahead: [contribution()], minute(1): []}, clock=now)
    lab.see(minute(5), minute(6), at=CLOCK - SECOND)
    with warehouse("warehouse_bi") as conn:
        [recruitment] = [entry for entry in status.freshness(conn) if entry["pipeline"] == "recruitment"]
    assert (recruitment["pending"], recruitment["held"]) == (2, 0)
    assert recruitment["newest_create_time"] == recent + 30 * SECOND
    assert 60 < recruitment["lag"] < 180
