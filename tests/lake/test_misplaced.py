"""Errors that row counts per minute do not show: partitions that no run reads, and one id under two create_times."""

from __future__ import annotations

from datetime import datetime, timedelta

from include import pipelines
from include.lake import counts
from include.lake.writer import Event, EventWriter
from include.verify import unread
from include.verify.identities import Identities
from tests.lake.conftest import event, event_id

SHOP = pipelines.get("ecommerce")
AT = datetime(2026, 9, 1, 10)


def insert(admin, minute, shard, second):
    row = "INSERT INTO bedan.tracking (minute, shard, create_time, payload) VALUES (%s, %s, %s, '{}')"
    admin.execute(row, (minute, shard, event_id(f"2026-09-01 10:00:{second:02}")))


def test_rows_in_partitions_that_no_run_reads_are_named(recruitment, admin, writer, reader):
    EventWriter(writer, recruitment).write([event("2026-09-01 10:00:01", ev="1")])
    insert(admin, AT, 6, 2)
    insert(admin, AT, 6, 3)
    insert(admin, AT, -1, 4)
    insert(admin, AT + timedelta(seconds=30), 0, 31)
    insert(admin, 1_700_000_000_000_000_000, 2, 5)  # nanoseconds: read as milliseconds, they are beyond any calendar
    result = {
        (finding.minute, finding.found["shard"]): finding
        for finding in unread.findings(reader, recruitment, AT, AT + timedelta(minutes=1))
    }
    assert {key: finding.found["rows"] for key, finding in result.items()} == {
        (None, 2): 1,
        (AT, 6): 2,
        (AT, -1): 1,
        (AT + timedelta(seconds=30), 0): 1,
    }
    assert "expected shard=0 to 3" in str(result[AT, 6]) and "2026-09-01 10:00:30" in str(
        result[AT + timedelta(seconds=30), 0]
    )
    later = unread.findings(reader, recruitment, AT + timedelta(minutes=1), AT + timedelta(minutes=2))
    assert {finding.minute for finding in later} == {None}


def shop_event(text: str, name: str) -> Event:
    return Event(event_id(text), {"id": name, "event_type": "purchase"})


def test_an_id_under_two_create_times_is_named_with_both(writer, reader):
    first, again = shop_event("2026-09-01 11:00:01", "o-77"), shop_event("2026-09-01 11:01:01", "o-77")
    within, other = shop_event("2026-09-01 11:01:02", "o-78"), shop_event("2026-09-01 11:01:03", "o-78")
    alone = shop_event("2026-09-01 11:00:02", "o-79")
    EventWriter(writer, SHOP).write([first, again, within, other, alone, alone])
    identities = Identities()
    counts.minute_counts(reader, SHOP, [AT + timedelta(hours=1), AT + timedelta(hours=1, minutes=1)], identities.add)
    result = {
        finding.where: (finding.expected["create_time"], finding.found["create_time"])
        for finding in identities.findings(reader, SHOP)
    }
    assert result == {
        "id 'o-77'": (str(first.create_time), str(again.create_time)),
        "id 'o-78'": (str(within.create_time), str(other.create_time)),
    }


def test_an_id_under_two_create_times_is_named_although_one_is_before_1970(writer, reader):
    """A writer with a broken clock: the transform rejects the event, and verify reads it."""
    old, new = shop_event("1969-12-31 23:59:01", "o-80"), shop_event("2026-09-01 12:00:01", "o-80")
    EventWriter(writer, SHOP).write([old, new])
    identities = Identities()
    minutes = [datetime(1969, 12, 31, 23, 59), AT + timedelta(hours=2)]
    counts.minute_counts(reader, SHOP, minutes, identities.add)
    [finding] = identities.findings(reader, SHOP)
    assert finding.expected == {"create_time": str(old.create_time)}
    assert finding.found == {"create_time": str(new.create_time)}
