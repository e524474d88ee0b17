"""Compaction, expired snapshots and files that no snapshot names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.lakehouse import table, upkeep
from include.lakehouse.table import schema
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop

pytestmark = pytest.mark.usefixtures("lab")
SHOP = Shop.pipeline
MILLISECOND = timedelta(milliseconds=1)
SOON = datetime.now() + timedelta(days=1)


def written(*minutes: datetime) -> None:
    import pyarrow

    rows = [{"minute": at, "create_time": str(at), "event_time": at, "event_type": "view"} for at in minutes]
    table.replace(table.table(SHOP), minutes, pyarrow.Table.from_pylist(rows, schema=schema(SHOP).as_arrow()))


def in_table() -> list[datetime]:
    return sorted(table.table(SHOP).scan().to_arrow()["minute"].to_pylist())


def files(lakehouse) -> list[str]:
    return [path.name for path in lakehouse.rglob("*") if path.is_file()]


def successor_of(snapshot) -> int:
    """The id of the snapshot that replaced this one."""
    snapshots = table.table(SHOP).snapshots()
    return next(one.snapshot_id for one in snapshots if one.parent_snapshot_id == snapshot.snapshot_id)


def committed_at(snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).replace(tzinfo=None)


def test_an_hour_of_many_files_becomes_one_and_its_events_stay(lakehouse) -> None:
    minutes = [minute(number) for number in range(6)]
    for at in minutes:
        written(at)
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=1)).hours == 0, "It may get more minutes."
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=3)).hours == 1
    assert in_table() == minutes
    assert len(list(table.table(SHOP).scan().plan_files())) == 1
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=3)).hours == 0


def test_expired_snapshots_take_their_files_along_and_the_newest_keeps_its_own(lakehouse) -> None:
    for _ in range(3):
        written(TEN, minute(1))
    before = files(lakehouse)
    done = upkeep.upkeep(SHOP, now=SOON, kept=timedelta())
    assert done.snapshots > 0
    assert done.files == len(before) + 1 - len(files(lakehouse)) > 0, (
        "Expiring is a separate commit, with its own file."
    )
    assert len([name for name in files(lakehouse) if name.endswith(".parquet")]) == 1
    assert in_table() == [TEN, minute(1)]


def test_snapshots_stay_for_two_hours_and_no_longer_because_each_commit_copies_them(lakehouse) -> None:
    for _ in range(3):
        written(TEN)
    now = datetime.now(UTC).replace(tzinfo=None)
    assert upkeep.upkeep(SHOP, now=now + timedelta(minutes=119)).snapshots == 0
    assert upkeep.upkeep(SHOP, now=now + timedelta(minutes=121)).snapshots > 0
    assert in_table() == [TEN]


def test_a_reader_can_read_its_snapshot_for_two_hours_after_it_was_replaced_and_no_longer(lakehouse) -> None:
    """For a snapshot of any age: after a night without events, readers load one of the evening."""
    written(TEN, minute(1))
    reader = table.table(SHOP)
    written(TEN)
    written(minute(1))
    replaced_at = committed_at(table.table(SHOP).snapshot_by_id(successor_of(reader.current_snapshot())))
    upkeep.upkeep(SHOP, now=replaced_at + timedelta(hours=2) - MILLISECOND)
    assert sorted(reader.scan().to_arrow()["minute"].to_pylist()) == [TEN, minute(1)]
    upkeep.upkeep(SHOP, now=replaced_at + timedelta(hours=2, minutes=1))
    with pytest.raises(FileNotFoundError):
        reader.scan().to_arrow()
    assert in_table() == [TEN, minute(1)]


def test_files_of_a_commit_that_is_under_way_or_was_killed_lately_stay(lakehouse) -> None:
    written(TEN)
    [file] = lakehouse.rglob("*.parquet")
    left_by_a_kill = file.with_name("left.parquet")
    left_by_a_kill.write_bytes(file.read_bytes())
    assert upkeep.upkeep(SHOP).files == 0
    assert upkeep.upkeep(SHOP, now=SOON + timedelta(days=1)).files >= 1
    assert not left_by_a_kill.exists()
    assert in_table() == [TEN]
