"""A run in Airflow with lineage and metrics switched on: what is sent to other systems, and what is not."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

import pytest

from include.connections import endpoint
from local import connections
from tests.e2e.runs import Airflow, Run, query, write
from tests.lineage.facets import column_lineage
from tests.reference.rows import click
from tests.statsd import Listener

pytestmark = pytest.mark.usefixtures("schemas")

NOON = datetime(2026, 3, 1, 12, 0, 5)
ROWS = [click(NOON, 1), click(NOON, 2, job_id="8"), click(NOON, 3, custom_track="alive"), click(NOON, 4, ts="?")]


@pytest.fixture(scope="module")
def statsd() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture(scope="module")
def events_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("openlineage") / "events.jsonl"


@pytest.fixture(scope="module")
def monitored(schemas, statsd, events_file, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """A separate worker: Airflow reads these settings when it starts."""
    transport = {"type": "file", "log_file_path": str(events_file), "append": True}
    settings = {"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport), **statsd.settings}
    worker = Airflow(tmp_path_factory.mktemp("airflow"), settings=settings)
    yield worker
    worker.stop()


@pytest.fixture(scope="module")
def run(monitored) -> Run:
    write(ROWS)
    return monitored.run().must_succeed()


def complete_events(events_file: Path) -> dict[str, dict]:
    """The COMPLETE event of each task, by task id."""
    events = [json.loads(line) for line in events_file.read_text().splitlines()]
    return {
        event["job"]["name"].partition(".")[2]: event
        for event in events
        if event["eventType"] == "COMPLETE" and "." in event["job"]["name"]
    }


def names(data_sets: list[dict]) -> list[tuple[str, str]]:
    return [(data_set["namespace"], data_set["name"]) for data_set in data_sets]


def origins(event: dict, table: str, column: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Type and subtype of the transformation, by source table and column; here, each source has one transformation."""
    [output] = [data_set for data_set in event["outputs"] if data_set["name"] == table]
    return {
        (source.name, source.field): (transformation.type, transformation.subtype)
        for source in column_lineage(output["facets"]["columnLineage"]).fields[column].inputFields
        for transformation in source.transformations
    }


def test_lineage_leads_from_the_lake_through_staging_to_the_facts(run, events_file):
    lake, target = endpoint("lake_reader"), endpoint("warehouse_etl")
    in_lake = f"cassandra://{lake.host}:{lake.port}"
    in_warehouse = f"mysql://{target.host}:{target.port}"
    events = complete_events(events_file)
    transform, merge = events["transform_delta"], events["merge_into_warehouse"]
    assert names(transform["inputs"]) == [(in_lake, "bedan.tracking")]
    assert names(transform["outputs"]) == [(in_warehouse, "recruitment.events_staged")]
    assert names(merge["inputs"]) == [
        (in_warehouse, "recruitment.events_staged"),
        (in_warehouse, "recruitment.events_by_minute"),
        (in_warehouse, "recruitment.job"),
    ]
    assert names(merge["outputs"]) == [
        (in_warehouse, "recruitment.events_by_minute"),
        (in_warehouse, "recruitment.events"),
    ]
    assert merge["outputs"][0]["outputFacets"]["outputStatistics"]["rowCount"] == 2


def test_lineage_of_columns_leads_from_a_fact_to_the_field_of_the_payload(run, events_file):
    events = complete_events(events_file)
    spent = origins(events["merge_into_warehouse"], "recruitment.events", "spend_hour")
    assert spent == {("recruitment.events_by_minute", "bid_sum"): ("DIRECT", "AGGREGATION")}
    summed = origins(events["merge_into_warehouse"], "recruitment.events_by_minute", "bid_sum")
    assert summed == {("recruitment.events_staged", "bid_sum"): ("DIRECT", "IDENTITY")}
    staged = origins(events["transform_delta"], "recruitment.events_staged", "bid_sum")
    assert staged["bedan.tracking", "payload.bid"] == ("DIRECT", "AGGREGATION")
    assert staged["bedan.tracking", "payload.custom_track"] == ("INDIRECT", "CONDITIONAL")


def test_the_columns_of_the_events_are_those_of_the_tables(run, events_file):
    merge = complete_events(events_file)["merge_into_warehouse"]
    for data_set in (*merge["inputs"], *merge["outputs"]):
        database, table = data_set["name"].split(".")
        columns = query(
            "SELECT column_name FROM information_schema.columns WHERE table_schema = %(database)s AND table_name = %(table)s "
            "ORDER BY ordinal_position",
            database=database,
            table=table,
        )
        assert [field["name"] for field in data_set["facets"]["schema"]["fields"]] == [name for (name,) in columns]


def test_set_up_reports_the_views_and_the_facts_that_they_show(monitored, events_file):
    monitored.run("minutemark_setup", skip=["check_.*"]).must_succeed()
    set_up = complete_events(events_file)["apply_schema"]
    created = {name for _, name in names(set_up["outputs"])}
    shown = query(
        "SELECT CONCAT(table_schema, '.', table_name) FROM information_schema.views WHERE table_schema <> 'etl' "
        "AND table_schema IN (SELECT table_schema FROM information_schema.tables WHERE table_name LIKE '%%_by_minute')"
    )
    assert created == {name for (name,) in shown}
    spent = origins(set_up, "recruitment.bi_events", "spend")
    assert spent == {("recruitment.events", "spend_hour"): ("DIRECT", "IDENTITY")}
    assert "recruitment.events" in {name for _, name in names(set_up["inputs"])}


def test_no_event_holds_a_password(run, events_file):
    logins = {**connections.LAKE_LOGINS, **connections.WAREHOUSE_LOGINS}
    passwords = [json.loads(os.environ[connections.variable(conn_id)])["password"] for conn_id in logins]
    text = events_file.read_text()
    assert len(passwords) == 6
    assert not [password for password in passwords if password in text]


def test_rows_are_counted_once_though_the_merge_is_cleared_and_run_again(run, monitored, statsd):
    sent = statsd.received()
    assert {name: value for name, value in sent.items() if ".rows." in name} == {
        "airflow.minutemark.rows.counted.recruitment": "2|c",
        "airflow.minutemark.rows.ignored.recruitment": "1|c",
        "airflow.minutemark.rows.rejected.recruitment": "1|c",
    }
    assert sent["airflow.minutemark.batch_duration.recruitment"].endswith("|ms")
    again = monitored.run(run_id=run.run_id, clear=["merge_into_warehouse"]).must_succeed()
    assert "nothing changed" in again.log
    assert statsd.received() == {}


def test_the_watch_sends_its_figures_at_each_check(run, monitored, statsd):
    [(pending,)] = query("SELECT COUNT(*) FROM etl.minute_ledger WHERE pending = 1")
    monitored.run("minutemark_watch").must_succeed()
    sent = statsd.received()
    assert float(sent["airflow.minutemark.pending_minutes.recruitment"].removesuffix("|g")) == pending
    assert float(sent["airflow.minutemark.merge_age_seconds.recruitment"].removesuffix("|g")) < 300
    assert sent["airflow.minutemark.freshness_seconds.recruitment"].endswith("|g")
