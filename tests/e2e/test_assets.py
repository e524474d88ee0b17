"""Complete hours as asset events on a real scheduler: one run for each, one more for a correction, whatever is killed."""

from __future__ import annotations

import contextlib
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import psutil
import pytest

from include.connections import WAREHOUSE_ADMIN
from include.warehouse.session import column, warehouse
from tests.e2e.runs import change, count, write
from tests.e2e.stack import TIMEOUT, Stack, started, until
from tests.reference.rows import click

pytestmark = pytest.mark.usefixtures("schemas")

DAY = datetime(2026, 3, 1)
HOUR, MINUTE = timedelta(hours=1), timedelta(minutes=1)


def rows_of(hour: int, minute: int = 0, jobs: int = 2) -> list[dict]:
    return [
        click(DAY + hour * HOUR + minute * MINUTE + timedelta(seconds=job), 100 * hour + job) for job in range(jobs)
    ]


@pytest.fixture(scope="module")
def stack(schemas) -> Iterator[Stack]:
    write(rows_of(12))
    with started(MINUTEMARK_SCHEDULE="continuous", MINUTEMARK_EXAMPLES="1") as stack:
        until(lambda: is_not_paused(stack))
        yield stack


def is_not_paused(stack: Stack) -> None:
    assert not stack.airflow.get("/api/v2/dags/recruitment_hour_complete")["is_paused"]


def events(stack: Stack) -> list[tuple[str, dict]]:
    """Partition key and hour of each event of the hours that these tests write, in order."""
    result = stack.airflow.get("/api/v2/assets/events?limit=100&order_by=timestamp&name_pattern=recruitment_hours")[
        "asset_events"
    ]
    keys = [(event["partition_key"], event["extra"]) for event in result]
    return [(key, extra["hours"][key]) for key, extra in keys if key.startswith("2026-03-0")]


def event_counts(stack: Stack) -> Counter[tuple[str, bool]]:
    """The number of events by partition key, with corrections and first announcements counted separately."""
    return Counter((key, hour["correction"]) for key, hour in events(stack))


def runs(stack: Stack) -> Counter[str]:
    """The number of successful runs of the example by partition key."""
    result = stack.airflow.get("/api/v2/dags/recruitment_hour_complete/dagRuns?limit=100")["dag_runs"]
    matching = [run for run in result if run["partition_key"].startswith("2026-03-0")]
    assert {run["state"] for run in matching} <= {"success"}, matching
    return Counter(run["partition_key"] for run in matching)


def key(hour: int) -> str:
    return (DAY + hour * HOUR).isoformat()


def as_if_quiet() -> None:
    """Date the last change of each hour back by two minutes."""
    change("UPDATE etl.hours SET changed_at = changed_at - INTERVAL 2 MINUTE")


def wait_until_merged(*hours: int, minutes: int = 1) -> None:
    """Return when every minute of these hours is merged, as if two minutes had passed since then."""

    def check() -> None:
        for hour in hours:
            start = DAY + hour * HOUR
            assert minutes == count(
                f"etl.minute_ledger WHERE minute >= '{start}' AND minute < '{start + HOUR}' AND state = 'merged' AND pending = 0"
            )

    until(check)
    as_if_quiet()


@contextlib.contextmanager
def hold_locks(statement: str) -> Iterator[None]:
    """Run a statement, and hold its row locks until exit."""
    with warehouse(WAREHOUSE_ADMIN) as admin:
        admin.cursor().execute(statement)
        yield


@contextlib.contextmanager
def block_commits() -> Iterator[None]:
    """Block every commit until exit."""
    with warehouse(WAREHOUSE_ADMIN) as admin:
        admin.cursor().execute("FLUSH TABLES WITH READ LOCK")
        yield


def client_address(condition: str) -> str:
    """Wait for the one warehouse session whose row in the process list meets this condition; return its client's address."""
    hosts: list[str] = []
    with warehouse(WAREHOUSE_ADMIN) as admin:

        def is_found() -> bool:
            query = f"SELECT host FROM information_schema.PROCESSLIST WHERE id <> CONNECTION_ID() AND {condition}"
            hosts[:] = column(admin.cursor(), query)
            return bool(hosts)

        wait_without_pause(is_found)
    [host] = hosts
    return host


def process_at(address: str) -> psutil.Process:
    """The process that owns this end of a connection."""
    port = int(address.rpartition(":")[2])
    [pid] = {
        net_connection.pid
        for net_connection in psutil.net_connections("tcp")
        if net_connection.laddr and net_connection.laddr.port == port and net_connection.pid
    }
    return psutil.Process(pid)


def wait_without_pause(condition: Callable[[], object]) -> None:
    """Return as soon as the condition holds."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline


def test_a_completed_hour_starts_one_run(stack):
    wait_until_merged(12)

    def once() -> None:
        assert event_counts(stack) == {(key(12), False): 1}
        assert runs(stack) == {key(12): 1}

    until(once)
    [(_, hour)] = events(stack)
    assert hour == {
        "start": "2026-03-01T12:00:00+00:00", "end": "2026-03-01T13:00:00+00:00", "version": hour["version"],
        "correction": False, "raw_rows": 2, "counted_rows": 2, "ignored_rows": 0, "rejected_rows": 0, "held_minutes": [],
        "fact_hours": ["2026-03-01T12:00:00+00:00"], "fact_hours_count": 1,
    }  # fmt: skip


def test_late_rows_start_one_more_run_that_is_marked_as_a_correction(stack):
    write(rows_of(12, minute=1))
    wait_until_merged(12, minutes=2)

    def once_more() -> None:
        assert event_counts(stack) == {(key(12), False): 1, (key(12), True): 1}
        assert runs(stack) == {key(12): 2}

    until(once_more)
    assert [hour["raw_rows"] for _, hour in events(stack)] == [2, 4]


def test_a_merge_that_is_killed_after_its_commit_announces_its_hour_once(stack):
    before = event_counts(stack)
    batches = count("etl.batches WHERE state = 'merged'")
    with hold_locks("SELECT * FROM etl.pipelines FOR UPDATE"):
        write(rows_of(36))
        process = process_at(client_address("LOCATE('FROM etl.pipelines WHERE', info)"))
    wait_without_pause(lambda: count("etl.batches WHERE state = 'merged'") > batches)
    process.kill()
    must_be_announced_once(stack, before, 36)


def test_a_task_that_is_killed_between_its_offer_and_its_success_announces_its_hour_once(stack):
    before, hour = event_counts(stack), DAY + 60 * HOUR
    with slow_offers_of(hour):
        write(rows_of(60))
        wait_until_merged(60)
        client = client_address("state = 'User sleep'")
        process = process_at(client)
        process.suspend()
        with block_commits():
            process.resume()
            client_address(f"host = '{client}' AND info = 'COMMIT' AND LOCATE('Waiting', state)")
            process.suspend()
        wait_without_pause(lambda: count(f"etl.hours WHERE hour = '{hour}' AND to_announce = 2"))
        process.kill()
        assert event_counts(stack) == before, "The task was killed too late to test anything."
    must_be_announced_once(stack, before, 60)


@contextlib.contextmanager
def slow_offers_of(hour: datetime) -> Iterator[None]:
    """Make the statement that offers this hour take three seconds, long enough to find the task's process."""
    with warehouse(WAREHOUSE_ADMIN) as admin:
        admin.cursor().execute(
            "CREATE TRIGGER etl.slow_offers BEFORE UPDATE ON etl.hours FOR EACH ROW "
            f"IF NEW.hour = '{hour}' AND NOT (NEW.offered_version <=> OLD.offered_version) THEN DO SLEEP(3); END IF"
        )
        try:
            yield
        finally:
            admin.cursor().execute("DROP TRIGGER etl.slow_offers")


def must_be_announced_once(stack: Stack, before: Counter, hour: int) -> None:
    """Wait until the hour has one event and one run, and the announcement is confirmed in Airflow's events."""
    wait_until_merged(hour)

    def once() -> None:
        assert event_counts(stack) - before == {(key(hour), False): 1}
        assert count(f"etl.hours WHERE hour = '{DAY + hour * HOUR}' AND to_announce = 0") == 1
        assert runs(stack)[key(hour)] == 1

    until(once)


def test_a_day_that_is_complete_at_once_starts_a_run_for_each_hour(stack):
    before = event_counts(stack), runs(stack)
    day = [hour for hour in range(24) if hour != 12]
    write([row for hour in day for row in rows_of(hour)])
    wait_until_merged(*day)

    def each_once() -> None:
        assert event_counts(stack) - before[0] == {(key(hour), False): 1 for hour in day}
        assert runs(stack) - before[1] == {key(hour): 1 for hour in day}

    until(each_once)
