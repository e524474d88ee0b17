"""Recruitment: page views, clicks, conversions and applications of a job site, as hourly facts.

A fact is a sum per hour, job, publisher, campaign and group.
"""

from types import MappingProxyType

from include.pipelines.declaration import Dimension, Pipeline
from include.pipelines.summed_fact import MAX, Derived, Key, Measure, SummedFact

PIPELINE = Pipeline(
    name="recruitment",
    owner="recruitment",
    description="Turns raw recruitment events into hourly facts per job, publisher, campaign and group.",
    keyspace="bedan",
    table="tracking",
    fields=(
        "bid", "bn", "campaign_id", "cd", "custom_track", "de", "dl", "dt", "ed", "ev", "group_id", "id", "job_id",
        "md", "publisher_id", "rl", "sr", "ts", "tz", "ua", "uid", "utm_campaign", "utm_content", "utm_medium",
        "utm_source", "utm_term", "v", "vp",
    ),
    required=("ts",),
    numbers=("bid", "campaign_id", "group_id", "job_id", "publisher_id"),
    times=("ts",),
    database="recruitment",
    readable=(
        "recruitment.events", "recruitment.job", "recruitment.board_events", "recruitment.board_contributions",
        "recruitment.board_decisions", "recruitment.board_cost_trend", "recruitment.bi_events",
    ),
    facts=(
        SummedFact(
            name="events",
            table="recruitment.events",
            key=(
                Key("job_id", "BIGINT"),
                Key("dates", "DATE", "of ts, UTC"),
                Key("hours", "TINYINT", "of ts, UTC"),
                Key("publisher_id", "BIGINT", "0 is unknown"),
                Key("campaign_id", "BIGINT", "0 is unknown"),
                Key("group_id", "BIGINT", "0 is unknown"),
            ),
            measures=(
                Measure("unqualified", column="disqualified_application"),
                Measure("qualified", column="qualified_application"),
                Measure("conversions", column="conversion"),
                Measure("clicks"),
                Measure("impressions"),
                Measure("bid_sum", "DECIMAL(30, 6)", "of the non-null bids of clicks"),
                Measure("bid_count"),
                Measure("newest_create_time", "DATETIME(6)", column="latest_update_time", combine=MAX),
            ),
            derived=(
                Derived("company_id", "BIGINT NULL", "j.company_id", "of the job; NULL while the job is unknown"),
                Derived("spend_hour", "DECIMAL(30, 6) NOT NULL", "d.bid_sum", "sum of click bids"),
                Derived("sources", "VARCHAR(32) NOT NULL", "'Cassandra'"),
            ),
            joins="LEFT JOIN recruitment.job AS j ON j.id = d.job_id",
            definitions=(
                "bid_set DECIMAL(30, 6) AS (CASE WHEN bid_count > 0 THEN bid_sum / bid_count END) STORED "
                "COMMENT 'average of the non-null bids of clicks'",
                "hour DATETIME AS (CAST(dates AS DATETIME) + INTERVAL hours HOUR) STORED "
                "COMMENT 'dates and hours in one, in UTC'",
                "KEY by_hour (dates, hours)",
                "KEY by_time (hour)",
            ),
        ),
    ),
    dimensions=(
        Dimension(
            name="job",
            table="recruitment.job",
            key="id",
            columns=("id", "title", "status", "group_id", "campaign_id", "company_id", "created_date", "last_modified_date"),
            refresh="job_refresh.sql",
        ),
    ),
    options=MappingProxyType({"recover": True}),
    option_help=MappingProxyType(
        {"recover": "Fill an empty job, publisher or event kind from the JSON in `ed`. Off: use the event's own fields only."}
    ),
    fact_time="ts",
    kind_column="custom_track",
    tags=("recruitment",),
)  # fmt: skip
