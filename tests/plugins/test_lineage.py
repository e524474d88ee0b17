"""Names of data sets: equal to those of OpenLineage's client, and built from declarations and connections alone."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys

import pytest

from include import column_lineage, pipelines
from include.connections import Endpoint
from include.warehouse.sql import files
from tests.airflow_home import PROJECT, bare_environment

RECRUITMENT = pipelines.get("recruitment")
LAKE = Endpoint("lake_reader", "cassandra", "c1,c2,c3", 9043, login="reader", password="not-to-be-shown")
WAREHOUSE = Endpoint("warehouse_etl", "mysql", "db.example.org", None, login="etl", password="not-to-be-shown")
INSERTED = re.compile(r"INSERT INTO (\w+\.\w+)")


def names_of_client(*data_sets) -> list[tuple[str, str]]:
    return [(data_set.get_namespace(), data_set.get_name()) for data_set in data_sets]


def pairs(data_sets) -> list[tuple[str, str]]:
    return [(data_set.namespace, data_set.name) for data_set in data_sets]


def test_names_follow_the_naming_convention_of_each_store():
    from openlineage.client.naming.dataset import Cassandra, Kafka, MySQL

    from plugins import lineage

    topic = Kafka("k1", "9093", "recruitment.events")
    table = Cassandra("c1", "9043", "bedan", "tracking")
    staged, by_minute, facts, job = (
        MySQL("db.example.org", "3306", "recruitment", name)
        for name in ("events_staged", "events_by_minute", "events", "job")
    )
    ingested = lineage.ingest_lineage(RECRUITMENT, "k1:9093,k2:9093", LAKE, 5)
    assert (pairs(ingested.reads), pairs(ingested.writes)) == (names_of_client(topic), names_of_client(table))
    transformed = lineage.transform_lineage(RECRUITMENT, LAKE, WAREHOUSE)
    assert (pairs(transformed.reads), pairs(transformed.writes)) == (names_of_client(table), names_of_client(staged))
    merged = lineage.merge_lineage(RECRUITMENT, WAREHOUSE, {"recruitment.events_by_minute": 2})
    assert (pairs(merged.reads), pairs(merged.writes)) == (
        names_of_client(staged, by_minute, job),
        names_of_client(by_minute, facts),
    )
    assert [data_set.rows for data_set in (*ingested.writes, *merged.writes)] == [5, 2, None]
    assert "not-to-be-shown" not in repr([ingested, transformed, merged])


@pytest.mark.parametrize(
    ("location", "table", "hours"),
    [
        (
            "gs://b/lake/house",
            ("gs://b/lake/house", "ecommerce.events"),
            ("gs://b", "lake/house/hourly/ecommerce.events"),
        ),
        ("gs://b", ("gs://b", "ecommerce.events"), ("gs://b", "hourly/ecommerce.events")),
        ("file:///data", ("file:/data", "ecommerce.events"), ("file", "/data/hourly/ecommerce.events")),
    ],
)
def test_names_of_the_lakehouse_and_of_bigquery(monkeypatch, location, table, hours):
    from openlineage.client.naming.dataset import BigQuery

    from plugins import lineage

    shop = pipelines.get("ecommerce")
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", location)
    monkeypatch.setenv("MINUTEMARK_BIGQUERY", "project.dataset")
    counted, loaded = lineage.count_lineage(shop), lineage.load_lineage(shop)
    loads, view = (BigQuery("project", "dataset", name) for name in ("visits_hourly_loads", "visits_hourly"))
    assert (pairs(counted.reads), pairs(counted.writes)) == ([table], [hours])
    assert (pairs(loaded.reads), pairs(loaded.writes)) == (
        [hours, *names_of_client(loads)],
        names_of_client(loads, view),
    )
    assert all(
        data_set.key in column_lineage.all_data_sets() for data_set in (*counted.reads, *loaded.reads, *loaded.writes)
    )


@pytest.mark.parametrize(
    ("hosts", "port", "address"),
    [
        ("db", None, "db:3306"),
        ("db", 3307, "db:3307"),
        ("a:1234, b:1235", None, "a:1234"),  # as Kafka lists its brokers
        ("SSL://a:1234", None, "a:1234"),
        ("::1", 3307, "[::1]:3307"),
        ("[::1]:3308", None, "[::1]:3308"),
    ],
)
def test_a_store_is_named_by_its_first_host_and_port(hosts, port, address):
    from plugins.lineage import _address

    assert _address(hosts, port, 3306) == address


def test_rows_that_were_written_are_an_output_statistic():
    from plugins import lineage
    from plugins.merge import MergeIntoWarehouse

    task = MergeIntoWarehouse(task_id="merge_into_warehouse", pipeline="recruitment", batch_id="1")
    assert task.get_openlineage_facets_on_complete(None) is None  # the task failed before it set its lineage
    task.lineage = lineage.merge_lineage(RECRUITMENT, WAREHOUSE, {"recruitment.events_by_minute": 2})
    facets = task.get_openlineage_facets_on_complete(None)
    by_minute, facts = facets.outputs
    assert by_minute.outputFacets["outputStatistics"].rowCount == 2
    assert not facts.outputFacets


def test_columns_are_those_of_the_data_sets_that_the_task_reads_and_writes():
    from plugins import lineage
    from plugins.lineage_facets import operator_lineage

    merged = lineage.merge_lineage(RECRUITMENT, WAREHOUSE, {})
    facts = operator_lineage(merged).outputs[-1]
    [spend] = facts.facets["columnLineage"].fields["spend_hour"].inputFields
    assert (spend.namespace, spend.name, spend.field) == (
        "mysql://db.example.org:3306",
        "recruitment.events_by_minute",
        "bid_sum",
    )
    assert [(step.type, step.subtype) for step in spend.transformations] == [("DIRECT", "AGGREGATION")]
    indirect = {
        (column.name, column.field): {(step.type, step.subtype) for step in column.transformations}
        for column in facts.facets["columnLineage"].dataset
    }
    assert indirect["recruitment.job", "id"] == {("INDIRECT", "JOIN")}
    assert ("INDIRECT", "GROUP_BY") in indirect["recruitment.events_by_minute", "job_id"]
    assert [column.name for column in facts.facets["schema"].fields][:2] == ["job_id", "dates"]


def test_a_data_set_without_derived_columns_has_only_its_name():
    from plugins import lineage
    from plugins.lineage_facets import operator_lineage

    new = dataclasses.replace(RECRUITMENT, facts=(dataclasses.replace(RECRUITMENT.facts[0], table="turnover.events"),))
    facts = operator_lineage(lineage.merge_lineage(new, WAREHOUSE, {})).outputs[-1]
    assert (facts.name, facts.facets) == ("turnover.events", {})


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_declared_facts_and_dimensions_are_those_of_the_merge(pipeline):
    merge = [statement for file in files(pipeline, "merge.sql") for statement in file.statements]
    inserted = {table for statement in merge for table in INSERTED.findall(statement)}
    declared = {*pipeline.tables_by_minute, *(fact.table for fact in pipeline.facts)}
    assert declared <= inserted
    unnamed = inserted & set(pipeline.readable) - declared
    assert not unnamed, f"People read {unnamed}, which the merge writes: declare it in facts= of {pipeline.name}."
    assert all(any(dimension.table in statement for statement in merge) for dimension in pipeline.dimensions)


def test_a_task_whose_data_sets_cannot_be_named_does_not_fail(monkeypatch, caplog):
    from plugins import lineage
    from plugins.reporting_task import ReportingTask

    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "nowhere")
    task = ReportingTask(
        task_id="count_hours",
        python_callable=print,
        op_args=["ecommerce"],
        op_kwargs={},
        data_sets=lineage.count_lineage,
    )
    task.report()
    assert task.get_openlineage_facets_on_complete(None) is None
    assert "MINUTEMARK_LAKEHOUSE is 'nowhere'" in caplog.text


IDLE = """
import sys
from airflow.plugins_manager import _get_plugins
from airflow.models import DagBag
_get_plugins()
DagBag("dags")
print(*sorted(name for name in sys.modules if "openlineage" in name or name in ("sqlglot", "plugins.lineage_facets")))
"""


def test_without_a_transport_nothing_of_openlineage_is_loaded():
    done = subprocess.run(
        [sys.executable, "-c", IDLE],
        cwd=PROJECT,
        env={**bare_environment(), "MINUTEMARK_LAKEHOUSE": "file:///lakehouse"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    loaded = set(done.stdout.splitlines()[-1].split())
    assert "airflow.providers.openlineage.plugins.listener" not in loaded
    assert not loaded & {"sqlglot", "plugins.lineage_facets"}
    assert not [name for name in loaded if name.startswith("openlineage")], (
        "Without a transport, the client is not needed."
    )
