"""Rejected events: how many there are for which reason, and which of them a replay takes."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from include.pipelines import Pipeline
from include.warehouse.session import in_transaction, rows

LAKE, IMPORT, KAFKA = "lake", "import", "kafka"
_PAYLOAD_SHOWN = 300  # characters
_KEYS_A_QUERY = 500
_LONGEST_KEY = 190
_TOPIC_ID = re.compile(r"@[^/]*")
_LONGEST_REASON = 500
_LONGEST_PAYLOAD = 8_000_000  # characters: a MEDIUMTEXT and a packet take 16 MB

# A reason without what was found in the one row: the sentence before the colon, quoted values and line numbers left out.
_RULE = (
    "SUBSTRING_INDEX(REGEXP_REPLACE(REGEXP_REPLACE(REGEXP_REPLACE(reason, '''[^'']*''', '…'), '\"[^\"]*\"', '…'), "
    "'^line [0-9]+', 'line …'), ': ', 1)"
)
_CHOSEN = (
    f"(%(reason)s IS NULL OR {_RULE} = %(reason)s OR LEFT(reason, CHAR_LENGTH(%(reason)s)) = %(reason)s) "
    "AND (%(start)s IS NULL OR minute >= %(start)s) AND (%(end)s IS NULL OR minute < %(end)s)"
)


class Refusal(Protocol):
    """A row that never reached the lake, and why; `key` is unique within its origin."""

    key: str
    reason: str
    payload: str
    minute: datetime | None


@dataclass(frozen=True)
class Choice:
    """Which rejected events: by the reason, or its beginning, and by minute; None leaves that open.

    Rows whose minute nobody knows are in no range of minutes.
    """

    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None  # not included

    def binds(self, pipeline: Pipeline) -> dict[str, object]:
        return {"pipeline": pipeline.name, "reason": self.reason, "start": self.start, "end": self.end}


def by_reason(
    conn, pipelines: Iterable[Pipeline], choice: Choice, *, payloads: bool, most: int | None = None
) -> list[dict]:
    """Groups of rejected events, the largest first: pipeline, origin, reason, rows, minutes, first_minute, last_minute,
    newest (when one was rejected last), and `samples` of two. `payloads` needs the account of warehouse_etl.

    Of more than `most` chosen events of a pipeline those of the newest minutes are grouped.
    """
    table = "etl.rejected_events" if payloads else "etl.rejected_summary"
    newest = "" if most is None else " ORDER BY minute DESC LIMIT %(most)s"
    chosen = (
        f"(SELECT pipeline, origin, origin_key, minute, reason, rejected_at FROM {table} "
        f"WHERE pipeline = %(pipeline)s AND {_CHOSEN}{newest}) AS chosen"
    )
    found = []
    for pipeline in pipelines:
        found += rows(
            conn.cursor(),
            f"SELECT pipeline, origin, {_RULE} AS rule, COUNT(*) AS found, COUNT(DISTINCT minute) AS minutes, "
            "MIN(minute) AS first_minute, MAX(minute) AS last_minute, MAX(rejected_at) AS newest, "
            f"MIN(origin_key) AS first_key, MAX(origin_key) AS last_key FROM {chosen} "
            "GROUP BY pipeline, origin, rule ORDER BY found DESC, rule",
            choice.binds(pipeline) | {"most": most},
        )
    payload = f", LEFT(payload, {_PAYLOAD_SHOWN + 1}) AS payload" if payloads else ""
    for group in found:
        samples = rows(
            conn.cursor(),
            f"SELECT origin_key, minute, reason{payload} FROM {table} WHERE pipeline = %(pipeline)s "
            "AND origin = %(origin)s AND origin_key IN (%(first_key)s, %(last_key)s) ORDER BY origin_key",
            group,
        )
        group["samples"] = [_cut(sample) for sample in samples]
    conn.rollback()
    return [_group(group) for group in found]


def _group(group: dict) -> dict:
    names = ("pipeline", "origin", "minutes", "first_minute", "last_minute", "newest", "samples")
    return {"reason": group["rule"], "rows": group["found"], **{name: group[name] for name in names}}


def _cut(sample: dict) -> dict:
    if len(sample.get("payload") or "") > _PAYLOAD_SHOWN:
        sample["payload"] = f"{sample['payload'][:_PAYLOAD_SHOWN]}…"
    return sample


def keep(conn, pipeline: Pipeline, origin: str, refused: Sequence[Refusal]) -> None:
    """Keep rows that never reached the lake, in one transaction; one that is there already is not counted again."""
    in_transaction(conn, lambda cursor: keep_in(cursor, pipeline.name, origin, refused))


def keep_in(cursor, pipeline: str, origin: str, refused: Iterable[Refusal]) -> None:
    """The same inside the caller's transaction."""
    for row in refused:
        if origin == KAFKA and (former := without_topic_id(row.key)) != row.key:
            # The same message, kept by a version whose keys had no topic id. Old payloads are emptied.
            cursor.execute(
                "UPDATE IGNORE etl.rejected_events SET origin_key = %(key)s WHERE pipeline = %(pipeline)s "
                "AND origin = %(origin)s AND origin_key = %(former)s AND payload IN (%(payload)s, '')",
                {
                    "pipeline": pipeline,
                    "origin": origin,
                    "key": row.key[:_LONGEST_KEY],
                    "former": former,
                    "payload": row.payload[:_LONGEST_PAYLOAD],
                },
            )
        cursor.execute(
            "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, minute, reason, payload) "
            "VALUES (%(pipeline)s, %(origin)s, %(origin_key)s, %(minute)s, %(reason)s, %(payload)s) "
            "ON DUPLICATE KEY UPDATE minute = VALUES(minute), reason = VALUES(reason), payload = VALUES(payload)",
            {
                "pipeline": pipeline,
                "origin": origin,
                "origin_key": row.key[:_LONGEST_KEY],
                "minute": row.minute,
                "reason": row.reason[:_LONGEST_REASON],
                "payload": row.payload[:_LONGEST_PAYLOAD],
            },
        )


def without_topic_id(key: str) -> str:
    """The key of a message in earlier versions, which had no topic id."""
    return _TOPIC_ID.sub("", key, count=1)


def kept_keys(conn, pipeline: Pipeline, origin: str, keys: Sequence[str]) -> set[str]:
    """Those of these origin keys that are kept."""
    kept: set[str] = set()
    for start in range(0, len(keys), _KEYS_A_QUERY):
        part = {f"k{number}": key for number, key in enumerate(keys[start : start + _KEYS_A_QUERY])}
        cursor = conn.cursor()
        cursor.execute(
            "SELECT origin_key FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = %(origin)s "
            f"AND origin_key IN ({', '.join(f'%({name})s' for name in part)})",
            part | {"pipeline": pipeline.name, "origin": origin},
        )
        kept.update(key for (key,) in cursor.fetchall())
    conn.rollback()
    return kept


def lake_keys(conn, pipeline: Pipeline, choice: Choice) -> dict[datetime, set[str]]:
    """The origin keys of the chosen events of origin lake, by minute."""
    cursor = conn.cursor()
    cursor.execute(
        "SELECT minute, origin_key FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = 'lake' "
        f"AND {_CHOSEN}",
        choice.binds(pipeline),
    )
    found: dict[datetime, set[str]] = {}
    for minute, key in cursor.fetchall():
        found.setdefault(minute, set()).add(key)
    conn.rollback()
    return found


def still_rejected(conn, pipeline: Pipeline, keys: dict[datetime, set[str]]) -> int:
    """How many of these origin keys are of rejected events of the lake now."""
    still, minutes = 0, sorted(keys)
    for start in range(0, len(minutes), _KEYS_A_QUERY):
        part = {f"m{number}": minute for number, minute in enumerate(minutes[start : start + _KEYS_A_QUERY])}
        cursor = conn.cursor()
        cursor.execute(
            "SELECT minute, origin_key FROM etl.rejected_events WHERE pipeline = %(pipeline)s AND origin = 'lake' "
            f"AND minute IN ({', '.join(f'%({name})s' for name in part)})",
            part | {"pipeline": pipeline.name},
        )
        still += sum(key in keys[minute] for minute, key in cursor.fetchall())
    conn.rollback()
    return still


def import_rows(conn, pipeline: Pipeline, choice: Choice) -> tuple[list[tuple[int, int]], int]:
    """(rejected_id, characters of the payload) of the chosen rows of imports of events and of topics, and how many others
    are rows of dimension files, which are not events.
    """
    dimensions = [f"{pipeline.name}.{dimension.name}" for dimension in pipeline.dimensions]
    cursor = conn.cursor()
    cursor.execute("SELECT target, source_key FROM etl.imports")
    no_events = {source for target, source in cursor.fetchall() if target in dimensions}
    cursor.execute(
        "SELECT rejected_id, CHAR_LENGTH(payload), SUBSTRING_INDEX(origin_key, ':', 1) FROM etl.rejected_events "
        f"WHERE pipeline = %(pipeline)s AND origin IN ('import', 'kafka') AND {_CHOSEN} ORDER BY rejected_id",
        choice.binds(pipeline),
    )
    found = cursor.fetchall()
    conn.rollback()
    events = [(rejected_id, length) for rejected_id, length, source in found if source not in no_events]
    return events, len(found) - len(events)


def stored(conn, rejected_ids: Sequence[int]) -> list[dict]:
    """These rows as they are now: rejected_id, origin_key, reason, minute, payload. Those deleted meanwhile are left out."""
    binds = {f"r{number}": rejected_id for number, rejected_id in enumerate(rejected_ids)}
    found = rows(
        conn.cursor(),
        "SELECT rejected_id, origin_key, reason, minute, payload FROM etl.rejected_events WHERE rejected_id IN "
        f"({', '.join(f'%({name})s' for name in binds)}) ORDER BY rejected_id",
        binds,
    )
    conn.rollback()  # what follows is written elsewhere: keep no transaction open meanwhile
    return found


def settle_imports(conn, accepted: Iterable[int], refused: Iterable[tuple[int, str, datetime | None]]) -> None:
    """Delete the rows that are safe in the lake, and keep the newest reason of those that are not: one transaction."""

    def settle(cursor) -> None:
        cursor.executemany(
            "DELETE FROM etl.rejected_events WHERE rejected_id = %s", [(one,) for one in sorted(accepted)]
        )
        cursor.executemany(
            "UPDATE etl.rejected_events SET reason = %s, minute = %s WHERE rejected_id = %s",
            [(reason[:500], minute, one) for one, reason, minute in sorted(refused)],
        )

    in_transaction(conn, settle)
