"""The classic job that the benchmark compares with: it scans the lake and appends what is newer than the newest fact."""

from __future__ import annotations

from bench import classic
from include.connections import WAREHOUSE_ETL, endpoint
from include.spark import stores
from include.warehouse.session import warehouse
from tests.spark.rows import PIPELINE


def test_events_newer_than_the_newest_fact_are_appended_and_older_ones_are_not(lake_session, query) -> None:
    with warehouse("warehouse_admin") as conn:
        conn.cursor().execute(classic.CREATE_FACTS)
    target = endpoint(WAREHOUSE_ETL)
    url, properties = stores.jdbc_url(target), stores.jdbc_properties(target)
    try:
        assert classic.run(lake_session, PIPELINE, "2026-03-01 12:34:55.130", url, properties) == 0
        assert classic.run(lake_session, PIPELINE, "2026-03-01 12:34:55.129", url, properties) == 1
        # No check: the click with a negative bid counts too.
        facts = query(f"SELECT job_id, hours, clicks, spend_hour FROM {classic.FACTS}")
        assert facts == [("258", 12, 2, -1.5)]
    finally:
        query(f"DROP TABLE {classic.FACTS}")
