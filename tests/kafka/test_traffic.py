"""Demo traffic with a topic: all events go through it, and so do some messages that are not events."""

import json
from datetime import UTC, datetime, timedelta

import pytest

from include.demo import recruitment as demo
from include.demo.traffic import foreign_hosts, run_traffic
from include.lake import change_log
from include.lake.counts import minute_counts
from include.lake.session import lake
from tests.kafka.conftest import consume, kept


def test_events_reach_the_lake_through_the_topic_and_poison_is_rejected(pipeline, by_dag, monkeypatch):
    monkeypatch.setattr("include.demo.traffic.demo_of", lambda _: demo)
    with lake() as session:
        before = change_log.changed_days(session, pipeline.lake_table)
    shares = {"late": 0.1, "duplicate": 0.2, "broken": 0.1, "poison": 0.1}
    until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=30)
    sent = run_traffic(pipeline, events=300, seconds=2, seed=7, until=until, **shares)
    assert sent.events == 300 and sent.late and sent.broken and sent.duplicates and sent.poison
    with lake() as session:
        assert change_log.changed_days(session, pipeline.lake_table) == before  # nothing bypassed the topic
    summary = consume(pipeline)
    assert (summary.written, summary.refused, summary.misplaced) == (300 + sent.duplicates, sent.poison, 0)
    assert len(kept(pipeline)) == sent.poison
    with lake() as session:
        result = minute_counts(session, pipeline, sent.minutes)
    assert sum(rows for rows, _ in result.values()) == 300


@pytest.mark.parametrize(
    ("lake_hosts", "warehouse_host", "brokers", "foreign"),
    [
        ("127.0.0.1", "127.0.0.1", "127.0.0.1:9092", []),
        ("cassandra", "mysql", "kafka:19092", []),
        ("c1.example.org,c2", "mysql", "kafka:19092, k2.example.org:9093", ["c1.example.org", "c2", "k2.example.org"]),
        ("cassandra", "db.example.org", "kafka:19092", ["db.example.org"]),
    ],
)
def test_an_external_store_or_broker_gets_no_demo_events(monkeypatch, lake_hosts, warehouse_host, brokers, foreign):
    connections = {
        "LAKE_WRITER": {"conn_type": "cassandra", "host": lake_hosts},
        "WAREHOUSE_ETL": {"conn_type": "mysql", "host": warehouse_host},
        "KAFKA_DEFAULT": {"conn_type": "kafka", "extra": {"bootstrap.servers": brokers}},
    }
    for conn_id, fields in connections.items():
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id}", json.dumps(fields))
    monkeypatch.setenv("MINUTEMARK_INGEST", "connect")
    assert foreign_hosts() == foreign
