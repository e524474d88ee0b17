"""Hours of the lakehouse in BigQuery: load jobs run on BigQuery's emulator."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.bigquery import loads, tables
from include.bigquery.due import load_due
from include.bigquery.settings import BigQueryError, dataset
from include.lakehouse.hour_file import HourFile
from include.warehouse import bi_views
from tests.lakehouse.faulty_network import DROPPED, MISSING, REFUSED, RUNNING, proxy
from tests.lakehouse.hours import SHOP, copy_to_bucket, loaded_rows, view_rows, write_hour
from tests.warehouse.conftest import lab  # noqa: F401 - a fixture
from tests.warehouse.lab import TEN, Lab
from tests.warehouse.shop import Shop

HOUR = timedelta(hours=1)


def test_the_view_has_the_newest_version_of_each_hour(bigquery, files) -> None:
    table = tables.create_missing(bigquery, SHOP)
    assert table.time_partitioning.field == "hour"
    # Even if an older version is loaded later.
    for file in (write_hour(2, 20), write_hour(1, 10), write_hour(1, 5, hour=TEN + HOUR)):
        loads.load(bigquery, table, file)
    assert view_rows(bigquery) == [(TEN, 2, 20), (TEN + HOUR, 1, 5)]


def test_a_file_that_is_loaded_twice_counts_once(bigquery, files) -> None:
    """An upload to the emulator gets a new id each time, so its rows are loaded twice."""
    table, file = tables.create_missing(bigquery, SHOP), write_hour(1, 10)
    loads.load(bigquery, table, file)
    loads.load(bigquery, table, file)
    assert loaded_rows(bigquery) == 2
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_a_job_that_is_known_is_not_started_again(bigquery, bucket, files) -> None:
    table, file = tables.create_missing(bigquery, SHOP), copy_to_bucket(bucket, write_hour(1, 10))
    first, again = loads.load(bigquery, table, file), loads.load(bigquery, table, file)
    assert first.job_id == again.job_id == loads.job_id(table, file)
    assert loaded_rows(bigquery) == 1


def test_after_a_job_that_failed_the_next_load_starts_another(bigquery, bucket, files) -> None:
    table, file = tables.create_missing(bigquery, SHOP), write_hour(1, 10)
    absent = replace(file, url=f"gs://{bucket.name}/hourly/ecommerce.events/2026-03-01T10/1.parquet")
    with pytest.raises(BigQueryError, match=r"2026-03-01T10/1.parquet into .*visits_hourly_loads failed: .*No files"):
        loads.load(bigquery, table, absent)
    assert copy_to_bucket(bucket, file) == absent
    assert loads.load(bigquery, table, absent).job_id == loads.job_id(table, absent, 2)
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_a_known_job_that_cannot_be_looked_up_is_an_error(bigquery, bucket, files, monkeypatch) -> None:
    table, file = tables.create_missing(bigquery, SHOP), copy_to_bucket(bucket, write_hour(1, 10))
    loads.load(bigquery, table, file)

    def fault(method: str, path: str, body: bytes) -> str | None:
        return REFUSED if method == "GET" and "/jobs/" in path else None

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        with pytest.raises(BigQueryError, match="A request to BigQuery .* failed: .*Access denied"):
            loads.load(tables.client(), table, file)


def test_a_job_that_is_running_is_waited_for(bigquery, bucket, files, monkeypatch) -> None:
    table, file = tables.create_missing(bigquery, SHOP), copy_to_bucket(bucket, write_hour(1, 10))
    answers = []

    def fault(method: str, path: str, body: bytes) -> str | None:
        if "/jobs" not in path:
            return None
        answers.append(method)
        return RUNNING if len(answers) < 3 else None

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        assert loads.load(tables.client(), table, file).state == "DONE"
    assert answers == ["POST", "GET", "GET"]


@pytest.fixture
def short_patience(monkeypatch) -> None:
    """Requests are repeated for a second instead of 20, and fail after half a second without an answer."""
    from google.cloud.bigquery import DEFAULT_RETRY

    for module in (tables, loads):
        monkeypatch.setattr(module, "retry", lambda: DEFAULT_RETRY.with_timeout(1))
    monkeypatch.setattr(tables, "TIMEOUT", 0.5)


def test_if_requests_for_the_state_of_a_job_get_no_answer_the_error_names_the_cause(
    bigquery, bucket, files, short_patience, monkeypatch
) -> None:
    table, file = tables.create_missing(bigquery, SHOP), copy_to_bucket(bucket, write_hour(1, 10))

    def fault(method: str, path: str, body: bytes) -> str | None:
        if "/jobs" not in path:
            return None
        return RUNNING if method == "POST" else DROPPED

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        with pytest.raises(BigQueryError, match="BigQuery does not answer: .*Connection aborted"):
            loads.load(tables.client(), table, file)


@pytest.mark.parametrize("request_part", ["/tables/visits_hourly_loads", "/tables/visits_hourly?", "/jobs", "/tables?"])
def test_a_request_that_is_never_answered_fails_soon(
    bigquery, files, short_patience, monkeypatch, request_part: str
) -> None:
    """The requests for the table and the view, the query that creates the view, and the request that creates the table."""

    def fault(method: str, path: str, body: bytes) -> str | None:
        return DROPPED if request_part in path else None

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        started_at = time.monotonic()
        with pytest.raises(BigQueryError, match="BigQuery does not answer"):
            tables.create_missing(tables.client(), SHOP)
        assert time.monotonic() - started_at < 20


def test_a_server_that_accepts_connections_and_never_answers_is_an_error(bigquery, short_patience, monkeypatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", f"http://127.0.0.1:{silent.getsockname()[1]}")
        with pytest.raises(BigQueryError, match="BigQuery does not answer: .*timed out"):
            tables.create_missing(tables.client(), SHOP)


@pytest.mark.parametrize(("method", "request_part"), [("GET", "/jobs/"), ("GET", "/queries/")])
def test_a_statement_whose_state_or_rows_never_arrive_fails_soon(
    bigquery, files, short_patience, monkeypatch, method: str, request_part: str
) -> None:
    """The client's own limits are two minutes for the state of a job, and none for its rows."""
    ended = threading.Event()

    def fault(used: str, path: str, body: bytes) -> str | None:
        if used == method and request_part in path:
            ended.wait(60)
            return DROPPED
        return RUNNING if used == "POST" and "/jobs" in path else None

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url, contextlib.ExitStack() as afterwards:
        afterwards.callback(ended.set)  # else the proxy would wait for its requests
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        started_at = time.monotonic()
        with pytest.raises(BigQueryError, match="BigQuery does not answer"), tables.translate_errors():
            list(tables.query(tables.client(), "SELECT 1"))
        assert time.monotonic() - started_at < 20


def test_the_location_is_that_of_a_dataset_that_is_created_and_no_query_names_it(bigquery, files, monkeypatch) -> None:
    """BigQuery refuses a query that names a location other than that of its dataset."""
    bodies = []

    def fault(method: str, path: str, body: bytes) -> str | None:
        if method == "POST":
            bodies.append((path, json.loads(body)))
        return None

    monkeypatch.setenv("MINUTEMARK_BIGQUERY_LOCATION", "EU")
    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        tables.create_missing(tables.client(), SHOP)
    [created] = [body["location"] for path, body in bodies if path.partition("?")[0].endswith("/datasets")]
    queries = [body["jobReference"] for path, body in bodies if path.partition("?")[0].endswith("/jobs")]
    assert (created, ["location" in query for query in queries]) == ("EU", [False])


def test_a_measure_that_is_declared_later_becomes_a_column(bigquery, files) -> None:
    narrow = replace(SHOP, lakehouse=replace(SHOP.lakehouse, measures=("visits",)))
    tables.create_missing(bigquery, narrow)
    table = tables.create_missing(bigquery, SHOP)
    loads.load(bigquery, table, write_hour(1, 10))
    rows = tables.query(bigquery, f"SELECT visits, cart_additions FROM `{tables.view(SHOP)}`")
    assert [row.values() for row in rows] == [(10, 0)]


def test_columns_are_described_as_in_the_view_for_bi_tools(bigquery, files) -> None:
    tables.create_missing(bigquery, SHOP)
    [visits] = [view for view in bi_views.views_of(SHOP) if view.name == "ecommerce.bi_visits"]
    known = {column.name: column.description for column in visits.columns}
    for name in (tables.loads_table(SHOP), tables.view(SHOP)):
        result = {field.name: (field.field_type, field.description) for field in bigquery.get_table(name).schema}
        assert result["hour"] == ("TIMESTAMP", known["hour_utc"])
        assert all(result[measure] == ("INTEGER", known[measure]) for measure in ("visits", "cart_additions"))
        assert result.keys() == {"hour", "attempt", "visits", "cart_additions", "counted_at"}
        assert all(text for _, text in result.values())


def test_a_table_whose_columns_are_required_is_relaxed_and_gets_its_hours(bigquery, files) -> None:
    """Columns of the files are nullable, and a load job refuses nullable columns for required columns of a table."""
    from google.cloud.bigquery import SchemaField, Table

    bigquery.create_dataset(dataset())
    columns = [
        SchemaField("hour", "TIMESTAMP", "REQUIRED"),
        SchemaField("attempt", "INTEGER", "REQUIRED"),
        *(SchemaField(name, "INTEGER") for name in SHOP.lakehouse.measures),
        SchemaField("counted_at", "TIMESTAMP"),
    ]
    table = bigquery.create_table(Table(tables.loads_table(SHOP), columns))
    with pytest.raises(BigQueryError, match="Field hour has changed mode from REQUIRED to NULLABLE"):
        loads.load(bigquery, table, write_hour(1, 10))
    loads.load(bigquery, tables.create_missing(bigquery, SHOP), write_hour(2, 10))
    assert view_rows(bigquery) == [(TEN, 2, 10)]


def test_a_dataset_that_cannot_be_created_is_an_error_with_a_remedy(bigquery, shop: Shop, monkeypatch) -> None:
    def fault(method: str, path: str, body: bytes) -> str | None:
        return MISSING if method == "POST" and path.partition("?")[0].endswith("/datasets") else None

    with proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        monkeypatch.setenv("BIGQUERY_EMULATOR_HOST", url)
        with pytest.raises(BigQueryError, match=r"Not found\. Check MINUTEMARK_BIGQUERY: .*'minutemark-test\.d"):
            load_due(SHOP)


@pytest.fixture
def shop(schemas, lab: Lab, files) -> Shop:  # noqa: F811
    return Shop(lab.conn)


def record_counted(shop: Shop, *files: HourFile) -> None:
    """Record these hours as counted, as count_hours does. The recorded counts are always 10 visits and 0 cart additions."""
    for file in files:
        values = (SHOP.name, file.hour, file.version, file.version, '{"visits": 10, "cart_additions": 0}')
        shop.query(
            "REPLACE INTO etl.lakehouse_hours (pipeline, hour, changes, counted_change, counts) VALUES (%s, %s, %s, %s, %s)",
            *values,
        )


def write_unreadable_hour(hour: datetime) -> HourFile:
    """Write an hour's file that no load job can read."""
    file = write_hour(1, 10, hour=hour)
    Path(file.url.removeprefix("file://")).write_bytes(b"PAR1")
    return file


def test_hours_are_loaded_once_and_again_after_they_were_counted_again(bigquery, shop: Shop) -> None:
    record_counted(shop, write_hour(1, 10), write_hour(1, 5, hour=TEN + HOUR))
    assert [load_due(SHOP).hours, load_due(SHOP).hours] == [2, 0]
    write_hour(2, 11)
    shop.query("UPDATE etl.lakehouse_hours SET changes = 2, counted_change = 2 WHERE hour = %s", TEN)
    assert load_due(SHOP).hours == 1
    assert view_rows(bigquery) == [(TEN, 2, 11), (TEN + HOUR, 1, 5)]


def test_a_load_that_was_killed_before_it_was_recorded_leaves_the_view_correct(bigquery, shop: Shop) -> None:
    record_counted(shop, write_hour(1, 10))
    with (
        shop.refusing("UPDATE", "etl.lakehouse_hours", of="loaded_change"),
        pytest.raises(Exception, match="UPDATE refused"),
    ):
        load_due(SHOP)
    assert load_due(SHOP).hours == 1
    assert loaded_rows(bigquery) == 2
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_an_hour_that_fails_is_named_and_the_others_are_loaded(bigquery, shop: Shop) -> None:
    record_counted(shop, write_hour(1, 10), write_unreadable_hour(TEN + HOUR))
    with pytest.raises(BigQueryError, match=r"1 of 2 hours failed to load\. .*2026-03-01T11/1\.parquet"):
        load_due(SHOP)
    assert view_rows(bigquery) == [(TEN, 1, 10)]


@pytest.mark.parametrize(("kind", "message"), [(REFUSED, "Access denied"), (DROPPED, "BigQuery does not answer")])
def test_an_hour_whose_request_fails_does_not_keep_the_others_from_being_loaded(
    bigquery, shop: Shop, monkeypatch, kind: str, message: str
) -> None:
    later = TEN + HOUR
    record_counted(shop, write_hour(1, 10), write_hour(1, 5, hour=later))
    load = f"{later:%Y%m%dT%H}-1"  # part of the id of its load job

    def fault(method: str, path: str, body: bytes) -> str | None:
        return kind if load.encode() in body else None

    with monkeypatch.context() as faulty, proxy(os.environ["BIGQUERY_EMULATOR_HOST"], fault) as url:
        faulty.setenv("BIGQUERY_EMULATOR_HOST", url)
        with pytest.raises(BigQueryError, match=rf"1 of 2 hours failed to load\. .*2026-03-01 11:00: .*{message}"):
            load_due(SHOP)
    assert (TEN, 1, 10) in view_rows(bigquery)
    assert load_due(SHOP).hours == 1
    assert view_rows(bigquery) == [(TEN, 1, 10), (later, 1, 5)]


def test_an_hour_whose_file_cannot_be_written_does_not_keep_the_others_from_being_loaded(
    bigquery, shop: Shop, files: Path
) -> None:
    later = TEN + HOUR
    record_counted(shop, write_hour(1, 10), HourFile.of(SHOP, later, 1))
    (files / "hourly" / SHOP.lakehouse.table / f"{later:%Y-%m-%dT%H}").touch()  # a file where the folder belongs
    with pytest.raises(BigQueryError, match=r"1 of 2 hours failed to load\. .*2026-03-01 11:00: .*"):
        load_due(SHOP)
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_hours_that_fail_each_time_do_not_block_an_older_hour(bigquery, shop: Shop) -> None:
    record_counted(shop, *(write_unreadable_hour(TEN + number * HOUR) for number in (1, 2)), write_hour(1, 10))
    for _ in range(2):
        with pytest.raises(BigQueryError, match="of 2 hours failed"):
            load_due(SHOP, max_hours=2)
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_the_newest_hour_does_not_wait_for_a_backlog(bigquery, shop: Shop) -> None:
    now = TEN + 4 * HOUR
    record_counted(shop, write_hour(1, 5, hour=now))
    load_due(SHOP)
    record_counted(shop, *(write_hour(1, 10, hour=TEN + number * HOUR) for number in range(4)))
    write_hour(2, 6, hour=now)
    shop.query("UPDATE etl.lakehouse_hours SET changes = 2, counted_change = 2 WHERE hour = %s", now)
    load_due(SHOP, max_hours=2)
    assert view_rows(bigquery) == [(TEN + 3 * HOUR, 1, 10), (now, 2, 6)]


def test_a_file_that_is_missing_is_written_again_from_the_recorded_count(bigquery, shop: Shop) -> None:
    record_counted(shop, HourFile.of(SHOP, TEN, 1))
    shop.query("UPDATE etl.lakehouse_hours SET counted_at = %s", TEN + HOUR)
    assert load_due(SHOP).hours == 1
    assert view_rows(bigquery) == [(TEN, 1, 10)]
    [[counted_at]] = tables.query(bigquery, f"SELECT DATETIME(counted_at) FROM `{tables.view(SHOP)}`")
    assert counted_at == TEN + HOUR


def test_a_table_that_was_dropped_gets_all_hours_again(bigquery, shop: Shop) -> None:
    record_counted(shop, write_hour(1, 10), write_hour(1, 5, hour=TEN + HOUR))
    load_due(SHOP)
    bigquery.delete_table(tables.loads_table(SHOP))
    assert load_due(SHOP).hours == 2
    assert view_rows(bigquery) == [(TEN, 1, 10), (TEN + HOUR, 1, 5)]


def test_a_table_that_something_else_created_again_gets_all_hours_too(bigquery, shop: Shop) -> None:
    """The Cloud Function creates the table when a file arrives."""
    record_counted(shop, write_hour(1, 10))
    load_due(SHOP)
    bigquery.delete_table(tables.loads_table(SHOP))
    tables.create_missing(bigquery, SHOP)
    assert load_due(SHOP).hours == 1
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_jobs_of_a_table_that_was_dropped_do_not_count_for_the_next_one(bigquery, bucket, files) -> None:
    file = copy_to_bucket(bucket, write_hour(1, 10))
    loads.load(bigquery, tables.create_missing(bigquery, SHOP), file)
    bigquery.delete_table(tables.loads_table(SHOP))
    loads.load(bigquery, tables.create_missing(bigquery, SHOP), file)
    assert view_rows(bigquery) == [(TEN, 1, 10)]


def test_a_statement_that_fails_is_an_error(bigquery, files) -> None:
    with pytest.raises(BigQueryError, match="nothing_such"), tables.translate_errors():
        tables.query(bigquery, "SELECT nothing_such")


def test_without_an_answer_a_run_fails_soon_and_the_next_one_loads(bigquery, shop: Shop, monkeypatch) -> None:
    record_counted(shop, write_hour(1, 10))
    with monkeypatch.context() as patch, pytest.raises(BigQueryError, match="BigQuery does not answer: .*refused"):
        patch.setenv("BIGQUERY_EMULATOR_HOST", "http://127.0.0.1:1")
        load_due(SHOP)
    assert load_due(SHOP).hours == 1


def test_the_hour_that_waits_longest_is_loaded_first(bigquery, shop: Shop) -> None:
    later = TEN + HOUR
    record_counted(shop, write_hour(1, 10), write_hour(1, 5, hour=later))
    load_due(SHOP, max_hours=1)
    write_hour(2, 6, hour=later)
    shop.query("UPDATE etl.lakehouse_hours SET changes = 2, counted_change = 2 WHERE hour = %s", later)
    load_due(SHOP, max_hours=1)
    assert view_rows(bigquery) == [(TEN, 1, 10), (later, 1, 5)]
