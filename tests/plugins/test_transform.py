"""The spark-submit step: attempts, secrets, and what remains after it is killed."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from datetime import UTC, datetime
from types import SimpleNamespace

import psutil
import pytest

from include import pipelines, planner
from include.connections import ConnectionMissing, Endpoint
from include.lake.session import lake
from include.warehouse import batches
from include.warehouse.batches import RunInfo
from include.warehouse.session import warehouse
from tests.airflow_home import PROJECT
from tests.warm_drivers import end_warm_drivers

PIPELINE = pipelines.get("recruitment")
ONE_MINUTE = {"start": datetime(2026, 11, 1, 10), "end": datetime(2026, 11, 1, 10, 1)}


@pytest.fixture
def batch_id(schemas) -> int:
    """An open batch of one empty minute."""
    with lake() as session, warehouse() as conn:
        run = RunInfo("test", f"test__{datetime.now(UTC)}", None, {"recover": True}, "manual")
        return planner.open_range(PIPELINE, session, conn, run, **ONE_MINUTE)


@pytest.fixture(autouse=True)
def own_drivers(monkeypatch, short_path):
    """Keep the drivers' files in the test's folder, and end the drivers with the test."""
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    yield
    ended = [psutil.Process(pid) for pid in end_warm_drivers() if psutil.pid_exists(pid)]
    psutil.wait_procs(ended, timeout=20)


@pytest.fixture(params=[True, False], ids=["warm driver", "new driver"])
def keep_driver(request, monkeypatch) -> bool:
    """Run the test with a warm driver, and with a new driver for each job."""
    connection = {"conn_type": "spark", "host": "local[2]", "extra": {"keep_driver": request.param}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    return request.param


def transform(batch_id: int):
    from plugins.transform import TransformDelta

    return TransformDelta(task_id="transform_delta", pipeline=PIPELINE.name, batch_id=str(batch_id))


def attempts(batch_id: int) -> tuple[int, int | None]:
    with warehouse() as conn:
        cursor = conn.cursor()
        cursor.execute("SELECT COUNT(*) FROM etl.attempts WHERE batch_id = %(batch_id)s", {"batch_id": batch_id})
        return cursor.fetchone()[0], batches.completed_attempt(conn, batch_id)


def started_processes() -> list[psutil.Process]:
    """The processes that this process has started, such as JVM and Python driver, without zombies."""
    result = psutil.Process().children(recursive=True)
    return [child for child in result if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def runs_the_job(child: psutil.Process, program: str = "") -> bool:
    """Whether a process runs the job; false if it has just ended."""
    with contextlib.suppress(psutil.Error):
        return "run.py" in " ".join(child.cmdline()) and program in child.name()
    return False


class Watch(threading.Thread):
    """Keeps the command lines of everything that this process starts."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.seen: set[str] = set()
        self.stopped = threading.Event()

    def run(self) -> None:
        while not self.stopped.wait(0.1):
            for child in started_processes():
                try:
                    self.seen.add(" ".join(child.cmdline()))
                except psutil.Error:
                    continue


def test_the_task_completes_an_attempt_and_shows_no_password(batch_id, keep_driver, capfd, caplog, short_path):
    caplog.set_level("DEBUG")
    watch = Watch()
    watch.start()
    task = transform(batch_id)
    task.execute({})
    watch.stopped.set()

    count, completed = attempts(batch_id)
    assert count == 1
    assert completed is not None
    passwords = [
        json.loads(os.environ[f"AIRFLOW_CONN_{name}"])["password"] for name in ("LAKE_READER", "WAREHOUSE_ETL")
    ]
    shown = "\n".join(
        [*watch.seen, caplog.text, *capfd.readouterr(), *(str(getattr(task, f)) for f in task.template_fields)]
    )
    assert any("include/spark/run.py" in line for line in watch.seen)
    assert not [password for password in passwords if password in shown]
    assert list(short_path.glob("minutemark-spark-job-*")) == []
    assert [child for child in started_processes() if runs_the_job(child)] == [] or keep_driver


def test_the_next_batch_uses_the_running_driver(batch_id):
    transform(batch_id).execute({})
    first = {child.pid for child in started_processes()}
    with warehouse() as conn:
        conn.cursor().execute("UPDATE etl.batches SET state = 'failed' WHERE batch_id = %(b)s", {"b": batch_id})
        conn.commit()
    with lake() as session, warehouse() as conn:
        run = RunInfo("test", "the next", None, {"recover": True}, "manual")
        second = planner.open_range(PIPELINE, session, conn, run, **ONE_MINUTE)
    transform(second).execute({})
    assert attempts(second)[1] is not None
    assert {child.pid for child in started_processes()} == first


def test_killing_the_task_kills_jvm_and_python_driver(batch_id, keep_driver):
    from airflow.sdk.exceptions import AirflowException

    task, errors = transform(batch_id), []

    def run() -> None:
        try:
            task.execute({})
        except AirflowException as error:
            errors.append(error)

    running = threading.Thread(target=run)
    running.start()
    until = time.monotonic() + 60
    while not any(runs_the_job(child, "python") for child in started_processes()):
        assert time.monotonic() < until, "the Python driver never started"
        time.sleep(0.2)
    task.on_kill()
    running.join(timeout=30)
    assert errors
    _, alive = psutil.wait_procs([child for child in started_processes() if runs_the_job(child)], timeout=20)
    assert alive == []


def test_a_driver_ends_with_its_killed_task():
    code = (
        "import subprocess, sys\n"
        "from include.spark.listener import end_with_parent\n"
        "child = subprocess.Popen(['sleep', '60'], preexec_fn=end_with_parent)\n"
        "print(child.pid, flush=True)\n"
        "child.wait()\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(PROJECT)}
    parent = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
    for line in parent.stdout:
        if line.strip().isdigit():
            break
    child = psutil.Process(int(line))
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    psutil.wait_procs([child], timeout=5)
    assert not child.is_running() or child.status() == psutil.STATUS_ZOMBIE


def test_a_merged_batch_is_left_alone(batch_id):
    with warehouse() as conn:
        conn.cursor().execute("UPDATE etl.batches SET state = 'merged' WHERE batch_id = %(b)s", {"b": batch_id})
        conn.commit()
    transform(batch_id).execute({})
    assert attempts(batch_id) == (0, None)


def test_a_failed_batch_is_refused_without_a_retry(batch_id):
    from airflow.sdk.exceptions import AirflowFailException

    with warehouse() as conn:
        conn.cursor().execute("UPDATE etl.batches SET state = 'failed' WHERE batch_id = %(b)s", {"b": batch_id})
        conn.commit()
    with pytest.raises(AirflowFailException, match="wait_for_changes"):
        transform(batch_id).execute({})


def test_a_missing_spark_connection_is_an_error_and_not_yarn(batch_id, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_SPARK_DEFAULT")
    with pytest.raises(ConnectionMissing, match="spark_default"):
        transform(batch_id).execute({})
    assert attempts(batch_id)[0] == 0


def test_a_connection_that_the_provider_refuses_is_the_reason_and_is_not_retried(batch_id, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    connection = {"conn_type": "spark", "host": "local[2]", "extra": {"spark-home": "/opt/spark"}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException, match=r"'spark_default' cannot be used: The `spark-home` extra"):
        transform(batch_id).execute({})
    with warehouse() as conn:
        assert "transform_delta: Connection 'spark_default'" in batches.get(conn, batch_id).reason


@pytest.mark.parametrize(
    ("extra", "remedy"),
    [
        ({}, "spark-submit was not found.* or install pyspark"),
        ({"spark-binary": "spark3-submit"}, "spark3-submit was not found.* correct extra `spark-binary`"),
    ],
)
def test_a_missing_spark_submit_is_the_reason_and_is_not_retried(
    batch_id, keep_driver, monkeypatch, tmp_path, extra, remedy
):
    from airflow.sdk.exceptions import AirflowFailException

    from plugins import spark_submit

    connection = {"conn_type": "spark", "host": "local[2]", "extra": {"keep_driver": keep_driver, **extra}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(spark_submit, "own_spark_submit", lambda: None)
    (tmp_path / "java").symlink_to(shutil.which("java"))
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AirflowFailException, match=remedy):
        transform(batch_id).execute({})
    with warehouse() as conn:
        assert re.search(f"transform_delta: {remedy}", batches.get(conn, batch_id).reason)


def test_missing_jars_are_the_reason_and_are_not_retried(batch_id, monkeypatch, tmp_path):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("MINUTEMARK_SPARK_JARS", str(tmp_path))
    with pytest.raises(AirflowFailException, match=f"no jars for Spark in {tmp_path}"):
        transform(batch_id).execute({})
    with warehouse() as conn:
        assert "transform_delta: There are no jars for Spark" in batches.get(conn, batch_id).reason


def test_a_reason_that_cannot_be_recorded_is_still_the_tasks_error_and_is_not_retried(batch_id, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    from include.spark import submission
    from include.spark.installation import CannotSubmit

    def refuse(*_: object, **__: object) -> None:
        set_read_only(1)
        raise CannotSubmit("There are no jars for Spark.")

    def set_read_only(value: int) -> None:
        with warehouse("warehouse_admin") as admin:
            admin.cursor().execute("SET GLOBAL read_only = %s", (value,))

    monkeypatch.setattr(submission, "prepare", refuse)
    try:
        with pytest.raises(AirflowFailException, match="There are no jars for Spark"):
            transform(batch_id).execute({})
    finally:
        set_read_only(0)
    with warehouse() as conn:
        assert batches.get(conn, batch_id).reason is None


def test_a_missing_java_is_reported_before_an_attempt_is_made(batch_id, monkeypatch):
    from airflow.sdk.exceptions import AirflowFailException

    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    with pytest.raises(AirflowFailException, match="JAVA_HOME is /nowhere"):
        transform(batch_id).execute({})
    assert attempts(batch_id)[0] == 0


def test_the_error_of_the_lake_is_the_reason_for_the_failure(batch_id, monkeypatch):
    from airflow.sdk.exceptions import AirflowException

    wrong = {**json.loads(os.environ["AIRFLOW_CONN_LAKE_READER"]), "password": "wrong"}
    monkeypatch.setenv("AIRFLOW_CONN_LAKE_READER", json.dumps(wrong))
    with pytest.raises(AirflowException, match="lake_reader"):
        transform(batch_id).execute({})
    with warehouse() as conn:
        assert "lake_reader" in batches.get(conn, batch_id).reason


def test_a_lake_table_of_another_layout_is_refused_without_a_retry(batch_id, keep_driver):
    from airflow.sdk.exceptions import AirflowFailException

    with lake("lake_admin") as session:
        session.execute("ALTER TABLE bedan.tracking RENAME create_time TO created")
    try:
        with pytest.raises(
            AirflowFailException,
            match=r"lacks create_time.*./minutemark import --pipeline recruitment --from bedan.tracking",
        ):
            transform(batch_id).execute({})
    finally:
        with lake("lake_admin") as session:
            session.execute("ALTER TABLE bedan.tracking RENAME created TO create_time")
    with warehouse() as conn:
        assert "lacks create_time" in batches.get(conn, batch_id).reason


@pytest.mark.parametrize("value", ["five minutes", "nan", -1, 21_601, None, True])
def test_an_idle_time_out_of_range_is_refused_with_the_range(value) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from plugins.transform import idle_seconds_of

    with pytest.raises(AirflowFailException, match=rf"driver_idle_seconds is {value!r}.* from 0 to 21600\."):
        idle_seconds_of(Endpoint("spark_default", "spark", "local[2]", None, extra={"driver_idle_seconds": value}))


@pytest.mark.parametrize(("value", "seconds"), [(0, 0), ("120", 120), (21_600, 21_600)])
def test_an_idle_time_may_be_zero_or_the_maximum_age_of_a_driver(value, seconds: float) -> None:
    from plugins.transform import idle_seconds_of

    assert (
        idle_seconds_of(Endpoint("spark_default", "spark", "local[2]", None, extra={"driver_idle_seconds": value}))
        == seconds
    )


def test_a_warm_driver_has_no_variable_of_its_first_task(monkeypatch) -> None:
    from plugins import spark_submit

    names = ("_AIRFLOW_PARSING_CONTEXT_DAG_ID", "_AIRFLOW_PARSING_CONTEXT_TASK_ID")
    for name in names:
        monkeypatch.setenv(name, "recruitment_minute")
    environments: list[dict[str, str]] = []

    class Driver(contextlib.nullcontext):
        def __init__(self, key, command, environment) -> None:
            super().__init__(self)
            environments.append(environment)

        def run(self, job, log_line) -> int:
            return 0

    monkeypatch.setattr(spark_submit, "WarmDriver", Driver)
    hook = spark_submit.AttemptHook.__new__(spark_submit.AttemptHook)
    hook._submission = SimpleNamespace(driver_key="key", job_file=None, env_vars={"SPARK_HOME": "/opt/spark"})
    monkeypatch.setattr(hook, "_build_spark_submit_command", lambda application: [], raising=False)
    hook.submit("run.py")
    assert environments[0]["SPARK_HOME"] == "/opt/spark" and not environments[0].keys() & {*names}


@pytest.mark.parametrize(
    ("extra", "keeps"),
    [
        ({}, True),
        ({"keep_driver": "False"}, False),
        ({"keep_driver": "true"}, True),
        ({"deploy-mode": "cluster"}, False),
    ],
)
def test_a_driver_stays_warm_unless_the_connection_says_otherwise(extra, keeps: bool) -> None:
    from plugins.transform import keeps_driver

    assert keeps_driver(Endpoint("spark_default", "spark", "local[2]", None, extra=extra)) == keeps


@pytest.mark.parametrize("value", ["no", 0, None])
def test_an_unknown_value_of_keep_driver_is_refused(value) -> None:
    from airflow.sdk.exceptions import AirflowFailException

    from plugins.transform import keeps_driver

    with pytest.raises(AirflowFailException, match=f"keep_driver is {value!r}. Set it to true or false"):
        keeps_driver(Endpoint("spark_default", "spark", "local[2]", None, extra={"keep_driver": value}))


@pytest.mark.parametrize("value", ["five minutes", -1, None])
def test_an_invalid_idle_time_is_reported_before_an_attempt_is_made(batch_id, monkeypatch, value):
    from airflow.sdk.exceptions import AirflowFailException

    connection = {"conn_type": "spark", "host": "local[2]", "extra": {"driver_idle_seconds": value}}
    monkeypatch.setenv("AIRFLOW_CONN_SPARK_DEFAULT", json.dumps(connection))
    with pytest.raises(AirflowFailException, match=f"driver_idle_seconds is {value!r}"):
        transform(batch_id).execute({})
    assert attempts(batch_id)[0] == 0
