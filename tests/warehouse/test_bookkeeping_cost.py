"""Runs, merges and boards read a bounded number of rows of the control tables, however large these are.

The server's row counters are the measure.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from include.warehouse import batches, hours, merge
from include.warehouse.delta import LastDelta
from include.warehouse.session import rows
from tests.warehouse.lab import RECRUITMENT, Lab, minute

MANY = 4_000
NUMBERS = (
    "SELECT a.n + 20 * b.n + 400 * c.n AS n FROM (SELECT {n}) AS a JOIN (SELECT {n}) AS b JOIN (SELECT {n}) AS c"
).format(n=" AS n UNION ALL SELECT ".join(str(number) for number in range(20)) + " AS n")
NUMBERS = f"SELECT n FROM ({NUMBERS}) AS numbers WHERE n < {MANY}"  # 0 to 3,999
FEW = 50


def rows_read(lab: Lab, work: Callable[[], object]) -> int:
    """The rows that the server reads for `work`, in this session."""

    def read_until_now() -> int:
        cursor = lab.conn.cursor()
        cursor.execute("SHOW SESSION STATUS LIKE 'Handler_read%'")
        return sum(int(value) for _, value in cursor.fetchall())

    rows_of_counting = -read_until_now() + read_until_now()
    before = read_until_now()
    work()
    return read_until_now() - before - rows_of_counting


@pytest.fixture
def full(lab: Lab) -> Lab:
    """Batches of today and merged minutes of two pipelines; no batch of suspects, no minute that is pending or held."""
    for pipeline in ("ecommerce", "recruitment"):
        lab.query(
            "INSERT INTO etl.batches (pipeline, kind, dag_id, run_id, lake_clock, options, is_delta, state) "
            f"SELECT '{pipeline}', 'minute', 'minute', n, UTC_TIMESTAMP(6), '{{}}', 1, 'merged' FROM ({NUMBERS}) AS many"
        )
        lab.query(
            "INSERT INTO etl.minute_ledger (pipeline, minute, seen_changed_at, read_changed_at, seen_changed_time, read_at, "
            f"settled_before, state, attempt) SELECT '{pipeline}', TIMESTAMP('2026-01-01') + INTERVAL n MINUTE, 'x', 'x', "
            f"'2026-02-01', '2026-03-01', '2026-03-01', 'merged', 1 FROM ({NUMBERS}) AS many"
        )
    assert lab.one("SELECT COUNT(*) FROM etl.minute_ledger WHERE pending = 0") == 2 * MANY
    return lab


def test_the_counter_counts(full: Lab) -> None:
    assert rows_read(full, lambda: full.query("SELECT MAX(reason), MAX(run_id) FROM etl.batches")) >= MANY
    assert rows_read(full, lambda: None) == 0


def test_choosing_the_next_batch_reads_few_rows(full: Lab) -> None:
    seen = []
    assert rows_read(full, lambda: seen.append(batches.last_delta(full.conn, RECRUITMENT))) < FEW
    full.open(minute(0), minute(1), run_id="suspects", split_size=2)
    assert rows_read(full, lambda: seen.append(batches.last_delta(full.conn, RECRUITMENT))) < FEW
    full.open(minute(5), run_id="ordinary")
    assert rows_read(full, lambda: seen.append(batches.last_delta(full.conn, RECRUITMENT))) < FEW
    full.open(minute(3), run_id="given", split_size=2, is_delta=False)
    assert batches.last_delta(full.conn, RECRUITMENT) == seen[2]
    assert seen == [LastDelta(False, None), LastDelta(True, minute(0)), LastDelta(False, minute(0))]


def test_the_batches_of_a_day_are_not_read_under_the_lock_of_a_merge(full: Lab) -> None:
    result = []
    assert rows_read(full, lambda: result.append(merge.oldest_kept_batch(full.conn.cursor()))) < FEW
    first = full.one("SELECT MIN(batch_id) FROM etl.batches")
    full.query(
        "UPDATE etl.batches SET opened_at = UTC_TIMESTAMP(6) - INTERVAL %s MINUTE WHERE batch_id = %s", 2_000, first
    )
    full.query(
        "UPDATE etl.batches SET opened_at = UTC_TIMESTAMP(6) - INTERVAL %s MINUTE WHERE batch_id = %s",
        1_500,
        first + 1,
    )
    assert rows_read(full, lambda: result.append(merge.oldest_kept_batch(full.conn.cursor()))) < FEW
    assert result == [0, first + 1]


def test_board_now_does_not_read_the_whole_ledger(full: Lab) -> None:
    now: list[dict] = []
    counts = "SELECT pipeline, pending_minutes, held_minutes FROM etl.board_now ORDER BY pipeline"
    assert rows_read(full, lambda: now.extend(rows(full.conn.cursor(), counts))) < FEW
    assert [(row["pending_minutes"], row["held_minutes"]) for row in now] == [(0, 0), (0, 0)]
    full.query(
        "UPDATE etl.minute_ledger SET state = 'held', held_changed_at = seen_changed_at, waiting = minute >= '2026-01-01 00:02' "
        "WHERE pipeline = 'recruitment' AND minute < '2026-01-01 00:05'"
    )
    full.query(
        "UPDATE etl.minute_ledger SET seen_changed_at = 'y' WHERE pipeline = 'recruitment' AND minute >= '2026-01-03 18:00'"
    )
    [_, recruitment] = rows(full.conn.cursor(), counts)
    assert recruitment == {"pipeline": "recruitment", "pending_minutes": MANY - 66 * 60, "held_minutes": 2}


def test_deciding_whether_to_announce_an_hour_reads_few_rows(full: Lab) -> None:
    for pipeline in ("ecommerce", "recruitment"):
        full.query(
            "INSERT INTO etl.hours (pipeline, hour, version, offered_version, announced_version) "
            f"SELECT '{pipeline}', TIMESTAMP('2025-01-01') + INTERVAL n HOUR, 1, 1, 1 FROM ({NUMBERS}) AS many"
        )
        full.query(
            f"INSERT INTO etl.looks (pipeline, looked_at, lake_clock) VALUES ('{pipeline}', '2026-01-01', '2026-01-01')"
        )
    seen = []
    assert rows_read(full, lambda: seen.append(hours.is_any_due(full.conn, RECRUITMENT))) < FEW
    assert rows_read(full, lambda: seen.append(hours.offers(full.conn, RECRUITMENT))) < FEW
    assert rows_read(full, lambda: seen.append(hours.offer(full.conn, RECRUITMENT))) < FEW
    assert seen == [False, [], []]
