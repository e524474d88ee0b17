"""Hand-written batches on a real server: what Spark would have staged, then the project's own gates and merge."""

from __future__ import annotations

import contextlib
import uuid
from collections import Counter
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from decimal import Decimal

from include import pipelines
from include.lake.keys import GREGORIAN_EPOCH, time_of
from include.warehouse import batches, gates, ledger, merge
from include.warehouse.delta import PlannedMinute
from include.warehouse.session import warehouse

RECRUITMENT = pipelines.get("recruitment")
DAY = date(2026, 3, 1)
TEN = datetime(2026, 3, 1, 10, 0)  # the minutes of these tests are numbered from here
CLOCK = datetime(2026, 3, 1, 12, 0, 20)  # of the lake
SECOND = timedelta(seconds=1)
KEY = ("job_id", "dates", "hours", "publisher_id", "campaign_id", "group_id")


def minute(number: int) -> datetime:
    """The minute `number` minutes after ten."""
    return TEN + timedelta(minutes=number)


def touched_at(time: datetime, node: int = 1) -> uuid.UUID:
    """A time-UUID of that time."""
    ticks = (time - GREGORIAN_EPOCH) // timedelta(microseconds=1) * 10
    low, middle, high = ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, (ticks >> 48) & 0x0FFF
    result = uuid.UUID(fields=(low, middle, high | 0x1000, 0x80, 0, node))
    assert time_of(result) == time
    return result


def contribution(job_id: int = 7, **values) -> dict:
    """A staged row of one click with a bid of 0.5; `values` replace columns."""
    row = {
        "job_id": job_id, "dates": DAY, "hours": 10, "publisher_id": 0, "campaign_id": 0, "group_id": 0, "event_count": 1,
        "clicks": 1, "impressions": 0, "conversions": 0, "qualified": 0, "unqualified": 0, "bid_sum": Decimal("0.5"),
        "bid_count": 1,
    }  # fmt: skip
    return row | values


class Lab:
    """One connection of the etl account, with short methods for the steps that most tests share."""

    pipeline = RECRUITMENT

    def __init__(self, conn) -> None:
        self.conn = conn

    def query(self, text: str, *values) -> list[tuple]:
        cursor = self.conn.cursor()
        cursor.execute(text, values or None)
        result = list(cursor.fetchall()) if cursor.description else []
        self.conn.commit()
        return result

    @contextlib.contextmanager
    def refusing(self, change: str, table: str, of: str | None = None) -> Iterator[None]:
        """In the block, the warehouse refuses each `change` (INSERT, UPDATE or DELETE) of the table, or of the column `of`."""
        refuse = f"SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = '{change} refused'"
        if of:
            refuse = f"BEGIN IF NOT OLD.{of} <=> NEW.{of} THEN {refuse}; END IF; END"
        with warehouse("warehouse_admin") as admin:
            cursor = admin.cursor()
            cursor.execute(f"CREATE TRIGGER {table}_refuses BEFORE {change} ON {table} FOR EACH ROW {refuse}")
            try:
                yield
            finally:
                cursor.execute(f"DROP TRIGGER {table}_refuses")

    def one(self, text: str, *values):
        return self.query(text, *values)[0][0]

    def see(self, *minutes: datetime, at: datetime = CLOCK - 600 * SECOND, clock: datetime = CLOCK) -> None:
        """Record a poll that finds these minutes touched at that time."""
        changed = touched_at(at)
        days = {minute.date(): changed for minute in minutes}
        ledger.record_poll(self.conn, self.pipeline, clock, days, dict.fromkeys(minutes, changed))

    def pending(self) -> list[datetime]:
        query = "SELECT minute FROM etl.minute_ledger WHERE pipeline = %s AND pending = 1 ORDER BY minute"
        return [minute for (minute,) in self.query(query, self.pipeline.name)]

    def open(
        self, *minutes: datetime, run_id: str = "run-1", clock: datetime = CLOCK, is_delta: bool = True,
        split_size: int | None = None, **values,
    ) -> int:  # fmt: skip
        """Open a batch of these minutes as a run of the minute DAG does; `values` are those of its RunInfo."""
        seen = dict(self.query("SELECT minute, seen_changed_at FROM etl.minute_ledger"))
        planned = [PlannedMinute(minute, seen.get(minute), 1) for minute in minutes]
        defaults = {"dag_id": f"{self.pipeline.name}_minute", "tick": CLOCK, "options": self.pipeline.options}
        run = batches.RunInfo(run_id=run_id, **defaults | values)
        return batches.open_batch(
            self.conn, self.pipeline, run, lake_clock=clock, minutes=planned, is_delta=is_delta, split_size=split_size
        )

    def stage(self, batch_id: int, rows: dict[datetime, list[dict]], *, ignored=0, rejects=(), counts=None) -> int:
        """Stage a new attempt with these contributions and counts of every minute; `rejects` are (minute, reason)."""
        attempt = batches.new_attempt(self.conn, batch_id)
        cursor = self.conn.cursor()
        for at, contributions in rows.items():
            for number, row in enumerate(contributions):
                row_of_attempt = {"attempt": attempt, "minute": at, **self.staging_row(at, number, row)}
                cursor.execute(
                    f"INSERT INTO {self.pipeline.staged[0].staging} ({', '.join(row_of_attempt)}) "
                    f"VALUES ({', '.join(['%s'] * len(row_of_attempt))})",
                    list(row_of_attempt.values()),
                )
        for number, (at, reason) in enumerate(rejects):
            cursor.execute(
                "INSERT INTO etl.staged_rejects (attempt, origin_key, minute, reason, payload) VALUES (%s, %s, %s, %s, %s)",
                (attempt, f"{at}/0/{number}", at, reason, '{"secret": "payload"}'),
            )
        rejected_rows = Counter(at for at, _ in rejects)
        for planned in batches.get(self.conn, batch_id).minutes:
            counted = sum(row.get("event_count", 1) for row in rows.get(planned.minute, []))
            rejected = rejected_rows[planned.minute]
            count = {
                "attempt": attempt, "minute": planned.minute, "raw_rows": counted + ignored + rejected, "counted_rows": counted,
                "ignored_rows": ignored, "rejected_rows": rejected, "ignored_by_kind": "{}", "id_checksum": counted,
                "newest_create_time": planned.minute + 30 * SECOND if counted else None,
            } | (counts or {}).get(planned.minute, {})  # fmt: skip
            cursor.execute(
                f"INSERT INTO etl.staged_counts ({', '.join(count)}) VALUES ({', '.join(['%s'] * len(count))})",
                list(count.values()),
            )
        self.conn.commit()
        return attempt

    def staging_row(self, at: datetime, number: int, row: dict) -> dict:
        """A contribution of that minute as its row in staging."""
        return {**row, "newest_create_time": at + 30 * SECOND}

    def check(self, batch_id: int, gate: str = "staging") -> gates.GateResult:
        return gates.run_gate(self.conn, batch_id, gate)

    def publish(self, rows: dict[datetime, list[dict]], *, run_id: str = "run-1", **values) -> int:
        """Run the whole chain for these minutes; return the id of the batch."""
        opening = {
            name: values.pop(name) for name in list(values) if name in ("allow_shrink", "clock", "kind", "is_delta")
        }
        batch_id = self.open(*rows, run_id=run_id, **opening)
        self.stage(batch_id, rows, **values)
        assert self.check(batch_id).passed
        merge.merge(batch_id)
        assert self.check(batch_id, "warehouse").passed
        return batch_id

    def facts(self, columns: str = "clicks") -> dict:
        """Facts by job and publisher."""
        result = self.query(f"SELECT job_id, publisher_id, {columns} FROM recruitment.events")
        return {(row[0], row[1]): row[2] if len(row) == 3 else row[2:] for row in result}

    def ledger(self, at: datetime) -> dict:
        return ledger.ledger_of(self.conn, self.pipeline, at, at + 60 * SECOND)[at]
