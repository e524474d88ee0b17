"""Skeleton: sales and refunds to hourly counts and sums. Describe the pipeline here."""

from include.pipelines.declaration import Pipeline
from include.pipelines.summed_fact import Key, Measure, SummedFact

PIPELINE = Pipeline(
    name="skeleton",
    owner="skeleton",
    description="Raw events to hourly counts and sums for each kind of event.",
    keyspace="skeleton_lake",
    table="events",
    fields=("event_time", "event_type", "value"),
    database="skeleton",
    facts=(
        SummedFact(
            name="events",
            table="skeleton.events_hourly",
            key=(Key("hour", "DATETIME", "of event_time, UTC"), Key("kind", "VARCHAR(16)")),
            measures=(Measure("value_sum", "DECIMAL(22, 2)", "of values, each rounded to the cent"),),
            events="events",
        ),
    ),
    readable=("skeleton.events_hourly",),
    tags=("skeleton",),
    event_time="event_time",  # create_time is made from it if an event has none
)
