"""Verify compares the lakehouse too: no findings if it is correct, and each error with its remedy."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta

import pyarrow
import pyarrow.parquet
import pytest

from include.bigquery import tables
from include.bigquery.due import load_due
from include.lake.session import lake
from include.lakehouse import hourly, table
from include.lakehouse.export import export, rewrite
from include.lakehouse.settings import LakehouseError
from include.verify import verify
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event
from tests.lakehouse.other_engine import delete_rows
from tests.warehouse.lab import TEN, minute
from tests.warehouse.shop import Shop, operation

HOUR = timedelta(hours=1)
NOTHING = {}


@pytest.fixture
def exact(shop: Shop) -> Shop:
    add_to_lake(shop_event(TEN, 1), shop_event(minute(1), 1, "cart"), shop_event(minute(60), 1))
    later = operation(event_time=minute(60))
    merge_minutes(shop, {TEN: [operation()], minute(1): [operation("cart")], minute(60): [later]})
    export(SHOP)
    count_hours()
    assert differences() == NOTHING
    return shop


def report_of(start: datetime | None = None, end: datetime | None = None):
    """The report on the shop, whose minutes settle after a second: minutes that differ are compared again after that time."""
    shop = replace(SHOP, settle=timedelta(seconds=1))
    [report] = verify.verify([shop], start=start, end=end, patience=0, poll=0.1).pipelines
    return report


def differences(**span) -> dict[str, int]:
    return report_of(**span).differences.counts


def separate_findings() -> dict[str, int]:
    return {kind: number for kind, number in report_of().apart.counts.items() if kind.startswith("lakehouse")}


def follow_remedies() -> None:
    """Do what the findings say: trigger the DAG with that range."""
    for findings in report_of().differences.kept.values():
        for finding in findings:
            [ends] = re.findall(r'trigger ecommerce_lakehouse with {"from": "(.+)Z", "to": "(.+)Z"}', finding.remedy)
            rewrite(SHOP, *map(datetime.fromisoformat, ends))
    export(SHOP)
    count_hours()


def test_what_is_not_written_or_counted_yet_is_reported_separately(exact: Shop) -> None:
    add_to_lake(shop_event(minute(2), 1))
    merge_minutes(exact, {minute(2): [operation()]}, run_id="later")
    assert (differences(), separate_findings()) == (NOTHING, {"lakehouse_due": 1})
    export(SHOP)
    assert (differences(), separate_findings()) == (NOTHING, {"lakehouse_hour_due": 1})
    count_hours()
    assert (differences(), separate_findings()) == (NOTHING, {})
    assert (
        "4 minutes of the lakehouse were compared with the ledger, and 2 hours with the fact." in report_of().notes[-1]
    )


def test_rows_deleted_by_hand(exact: Shop) -> None:
    table.table(SHOP).delete(table.within([TEN]))
    assert differences() == {"lakehouse_other_events": 1, "lakehouse_hour": 1}
    assert differences(start=minute(60), end=minute(120)) == NOTHING, "The differences belong to another hour."
    follow_remedies()
    assert differences() == NOTHING


def test_rows_added_by_hand(exact: Shop) -> None:
    iceberg_table = table.table(SHOP)
    row = iceberg_table.scan(row_filter=table.within([TEN])).to_arrow()
    iceberg_table.append(row.set_column(0, row.schema.field("minute"), [[minute(7)]]))
    assert differences() == {"lakehouse_unknown_minute": 1, "lakehouse_hour": 1}
    follow_remedies()
    assert differences() == NOTHING


def test_values_changed_by_hand(exact: Shop) -> None:
    iceberg_table = table.table(SHOP)
    row = iceberg_table.scan(row_filter=table.within([TEN])).to_arrow()
    field = row.schema.field("event_type")
    carts = pyarrow.array(["cart"], field.type)
    table.replace(iceberg_table, [TEN], row.set_column(row.column_names.index(field.name), field, carts))
    assert differences() == {"lakehouse_hour": 1}
    follow_remedies()
    assert differences() == NOTHING


def test_a_data_file_deleted_by_hand(exact: Shop, lakehouse) -> None:
    [file] = lakehouse.rglob("hour=2026-03-01-10/*.parquet")
    file.unlink()
    assert differences() == {"lakehouse_lost_file": 1}
    assert differences(start=minute(60), end=minute(120)) == NOTHING, "The file belongs to the hour before."
    follow_remedies()
    assert differences() == NOTHING


@pytest.mark.parametrize("engine", ["pyiceberg", "other"])
def test_a_lost_file_with_events_of_another_hour_leaves_only_these_hours_out(
    exact: Shop, lakehouse, engine: str
) -> None:
    """A visit of 10:07 arrived at 12:02, together with one of 12:02. An engine has deleted rows of the hour in between."""
    late = minute(122)
    add_to_lake(shop_event(late, 1, event_time=f"{minute(7)} UTC"), shop_event(late, 2))
    merge_minutes(exact, {late: [operation(event_time=minute(7)), operation(event_time=late)]}, run_id="late")
    export(SHOP)
    count_hours()
    assert differences() == NOTHING
    if engine == "pyiceberg":
        table.table(SHOP).delete(table.within([minute(60)]))
    else:  # this engine leaves the rows in their files
        delete_rows(table.table(SHOP), minute(60))
    [file] = lakehouse.rglob("hour=2026-03-01-12/*.parquet")
    file.unlink()
    deleted_rows = {"lakehouse_other_events": 1, "lakehouse_hour": 1}
    assert differences() == {"lakehouse_lost_file": 1, **deleted_rows}
    assert differences(start=TEN, end=minute(60)) == {"lakehouse_lost_file": 1}, "The file has an event of this range."
    assert differences(start=minute(60), end=minute(120)) == deleted_rows


def test_a_file_that_another_engine_added_elsewhere_is_not_missing(exact: Shop, tmp_path) -> None:
    iceberg_table = table.table(SHOP)
    rows = iceberg_table.scan(row_filter=table.within([TEN])).to_arrow()
    path = tmp_path / "elsewhere.parquet"
    pyarrow.parquet.write_table(rows, path)
    iceberg_table.delete(table.within([TEN]))
    iceberg_table.add_files([f"file://{path}"])
    assert differences() == NOTHING
    path.unlink()
    assert differences() == {"lakehouse_lost_file": 1}


@pytest.mark.parametrize("change", [lambda file: file.unlink(), lambda file: file.write_bytes(b"PAR1")])
def test_the_file_of_an_hour_deleted_or_broken_by_hand(exact: Shop, lakehouse, change) -> None:
    [file] = lakehouse.glob("hourly/*/2026-03-01T10/*.parquet")
    change(file)
    assert differences() == {"lakehouse_hour_file": 1}
    follow_remedies()
    assert differences() == NOTHING


def test_hours_that_were_counted_before_a_measure_was_declared(exact: Shop) -> None:
    former = replace(SHOP, lakehouse=replace(SHOP.lakehouse, measures=("visits",)))
    for hour, version in exact.query("SELECT hour, counted_change FROM etl.lakehouse_hours"):
        hourly.write_file(former, hourly.HourlyCount(hour, version, {"visits": 1}))
    exact.query("""UPDATE etl.lakehouse_hours SET counts = '{"visits": 1}'""")
    assert differences() == {"lakehouse_count": 2}
    follow_remedies()
    assert differences() == NOTHING


def test_an_hour_with_an_event_that_was_rewritten_before_its_export_waits_and_does_not_differ(exact: Shop) -> None:
    add_to_lake(shop_event(minute(2), 1))
    merge_minutes(exact, {minute(2): [operation()]}, run_id="later")
    add_to_lake(shop_event(minute(2), 1, "cart"))
    export(SHOP)
    assert count_hours() == {}
    assert (differences(), separate_findings()) == (NOTHING, {"lakehouse_hour_waits": 1})


def test_the_count_of_an_hour_changed_or_deleted_by_hand(exact: Shop) -> None:
    exact.query("""UPDATE etl.lakehouse_hours SET counts = '{"visits": 9, "cart_additions": 9}' WHERE hour = %s""", TEN)
    exact.query("DELETE FROM etl.lakehouse_hours WHERE hour = %s", minute(60))
    assert differences() == {"lakehouse_count": 2}
    follow_remedies()
    assert differences() == NOTHING


def test_a_table_dropped_by_hand(exact: Shop) -> None:
    table.catalog().drop_table(SHOP.lakehouse.table)
    assert differences() == {"lakehouse_no_table": 1}
    export(SHOP)
    count_hours()
    assert differences() == NOTHING


def test_a_catalog_that_is_down_keeps_nothing_else_from_being_verified(exact: Shop, monkeypatch, capsys) -> None:
    exact.query("UPDATE ecommerce.visits_hourly SET visits = 9 WHERE hour = %s", TEN)
    with monkeypatch.context() as patch:
        patch.setenv("AIRFLOW_CONN_LAKEHOUSE_CATALOG", "postgres://lakehouse:SECRETWORD@127.0.0.1:1/lakehouse")
        report = report_of()
        with pytest.raises(LakehouseError, match=r"connection lakehouse_catalog \(127\.0\.0\.1:1\) cannot be used"):
            export(SHOP)
    assert set(report.differences.counts) == {"facts_visits_hourly", "lakehouse_unreadable"}
    assert report.totals["lake_rows"] == 3
    [finding] = report.differences.kept["lakehouse_unreadable"]
    assert re.search(r"Connection refused.* Start it .*, or correct connection lakehouse_catalog\.", finding.remedy)
    assert "SECRETWORD" not in finding.remedy
    assert "Traceback" not in capsys.readouterr().err


def test_a_lakehouse_that_cannot_be_read_for_another_reason_is_reported_too(exact: Shop, lakehouse) -> None:
    for file in lakehouse.rglob("snap-*.avro"):
        file.write_bytes(b"broken")
    report = report_of()
    assert report.differences.counts == {"lakehouse_unreadable": 1}
    assert report.totals["lake_rows"] == 3


def delete_from_lake(at: datetime) -> None:
    with lake("lake_writer") as session:
        for shard in range(SHOP.shards):
            session.execute(f"DELETE FROM {SHOP.lake_table} WHERE minute = %s AND shard = %s", (at, shard))


def test_rows_that_the_lake_lost_before_they_were_written(exact: Shop) -> None:
    add_to_lake(shop_event(minute(2), 1))
    merge_minutes(exact, {minute(2): [operation()]}, run_id="later")
    delete_from_lake(minute(2))
    export(SHOP)
    assert separate_findings()["lakehouse_skipped"] == 1
    exact.query("UPDATE etl.minute_ledger SET state = 'closed' WHERE minute = %s", minute(2))
    [finding] = report_of().apart.kept["lakehouse_closed"]
    assert "trigger" not in finding.remedy, "A closed minute is not written again."


def test_rows_that_the_lake_lost_after_they_were_written_stay_in_the_lakehouse(exact: Shop) -> None:
    """Also after the minute was written again by hand, twice. If the table then loses these rows, verify names the remedy."""
    delete_from_lake(minute(1))
    for _ in range(2):
        rewrite(SHOP, TEN, minute(2))
        assert export(SHOP).changed_since == 1
        assert count_hours() == {TEN: (1, 1)}
        assert separate_findings() == {}
    table.table(SHOP).delete(table.within([minute(1)]))
    [finding] = report_of().differences.kept["lakehouse_other_events"]
    assert finding.remedy.startswith("bring the lost rows back into the lake, then trigger ecommerce_lakehouse")


def test_verify_needs_no_package_of_the_lakehouse_if_it_is_off(exact: Shop) -> None:
    program = (
        "import sys; from include import cli; "
        "status = cli.main(['verify', 'ecommerce', '--patience', '0']); "
        "loaded = {'pyiceberg', 'duckdb', 'pyarrow'} & sys.modules.keys(); sys.exit(f'{loaded}' if loaded else status)"
    )
    environ = {name: value for name, value in os.environ.items() if name != "MINUTEMARK_LAKEHOUSE"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environ)
    assert (done.returncode, "lakehouse" in done.stdout) == (0, False), done.stderr


def test_hours_of_bigquery_that_are_due_deleted_or_changed(exact: Shop, bigquery) -> None:
    assert report_of().apart.counts["bigquery_due"] == 2
    load_due(SHOP)
    report = report_of()
    assert (report.differences.counts, "bigquery_due" in report.apart.counts) == (NOTHING, False)
    assert "2 hours of BigQuery were compared with the lakehouse's counts." in report.notes[-1]
    loads = tables.loads_table(SHOP)
    tables.query(bigquery, f"DELETE FROM `{loads}` WHERE hour = TIMESTAMP '{TEN} UTC'")
    tables.query(bigquery, f"UPDATE `{loads}` SET visits = 9 WHERE hour = TIMESTAMP '{minute(60)} UTC'")
    assert differences() == {"bigquery_hour": 2}
    follow_remedies()
    load_due(SHOP)
    assert differences() == NOTHING
    exact.query("DELETE FROM etl.lakehouse_hours WHERE hour = %s", TEN)
    assert differences() == {"lakehouse_count": 1, "bigquery_unknown_hour": 1}
    assert differences(start=minute(60), end=minute(120)) == NOTHING, "The differences belong to another hour."


def test_a_table_of_bigquery_that_was_dropped(exact: Shop, bigquery) -> None:
    load_due(SHOP)
    bigquery.delete_table(tables.loads_table(SHOP))
    assert differences() == {"bigquery_no_table": 1}
    load_due(SHOP)
    assert differences() == NOTHING


def test_a_bigquery_that_does_not_answer_is_a_difference_and_the_rest_is_verified(
    exact: Shop, bigquery, minutemark, monkeypatch, capsys
) -> None:
    monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
    assert minutemark("verify", SHOP.name, "--patience", "0") == 1
    report = capsys.readouterr().out
    assert "bigquery_unreadable, 1: The comparison of the copy did not complete" in report
    assert "BigQuery does not answer" in report
    assert "2 hours with the fact" in report
