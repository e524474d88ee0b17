"""How far each import has come (etl.imports), and the rows that it rejected (etl.rejected_events, origin `import`)."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from include.lake.admission import Refused
from include.warehouse import rejected
from include.warehouse.errors import WarehouseError
from include.warehouse.session import in_transaction, reading, server_time, value
from include.warehouse.statements import Statements

sql = Statements(__file__)

MAX_REJECTED = 20.0  # percent
TAKE_OVER_SECONDS = 5  # within which a server notices that a client was killed


IMPORT_AGAIN = "import it again, which counts no row twice"
REPLAY_AGAIN = "replay it again: events that were sent with shifted times then count a second time"


def shortfall(
    accepted: int,
    rejected: int,
    max_percent: float,
    damage: str | None = None,
    *,
    verb: str = "stored",
    again: str = IMPORT_AGAIN,
) -> str | None:
    """Why an import or a replay counts as failed; None if it does not.

    It counts as failed if the file is damaged, no row was accepted, or more than `max_percent` percent of the rows were
    rejected. `verb` says what happened to accepted rows, and `again` how to read the file a second time.
    """
    rows = accepted + rejected
    if damage:
        return (
            f"The file cannot be read to its end: {damage}. The {rows:,} rows before that were read, and {accepted:,} of them "
            f"were {verb}. Fetch or compress the file again, then {again}."
        )
    if not accepted:
        return f"All {rejected:,} rows were rejected." if rejected else "There were no rows."
    share = 100 * rejected / rows
    if share <= max_percent:
        return None
    return (
        f"{rejected:,} of {rows:,} rows were rejected: {share:.3g} %, more than `max_rejected` ({max_percent:g} %). "
        f"The others were {verb}. Set a higher `max_rejected`, or fix the file and {again}."
    )


@dataclass
class Progress:
    """How much of one source is safe. `position` is a line or a token. A resumed import keeps its `started_at`."""

    position: int
    rows_written: int
    rows_rejected: int
    resumed: bool
    started_at: datetime | None = None  # UTC, by the warehouse's clock


class ImportRunning(WarehouseError):
    """Another import of the same source is running; the message names its connection, and says what to do."""


class ImportLog:
    """The progress of one source into one target, in the warehouse. It belongs to the connection that started it.

    The keys of its rejected rows begin with `origin`, by default `source_key`. With another source's key, they count as
    that source's rows.
    """

    def __init__(
        self,
        conn,
        pipeline: str,
        source_key: str,
        source_name: str,
        *,
        dimension: str = "",
        first_position: int = 0,
        origin: str | None = None,
    ) -> None:
        self._conn = conn
        self._key = {"target": f"{pipeline}.{dimension}" if dimension else pipeline, "source_key": source_key}
        self._origin = origin or source_key
        self._pipeline = pipeline
        self._source_name = source_name[-250:]
        self._first_position = first_position
        self.progress = Progress(first_position, 0, 0, resumed=False)

    def begin(self, *, again: bool = False) -> Progress:
        """Resume an unfinished import of this source, unless `again`; a finished one always starts over.

        Raises ImportRunning while another connection imports this source. The server releases the lock when the connection
        ends, so that the successor of a killed import can take over.
        """
        self._acquire_source()
        self.progress = in_transaction(self._conn, lambda cursor: self._begin(cursor, again))
        return self.progress

    def advance(self, position: int, written: int, refused: Sequence[Refused]) -> None:
        """Record that everything up to `position` is safe, with the rejected rows, in one transaction."""
        self.progress.position = position
        self.progress.rows_written += written
        self.progress.rows_rejected += len(refused)
        in_transaction(self._conn, lambda cursor: self._advance(cursor, refused))

    def finish(self) -> None:
        """Mark the import as done."""
        in_transaction(self._conn, lambda cursor: self._update(cursor, "done"))

    def clock(self) -> datetime:
        """The current time by the clock of `started_at`."""
        return in_transaction(self._conn, server_time)

    def _acquire_source(self) -> None:
        """Lock the source: two imports of it would overwrite each other's position and counts."""
        digest = hashlib.blake2b("\n".join(self._key.values()).encode(), digest_size=16).hexdigest()
        name = f"minutemark.import.{digest}"
        binds = {"name": name, "seconds": TAKE_OVER_SECONDS, **self._key}
        owner = None
        while owner is None:  # without an owner, the other import has ended since
            if value(self._conn.cursor(), "SELECT GET_LOCK(%(name)s, %(seconds)s)", binds) == 1:
                return
            with reading(self._conn) as cursor:
                owner = value(cursor, "SELECT IS_USED_LOCK(%(name)s)", binds)
        with reading(self._conn) as cursor:
            cursor.execute(sql("running"), binds)
            row = cursor.fetchone()
        so_far = f", since {row[0]:%Y-%m-%d %H:%M} UTC, {row[1]:,} rows written, {row[2]:,} rejected" if row else ""
        raise ImportRunning(
            f"{self._source_name} is being read by another import or replay (connection {owner} of the warehouse{so_far}). "
            "Wait until it has finished. If it was killed, run the same command again (a replay without --again) to resume. "
            f"If its machine is gone, run KILL {owner} in the warehouse first."
        )

    def _begin(self, cursor, again: bool) -> Progress:
        cursor.execute(sql("progress"), self._key)
        row = cursor.fetchone()
        if row and row[3] == "running" and not again:
            return Progress(*row[:3], resumed=row[0] != self._first_position, started_at=row[4])
        cursor.execute(sql("restart"), self._key | {"source_name": self._source_name, "position": self._first_position})
        if self._origin == self._key["source_key"]:
            # The rows that an earlier import of the same source rejected are validated again.
            cursor.execute(
                sql("forget_rejected"), {"pipeline": self._pipeline, "prefix": _escape_for_like(self._origin) + ":%"}
            )
        query = "SELECT started_at FROM etl.imports WHERE target = %(target)s AND source_key = %(source_key)s"
        return Progress(self._first_position, 0, 0, resumed=False, started_at=value(cursor, query, self._key))

    def _advance(self, cursor, refused: Sequence[Refused]) -> None:
        rows = [replace(row, key=f"{self._origin}:{row.key}") for row in refused]
        rejected.keep_in(cursor, self._pipeline, rejected.IMPORT, rows)
        self._update(cursor, "running")

    def _update(self, cursor, state: str) -> None:
        cursor.execute(
            sql("update"),
            self._key
            | {
                "position": self.progress.position,
                "rows_written": self.progress.rows_written,
                "rows_rejected": self.progress.rows_rejected,
                "state": state,
            },
        )


def _escape_for_like(text: str) -> str:
    """The text with the wildcards of LIKE escaped: a table's name contains underscores."""
    return text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
