"""Two pipelines on one server: while a merge of one is open, the other works as if it were alone, whatever rows both have."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest

from include.durations import HOUR
from include.housekeeping import folding
from include.warehouse import batches, held, merge, rejected
from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab, contribution, minute
from tests.warehouse.shop import Shop, operation

FIELDS = '{"present": {"id": 10}, "unreadable": {}, "unknown": {}}'
SHRUNK = minute(60)  # loses rows, so that it is held; then it is released
FOLDED = [minute(-120), minute(-119)]  # two minutes of one hour
KNOWN = [*FOLDED, minute(0), SHRUNK]  # first in each batch, so that their rejected rows keep their keys


@dataclass
class Refused:
    """A row that never reached the lake."""

    key: str
    reason: str = "ts is not a timestamp"
    payload: str = "{}"
    minute: datetime | None = minute(0)
    as_of: int | None = None


def rows(lab: Lab, times: int) -> list[dict]:
    return [operation()] * times if isinstance(lab, Shop) else [contribution(event_count=times, clicks=times)]


def prepare_batch(lab: Lab, *minutes: datetime, run_id: str, **opening) -> int:
    """Open a batch and run its gate, with a rejected row, a repeated id and counted fields in each minute."""
    lab.see(*minutes)
    batch_id = lab.open(*minutes, run_id=run_id, **opening)
    attempt = lab.stage(
        batch_id,
        {at: rows(lab, 2 if at == SHRUNK and run_id != "before" else 9) for at in minutes},
        rejects=[(at, "bid is negative: -3") for at in minutes],
        counts={at: {"field_counts": FIELDS} for at in minutes},
    )
    for number, at in enumerate(minutes):
        lab.query(
            "INSERT INTO etl.staged_repeats (attempt, number, minute, event_id, create_time, first_create_time) "
            "VALUES (%s, %s, %s, 'one', 'later', 'earlier')",
            *(attempt, number, at),
        )
    lab.check(batch_id)
    return batch_id


def publish_history(lab: Lab) -> None:
    """Publish rejected events, a folded hour and a minute that is held and released."""
    merge.merge(prepare_batch(lab, *KNOWN, run_id="before"))
    lab.query("UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 3 DAY")  # only quiet hours are folded
    assert folding.fold(lab.conn, lab.pipeline, FOLDED[0] + HOUR, timedelta(0)) == 1
    hold_and_release(lab, run_id="shrunk")


def hold_and_release(lab: Lab, run_id: str) -> None:
    prepare_batch(lab, SHRUNK, run_id=run_id)
    assert lab.ledger(SHRUNK)["state"] == "held"
    held.release(lab.conn, lab.pipeline, SHRUNK, SHRUNK + timedelta(minutes=1), by="ann")


@pytest.mark.parametrize("other_has_rejected", [True, False])
@pytest.mark.parametrize("first", [Shop, Lab])
def test_a_pipeline_works_while_the_merge_of_another_is_open(lab: Lab, waits, first, other_has_rejected: bool) -> None:
    with warehouse() as one_conn, warehouse() as other_conn, warehouse(merge=True) as stuck:
        open_lab, other = (Shop(one_conn), Lab(other_conn)) if first is Shop else (Lab(one_conn), Shop(other_conn))
        publish_history(open_lab)
        if other_has_rejected:
            publish_history(other)
        # The same minutes with the same rejected rows, and a new minute.
        batch_id = prepare_batch(open_lab, *KNOWN, minute(5), run_id="open", split_size=8)
        before = waits()
        cursor = stuck.cursor()
        merge.lock(cursor, open_lab.pipeline)
        assert merge._publish(cursor, open_lab.pipeline, batch_id).state == "merged"  # and no commit
        if other_has_rejected:
            hold_and_release(other, run_id="held")
        for origin in (rejected.IMPORT, rejected.KAFKA, rejected.KAFKA):
            rejected.keep(other.conn, other.pipeline, origin, [Refused("1"), Refused("topic@id/0/7")])
        # Minutes that are newer and older than all others, and those that were published before.
        minutes = [*KNOWN, minute(-600), minute(600)]
        merged = merge.merge(prepare_batch(other, *minutes, run_id="beside", split_size=8))
        assert merged.state == "merged" and merged.rejected_rows == len(minutes)
        abandoned = prepare_batch(other, minute(7), run_id="abandoned")
        closed = batches.close_abandoned(other.conn, other.pipeline, f"{other.pipeline.name}_minute", "next")
        assert abandoned in closed
        assert waits() == before
        stuck.rollback()
    assert merge.merge(batch_id).state == "merged"
    assert lab.one("SELECT COUNT(*) FROM etl.releases WHERE used_by_batch IS NOT NULL") == 1 + other_has_rejected
