"""What a job stages besides contributions: rejected rows, repeated ids, and the counts that complete an attempt.

Every staged row carries the attempt's number, so that rows of another attempt, or of a driver that was believed dead, do
not mix with those of this attempt.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from types import MappingProxyType

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from include.durations import EPOCH
from include.pipelines import Pipeline
from include.spark import contract
from include.spark.fate import COUNTED, IGNORED, REJECTED
from include.spark.lake import KEY, key_of
from include.warehouse.lengths import LONGEST_REASON

COUNTS_TABLE = "etl.staged_counts"
REJECTS_TABLE = "etl.staged_rejects"
REPEATS_TABLE = "etl.staged_repeats"
COUNTS_COLUMNS = {
    "attempt": "BIGINT UNSIGNED",
    "minute": "DATETIME",
    "raw_rows": "BIGINT",
    "counted_rows": "BIGINT",
    "ignored_rows": "BIGINT",
    "rejected_rows": "BIGINT",
    "ignored_by_kind": "TEXT",
    "id_checksum": "BIGINT",
    "newest_create_time": "DATETIME(6)",
    "field_counts": "TEXT",
}
REPEATS_COLUMNS = {
    "attempt": "BIGINT UNSIGNED",
    "number": "INT",
    "minute": "DATETIME",
    "event_id": "VARCHAR(100)",
    "create_time": "CHAR(36)",
    "first_create_time": "CHAR(36)",
}
_MAX_REPEATS = 100  # ids with several create_times that are staged
_ID_LENGTH = 100
_KIND_LENGTH = 40
_KINDS_PER_MINUTE = 20
_OTHER_KINDS = "other"

# A statement must fit the server's max_allowed_packet, which is at least 16 MiB (include/warehouse/server.py).
_PAYLOAD_BYTES = 8_000_000
_CUT_CHARACTERS = 1_000_000  # what a larger payload is cut to


def classified_rows(classified: DataFrame, pipeline: Pipeline) -> DataFrame:
    """The columns that the rest of the job needs: far less than the raw row, except for a rejected one."""
    is_counted, is_ignored, is_rejected = (F.col("fate") == fate for fate in (COUNTED, IGNORED, REJECTED))
    kind = F.when(is_ignored, F.substring("kind", 1, _KIND_LENGTH)).otherwise(F.when(is_counted, F.col("kind")))
    event_id = F.col(pipeline.event_id)
    own_id = [] if pipeline.event_id in KEY else [event_id.alias("own_id"), F.col("create_time")]
    minute_text = F.date_format("minute", "yyyy-MM-dd'T'HH:mm'Z'")
    origin_key = [minute_text, F.col("shard"), F.col("create_time")]
    if pipeline.event_id not in KEY:
        # As short_id of include/lake/keys.py writes it.
        is_plain = event_id.rlike(r"^[!-~]{1,100}\z")
        origin_key.append(F.when(is_plain, event_id).otherwise(F.sha2(event_id, 256)))
    return classified.select(
        "minute",
        "fate",
        kind.alias("kind"),
        F.when(is_counted, F.col("event")).alias("event"),
        F.crc32(event_id.cast("string").cast("binary")).alias("id_crc"),
        "created_at",
        *own_id,
        *contract.columns(pipeline, key_of(pipeline)),
        F.when(is_rejected, F.concat_ws("/", *origin_key)).alias("origin_key"),
        F.when(is_rejected, F.substring("reason", 1, LONGEST_REASON)).alias("reason"),
        F.when(is_rejected, F.col("payload")).alias("payload"),
    )


def rejects(rows: DataFrame) -> DataFrame:
    """Rows of etl.staged_rejects, without the attempt."""
    payload = F.coalesce("payload", F.lit(""))
    fitting = F.when(F.octet_length(payload) <= _PAYLOAD_BYTES, payload).otherwise(payload.substr(1, _CUT_CHARACTERS))
    return rows.where(F.col("fate") == REJECTED).select("origin_key", "minute", "reason", fitting.alias("payload"))


def repeats(rows: DataFrame) -> list[list]:
    """Rows of etl.staged_repeats without attempt and number: the ids of the batch that have several create_times."""
    digest = F.xxhash64("own_id")
    digests = rows.groupBy(digest.alias("digest")).count().where("count > 1").limit(_MAX_REPEATS).collect()
    if not digests:
        return []
    places: dict[str, list[tuple[int, str, int]]] = {}
    times = F.unix_micros("created_at").alias("at"), F.unix_seconds("minute").alias("minute_s")
    candidates = rows.where(digest.isin([row.digest for row in digests])).select("own_id", "create_time", *times)
    for row in candidates.limit(10 * _MAX_REPEATS).collect():
        places.setdefault(row.own_id, []).append((row.at or 0, row.create_time, row.minute_s))
    result = []
    for own_id, places_of_id in sorted(places.items()):
        (_, first, _), *others = sorted(places_of_id)
        for _, create_time, minute_s in others:
            result.append([str(EPOCH + timedelta(seconds=minute_s)), own_id[:_ID_LENGTH], create_time, first])
    return result


def count_minutes(rows: DataFrame, pipeline: Pipeline) -> list[Row]:
    """One row per minute with rows: rows by fate, the checksum, the newest create_time (µs), and rows by field.

    `with_unknown` is the number of rows that have undeclared fields.
    """
    ignored_kind = F.when(F.col("fate") == IGNORED, F.col("kind"))
    kind = [F.unix_seconds("minute").alias("minute_s"), "fate", ignored_kind.alias("kind")]
    # First by words of bits, which have few distinct values: a sum for each bit of each row took as long as reading the payloads.
    by_words = rows.groupBy(*kind, *contract.bit_columns(pipeline, key_of(pipeline))).agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum("id_crc").alias("id_crc"),
        F.max("created_at").alias("created_at"),
        F.count("_unknown").alias("with_unknown"),
    )
    by_kind = (
        by_words.coalesce(1)  # in one partition, the other groups need no shuffle
        .groupBy("minute_s", "fate", "kind")
        .agg(
            F.sum("rows").alias("rows"),
            F.sum("id_crc").alias("id_crc"),
            F.max("created_at").alias("created_at"),
            F.sum("with_unknown").alias("with_unknown"),
            *(total.alias(name) for name, total in contract.sums_of_bits(pipeline, key_of(pipeline)).items()),
        )
    )

    def rows_with(fate: str) -> Column:
        return F.coalesce(F.sum(F.when(F.col("fate") == fate, F.col("rows"))), F.lit(0))

    kinds = F.collect_list(F.when(F.col("fate") == IGNORED, F.struct("rows", "kind")))
    return (
        by_kind.groupBy("minute_s")
        .agg(
            F.sum("rows").alias("raw_rows"),
            rows_with(COUNTED).alias("counted_rows"),
            rows_with(IGNORED).alias("ignored_rows"),
            rows_with(REJECTED).alias("rejected_rows"),
            F.slice(F.sort_array(kinds, asc=False), 1, _KINDS_PER_MINUTE).alias("kinds"),
            F.sum("id_crc").alias("id_checksum"),
            F.unix_micros(F.max("created_at")).alias("newest_us"),
            F.sum("with_unknown").alias("with_unknown"),
            *(total.alias(name) for name, total in contract.sums_of_sums(pipeline, key_of(pipeline)).items()),
        )
        .collect()
    )


def counts(
    attempt: int,
    minutes: Sequence[datetime],
    minute_counts: Iterable[Row],
    pipeline: Pipeline,
    unknown: Mapping[int, Mapping[str, int]] = MappingProxyType({}),
) -> list[list]:
    """Rows of etl.staged_counts in COUNTS_COLUMNS' order: every minute of the batch, with zeros if it has no rows.

    `unknown` has the number of rows by undeclared field, as contract.unknown_by_minute counts them.
    """
    by_minute = {row.minute_s: row for row in minute_counts}
    fields = {
        second: contract.as_json(row, unknown.get(second, {}), pipeline, key_of(pipeline))
        for second, row in by_minute.items()
    }
    seconds = {minute: int(minute.replace(tzinfo=UTC).timestamp()) for minute in minutes}
    return [_counts_row(attempt, minute, by_minute.get(at), fields.get(at)) for minute, at in seconds.items()]


def _counts_row(attempt: int, minute: datetime, row: Row | None, fields: str | None) -> list:
    if row is None:
        return [attempt, str(minute), 0, 0, 0, 0, None, 0, None, None]
    return [
        attempt,
        str(minute),
        row.raw_rows,
        row.counted_rows,
        row.ignored_rows,
        row.rejected_rows,
        _kinds_json(row.kinds, row.ignored_rows),
        row.id_checksum,
        _utc_text(row.newest_us),
        fields,
    ]


def _kinds_json(kinds: Iterable[Row], ignored_rows: int) -> str | None:
    """JSON such as {"alive": 3}; kinds beyond the limit are summed as "other"."""
    by_kind: dict[str, int] = {row.kind: row.rows for row in kinds}
    rest = ignored_rows - sum(by_kind.values())
    if rest:
        by_kind[_OTHER_KINDS] = by_kind.get(_OTHER_KINDS, 0) + rest
    return json.dumps(by_kind, ensure_ascii=False) if by_kind else None


def _utc_text(microseconds: int | None) -> str | None:
    # A number until here: Spark converts datetimes through the machine's time zone.
    return None if microseconds is None else str(EPOCH + timedelta(microseconds=microseconds))
