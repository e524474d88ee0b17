"""A throw-away stack, the traffic that is sent to it, and what must be true after every fault."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import random
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
from confluent_kafka import TopicPartition
from confluent_kafka.admin import NewPartitions

from include import pipelines
from include.demo import recruitment as demo
from include.demo.traffic import demo_of, import_demo_dimensions
from include.files.imports import import_dimension, import_events
from include.kafka import clients, topics
from include.kafka.dead_letters import with_dead_letters
from include.kafka.ingest_mode import DEAD_LETTERS, group_of, ingest_mode
from include.kafka.producer import producer
from include.lake import change_log, keys
from include.lake.presence import Presence
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.pipelines import Pipeline
from include.spark import warm_start
from include.verify.verify import run_verify
from include.warehouse.session import warehouse
from local import layout, signals, start, supervisor
from local.airflow_api import Airflow
from tests.e2e import comparison, runs, shop_comparison

RECRUITMENT, SHOP = pipelines.get("recruitment"), pipelines.get("ecommerce")
DAG = "recruitment_minute"
BACK_WITHIN = 180  # seconds until everything that was sent is published
FIRST_WITHIN = 600  # the same for the first events on a cluster, where every worker starts its Spark application
STAGING = ("etl.staged_counts", "etl.staged_rejects", "recruitment.events_staged", "ecommerce.operations_staged")


class GuaranteeBroken(AssertionError):
    """A guarantee that did not hold."""


class CannotInject(Exception):
    """This machine does not allow the fault; the message says why."""


class System:
    """The running stack, and every event that was acknowledged to its producers."""

    def __init__(self, stack: start.Stack, seed: int) -> None:
        self.stack = stack
        self.airflow: Airflow = stack.airflow
        self.rng = random.Random(seed)
        self.sent: list[dict[str, str | None]] = []
        self.sent_to_shop: list[dict[str, str | None]] = []
        self.warehouse_data = layout.DATA / stack.warehouse
        self._dag_ids: dict[str, str] = {}  # by run id
        self._sequence = 0
        self._days_back = 0
        self._lock = threading.Lock()  # guards what is sent: traffic has its own thread
        self.quiet = threading.RLock()  # traffic stops while a scenario holds it
        import_demo_dimensions(RECRUITMENT)
        self._jobs = {row["id"]: row["company_id"] for row in demo.dimension_rows()["job"]}

    # Producers

    def events(
        self,
        count: int,
        *,
        at: datetime | None = None,
        spread: float = 5.0,
        rng: random.Random | None = None,
        pipeline: Pipeline = RECRUITMENT,
    ) -> list[dict[str, str | None]]:
        """Rows of a busy site in the `spread` seconds before `at` (UTC, default now), each with its own id."""
        at, rng = at or now(), rng or self.rng
        times = sorted(at - timedelta(seconds=rng.uniform(0, spread)) for _ in range(count))
        return [{"create_time": self.event_id(time), **demo_of(pipeline).event(rng, time)} for time in times]

    def event_id(self, time: datetime) -> str:
        """A unique time-UUID of that time."""
        with self._lock:
            self._sequence += 1
            number = self._sequence
        ticks = (time - keys.GREGORIAN_EPOCH) // timedelta(microseconds=1) * 10
        fields = (ticks & 0xFFFFFFFF, (ticks >> 32) & 0xFFFF, (ticks >> 48) & 0x0FFF, 0, 0, (1 << 40) + number)
        return str(uuid.UUID(fields=fields, version=1))

    def send(
        self,
        rows: Sequence[Mapping[str, str | None]],
        *,
        by_topic: bool = False,
        by_file: bool = False,
        partition: int | None = None,
        pipeline: Pipeline = RECRUITMENT,
    ) -> None:
        """Write rows as a producer does, and retry until the lake or the topic has them. Then they count as sent.

        With `by_topic`, each row goes to the partition of its shard, or all go to `partition`. With `by_file`, they are
        imported.
        """
        events = runs.as_events(rows)
        deadline = time.monotonic() + BACK_WITHIN
        while True:
            try:
                if by_file:
                    with tempfile.TemporaryDirectory() as folder:
                        file = Path(folder) / "events.jsonl"
                        file.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
                        import_events(pipeline, file)
                elif by_topic:
                    with producer(pipeline) as topic:
                        if partition is None:
                            topic.write(events)
                        for event in () if partition is None else events:
                            topic.send(
                                json.dumps({**event.values, "create_time": str(event.create_time)}).encode(), partition
                            )
                else:
                    with lake("lake_writer") as session:
                        EventWriter(session, pipeline).write(events)
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)  # a producer's back-off
        with self._lock:
            sent = self.sent if pipeline == RECRUITMENT else self.sent_to_shop
            sent += [dict(row) for row in rows]

    def visit_shop(self, count: int) -> None:
        """Write events of the second pipeline, just before now."""
        self.send(self.events(count, pipeline=SHOP), pipeline=SHOP)

    def correct(self, row: Mapping[str, str | None], *, by_topic: bool = False) -> None:
        """Send another version of a row; from then on it counts instead of the earlier one."""
        with self._lock:
            self.sent = [earlier for earlier in self.sent if earlier["create_time"] != row["create_time"]]
        self.send([row], by_topic=by_topic)

    def replace(self, sent: Sequence[Mapping], rows: Sequence[Mapping[str, str | None]]) -> None:
        """Send `rows` by topic; they replace the rows `sent`, which have the same ids."""
        ids = {row["create_time"] for row in sent}
        with self._lock:
            self.sent = [earlier for earlier in self.sent if earlier["create_time"] not in ids]
        self.send(rows, by_topic=True)

    def other_day(self) -> datetime:
        """Noon of a day without events, two days before the day of the last call."""
        self._days_back += 2
        return now().replace(hour=12, minute=0, second=30, microsecond=0) - timedelta(days=self._days_back)

    def send_and_remove(self, count: int) -> None:
        """Send events to partition 0 and have retention remove them; they do not count as sent."""
        with producer(RECRUITMENT) as topic:
            for row in self.events(count):
                topic.send(json.dumps(row).encode(), partition=0)
        client = clients.admin()  # kept alive until the answer arrives
        for done in client.delete_records([TopicPartition(RECRUITMENT.topic, 0, -1)]).values():
            done.result(timeout=30)

    @staticmethod
    def add_partition() -> int:
        """Add a partition to the topic; returns its number."""
        client = clients.admin()
        number = len(client.list_topics(RECRUITMENT.topic, timeout=30).topics[RECRUITMENT.topic].partitions)
        client.create_partitions([NewPartitions(RECRUITMENT.topic, number + 1)])[RECRUITMENT.topic].result(30)
        return number

    @staticmethod
    def are_in_lake(rows: Sequence[Mapping[str, str | None]]) -> bool:
        """Whether the lake has all these rows."""
        with lake("lake_reader") as session:
            return not list(Presence(session, RECRUITMENT).absent(runs.as_events(rows)))

    @staticmethod
    def send_poison() -> None:
        """Send a message that is not an event."""
        with producer(RECRUITMENT) as topic:
            topic.send(b'{"create_time": "2026-', partition=0)

    @contextlib.contextmanager
    def traffic(self, events: int = 5) -> Iterator[None]:
        """Send some events of each pipeline every second during the block; those that a store refuses are sent again."""
        rng = random.Random(self.rng.random())

        def send() -> None:
            with self.quiet:
                for pipeline in (RECRUITMENT, SHOP):
                    self.send(self.events(events, spread=1.0, rng=rng, pipeline=pipeline), pipeline=pipeline)

        with meanwhile(1, send):
            yield

    def change_jobs(self) -> None:
        """Import the jobs again, with another company for every third job."""
        rows = demo.dimension_rows()["job"]
        for row in rows[::3]:
            row["company_id"] = self._jobs[row["id"]] + 100
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "job.csv"
            with file.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, list(rows[0]))
                writer.writeheader()
                writer.writerows(rows)
            import_dimension("job", file)
        self._jobs = {row["id"]: row["company_id"] for row in rows}

    def drop_from_lake(self, row: Mapping[str, str | None]) -> None:
        """Delete a row by hand, and touch its minute."""
        event = runs.as_events([row])[0]
        minute, shard = keys.minute_of(event.create_time), keys.shard_of(row["create_time"], RECRUITMENT.shards)
        with lake("lake_admin") as session:
            session.execute(
                f"DELETE FROM {RECRUITMENT.lake_table} WHERE minute = %s AND shard = %s AND create_time = %s",
                (minute, shard, event.create_time),
            )
        with lake("lake_writer") as session:
            change_log.touch(session, RECRUITMENT.lake_table, [minute])

    # Runs

    def trigger(self, dag_id: str = DAG, **conf: object) -> str:
        """Trigger a run now; scheduled runs continue alongside it."""
        run_id = self.airflow.trigger(dag_id, "Fault injection", conf)
        self._dag_ids[run_id] = dag_id
        return run_id

    def waiting_run(self) -> str:
        """Wait for a scheduled run that has found nothing and waits in the triggerer; returns its id."""

        def find() -> str | None:
            run_ids = (run["dag_run_id"] for run in self.airflow.runs(DAG) if run["state"] == "running")
            return next((run_id for run_id in run_ids if self.airflow.tasks(DAG, run_id, "deferred")), None)

        run_id = self.until(find, "a run that waits", 90, every=0.5)
        self._dag_ids[run_id] = DAG
        return run_id

    def run(self, **conf: object) -> str:
        """Trigger a run and wait for its end; returns its state."""
        return self.wait_for_end(self.trigger(**conf))

    def wait_for_end(self, run_id: str, seconds: float = BACK_WITHIN) -> str:
        """Wait for the end of a run; returns its state."""
        return self.until(lambda: self._final_state(run_id), f"run {run_id} to end", seconds, every=0.5)

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Pause the minute DAG until exit."""
        self.airflow.pause(DAG)
        try:
            yield
        finally:
            self.airflow.unpause(DAG)

    def has_failed_try(self, run_id: str) -> bool:
        """Whether a task of the run has failed, even if it will be retried."""
        return bool(self.airflow.tasks(self._dag_ids[run_id], run_id, "failed", "up_for_retry"))

    def has_active_task(self, dag_id: str) -> bool:
        """Whether a task of the DAG's newest runs is queued or running."""
        run_ids = (run["dag_run_id"] for run in self.airflow.runs(dag_id) if run["state"] == "running")
        return any(self.airflow.tasks(dag_id, run_id, "queued", "running") for run_id in run_ids)

    def _final_state(self, run_id: str) -> str | None:
        """The state of the run; None if it has not ended."""
        state = self.airflow.run_state(self._dag_ids.get(run_id, DAG), run_id)
        return state if state in ("success", "failed") else None

    @staticmethod
    def until(condition: Callable[[], object], what: str, seconds: float = 60, every: float = 0.2):
        """Wait for the first true result of `condition`. Errors count as false: a store or an API may be down.

        Poll rarely if the exact moment does not matter: polls take CPU from the stack.
        """
        deadline, last = time.monotonic() + seconds, None
        while time.monotonic() < deadline:
            try:
                if result := condition():
                    return result
            except Exception as error:  # a store may be down on purpose
                last = error
            time.sleep(every)
        raise GuaranteeBroken(f"waited {seconds:.0f} s in vain for {what}" + (f" ({last})" if last else ""))

    @contextlib.contextmanager
    def followed_topic(self, pipeline: Pipeline = RECRUITMENT) -> Iterator[None]:
        """Follow the topic during the block, and then to its end."""
        follower = f"{pipeline.name}_ingest"
        self.airflow.unpause(follower)
        try:
            yield
            what = "the sent messages to be consumed"
            self.until(lambda: self.topic_is_consumed(pipeline), what, BACK_WITHIN, every=0.5)
        finally:
            self.airflow.pause(follower)

    @staticmethod
    def topic_is_consumed(pipeline: Pipeline = RECRUITMENT) -> bool:
        """Whether nothing waits in the topic."""
        ranges = topics.offset_ranges(pipeline, group_of(pipeline.name, ingest_mode()))
        return not any(offsets.waiting for offsets in ranges.values())

    @staticmethod
    def dead_letters_are_consumed() -> bool:
        """Whether nothing waits in the dead-letter topic."""
        ranges = topics.offset_ranges(with_dead_letters(RECRUITMENT), group_of(RECRUITMENT.name, DEAD_LETTERS))
        return not any(offsets.waiting for offsets in ranges.values())

    # Processes

    @staticmethod
    def programs(kind: str) -> list[str]:
        """The names of the stack's programs of that kind: a cluster has several."""
        return sorted(
            process["name"] for process in supervisor.processes() if supervisor.kind_of(process["name"]) == kind
        )

    def program(self, name: str) -> psutil.Process:
        """The process of a program of the stack, or of a random program of that kind."""
        chosen = self.rng.choice(self.programs(name) or [name])
        info = self.until(
            lambda: next(
                (process for process in supervisor.processes() if process["name"] == chosen and process["pid"]), None
            ),
            chosen,
        )
        return psutil.Process(info["pid"])

    def kill(self, name: str) -> psutil.Process:
        """Send SIGKILL to a program, or a random one of that kind, and to its children; the supervisor restarts it."""
        process = self.program(name)
        kill_with_children(process)
        return process

    def driver_of_transform(self) -> tuple[str, psutil.Process]:
        """A run whose transform is active, and the JVM of its Spark driver, as soon as there is one.

        Each worker of a cluster has a driver. A task's driver keeps its files in the temporary folder of its worker.
        """

        def find() -> tuple[str, psutil.Process] | None:
            task = self.airflow.running_task(DAG, "transform_delta")
            if task is None:
                return None
            run_id, pid = task
            folder = psutil.Process(pid).environ().get("TMPDIR", "/")
            drivers = (process for process in supervisor.spark_drivers() if _keeps_files_under(process, folder))
            return next(((run_id, driver) for driver in drivers), None)

        return self.until(find, "a transform with a Spark driver", 90, every=0.1)

    @staticmethod
    def kill_drivers() -> list[psutil.Process]:
        """Send SIGKILL to every Spark driver, since only one of several has the job. Returns the killed ones."""
        drivers = supervisor.spark_drivers()
        for driver in drivers:
            with contextlib.suppress(psutil.NoSuchProcess):
                driver.kill()
        return drivers

    def follower(self) -> psutil.Process:
        """Wait for a task that follows the topic: a process with connections to the broker and to the lake."""
        return self.until(lambda: next(iter(self._followers()), None), "a task that follows the topic", 90, every=0.2)

    def lone_follower(self) -> psutil.Process:
        """Wait for a follower without a successor, 5 to 35 s after a full minute: then none is about to start."""

        def find() -> psutil.Process | None:
            followers = self._followers()
            return followers[0] if len(followers) == 1 and 5 <= now().second < 35 else None

        return self.until(find, "a task that follows the topic alone", 150, every=0.2)

    def _followers(self) -> list[psutil.Process]:
        def talking_to(kind: str) -> set[int]:
            connections, ports = psutil.net_connections("tcp"), self.stack.ports_of(kind)
            return {
                connection.pid
                for connection in connections
                if connection.raddr and connection.raddr.port in ports and connection.pid
            }

        servers = {process["pid"] for process in supervisor.processes()}
        pids = talking_to(start.KAFKA) & talking_to(start.CASSANDRA) - {os.getpid()} - servers
        return [psutil.Process(pid) for pid in sorted(pids)]

    @contextlib.contextmanager
    def driver_killed_whenever_it_reads(self, minute: datetime) -> Iterator[None]:
        """Kill every Spark driver while a batch with that minute is open."""
        open_with_it = (
            "etl.batches AS b JOIN etl.batch_minutes AS m ON m.batch_id = b.batch_id "
            f"WHERE b.state = 'open' AND m.minute = '{minute}'"
        )

        def kill() -> None:
            if runs.count(open_with_it):
                self.kill_drivers()

        with meanwhile(0.2, kill):
            yield

    def session_of_etl(self, text: str, state: str = "") -> psutil.Process:
        """The process behind the session of account etl whose statement contains `text`, and whose state contains `state`."""

        def find() -> psutil.Process | None:
            cursor.execute(
                "SELECT host FROM information_schema.PROCESSLIST WHERE user = 'etl' AND info LIKE %s AND state LIKE %s",
                (f"%{text}%", f"%{state}%"),
            )
            row = cursor.fetchone()
            return row and process_at(int(row[0].rpartition(":")[2]))

        with self.admin() as cursor:
            return self.until(find, f"a session with {text}", every=0.02)

    @staticmethod
    def suspend(task: psutil.Process) -> contextlib.ExitStack:
        """Suspend a task and its Airflow supervisor, so that heartbeats end; closing the returned stack resumes both."""
        resumed = contextlib.ExitStack()
        for process in (task, *(parent for parent in task.parents()[:1] if "airflow" in " ".join(parent.cmdline()))):
            process.suspend()
            resumed.callback(resume, process)
        return resumed

    @contextlib.contextmanager
    def admin(self) -> Iterator:
        """A cursor of the warehouse's administrator; its locks are released at exit."""
        with warehouse("warehouse_admin") as conn:
            yield conn.cursor()

    @contextlib.contextmanager
    def locked(self, statement: str) -> Iterator[None]:
        """Hold a lock in the warehouse during the block, so that a step stops exactly there."""
        with self.admin() as cursor:
            cursor.execute(statement)
            if cursor.description:
                cursor.fetchall()
            yield

    # What must be true

    def must_be_right(self, within: float = BACK_WITHIN) -> None:
        """Check that all sent events are published exactly once and in time, and nothing is left over. Raises GuaranteeBroken."""
        with self.quiet:
            self._must_catch_up(within)
            self._must_equal_reference()
            self._must_be_tidy()

    def _must_catch_up(self, within: float) -> None:
        began = time.monotonic()
        while True:
            left = within - (time.monotonic() - began)
            self.until(self._is_idle, "open batches to end", max(left, 1))
            runs.as_if_settled()
            behind = self.until(lambda: (self._pipelines_behind(),), "the lake's change log", max(left, 1))[0]
            if not behind:
                return
            if left < 0:
                raise GuaranteeBroken(f"minutes of {', '.join(behind)} are still pending after {within:.0f} s")
            for name in behind:
                self.wait_for_end(self.trigger(f"{name}_minute"), within)

    def _must_equal_reference(self) -> None:
        try:
            comparison.must_equal_reference(self.sent, self._jobs)
            shop_comparison.must_equal_reference(self.sent_to_shop)
            comparison.must_conserve_rows()
        except AssertionError as error:
            raise GuaranteeBroken(
                f"the warehouse differs from the events that were sent: {str(error)[:1500]}"
            ) from None
        report = run_verify(None, None, None, patience=0)
        if not report.clean:
            raise GuaranteeBroken(f"verify finds differences: {str(report)[:1500]}")
        if empty := [part.pipeline for part in report.pipelines if not part.totals["lake_rows"]]:
            raise GuaranteeBroken(f"verify of {', '.join(empty)} found no rows in the lake")

    @staticmethod
    def _is_idle() -> bool:
        return runs.count("etl.batches WHERE state = 'open'") == 0

    @staticmethod
    def _pipelines_behind() -> list[str]:
        """The pipelines with pending minutes, or with a touch in the lake that the ledger does not know: a minute that was
        merged may have been touched since.
        """
        seen = {
            (name, minute): (str(changed), pending)
            for name, minute, changed, pending in runs.query(
                "SELECT pipeline, minute, seen_changed_at, pending FROM etl.minute_ledger"
            )
        }
        behind = {name for (name, _), (_, pending) in seen.items() if pending}
        with lake("lake_reader") as session:
            for pipeline in pipelines.all_pipelines().values():
                for day in change_log.changed_days(session, pipeline.lake_table):
                    for minute, changed in change_log.minutes_of_day(session, pipeline.lake_table, day).items():
                        if seen.get((pipeline.name, minute), ("", 0))[0] != str(changed):
                            behind.add(pipeline.name)
        return sorted(behind)

    def _must_be_tidy(self) -> None:
        left = {table: runs.count(table) for table in STAGING}
        if any(left.values()):
            raise GuaranteeBroken(f"staging is not empty: {left}")
        places = self.stack.temporary_folders()
        folders = [path.name for place in places for path in place.glob("minutemark-spark-job-*")]
        if folders:
            raise GuaranteeBroken(f"folders of jobs are left: {folders}")


@contextlib.contextmanager
def meanwhile(every: float, do: Callable[[], None]) -> Iterator[None]:
    """Call `do` in a thread every `every` seconds. Raises GuaranteeBroken if a call failed: the scenario was then incomplete."""
    stop, errors = threading.Event(), []

    def repeat() -> None:
        try:
            while not stop.wait(every):
                do()
        except Exception as error:  # any error fails the scenario
            errors.append(error)

    thread = threading.Thread(target=repeat, daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(BACK_WITHIN)
    if errors or thread.is_alive():
        raise GuaranteeBroken(f"the action that had to continue during the scenario did not: {errors or 'it hangs'}")


def kill_with_children(parent: psutil.Process) -> None:
    """Send SIGKILL to a process and to all its descendants."""
    for process in (*parent.children(recursive=True), parent):
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()


def _keeps_files_under(driver: psutil.Process, folder: str) -> bool:
    """Whether the driver keeps its files under that folder."""
    return Path(driver.environ().get("SPARK_LOCAL_DIRS", "/")).is_relative_to(folder)


def resume(process: psutil.Process) -> None:
    """Resume a process unless it is gone."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.resume()


def process_at(port: int) -> psutil.Process | None:
    """The process whose connection comes from that loopback port."""
    for connection in psutil.net_connections("tcp"):
        if connection.laddr and connection.laddr.port == port and connection.pid:
            return psutil.Process(connection.pid)
    return None


def now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)


@contextlib.contextmanager
def running_system(seed: int, make_stack: Callable[[], start.Stack] = start.Stack) -> Iterator[System]:
    """Start a stack, and stop it at the end. The environment names the folder of its state: see __main__."""
    try:
        warm_start.main()  # as `make run` does: a third of the scenarios start a driver
        stack = start.run(make_stack)
        stack.airflow.unpause("recruitment_reconcile")
        # An ingest DAG starts a task each minute, so it runs only in the scenarios that need it.
        for pipeline in pipelines.all_pipelines():
            stack.airflow.pause(f"{pipeline}_ingest")
        yield System(stack, seed)
    finally:
        signals.ignore_signals()  # the command is about to end
        supervisor.shut_down()
