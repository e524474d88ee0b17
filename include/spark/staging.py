"""What a read leaves in staging: rejected rows, and for every minute of the batch the counts that complete an attempt.

Every staged row carries the attempt's number, so that a zombie driver or a second try can't mix with this one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql import functions as F

from include.pipelines import Pipeline
from include.spark.fate import COUNTED, IGNORED, REJECTED
from include.spark.lake import KEY
from include.spark.values import time_of_uuid

COUNTS_TABLE = "etl.staged_counts"
REJECTS_TABLE = "etl.staged_rejects"
_COUNTS_SCHEMA = (
    "attempt bigint, minute_s bigint, raw_rows bigint, counted_rows bigint, ignored_rows bigint, rejected_rows bigint, "
    "ignored_by_kind string, id_checksum bigint, newest_us bigint"
)
_KIND_LENGTH = 40
_KINDS_A_MINUTE = 20
_OTHER_KINDS = "other"
_REASON_LENGTH = 500
# A statement must fit the server's max_allowed_packet, 16 MiB by default; a byte can become six in JSON (\u0000).
_PAYLOAD_BYTES = 8_000_000
_CUT_VALUE = 30_000  # characters of each value of a row whose payload is larger
_BATCH_ROWS = 5_000


@dataclass(frozen=True)
class Warehouse:
    """How Spark reaches the warehouse: a JDBC URL without secrets, and the properties that go with it."""

    url: str
    properties: dict[str, str]

    def write(self, frame: DataFrame, table: str) -> None:
        """Append; a partition is one transaction, and a primary key refuses whatever comes twice."""
        options = {"batchsize": str(_BATCH_ROWS), "isolationLevel": "READ_COMMITTED", **self.properties}
        frame.write.jdbc(self.url, table, mode="append", properties=options)


def classified_rows(classified: DataFrame, pipeline: Pipeline) -> DataFrame:
    """What the rest of the job needs of each row: far less than the raw row, but for a rejected one."""
    is_counted, is_ignored, is_rejected = (F.col("fate") == fate for fate in (COUNTED, IGNORED, REJECTED))
    event_id = F.col(pipeline.event_id)
    minute_text = F.date_format("minute", "yyyy-MM-dd'T'HH:mm'Z'")
    origin_key = [minute_text, F.col("shard"), F.col("create_time")]
    if pipeline.event_id not in KEY:
        origin_key.append(event_id)
    return classified.select(
        "minute",
        "fate",
        F.when(is_ignored, F.substring("kind", 1, _KIND_LENGTH)).otherwise(F.when(is_counted, F.col("kind"))).alias("kind"),
        F.when(is_counted, F.col("event")).alias("event"),
        F.crc32(event_id.cast("string").cast("binary")).alias("id_crc"),
        time_of_uuid(F.col("create_time")).alias("created_at"),
        F.when(is_rejected, F.concat_ws("/", *origin_key)).alias("origin_key"),
        F.when(is_rejected, F.substring("reason", 1, _REASON_LENGTH)).alias("reason"),
        F.when(is_rejected, _payload((*KEY, *pipeline.columns))).alias("payload"),
    )  # fmt: skip


def rejects(rows: DataFrame) -> DataFrame:
    """Rows of etl.staged_rejects, without the attempt."""
    return rows.where(F.col("fate") == REJECTED).select("origin_key", "minute", "reason", "payload")


def count_minutes(rows: DataFrame) -> list[Row]:
    """One row per minute that has any: where its rows went, its checksum and its newest create_time (µs)."""
    ignored_kind = F.when(F.col("fate") == IGNORED, F.col("kind"))
    by_kind = rows.groupBy(F.unix_seconds("minute").alias("minute_s"), "fate", ignored_kind.alias("kind")).agg(
        F.count(F.lit(1)).alias("rows"),
        F.sum("id_crc").alias("id_crc"),
        F.max("created_at").alias("created_at"),
    )

    def rows_with(fate: str) -> F.Column:
        return F.coalesce(F.sum(F.when(F.col("fate") == fate, F.col("rows"))), F.lit(0))

    kinds = F.collect_list(F.when(F.col("fate") == IGNORED, F.struct("rows", "kind")))
    by_minute = by_kind.coalesce(1).groupBy("minute_s")  # in one partition already: no second shuffle
    return by_minute.agg(
        F.sum("rows").alias("raw_rows"),
        rows_with(COUNTED).alias("counted_rows"),
        rows_with(IGNORED).alias("ignored_rows"),
        rows_with(REJECTED).alias("rejected_rows"),
        F.slice(F.sort_array(kinds, asc=False), 1, _KINDS_A_MINUTE).alias("kinds"),
        F.sum("id_crc").alias("id_checksum"),
        F.unix_micros(F.max("created_at")).alias("newest_us"),
    ).collect()


def counts(spark: SparkSession, attempt: int, minutes: Sequence[datetime], counted: Iterable[Row]) -> DataFrame:
    """Rows of etl.staged_counts: one for every minute of the batch, zeros for those without rows."""
    found = {row.minute_s: row for row in counted}
    staged = [_counts_row(attempt, _epoch_seconds(minute), found) for minute in minutes]
    # Times travel as numbers: a datetime would pass through the machine's time zone.
    return spark.createDataFrame(staged, _COUNTS_SCHEMA).select(
        "attempt",
        F.timestamp_seconds("minute_s").alias("minute"),
        "raw_rows",
        "counted_rows",
        "ignored_rows",
        "rejected_rows",
        "ignored_by_kind",
        "id_checksum",
        F.timestamp_micros("newest_us").alias("newest_create_time"),
    )


def _counts_row(attempt: int, minute_s: int, found: dict[int, Row]) -> tuple:
    if minute_s not in found:
        return (attempt, minute_s, 0, 0, 0, 0, None, 0, None)
    row = found[minute_s]
    return (
        attempt,
        minute_s,
        row.raw_rows,
        row.counted_rows,
        row.ignored_rows,
        row.rejected_rows,
        _kinds_json(row.kinds, row.ignored_rows),
        row.id_checksum,
        row.newest_us,
    )


def _kinds_json(kinds: Iterable[Row], ignored_rows: int) -> str | None:
    """{"alive": 3}; kinds beyond the limit are summed up as "other"."""
    by_kind: dict[str, int] = {row.kind: row.rows for row in kinds}
    rest = ignored_rows - sum(by_kind.values())
    if rest:
        by_kind[_OTHER_KINDS] = by_kind.get(_OTHER_KINDS, 0) + rest
    return json.dumps(by_kind, ensure_ascii=False) if by_kind else None


def _epoch_seconds(minute: datetime) -> int:
    return int(minute.replace(tzinfo=timezone.utc).timestamp())


def _payload(columns: Sequence[str]) -> F.Column:
    """The raw row as JSON; values of a row that no statement could carry are cut."""
    whole = F.to_json(F.struct(*columns))
    cut = F.to_json(F.struct(*(F.col(name).cast("string").substr(1, _CUT_VALUE).alias(name) for name in columns)))
    return F.when(F.octet_length(whole) <= _PAYLOAD_BYTES, whole).otherwise(cut)
