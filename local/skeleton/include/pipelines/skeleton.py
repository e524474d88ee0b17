"""Skeleton: sales and refunds to hourly counts and sums. Say here what it carries."""

from include.pipelines.declaration import Output, Pipeline

PIPELINE = Pipeline(
    name="skeleton",
    owner="skeleton",
    description="Raw events to hourly counts and sums for each kind of event.",
    keyspace="skeleton_lake",
    table="events",
    fields=("event_time", "event_type", "value"),
    database="skeleton",
    outputs=(
        Output(
            name="events",
            staging="skeleton.events_staged",
            contributions="skeleton.events_by_minute",
        ),
    ),
    readable=("skeleton.events_hourly",),
    facts=("skeleton.events_hourly",),
    tags=("skeleton",),
    event_time="event_time",  # create_time is made from it where a file has none
)
