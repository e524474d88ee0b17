"""Summed facts by declaration: what is refused, and which file a statement comes from."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import replace

import pytest

from include import pipelines
from include.pipelines.summed_fact import Derived, Key, Measure, SummedFact
from include.warehouse import sql
from include.warehouse.columns import declared
from local.layout import ROOT

RECRUITMENT, ECOMMERCE = pipelines.get("recruitment"), pipelines.get("ecommerce")
HOUR, CLICKS = Key("hour", "DATETIME"), Measure("clicks")


def fact(**values) -> SummedFact:
    return SummedFact(**{"name": "hits", "table": "shop.hits_hourly", "key": (HOUR,), "measures": (CLICKS,)} | values)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"measures": (Measure("clicks; DROP TABLE t"),)}, "is not a valid name"),
        ({"name": "Hits"}, "'Hits' is not a valid name"),
        ({"measures": (CLICKS, Measure("hour"))}, "declared twice: hour"),
        ({"measures": (CLICKS, Measure("more", column="clicks"))}, "declared twice: clicks"),
        ({"measures": (CLICKS,), "events": "clicks"}, "declared twice: clicks"),
        ({"derived": (Derived("clicks", "BIGINT", "d.clicks"),)}, "declared twice: clicks"),
        ({"measures": (Measure("clicks", column="Clicks"),)}, "'Clicks' is not a valid name"),
        ({"key": (HOUR, Key("minute", "DATETIME"))}, "uses reserved column names \\(minute\\)"),
        ({"measures": (Measure("clicks", combine="AVG"),)}, "combine of measure clicks is 'AVG': write 'SUM' or 'MAX'"),
        ({"key": ()}, "needs a key and at least one measure"),
        ({"measures": ()}, "needs a key and at least one measure"),
    ],
)
def test_a_declaration_that_cannot_be_summed_is_refused(values: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f"shop.hits_hourly.*{message}"):
        fact(**values)


def test_a_signed_measure_may_be_negative_and_the_check_says_so() -> None:
    def check(*measures: Measure) -> sql.Check:
        pipeline = replace(RECRUITMENT, facts=(fact(measures=measures),), lakehouse=None)
        return next(one for one in sql.checks(pipeline, "staging") if one.name == "staging_hits_no_negative")

    unsigned, signed = check(CLICKS), check(CLICKS, Measure("balance", signed=True))
    assert unsigned.purpose.endswith("at least one event, and no negative sum.")
    assert signed.purpose.endswith("at least one event, and no negative sum, except of signed measures.")
    assert "clicks < 0" in signed.query and "balance < 0" not in signed.query


def test_a_comment_may_contain_a_quote() -> None:
    quoted = replace(
        ECOMMERCE, facts=(*ECOMMERCE.facts, fact(measures=(Measure("clicks", comment="of a visitor's page"),)))
    )
    tables = [statement for file in sql.files(quoted, "warehouse.sql") for statement in file.statements]
    assert len([text for text in tables if "COMMENT 'of a visitor''s page'" in text]) == 3


def test_a_fact_of_an_output_that_is_not_declared_is_refused() -> None:
    with pytest.raises(ValueError, match="facts sum undeclared outputs, baskets: declare them in outputs"):
        replace(ECOMMERCE, facts=(fact(output="baskets"),))


def test_one_line_of_a_declaration_is_a_column_of_every_table_and_statement() -> None:
    """A metric takes a line in the transform and this one in the declaration."""
    [events] = RECRUITMENT.facts
    views = Measure("views", column="page_views", added=True)
    extended = replace(RECRUITMENT, facts=(replace(events, measures=(*events.measures, views)),))
    tables = dict(
        filter(
            None,
            (declared(statement) for file in sql.files(extended, "warehouse.sql") for statement in file.statements),
        )
    )
    assert "views" in tables[events.staging] and "views" in tables[events.contributions]
    assert tables[events.table]["page_views"] == "BIGINT NULL"
    for pattern in ("merge.sql", "fold.sql", "checks/warehouse_*.sql", "verify/facts_*.sql", "verify/*_added.sql"):
        assert any("views" in file.text for file in sql.files(extended, pattern)), pattern


def test_a_file_of_the_pipeline_replaces_a_template_and_another_one_is_added(tmp_path, monkeypatch) -> None:
    shutil.copytree(sql.FOLDER, tmp_path, dirs_exist_ok=True)
    monkeypatch.setattr(sql, "FOLDER", tmp_path)
    folder = tmp_path / "recruitment" / "events" / "checks"
    folder.mkdir(parents=True)
    before = [check.name for check in sql.checks(RECRUITMENT, "warehouse")]
    (folder / "warehouse_events_totals.sql").write_text("-- severity: warn\n-- Mine.\nSELECT 1 FROM t WHERE 1 = 0;")
    (folder / "warehouse_more.sql").write_text("-- severity: fail\n-- More.\nSELECT 2;")
    result = {check.name: check for check in sql.checks(RECRUITMENT, "warehouse")}
    assert list(result) == [*before, "warehouse_more"]
    assert (result["warehouse_events_totals"].purpose, result["warehouse_events_totals"].severity) == ("Mine.", "warn")
    printed = sql.as_text("recruitment")
    assert (printed.count("-- Mine."), printed.count("-- More.")) == (1, 1)


def test_the_command_sql_prints_every_statement_with_the_file_that_it_comes_from() -> None:
    printed = subprocess.run([ROOT / "minutemark", "sql", "ecommerce"], capture_output=True, text=True)
    assert printed.returncode == 0, printed.stderr
    assert "include/sql/summed_fact/checks/warehouse_sales_totals.sql" in printed.stdout
    assert "include/sql/ecommerce/merge.sql" in printed.stdout
    assert "INSERT INTO ecommerce.visits_hourly" in printed.stdout and "{{" not in printed.stdout


def test_the_command_sql_of_an_unknown_pipeline_names_the_known_ones() -> None:
    printed = subprocess.run([ROOT / "minutemark", "sql", "shop"], capture_output=True, text=True)
    assert (printed.returncode, printed.stdout) == (2, "")
    assert "ecommerce, recruitment" in printed.stderr
