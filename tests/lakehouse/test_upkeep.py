"""Compaction, expired snapshots and files that no snapshot names."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from include.lakehouse import hourly, table, upkeep
from include.lakehouse.table import schema
from tests.lakehouse.other_engine import write_statistics
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop

pytestmark = pytest.mark.usefixtures("lab")
SHOP = Shop.pipeline
MILLISECOND = timedelta(milliseconds=1)
TOMORROW = datetime.now() + timedelta(days=1)


def write_minutes(*minutes: datetime) -> None:
    import pyarrow

    rows = [{"minute": at, "create_time": str(at), "event_time": at, "event_type": "view"} for at in minutes]
    table.replace(table.table(SHOP), minutes, pyarrow.Table.from_pylist(rows, schema=schema(SHOP).as_arrow()))


def table_minutes() -> list[datetime]:
    return sorted(table.table(SHOP).scan().to_arrow()["minute"].to_pylist())


def files(lakehouse) -> list[str]:
    return [path.name for path in lakehouse.rglob("*") if path.is_file()]


def successor_of(snapshot) -> int:
    """The id of the snapshot that replaced this one."""
    snapshots = table.table(SHOP).snapshots()
    return next(child.snapshot_id for child in snapshots if child.parent_snapshot_id == snapshot.snapshot_id)


def committed_at(snapshot) -> datetime:
    return datetime.fromtimestamp(snapshot.timestamp_ms / 1000, UTC).replace(tzinfo=None)


def test_the_files_of_an_hour_become_one_and_its_events_stay(lakehouse) -> None:
    minutes = [minute(number) for number in range(6)]
    for at in minutes:
        write_minutes(at)
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=1)).hours == 0, "The hour may get more minutes."
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=3)).hours == 1
    assert table_minutes() == minutes
    assert len(list(table.table(SHOP).scan().plan_files())) == 1
    assert upkeep.upkeep(SHOP, now=TEN + timedelta(hours=3)).hours == 0


def test_expired_snapshots_are_deleted_with_their_files_and_the_newest_keeps_its_own(lakehouse) -> None:
    for _ in range(3):
        write_minutes(TEN, minute(1))
    before = files(lakehouse)
    done = upkeep.upkeep(SHOP, now=TOMORROW, kept=timedelta())
    assert done.snapshots > 0
    assert done.files == len(before) + 1 - len(files(lakehouse)) > 0, (
        "Expiring is a separate commit, with its own file."
    )
    assert len([name for name in files(lakehouse) if name.endswith(".parquet")]) == 1
    assert table_minutes() == [TEN, minute(1)]


def test_snapshots_stay_for_two_hours_and_no_longer_because_each_commit_copies_them(lakehouse) -> None:
    for _ in range(3):
        write_minutes(TEN)
    now = datetime.now(UTC).replace(tzinfo=None)
    assert upkeep.upkeep(SHOP, now=now + timedelta(minutes=119)).snapshots == 0
    assert upkeep.upkeep(SHOP, now=now + timedelta(minutes=121)).snapshots > 0
    assert table_minutes() == [TEN]


def test_a_reader_can_read_its_snapshot_for_two_hours_after_it_was_replaced_and_no_longer(lakehouse) -> None:
    """For a snapshot of any age: after a night without events, readers load a snapshot of the evening."""
    write_minutes(TEN, minute(1))
    reader = table.table(SHOP)
    write_minutes(TEN)
    write_minutes(minute(1))
    replaced_at = committed_at(table.table(SHOP).snapshot_by_id(successor_of(reader.current_snapshot())))
    upkeep.upkeep(SHOP, now=replaced_at + timedelta(hours=2) - MILLISECOND)
    assert sorted(reader.scan().to_arrow()["minute"].to_pylist()) == [TEN, minute(1)]
    upkeep.upkeep(SHOP, now=replaced_at + timedelta(hours=2, minutes=1))
    with pytest.raises(FileNotFoundError):
        reader.scan().to_arrow()
    assert table_minutes() == [TEN, minute(1)]


@pytest.fixture
def manifests_read(monkeypatch) -> list[str]:
    """The paths of the manifests whose entries are read during the test."""
    from pyiceberg.manifest import ManifestFile

    paths, fetch = [], ManifestFile.fetch_manifest_entry

    def fetch_and_note(self, *args, **options):
        paths.append(self.manifest_path)
        return fetch(self, *args, **options)

    monkeypatch.setattr(ManifestFile, "fetch_manifest_entry", fetch_and_note)
    return paths


def manifest_paths() -> set[str]:
    events = table.table(SHOP)
    return {manifest.manifest_path for manifest in events.current_snapshot().manifests(events.io)}


def test_upkeep_reads_each_manifest_once_for_all_snapshots(lakehouse, manifests_read: list[str]) -> None:
    for number in range(3):
        write_minutes(minute(number))
    known = manifest_paths()
    manifests_read.clear()
    upkeep.upkeep(SHOP, now=TEN)
    assert {path: manifests_read.count(path) for path in known} == dict.fromkeys(known, 2), (
        "Once to find hours of many files, and once to find the files of all snapshots."
    )


def test_a_count_of_hours_that_are_years_apart_reads_each_manifest_once(lakehouse, manifests_read: list[str]) -> None:
    hours = [TEN, TEN + timedelta(days=800)]
    for hour in hours:
        write_minutes(hour)
    known = manifest_paths()
    manifests_read.clear()
    with hourly.duckdb_over(SHOP, table.table(SHOP), hours) as connection:
        assert connection.execute("SELECT count(*) FROM events").fetchone() == (2,)
    assert sorted(manifests_read) == sorted(known)


def test_manifests_are_merged_in_tables_of_former_versions_too(lakehouse, monkeypatch) -> None:
    with monkeypatch.context() as former:
        former.setattr(table, "_PROPERTIES", {"commit.manifest.min-count-to-merge": "4"})
        for number in range(6):
            write_minutes(minute(60 * number))
        assert len(manifest_paths()) == 6
    write_minutes(minute(0))
    assert len(manifest_paths()) < 4
    assert table_minutes() == [minute(60 * number) for number in range(6)]


def test_files_of_a_commit_that_is_under_way_or_was_killed_recently_stay(lakehouse) -> None:
    write_minutes(TEN)
    [file] = lakehouse.rglob("*.parquet")
    left_by_a_kill = file.with_name("left.parquet")
    left_by_a_kill.write_bytes(file.read_bytes())
    assert upkeep.upkeep(SHOP).files == 0
    assert upkeep.upkeep(SHOP, now=TOMORROW + timedelta(days=1)).files >= 1
    assert not left_by_a_kill.exists()
    assert table_minutes() == [TEN]


def test_statistics_that_another_engine_wrote_stay(lakehouse) -> None:
    write_minutes(TEN)
    write_statistics(table.table(SHOP))
    upkeep.upkeep(SHOP, now=TOMORROW + timedelta(days=1))
    assert {"columns.puffin", "partitions.parquet"} <= set(files(lakehouse))
