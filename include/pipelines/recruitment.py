"""Recruitment: clicks, conversions and applications of a job site, to hourly facts per job and publisher."""

from types import MappingProxyType

from include.pipelines.declaration import Dimension, Output, Pipeline

PIPELINE = Pipeline(
    name="recruitment",
    owner="recruitment",
    description="Raw recruitment events to hourly facts per job, publisher, campaign and group.",
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
    outputs=(
        Output(name="events", staging="recruitment.events_staged", contributions="recruitment.events_by_minute"),
    ),
    readable=("recruitment.events", "recruitment.job", "recruitment.board_events", "recruitment.board_contributions"),
    facts=("recruitment.events",),
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
        {"recover": "Fill an empty job, publisher or event kind from the JSON in `ed`. Off: count only what the columns say."}
    ),
    fact_time="ts",
    kind_column="custom_track",
    tags=("recruitment",),
)  # fmt: skip
