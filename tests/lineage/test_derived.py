"""The committed lineage of columns is the one that follows from the declaration, the SQL and the transform."""

from __future__ import annotations

import dataclasses
import json

import pytest

from include import column_lineage, pipelines
from include.column_lineage import FOLDER, ColumnUnknown, as_text
from include.pipelines.summed_fact import Derived, Measure

pytest.importorskip("sqlglot", reason="sqlglot is not installed: `make test` installs it.")

from tests.lineage import derive  # noqa: E402

RECRUITMENT = pipelines.get("recruitment")
STAGED, FACTS = "mysql recruitment.events_staged", "mysql recruitment.events"
LAKE, CONTRIBUTIONS, JOB = "cassandra bedan.tracking", "mysql recruitment.events_by_minute", "mysql recruitment.job"


@pytest.fixture(scope="module")
def lineage() -> dict:
    return json.loads((FOLDER / "recruitment.json").read_text())


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_the_committed_lineage_is_the_one_that_is_derived_now(spark, pipeline):
    file = FOLDER / f"{pipeline.name}.json"
    committed = file.read_text(encoding="utf-8") if file.exists() else ""
    assert committed == derive.text(pipeline, spark), (
        "Run `make lineage` and commit what it writes to include/lineage/."
    )


def test_lineage_leads_from_facts_through_contributions_and_staging_to_the_payload(lineage):
    assert lineage[FACTS]["columns"]["spend_hour"]["from"] == {CONTRIBUTIONS: {"bid_sum": "AGGREGATION"}}
    assert lineage[CONTRIBUTIONS]["columns"]["bid_sum"]["from"] == {STAGED: {"bid_sum": "IDENTITY"}}
    assert lineage[STAGED]["columns"]["bid_sum"]["from"] == {
        LAKE: {
            "payload.bid": "AGGREGATION",
            "payload.custom_track": "CONDITIONAL",  # only clicks have a bid
            "payload.ed": "CONDITIONAL",  # has the kind of an event without custom_track
            "payload.ev": "CONDITIONAL",
        }
    }
    assert lineage[LAKE]["columns"]["payload.bid"]["from"] == {"kafka recruitment.events": {"bid": "IDENTITY"}}


def test_a_column_of_a_dimension_comes_from_the_join(lineage):
    assert lineage[FACTS]["columns"]["company_id"]["from"] == {JOB: {"company_id": "IDENTITY"}}
    assert lineage[FACTS]["rows"][JOB] == {"id": "JOIN"}
    assert "GROUP_BY" in lineage[FACTS]["rows"][CONTRIBUTIONS]["job_id"]


def test_generated_columns_come_from_what_they_are_computed_from(lineage):
    columns = lineage[FACTS]["columns"]
    assert columns["bid_set"]["from"] == {CONTRIBUTIONS: {"bid_count": "AGGREGATION", "bid_sum": "AGGREGATION"}}
    assert "from" not in columns["sources"]  # a constant
    assert columns["spend_hour"]["type"] == "DECIMAL(30, 6)"


def test_another_declaration_has_another_lineage(spark):
    fact = RECRUITMENT.facts[0]
    spent = Derived("spend_hour", "DECIMAL(30, 6) NOT NULL", "d.bid_sum + d.clicks")
    titled = Derived("title", "VARCHAR(500) NULL", "CONCAT(j.title, d.redirects)")
    other = dataclasses.replace(
        fact,
        measures=(*fact.measures, Measure("redirects")),
        derived=(fact.derived[0], spent, titled),
    )
    columns = derive.document(dataclasses.replace(RECRUITMENT, facts=(other,)), spark)[FACTS]["columns"]
    assert columns["spend_hour"]["from"] == {CONTRIBUTIONS: {"bid_sum": "AGGREGATION", "clicks": "AGGREGATION"}}
    assert columns["title"]["from"] == {CONTRIBUTIONS: {"redirects": "AGGREGATION"}, JOB: {"title": "TRANSFORMATION"}}
    assert columns["redirects"]["from"] == {CONTRIBUTIONS: {"redirects": "AGGREGATION"}}
    assert "sources" not in columns


def test_views_lead_to_the_facts(lineage):
    columns = lineage["mysql recruitment.bi_events"]["columns"]
    assert columns["spend"]["from"] == {FACTS: {"spend_hour": "IDENTITY"}}
    assert columns["spend"]["type"] == "DECIMAL(30, 6)"
    decided = lineage["mysql recruitment.board_decisions"]["columns"]["cost_per_qualified"]["from"]
    assert decided["mysql recruitment.board_cost_days"]["spend"] == "AGGREGATION"


def test_hours_of_the_lakehouse_lead_to_bigquery():
    shop = column_lineage.pipeline_data_sets("ecommerce")
    assert shop["bigquery visits_hourly"]["columns"]["visits"]["from"] == {
        "bigquery visits_hourly_loads": {"visits": "IDENTITY"}
    }
    loads = shop["bigquery visits_hourly_loads"]["columns"]
    assert {name: column["from"] for name, column in loads.items()} == {
        name: {"hourly ecommerce.events": {name: "IDENTITY"}} for name in loads
    }
    assert shop["bigquery visits_hourly"]["rows"] == {
        "bigquery visits_hourly_loads": {"attempt": "FILTER", "counted_at": "FILTER", "hour": "FILTER"}
    }


def test_every_source_is_a_column_of_a_described_data_set():
    described = column_lineage.all_data_sets()
    missing = [
        (key, source, name)
        for key, data_set in described.items()
        for origins in (data_set.get("rows", {}), *(column.get("from", {}) for column in data_set["columns"].values()))
        for source, names in origins.items()
        for name in names
        if name not in described[source]["columns"]
    ]
    assert not missing


def test_the_documentation_shows_the_current_lineage():
    page = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert f"```\n{as_text('recruitment.events.spend_hour')}\n```" in page


def test_a_column_that_no_data_set_has_is_named():
    with pytest.raises(ColumnUnknown, match="has the column 'recruitment.events.z'"):
        as_text("recruitment.events.z")
