"""The kept lineage of columns is the one that the declaration, the SQL and the transform have today."""

from __future__ import annotations

import dataclasses
import json

import pytest

from include import pipelines
from include.column_lineage import FOLDER, ColumnUnknown, as_text
from include.pipelines.summed_fact import Derived, Measure

pytest.importorskip("sqlglot", reason="sqlglot is not installed: `make test` installs it.")

from tests.lineage import derive  # noqa: E402

RECRUITMENT = pipelines.get("recruitment")
STAGED, FACTS = "mysql recruitment.events_staged", "mysql recruitment.events"
LAKE, CONTRIBUTIONS, JOB = "cassandra bedan.tracking", "mysql recruitment.events_by_minute", "mysql recruitment.job"


@pytest.fixture(scope="module")
def kept() -> dict:
    return json.loads((FOLDER / "recruitment.json").read_text())


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda one: one.name)
def test_the_kept_lineage_is_the_one_that_is_derived_now(spark, pipeline):
    file = FOLDER / f"{pipeline.name}.json"
    kept = file.read_text(encoding="utf-8") if file.exists() else ""
    assert kept == derive.text(pipeline, spark), "Run `make lineage` and commit what it writes to include/lineage/."


def test_a_fact_comes_from_contributions_and_they_from_staging_and_it_from_the_payload(kept):
    assert kept[FACTS]["columns"]["spend_hour"]["from"] == {CONTRIBUTIONS: {"bid_sum": "AGGREGATION"}}
    assert kept[CONTRIBUTIONS]["columns"]["bid_sum"]["from"] == {STAGED: {"bid_sum": "IDENTITY"}}
    assert kept[STAGED]["columns"]["bid_sum"]["from"] == {
        LAKE: {
            "payload.bid": "AGGREGATION",
            "payload.custom_track": "CONDITIONAL",  # of clicks alone
            "payload.ed": "CONDITIONAL",  # names the kind of an event that does not
            "payload.ev": "CONDITIONAL",
        }
    }
    assert kept[LAKE]["columns"]["payload.bid"]["from"] == {"kafka recruitment.events": {"bid": "IDENTITY"}}


def test_a_column_of_a_dimension_comes_by_the_join(kept):
    assert kept[FACTS]["columns"]["company_id"]["from"] == {JOB: {"company_id": "IDENTITY"}}
    assert kept[FACTS]["rows"][JOB] == {"id": "JOIN"}
    assert "GROUP_BY" in kept[FACTS]["rows"][CONTRIBUTIONS]["job_id"]


def test_generated_columns_come_from_what_they_are_computed_from(kept):
    columns = kept[FACTS]["columns"]
    assert columns["bid_set"]["from"] == {CONTRIBUTIONS: {"bid_count": "AGGREGATION", "bid_sum": "AGGREGATION"}}
    assert "from" not in columns["sources"]  # a constant
    assert columns["spend_hour"]["type"] == "DECIMAL(30, 6)"


def test_another_declaration_has_another_lineage(spark):
    fact = RECRUITMENT.facts[0]
    other = dataclasses.replace(
        fact,
        measures=(*fact.measures[:-1], Measure("newest_create_time", "DATETIME(6)", column="newest", combine="MAX")),
        derived=(Derived("title", "VARCHAR(500) NULL", "CONCAT(j.title, d.clicks)"),),
    )
    columns = derive.document(dataclasses.replace(RECRUITMENT, facts=(other,)), spark)[FACTS]["columns"]
    assert columns["newest"]["from"] == {CONTRIBUTIONS: {"newest_create_time": "AGGREGATION"}}
    assert columns["title"]["from"] == {CONTRIBUTIONS: {"clicks": "AGGREGATION"}, JOB: {"title": "TRANSFORMATION"}}
    assert "company_id" not in columns


def test_the_documentation_shows_the_lineage_of_today():
    page = (FOLDER.parents[1] / "docs" / "monitoring.md").read_text(encoding="utf-8")
    assert f"```\n{as_text('recruitment.events.spend_hour')}\n```" in page


def test_a_column_that_no_data_set_has_is_named():
    with pytest.raises(ColumnUnknown, match="has the column 'recruitment.events.z'"):
        as_text("recruitment.events.z")
