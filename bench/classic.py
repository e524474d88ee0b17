"""The job that common pipelines run each minute, for comparison: it scans the whole lake for new events.

1. scan the lake for its newest time, to know whether there is work
2. scan it again for events that are newer than the warehouse's newest fact, and aggregate them
3. append the result to the facts
"""

from __future__ import annotations

from collections.abc import Mapping

from include.pipelines import Pipeline

FACTS = "recruitment.classic_events"
CREATE_FACTS = (
    f"CREATE TABLE IF NOT EXISTS {FACTS} (job_id VARCHAR(60), dates DATE, hours INT, publisher_id VARCHAR(60), "
    "campaign_id VARCHAR(60), group_id VARCHAR(60), clicks BIGINT, conversions BIGINT, qualified BIGINT, unqualified BIGINT, "
    "bid_set DOUBLE, spend_hour DOUBLE, latest_update_time DATETIME(6))"
)
KEY = ("job_id", "dates", "hours", "publisher_id", "campaign_id", "group_id")
FIELDS = ("ts", "custom_track", "bid", "job_id", "publisher_id", "campaign_id", "group_id")


def run(spark, pipeline: Pipeline, newest_fact: str, url: str, properties: Mapping[str, str]) -> int:
    """One run; returns the number of rows appended. `newest_fact` is the newest time of a fact, such as 2026-06-01 11:59:59."""
    from pyspark.sql import functions as F

    for name, value in {"spark.sql.codegen.wholeStage": "true", "spark.sql.shuffle.partitions": "4"}.items():
        spark.conf.set(name, value)
    reader = spark.read.format("org.apache.spark.sql.cassandra")
    lake = reader.options(keyspace=pipeline.keyspace, table=pipeline.table).load()
    events = lake.select(F.json_tuple("payload", *FIELDS).alias(*FIELDS))
    newest = events.agg(F.max("ts")).collect()[0][0]
    if newest <= newest_fact:
        return 0
    fresh = events.where(F.col("ts") > newest_fact).withColumn("happened", F.to_timestamp("ts"))

    def count(kind: str):
        return F.count_if(F.col("custom_track") == kind)

    facts = (
        fresh.withColumns({"dates": F.to_date("happened"), "hours": F.hour("happened")})
        .groupBy(*KEY)
        .agg(
            count("click").alias("clicks"),
            count("conversion").alias("conversions"),
            count("qualified").alias("qualified"),
            count("unqualified").alias("unqualified"),
            F.avg(F.col("bid").cast("double")).alias("bid_set"),
            F.sum(F.col("bid").cast("double")).alias("spend_hour"),
            F.max("happened").alias("latest_update_time"),
        )
        .cache()
    )
    try:
        facts.write.jdbc(url, FACTS, mode="append", properties=dict(properties))
        return facts.count()
    finally:
        facts.unpersist()
