"""The lakes of the benchmark have what producers would have written: each id in its minute, and jobs that repeat or never do."""

from __future__ import annotations

import uuid
from datetime import datetime

from bench import lakes
from include import pipelines
from include.lake.keys import minute_of
from include.spark import lake

NEWEST = datetime(2026, 5, 31, 0, 1)
RECRUITMENT = pipelines.get("recruitment")


def events(spark, *, unique: bool = False) -> list:
    frame = lakes.events(spark, RECRUITMENT, NEWEST, 3, rows_per_minute=40, unique=unique)
    rows = lake.with_fields(frame, RECRUITMENT)
    return rows.selectExpr("*", "date_format(minute, 'yyyy-MM-dd HH:mm') AS at_minute").collect()


def test_every_id_belongs_to_its_minute_only(spark) -> None:
    rows = events(spark)
    assert len({row.create_time for row in rows}) == len(rows) == 120
    assert {row.at_minute for row in rows} == {"2026-05-30 23:59", "2026-05-31 00:00", "2026-05-31 00:01"}
    assert all(f"{minute_of(uuid.UUID(row.create_time)):%Y-%m-%d %H:%M}" == row.at_minute for row in rows)
    assert {row.shard for row in rows} == {0, 1, 2, 3}


def test_jobs_repeat_from_minute_to_minute_or_never(spark) -> None:
    repeated = [row.job_id for row in events(spark) if row.job_id]
    unique = [row.job_id for row in events(spark, unique=True) if row.job_id]
    assert len(set(repeated)) <= len(repeated) / 3
    assert len(set(unique)) == len(unique) == len(repeated)
