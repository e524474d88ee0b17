"""Rejected events: keeps them, groups them by reason, and selects those that reprocessing reads."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from include.chunks import slices
from include.durations import EPOCH, MICROSECOND
from include.pipelines import Pipeline
from include.warehouse.lengths import LONGEST_REASON
from include.warehouse.session import column, execute, in_transaction, read, reading, rows
from include.warehouse.statements import Statements

if TYPE_CHECKING:
    from include.lake.admission import Refused

sql = Statements(__file__)

LAKE, IMPORT, KAFKA = "lake", "import", "kafka"
_PAYLOAD_SHOWN = 300  # characters
_KEYS_PER_QUERY = 500
_LONGEST_KEY = 190
_TOPIC_ID = re.compile(r"@[^/]*")
_PAYLOAD_BYTES = 8_000_000  # a MEDIUMTEXT and a packet hold 16 MB
_CUT_CHARACTERS = 1_000_000  # what a larger payload is cut to


@dataclass(frozen=True)
class Selection:
    """A selection of rejected events: by a reason, or the beginning of one, and by minute; None selects all.

    Rows without a minute are in no range of minutes.
    """

    reason: str | None = None
    start: datetime | None = None
    end: datetime | None = None  # not included

    def binds(self, pipeline: Pipeline) -> dict[str, object]:
        return {"pipeline": pipeline.name, "reason": self.reason, "start": self.start, "end": self.end}


def by_reason(
    conn, pipelines: Iterable[Pipeline], selection: Selection, *, payloads: bool, limit: int | None = None
) -> list[dict]:
    """Groups of each pipeline's rejected events, the largest first: pipeline, origin, reason, rows, minutes,
    first_minute, last_minute, newest (when the last one was rejected), and up to two `samples`. `payloads` needs the
    account of warehouse_etl.

    If a pipeline has more than `limit` selected events, only those of the newest minutes are grouped.
    """
    table = "etl.rejected_events" if payloads else "etl.rejected_summary"
    groups = []
    with reading(conn) as cursor:
        for pipeline in pipelines:
            query = sql("by_reason", table=table, limited=limit is not None)
            groups += rows(cursor, query, selection.binds(pipeline) | {"limit": limit})
        for group in groups:
            query = sql("samples", table=table, payloads=payloads)
            group["samples"] = [_cut(sample) for sample in rows(cursor, query, group | {"shown": _PAYLOAD_SHOWN + 1})]
    return [_group(group) for group in groups]


def _group(group: dict) -> dict:
    names = ("pipeline", "origin", "minutes", "first_minute", "last_minute", "newest", "samples")
    return {"reason": group["rule"], "rows": group["found"], **{name: group[name] for name in names}}


def _cut(sample: dict) -> dict:
    if len(sample.get("payload") or "") > _PAYLOAD_SHOWN:
        sample["payload"] = f"{sample['payload'][:_PAYLOAD_SHOWN]}…"
    return sample


def keep(conn, pipeline: Pipeline, origin: str, refused: Sequence[Refused]) -> None:
    """Keep rows that never reached the lake, in one transaction; a row that is already kept gets its newest reason and
    payload.
    """
    in_transaction(conn, lambda cursor: keep_in(cursor, pipeline.name, origin, refused))


def keep_in(cursor, pipeline: str, origin: str, refused: Iterable[Refused]) -> None:
    """Like keep, inside the caller's transaction."""
    for row in refused:
        if origin == KAFKA and (former := without_topic_id(row.key)) != row.key:
            # An earlier version, whose keys had no topic id, may have kept the same message. Its payload may be empty by
            # now: housekeeping empties old ones.
            cursor.execute(
                sql("rename_key"),
                {
                    "pipeline": pipeline,
                    "origin": origin,
                    "key": row.key[:_LONGEST_KEY],
                    "former": former,
                    "payload": _stored_payload(row.payload),
                },
            )
        cursor.execute(
            sql("keep"),
            {
                "pipeline": pipeline,
                "origin": origin,
                "origin_key": row.key[:_LONGEST_KEY],
                "minute": row.minute,
                "reason": row.reason[:LONGEST_REASON],
                "payload": _stored_payload(row.payload),
                "rejected_at": None if row.as_of is None else EPOCH + row.as_of * MICROSECOND,
            },
        )


def _stored_payload(payload: str) -> str:
    return payload if len(payload.encode()) <= _PAYLOAD_BYTES else payload[:_CUT_CHARACTERS]


def without_topic_id(key: str) -> str:
    """The key of a message in earlier versions, which had no topic id."""
    return _TOPIC_ID.sub("", key, count=1)


def kept_keys(conn, pipeline: Pipeline, origin: str, keys: Sequence[str]) -> set[str]:
    """The origin keys among these that are kept."""
    kept: set[str] = set()
    with reading(conn) as cursor:
        for part in slices(keys, _KEYS_PER_QUERY):
            binds = {"pipeline": pipeline.name, "origin": origin, "keys": part}
            kept.update(column(cursor, sql("kept_keys"), binds))
    return kept


def lake_keys(conn, pipeline: Pipeline, selection: Selection) -> dict[datetime, set[str]]:
    """The origin keys of the chosen events of origin lake, by minute."""
    keys: dict[datetime, set[str]] = {}
    with reading(conn) as cursor:
        for minute, key in execute(cursor, sql("lake_keys"), selection.binds(pipeline)).fetchall():
            keys.setdefault(minute, set()).add(key)
    return keys


def still_rejected(conn, pipeline: Pipeline, keys: dict[datetime, set[str]]) -> int:
    """How many of these origin keys belong to events of the lake that are rejected now."""
    count, minutes = 0, sorted(keys)
    with reading(conn) as cursor:
        for part in slices(minutes, _KEYS_PER_QUERY):
            binds = {"pipeline": pipeline.name, "minutes": part}
            records = execute(cursor, sql("lake_keys_of"), binds).fetchall()
            count += sum(key in keys[minute] for minute, key in records)
    return count


def rows_to_reprocess(conn, pipeline: Pipeline, selection: Selection) -> tuple[list[tuple[int, int]], int]:
    """The chosen rows of imports and topics, as (rejected_id, characters of the payload), and the number of rows that are not
    events because they come from dimension files.
    """
    dimensions = [f"{pipeline.name}.{dimension.name}" for dimension in pipeline.dimensions]
    with reading(conn) as cursor:
        imports = execute(cursor, "SELECT target, source_key FROM etl.imports").fetchall()
        records = execute(cursor, sql("imported"), selection.binds(pipeline)).fetchall()
    dimension_files = {source for target, source in imports if target in dimensions}
    events = [(rejected_id, length) for rejected_id, length, source in records if source not in dimension_files]
    return events, len(records) - len(events)


def read_rows(conn, rejected_ids: Sequence[int]) -> list[dict]:
    """These rows as they are now, in the order of their source: rejected_id, reason, minute, payload, and rejected_at, the
    time of the lake's clock at which they would have been written. Rows that no longer exist are left out.
    """
    # The caller then writes to other stores: no transaction stays open while it does.
    return read(conn, rows, sql("stored"), {"ids": rejected_ids})


def record_outcomes(conn, accepted: Iterable[int], refused: Iterable[tuple[int, str, datetime | None]]) -> None:
    """Delete the rows that are safe in the lake, and keep the newest reason of the others, in one transaction."""

    def write(cursor) -> None:
        cursor.executemany(
            "DELETE FROM etl.rejected_events WHERE rejected_id = %s",
            [(rejected_id,) for rejected_id in sorted(accepted)],
        )
        cursor.executemany(
            "UPDATE etl.rejected_events SET reason = %s, minute = %s WHERE rejected_id = %s",
            [(reason[:LONGEST_REASON], minute, rejected_id) for rejected_id, reason, minute in sorted(refused)],
        )

    in_transaction(conn, write)
