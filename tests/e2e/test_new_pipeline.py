"""A third pipeline from `make pipeline`, in a copy of the project: from the command to a clean verify on real stores.

All code that knows the new pipeline runs in processes of the copy, and the tests only read results. They build on each
other in the order of the file, because every run of the chain costs seconds.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from include.durations import MINUTE
from include.spark import installation
from local import connections, new_pipeline
from local.isolation import NOT_COPIED, copy_to
from local.servers import cassandra
from tests.e2e.runs import CHAIN, Airflow, as_if_settled, change, count, query, text
from tests.reference.rows import event_id

pytestmark = pytest.mark.usefixtures("schemas")

# The longest allowed name, to show that all names derived from it fit.
NAME = "turnover_of_all_shops_in_every_town_we_know"
NOON = datetime(2026, 3, 1, 12)
HEADER = ("create_time", "event_time", "event_type", "value")


def event(second: int, kind: str, value: str, **cells: str) -> dict[str, str]:
    """An event `second` seconds after noon (before noon if negative); `cells` replace its cells."""
    when = NOON + timedelta(seconds=second)
    return {
        "create_time": str(event_id(when)), "event_time": f"{when:%Y-%m-%d %H:%M:%S}Z", "event_type": kind, "value": value,
    } | cells  # fmt: skip


ROWS = [
    event(1, "sale", "10.10"),
    event(2, "sale", "0.1"),
    event(3, "SALE ", "0.2"),  # 0.1 + 0.2 is 0.3 here
    event(4, "sale", "7", event_time="2026-03-01T11:59:59Z"),  # in the hour before its create_time
    event(61, "refund", "2.345"),  # rounded to 2.35
    event(62, "refund", "9999999999.99", create_time=""),  # gets a create_time from its event_time
    event(63, "inquiry", ""),
    event(64, "", "1"),
    event(65, "sale", ""),
    event(66, "sale", "ten"),
    event(67, "sale", "-0.01"),
    event(68, "sale", "10000000000"),
    event(69, "refund", "1", event_time="yesterday"),
]
FACTS = {
    (NOON, "sale"): (3, Decimal("10.40")),
    (NOON - 60 * MINUTE, "sale"): (1, Decimal("7.00")),
    (NOON, "refund"): (2, Decimal("10000000002.34")),
}
LEDGER = {NOON: (4, 4, 0, 0, {}), NOON + MINUTE: (9, 2, 2, 5, {"inquiry": 1, "none": 1})}
REASONS = [
    "event_time is not a timestamp between 1970 and 2100: yesterday",
    "value is negative: -0.01",
    "value is not a number: nothing",
    "value is not a number: ten",
    "value is not below 10000000000: 10000000000",
]
LATE = [
    event(5, "sale", "0.01"),  # into a minute that has been read
    event(-30, "refund", "1"),  # into a minute that was unknown until then
    ROWS[0],  # delivered once more
]
FACTS_WITH_LATE = FACTS | {
    (NOON, "sale"): (4, Decimal("10.41")),
    (NOON - 60 * MINUTE, "refund"): (1, Decimal("1.00")),
}


class Project:
    """A copy of this project's sources, whose commands use this project's environment and the stores of the tests."""

    def __init__(self, folder: Path) -> None:
        self.folder = copy_to(folder)

    def files(self) -> dict[str, bytes]:
        paths = (path for path in self.folder.rglob("*") if path.is_file() and not set(path.parts) & set(NOT_COPIED))
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in paths}

    def run(self, *command: str, expected: int = 0) -> str:
        """The output of a command."""
        own = {
            name: value for name, value in os.environ.items() if name not in ("MAKEFLAGS", "MAKEOVERRIDES", "MFLAGS")
        }
        environment = own | {"PYTHONPATH": str(self.folder)}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True)
        assert done.returncode == expected, f"{done.returncode}: {done.stdout[-5000:]}\n{done.stderr[-5000:]}"
        return done.stdout + (done.stderr if command[0] == "make" else "")

    def python(self, *arguments: str, expected: int = 0) -> str:
        return self.run(sys.executable, *arguments, expected=expected)

    def run_code(self, code: str) -> str:
        """The output of Python code that has `pipeline` and `conn`, a connection of the etl account."""
        begin = (
            "from include import pipelines",
            "from include.warehouse.session import warehouse",
            f"pipeline = pipelines.get({NAME!r})",
            "with warehouse() as conn:",
        )
        return self.python("-c", "\n".join([*begin, *(f"    {line}" for line in code.splitlines())]))

    def import_rows(self, rows: list[dict[str, str]]) -> str:
        """Import these rows from a file; returns the output."""
        file = self.folder.parent / f"{len(rows)}.csv"
        with file.open("w", newline="") as lines:
            writer = csv.DictWriter(lines, HEADER)
            writer.writeheader()
            writer.writerows(rows)
        return self.python("-m", "include.cli", "import", "--pipeline", NAME, str(file))

    def verify(self, *, expected: int = 0) -> dict:
        """The report of verify for the new pipeline, as JSON."""
        as_if_settled()
        text = self.python(*("-m", "include.cli", "verify", NAME, "--patience", "30", "--json"), expected=expected)
        return json.loads(text)["pipelines"][NAME]


@pytest.fixture(scope="module")
def project(schemas: None, stores: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Project]:
    """The copy; the keyspace that its pipeline created in the lake is dropped at the end."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MINUTEMARK_SPARK_JARS", str(Path(installation.spark_jars()[0]).parent))
        patch.setenv("MINUTEMARK_SPARK_ARCHIVE", str(installation.archive()))
        yield Project(tmp_path_factory.mktemp("copy") / "project")
    admin = json.loads(stores[connections.variable("lake_admin")])
    cluster, session = cassandra.connect(admin["port"], admin["login"], admin["password"])
    session.execute(f"DROP KEYSPACE IF EXISTS {NAME}_lake")
    cluster.shutdown()


@pytest.fixture(scope="module")
def worker(project: Project, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Airflow]:
    """An Airflow that knows the DAGs of the copy."""
    running = Airflow(tmp_path_factory.mktemp("copys-airflow"), project.folder)
    yield running
    running.stop()


def facts() -> dict:
    records = query(f"SELECT hour, kind, events, value_sum FROM {NAME}.events_hourly")
    return {(hour, kind): (events, total) for hour, kind, events, total in records}


def ledger() -> dict:
    records = query(
        "SELECT minute, raw_rows, counted_rows, ignored_rows, rejected_rows, ignored_by_kind FROM etl.minute_ledger "
        "WHERE pipeline = %(name)s",
        name=NAME,
    )
    return {minute: (*numbers, json.loads(kinds or "{}")) for minute, *numbers, kinds in records}


def test_the_command_adds_files_and_changes_none(project: Project) -> None:
    before = project.files()
    text = project.run("make", "pipeline", f"NAME={NAME}", f"VENV={Path(sys.executable).parent}")
    after = project.files()
    added = {name for name in after if name not in before}
    assert {name: after[name] for name in before} == before
    assert added == {str(path).replace("skeleton", NAME) for path in skeleton_files()}
    assert "What to do next" in text and all(name in text for name in added)


def skeleton_files() -> list[Path]:
    sources = new_pipeline.SKELETON.rglob("*")
    return [path.relative_to(new_pipeline.SKELETON) for path in sources if path.suffix in (".py", ".cql", ".sql")]


def test_the_same_name_again_is_refused(project: Project) -> None:
    before = project.files()
    project.run("make", "pipeline", f"NAME={NAME}", f"VENV={Path(sys.executable).parent}", expected=2)
    assert project.files() == before


def test_the_projects_own_rules_for_pipelines_hold(project: Project) -> None:
    rules = ("tests/pipelines", "tests/warehouse/test_sql_portability.py", "tests/dags/test_minute_dag.py")
    text = project.python("-m", "pytest", "-q", "-p", "no:cacheprovider", *rules)
    assert "passed" in text and "skipped" not in text


def test_rows_become_the_facts_calculated_by_hand(project: Project, worker: Airflow) -> None:
    for _ in range(2):  # it changes nothing the second time
        project.python("-c", "from include.operations.setup import set_up; set_up()")
    assert f"{len(ROWS)} rows written" in project.import_rows(ROWS)
    run = worker.run(f"{NAME}_minute").must_succeed()
    assert run.tasks == dict.fromkeys(CHAIN, "success")
    assert (facts(), ledger()) == (FACTS, LEDGER)
    reasons = query("SELECT reason FROM etl.rejected_events WHERE pipeline = %(name)s ORDER BY reason", name=NAME)
    assert [reason for (reason,) in reasons] == REASONS


def test_late_rows_count_once_however_often_they_are_delivered(project: Project, worker: Airflow) -> None:
    project.import_rows(LATE)
    as_if_settled()
    worker.run(f"{NAME}_minute").must_succeed()
    assert facts() == FACTS_WITH_LATE
    project.import_rows(LATE)
    as_if_settled()
    worker.run(f"{NAME}_minute").must_succeed()
    assert facts() == FACTS_WITH_LATE


def test_verify_is_clean_and_finds_a_change_made_by_hand(project: Project, worker: Airflow) -> None:
    totals = project.verify()["totals"]
    assert (totals["minutes"], totals["lake_rows"], totals["facts"], totals["differences"]) == (3, 15, 4, 0)
    change(
        f"UPDATE {NAME}.events_hourly SET value_sum = value_sum + 0.01 WHERE kind = 'sale' AND HOUR(hour) = 12",
        f"DELETE FROM {NAME}.events_by_minute WHERE kind = 'refund' AND HOUR(hour) = 11",
    )
    result = {difference["kind"]: difference["count"] for difference in project.verify(expected=1)["differences"]}
    assert result == {"minutes_events_counts": 1, "facts_events_hourly": 2}
    conf = {"from": text(NOON - MINUTE), "to": text(NOON + 2 * MINUTE)}
    worker.run(f"{NAME}_minute", conf=conf).must_succeed()
    assert facts() == FACTS_WITH_LATE
    assert project.verify()["differences"] == []


def test_the_reconcile_dag_reprocesses_an_hour_and_changes_nothing(worker: Airflow) -> None:
    before = ledger()
    hour = [f"{at:%Y-%m-%dT%H:%M:%S}+00:00" for at in (NOON, NOON + 60 * MINUTE)]
    worker.run(f"{NAME}_reconcile", interval=hour).must_succeed()
    assert facts() == FACTS_WITH_LATE
    assert {minute: row for minute, row in ledger().items() if minute in before} == before


def test_old_hours_are_folded_and_touched_keys_are_deleted(project: Project) -> None:
    as_if_settled()
    change(
        f"UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 3 DAY WHERE pipeline = '{NAME}'",
        f"UPDATE etl.batches SET opened_at = opened_at - INTERVAL 3 DAY WHERE pipeline = '{NAME}'",
    )
    folded = project.run_code(
        "from datetime import datetime, timedelta\n"
        "from include.housekeeping import expired, folding\n"
        "print(folding.fold(conn, pipeline, datetime(2027, 1, 1), timedelta(days=90)))\n"
        "print(expired.remove_of_pipeline(conn, pipeline) > 0)"
    )
    assert folded.split() == ["1", "True"]
    assert query(f"SELECT DISTINCT minute FROM {NAME}.events_by_minute WHERE minute >= %(noon)s", noon=NOON) == [
        (NOON,)
    ]
    assert facts() == FACTS_WITH_LATE
    assert project.verify()["differences"] == []


def test_demo_traffic_is_counted_ignored_and_rejected(project: Project, worker: Airflow) -> None:
    before = [sum(numbers) for numbers in zip(*(row[:4] for row in ledger().values()), strict=True)]
    text = project.run_code(
        "from datetime import UTC, datetime, timedelta\n"
        "from include.demo.traffic import import_demo_dimensions, run_traffic\n"
        "assert import_demo_dimensions(pipeline) == 0\n"
        "until = datetime.now(UTC).replace(tzinfo=None) + timedelta(seconds=5)\n"
        "sent = run_traffic(pipeline, events=60, seconds=1, broken=0.1, duplicate=0.1, late=0, until=until, seed=7)\n"
        "print(sent.events, sent.broken)"
    )
    sent, broken = map(int, text.split())
    worker.run(f"{NAME}_minute").must_succeed()
    after = [sum(numbers) for numbers in zip(*(row[:4] for row in ledger().values()), strict=True)]
    raw, counted, ignored, rejected = (now - then for now, then in zip(after, before, strict=True))
    assert (sent, raw, rejected) == (60, 60, broken)
    assert min(counted, ignored, rejected) > 0
    assert project.verify()["differences"] == []
    assert count(f"{NAME}.events_staged") == 0
