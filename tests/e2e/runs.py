"""Runs of Airflow for the tests, and what they read from the stores."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
import subprocess
import sys
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, Any

from include import pipelines
from include.lake.session import lake
from include.lake.writer import Event, EventWriter
from include.warehouse.session import warehouse

PROJECT = Path(__file__).resolve().parents[2]
RECRUITMENT = pipelines.get("recruitment")
CHAIN = ("wait_for_changes", "transform_delta", "check_staging", "merge_into_warehouse", "check_warehouse")
MAX_RUNS = 10  # in one catch-up


@dataclass(frozen=True)
class Run:
    """How a DAG run ended."""

    run_id: str
    state: str
    tasks: dict[str, str]
    log: str = field(repr=False)  # of this run only

    def must_succeed(self) -> Run:
        assert self.state == "success", f"{self.tasks}\n{self.log[-20_000:]}"
        return self


class Airflow:
    """A worker with a separate Airflow home. It uses the connections of the environment and the DAGs of the project."""

    def __init__(self, home: Path, project: Path = PROJECT, settings: Mapping[str, str] | None = None) -> None:
        self._home = home
        self._project = project
        self._log = home / "worker.log"
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW__")},
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(project / "dags"),
            "AIRFLOW__CORE__PLUGINS_FOLDER": str(project / "plugins"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
            "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
            "PYTHONPATH": str(project),
            "TMPDIR": str(home),  # where the warm Spark driver has its files
            **(settings or {}),
        }
        command = [sys.executable, "-m", "tests.e2e.worker"]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command,
                cwd=project,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._requests: IO[str] = self._process.stdin
        self._answers: IO[str] = self._process.stdout

    def run(self, dag_id: str = "recruitment_minute", **options: Any) -> Run:
        """Run the DAG to its end; see tests/e2e/worker.py for the options."""
        begin = self._log.stat().st_size
        self._requests.write(json.dumps({"dag_id": dag_id, **options}) + "\n")
        self._requests.flush()
        answer = self._answers.readline()
        log = self._log.read_bytes()[begin:].decode(errors="replace")
        if not answer:
            raise RuntimeError(f"Airflow's worker ended while it ran {dag_id} with {options}:\n{log[-20_000:]}")
        return Run(**json.loads(answer), log=log)

    def catch_up(self, **conf: Any) -> list[Run]:
        """Run until no minute is pending; minutes that were touched just before their read are not read again."""
        done = []
        while not done or count("etl.minute_ledger WHERE pending = 1"):
            assert len(done) < MAX_RUNS, f"Minutes are still pending after {MAX_RUNS} runs."
            done.append(self.run(conf=conf).must_succeed())
            as_if_settled()
        return done

    def xcom(self, run: Run, key: str) -> Any:
        """The value that a task of the run pushed to XCom under this key."""
        with contextlib.closing(sqlite3.connect(self._home / "airflow.db")) as conn:
            [(value,)] = conn.execute("SELECT value FROM xcom WHERE run_id = ? AND key = ?", (run.run_id, key))
        return json.loads(value)

    def set_state(self, run: Run, task_id: str, state: str) -> None:
        """Set the state of a task of the run in Airflow's database."""
        with contextlib.closing(sqlite3.connect(self._home / "airflow.db")) as conn, conn:
            conn.execute(
                "UPDATE task_instance SET state = ? WHERE run_id = ? AND task_id = ?", (state, run.run_id, task_id)
            )

    def stop(self) -> None:
        self._requests.close()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._answers.close()
        code = "from tests.warm_drivers import end_warm_drivers; end_warm_drivers()"
        environment = {**os.environ, "TMPDIR": str(self._home)}
        subprocess.run([sys.executable, "-c", code], cwd=PROJECT, env=environment, check=True)


def as_events(rows: Iterable[Mapping[str, str | None]]) -> list[Event]:
    """Raw rows as the lake's writer takes them."""
    return [
        Event(uuid.UUID(row["create_time"]), {name: text for name, text in row.items() if name != "create_time"})
        for row in rows
    ]


def write(rows: Iterable[Mapping[str, str | None]]) -> None:
    """Write raw rows into the lake as a producer does."""
    with lake("lake_writer") as session:
        EventWriter(session, RECRUITMENT).write(as_events(rows))


def as_if_settled() -> None:
    """Act as if every read had settled: then a minute is pending only if it was touched after its read."""
    change("UPDATE etl.minute_ledger SET settled_before = seen_changed_time WHERE settled_before < seen_changed_time")


def query(sql: str, **values: Any) -> list[tuple]:
    """The rows of a SELECT, as the pipeline's own account sees them."""
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute(sql, values)
        return list(cursor.fetchall())


def change(*statements: str) -> None:
    """Change the warehouse by hand; the pipeline does not notice."""
    with warehouse() as conn:
        for statement in statements:
            conn.cursor().execute(statement)
        conn.commit()


def count(table: str) -> int:
    return query(f"SELECT COUNT(*) FROM {table}")[0][0]


def published() -> dict[str, list[tuple]]:
    """All that the pipeline has published, without times and batches: if two results are equal, nothing has changed."""
    tables = {
        "recruitment.events": "*",
        "recruitment.events_by_minute": "*",
        "etl.rejected_events": "pipeline, origin, origin_key, minute, reason, payload",
        "etl.minute_ledger": "minute, raw_rows, counted_rows, ignored_rows, rejected_rows, "
        "ignored_by_kind, id_checksum, newest_create_time, state",
    }
    return {table: sorted(query(f"SELECT {columns} FROM {table}"), key=repr) for table, columns in tables.items()}


def text(minute: datetime) -> str:
    """A minute in the format that a run's form accepts."""
    return minute.isoformat() + "Z"
