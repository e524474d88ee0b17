"""The lakes of the benchmark have what producers would have written: each id in its minute, and jobs that repeat or never do."""

from __future__ import annotations

import subprocess
import sys
import uuid
from datetime import datetime

from bench import lakes
from include import pipelines
from include.lake.keys import minute_of
from include.lake.session import lake as connected
from include.spark import lake
from local.layout import ROOT

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


# In a process of its own: for a while, the connector of a running session does not see a table that has just been created.
FILL = """
from datetime import datetime, timedelta
from bench import lakes, rigs
from include.spark import lake
session = rigs.session(dict.fromkeys(("warehouse_admin", "warehouse_etl", "warehouse_bi"), ""))
pipeline, newest = lakes.make_table("filled"), datetime(2026, 5, 31)
minutes = lakes.fill(session, pipeline, newest, 80, rows_per_minute=40)
rows = lake.read_minutes(session, pipeline, [newest, newest - timedelta(minutes=1)]).count()
print(f"{minutes} minutes, {rows} rows")
"""


def test_the_session_of_the_benchmarks_fills_a_lake_that_the_job_can_read(schemas) -> None:
    """It has the settings for the lake: without them, every benchmark that fills a lake fails at its first write."""
    try:
        done = subprocess.run([sys.executable, "-c", FILL], cwd=ROOT, capture_output=True, text=True)
    finally:
        with connected("lake_admin") as admin:
            admin.execute("DROP KEYSPACE IF EXISTS filled")
    assert done.stdout == "2 minutes, 80 rows\n", done.stderr
