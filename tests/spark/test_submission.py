"""What is passed to spark-submit, and which parts stay secret."""

from __future__ import annotations

import json
import os
import shlex
import signal
import stat
import subprocess
import sys
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from include.connections import Endpoint
from include.spark import installation, submission
from include.spark.cluster import address_towards
from include.spark.warm_driver import folder_of
from include.warehouse.batches import Batch, RunInfo
from include.warehouse.delta import PlannedMinute
from local.servers.java import java

MINUTE = datetime(2026, 3, 1, 12, 34)
BATCH = Batch(
    5, "recruitment", RunInfo("test", "run", None), MINUTE + timedelta(minutes=1), (PlannedMinute(MINUTE),), 5_000
)
LAKE = Endpoint("lake_reader", "cassandra", "lake.example", 9042, "reader", "s3cret\\ é", extra={"local_dc": "dc2"})
WAREHOUSE = Endpoint("warehouse_etl", "mysql", "warehouse.example", 3306, "etl", "pa=ss#word")

STANDALONE = {"spark.authenticate.secret": "of the cluster"}


@pytest.fixture(autouse=True)
def jars(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One empty jar stands for all."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "connector.jar").touch()
    monkeypatch.setenv("MINUTEMARK_SPARK_JARS", str(tmp_path / "jars"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def prepare_job(
    master: str = "local[*]", rows: float = 5_000, conf=None, warehouse: Endpoint = WAREHOUSE, keep=False, **more
):
    batch = replace(BATCH, estimated_rows=rows)
    result = submission.prepare(batch, 9, LAKE, warehouse, master, conf, keep, **more)
    lines = Path(result.properties_file).read_text().splitlines()
    return result, dict(line.split("=", 1) for line in lines)


def test_secrets_are_in_private_files_and_nowhere_else() -> None:
    prepared_job, properties = prepare_job()
    assert stat.S_IMODE(prepared_job.dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in prepared_job.dir.iterdir()} == {0o600}
    job = json.loads(prepared_job.job_file.read_text())
    assert job["warehouse"]["properties"]["password"] == WAREHOUSE.password
    assert job["lake"]["spark.cassandra.auth.password"] == LAKE.password
    seen = str(prepared_job) + str(properties)
    assert "pa=ss" not in seen and "s3cret" not in seen, "A driver serves its properties to its executors."


def test_a_password_of_the_session_has_a_name_that_spark_redacts_in_its_event_log() -> None:
    """⚑ Spark writes a session's setting unredacted, unless the driver has a property of that name."""
    trust = {"spark.cassandra.connection.ssl.trustStore.password": "tru5t"}
    lake = replace(LAKE, extra={"spark": trust})
    result = submission.prepare(BATCH, 9, lake, WAREHOUSE, "local[*]")
    properties = Path(result.properties_file).read_text()
    job = json.loads(result.job_file.read_text())
    for name in ("spark.cassandra.auth.password", *trust):
        assert f"{name}=in the file of the job" in properties and job["lake"][name] not in properties


@pytest.mark.parametrize("master", ["local[*]", "yarn", "k8s://https://k8s.example"])
def test_a_driver_refuses_connections_without_its_secret(master: str) -> None:
    _, properties = prepare_job(master)
    assert properties["spark.authenticate"] == "true" and properties["spark.ui.enabled"] == "false"
    encrypted = [properties.get(f"spark.{what}.enabled") for what in ("network.crypto", "io.encryption")]
    assert encrypted == ([None, None] if master.startswith("local") else ["true", "true"])


def test_authentication_cannot_be_turned_off_on_this_machine() -> None:
    _, properties = prepare_job(conf={"spark.authenticate": False, "spark.ui.enabled": True})
    assert (properties["spark.authenticate"], properties["spark.ui.enabled"]) == ("true", "false")


def test_a_standalone_cluster_needs_its_own_secret(tmp_path) -> None:
    with pytest.raises(installation.CannotSubmit, match=r"spark\.authenticate\.secret is not set.*spark_default"):
        submission.prepare(BATCH, 9, LAKE, WAREHOUSE, "spark://host:7077")
    assert not list(tmp_path.glob("minutemark-spark-job-*"))
    _, with_secret = prepare_job("spark://host:7077", conf=STANDALONE)
    assert (with_secret["spark.authenticate"], with_secret["spark.network.crypto.enabled"]) == ("true", "true")
    _, without = prepare_job("spark://host:7077", conf={"spark.authenticate": False})
    assert without["spark.authenticate"] == "False"


def test_the_folder_of_a_killed_task_is_swept_and_that_of_a_running_one_is_not(tmp_path) -> None:
    running, _ = prepare_job()
    code = (
        "import os, signal, tempfile\nfrom tests.spark.test_submission import BATCH, LAKE, WAREHOUSE\n"
        "from include.spark import submission\n"
        f"tempfile.tempdir = {str(tmp_path)!r}\n"
        "submission.prepare(BATCH, 9, LAKE, WAREHOUSE, 'local[*]')\nos.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code], cwd=installation.ROOT, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    [abandoned] = [folder for folder in tmp_path.glob("minutemark-spark-job-*") if folder != running.dir]
    prepare_job()
    assert abandoned.exists(), "It is too new: another task may be creating it."
    for folder in (abandoned, running.dir):
        os.utime(folder, (0, 0))
    prepare_job()
    assert not abandoned.exists() and running.job_file.exists()


def test_speculation_stays_off_and_times_stay_utc(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """⚑ Neither the machine's defaults nor the connection may change settings on which results depend."""
    wrong = {"spark.speculation": "true", "spark.sql.session.timeZone": "Asia/Tokyo"}
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{key}   {value}\n" for key, value in wrong.items()))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    prepared_job, properties = prepare_job(conf=wrong)
    assert properties["spark.speculation"] == "false"
    assert properties["spark.sql.session.timeZone"] == "UTC"
    assert "-Duser.timezone=UTC" in properties["spark.driver.extraJavaOptions"]
    assert "-Duser.timezone=UTC" in properties["spark.executor.extraJavaOptions"]
    for options in ("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions"):
        assert "retry-policy.class=DefaultRetryPolicy" in properties[options]
    assert "connectionTimeZone=UTC" in (prepared_job.dir / "job.json").read_text()


def test_the_machines_defaults_are_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--properties-file hides spark-defaults.conf, which is therefore merged."""
    (tmp_path / "spark-defaults.conf").write_text(
        "# ours\nspark.driver.memory 2g\nspark.driver.extraJavaOptions=-Da=b\n"
    )
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    _, properties = prepare_job(conf={"spark.executor.cores": 3})
    assert properties["spark.driver.memory"] == "2g"
    assert "-Da=b" in properties["spark.driver.extraJavaOptions"].split()
    assert properties["spark.executor.cores"] == "3"


@pytest.mark.parametrize("kind", ["driver", "executor"])
def test_jvm_options_of_the_user_follow_ours_except_for_the_time_zone(kind: str) -> None:
    """⚑ Of two values the JVM takes the last one: a user can replace the retry policy, but not UTC."""
    option, name = "-Ddatastax-java-driver.advanced.retry-policy.class=", f"spark.{kind}.extraJavaOptions"
    options = prepare_job(conf={name: f"{option}Mine -Duser.timezone=Asia/Tokyo"})[1][name].split()
    last_values = {key: value for key, _, value in (text.partition("=") for text in options)}
    assert last_values[option.rstrip("=")] == "Mine" and last_values["-Duser.timezone"] == "UTC"


def test_a_task_of_a_cluster_survives_the_loss_of_several_executors() -> None:
    failures = [prepare_job(master, conf=STANDALONE)[1]["spark.task.maxFailures"] for master in ("local[2]", "yarn")]
    assert failures == ["2", "4"]


def test_jars_travel_only_to_a_cluster() -> None:
    local, local_properties = prepare_job("local[2]")
    cluster, cluster_properties = prepare_job("spark://host:7077", conf=STANDALONE)
    assert local.jars is None and local_properties["spark.driver.host"] == "127.0.0.1"
    assert cluster.jars.endswith("connector.jar") and "spark.driver.host" not in cluster_properties


def test_large_deltas_get_the_compiler_that_small_ones_cannot_afford() -> None:
    _, small = prepare_job(rows=15_000)
    _, large = prepare_job(rows=300_000)
    assert "TieredStopAtLevel=1" in small["spark.driver.extraJavaOptions"]
    assert "TieredStopAtLevel" not in large["spark.driver.extraJavaOptions"]


@pytest.mark.parametrize(
    ("minutes", "rows", "expected"),
    [(600, 5_000, True), (600, 50_000, False), (6_000, 5_000, False)],  # many minutes are many requests
)
def test_one_task_reads_few_rows_in_few_minutes(minutes: int, rows: int, expected: bool) -> None:
    planned = tuple(PlannedMinute(MINUTE + timedelta(minutes=number)) for number in range(minutes))
    batch = replace(BATCH, minutes=planned, estimated_rows=rows)
    submitted = submission.prepare(batch, 1, LAKE, WAREHOUSE, "local[*]")
    assert json.loads(submitted.job_file.read_text())["one_task"] is expected


def test_a_setting_of_the_connection_is_not_replaced_for_the_size_of_a_job() -> None:
    prepared_job, properties = prepare_job(conf={"spark.sql.shuffle.partitions": 16})
    assert properties["spark.sql.shuffle.partitions"] == "16"
    assert "spark.sql.shuffle.partitions" not in json.loads(prepared_job.job_file.read_text())["session"]


def test_jobs_of_any_size_use_the_same_driver_and_its_arguments_name_no_job() -> None:
    small, properties = prepare_job(rows=10, keep=True)
    large, _ = prepare_job(rows=300_000, keep=True)
    assert small.driver_key == large.driver_key
    assert small.application_args == ["--keep", str(folder_of(small.driver_key)), "--idle", "300"]
    flags = properties["spark.driver.extraJavaOptions"].split()
    assert "-XX:TieredStopAtLevel=1" not in flags  # the driver runs long enough for C2


def test_java_accepts_the_flags_of_every_kind_of_driver() -> None:
    for properties in (prepare_job(rows=10)[1], prepare_job(rows=300_000)[1], prepare_job(keep=True)[1]):
        flags = shlex.split(properties["spark.driver.extraJavaOptions"])
        done = subprocess.run([java(), *flags, "-version"], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    "changed",
    [
        {"master": "local[1]"},
        {"conf": {"spark.driver.memory": "2g"}},
        {"warehouse": Endpoint("warehouse_etl", "mysql", "warehouse.example", 3306, "etl", "another password")},
        {"extra": {"queue": "nightly"}},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_any_other_setting_needs_another_driver(changed) -> None:
    """⚑ A job must not run with the accounts or settings of yesterday."""
    assert prepare_job(keep=True, **changed)[0].driver_key != prepare_job(keep=True)[0].driver_key


def test_changed_code_needs_another_driver(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """⚑ A job must not run with yesterday's transform."""
    monkeypatch.setattr(submission, "_CODE", tmp_path / "code")
    keys = [prepare_job(keep=True)[0].driver_key]
    for name in ("clock.py", "spark/recruitment.py", "spark/log4j2.properties"):
        for text in ("BID_LIMIT = 1", "BID_LIMIT = 2"):
            (tmp_path / "code" / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / "code" / name).write_text(text)
            keys.append(prepare_job(keep=True)[0].driver_key)
    assert len(set(keys)) == len(keys)


def test_the_code_in_a_drivers_key_includes_what_the_driver_imports() -> None:
    assert {installation.ROOT / "include" / "connections.py", installation.ROOT / "include" / "spark" / "run.py"} <= {
        *submission._CODE.rglob("*.py")
    }


@pytest.mark.parametrize("variable", ["HADOOP_CONF_DIR", "YARN_CONF_DIR", "KUBECONFIG", "SPARK_HOME"])
def test_another_environment_of_spark_submit_needs_another_driver(variable: str, monkeypatch, tmp_path) -> None:
    before = prepare_job(keep=True)[0].driver_key
    monkeypatch.setenv(variable, str(tmp_path / "elsewhere"))
    after = prepare_job(keep=True)[0].driver_key
    assert after != before
    assert after.partition("-")[0] == before.partition("-")[0], "It replaces the former driver."


@pytest.mark.parametrize("variable", ["interpreter", "JAVA_HOME"])
def test_two_installations_with_one_root_are_two_places(variable: str, monkeypatch) -> None:
    """⚑ Otherwise each ends the driver of the other at every job."""
    before = prepare_job(keep=True)[0].driver_key
    if variable == "interpreter":
        monkeypatch.setattr(sys, "executable", "/opt/other/bin/python")
    else:
        monkeypatch.setenv(variable, "/opt/java")
    assert prepare_job(keep=True)[0].driver_key.partition("-")[0] != before.partition("-")[0]


def test_an_extra_of_the_connection_is_in_no_file() -> None:
    submitted, _ = prepare_job(keep=True, extra={"keytab": "/etc/s3cret.keytab"})
    assert not [file for file in submitted.dir.iterdir() if "s3cret.keytab" in file.read_text()]
    assert "s3cret.keytab" not in str(submitted)


def test_a_master_without_an_ipv4_address_sets_no_driver_host(monkeypatch: pytest.MonkeyPatch) -> None:
    """Spark does not bind to an IPv6 address unless the JVM is configured for it."""
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    assert address_towards("spark://[::1]:7077") is None
    assert address_towards("spark://no..such.example:7077") is None
    assert address_towards("spark://127.0.0.1:7077") == "127.0.0.1"


@pytest.mark.parametrize("folder", ["plain", "with a space"])
def test_a_driver_is_kept_when_the_archive_for_its_successors_is_made(tmp_path, monkeypatch, folder) -> None:
    archive = tmp_path / folder / "spark.jsa"
    archive.parent.mkdir()
    monkeypatch.setenv("MINUTEMARK_SPARK_ARCHIVE", str(archive))
    before, before_properties = prepare_job(keep=True)
    archive.write_bytes(b"classes")
    after, after_properties = prepare_job(keep=True)
    assert str(archive) in after_properties["spark.driver.extraJavaOptions"]
    assert after_properties != before_properties and after.driver_key == before.driver_key


@pytest.mark.parametrize("master", ["spark://host:7077", "yarn", "k8s://https://k8s.example"])
def test_a_driver_is_kept_on_any_master_unless_the_cluster_runs_it(master: str) -> None:
    kept, _ = prepare_job(master, conf=STANDALONE, keep=True)
    assert kept.driver_key is not None and kept.jars is not None
    cluster_mode, _ = prepare_job(master, conf={**STANDALONE, "spark.submit.deployMode": "cluster"}, keep=True)
    assert cluster_mode.driver_key is None and cluster_mode.application_args[0] == "--job"


def test_drivers_of_one_place_differ_in_settings_and_those_of_another_master_are_elsewhere() -> None:
    """⚑ A driver with outdated settings ends when one with new settings starts; a driver of another place stays."""
    place = prepare_job(keep=True)[0].driver_key.partition("-")[0]
    changed = prepare_job(keep=True, conf={"spark.driver.memory": "2g"})[0].driver_key
    elsewhere = prepare_job("local[1]", keep=True)[0].driver_key
    assert changed.startswith(f"{place}-") and not elsewhere.startswith(f"{place}-")


def test_executors_find_the_driver_at_the_address_that_leads_to_the_master(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several interfaces, Spark itself takes the first one."""
    monkeypatch.delenv("SPARK_LOCAL_IP", raising=False)
    assert prepare_job("spark://127.0.0.1:7077,standby:7077", conf=STANDALONE)[1]["spark.driver.host"] == "127.0.0.1"
    chosen = prepare_job("spark://127.0.0.1:7077", conf={**STANDALONE, "spark.driver.host": "worker.example"})[1]
    assert chosen["spark.driver.host"] == "worker.example"
    monkeypatch.setenv("SPARK_LOCAL_IP", "192.0.2.1")
    assert "spark.driver.host" not in prepare_job("spark://127.0.0.1:7077", conf=STANDALONE)[1]


def test_applications_share_a_standalone_cluster_unless_the_user_has_chosen_how(tmp_path, monkeypatch) -> None:
    """⚑ Otherwise the first application keeps all cores, and that of another Airflow worker waits for them."""

    def allocation(master: str = "spark://host:7077", **conf: object) -> tuple[str | None, str | None]:
        properties = prepare_job(master, conf={**STANDALONE, **conf})[1]
        return properties.get("spark.dynamicAllocation.enabled"), properties.get("spark.executor.cores")

    assert allocation() == ("true", "1")
    assert allocation(**{"spark.executor.cores": 2}) == ("true", "2")
    assert allocation(**{"spark.cores.max": 4}) == (None, None)
    assert allocation(**{"spark.dynamicAllocation.enabled": False}) == ("False", None)
    for master in ("local[*]", "yarn", "k8s://https://k8s.example"):
        assert allocation(master) == (None, None)
    (tmp_path / "spark-defaults.conf").write_text("spark.cores.max 4\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    assert allocation() == (None, None)


def test_tls_follows_the_connection() -> None:
    extra = {"ssl_mode": "verify_ca", "jdbc": {"trustCertificateKeyStoreUrl": "file:/trust.p12"}}
    prepared_job, _ = prepare_job(
        warehouse=Endpoint("warehouse_etl", "mysql", "w.example", 3306, "etl", "x", extra=extra)
    )
    properties = json.loads(prepared_job.job_file.read_text())["warehouse"]["properties"]
    assert properties["sslMode"] == "VERIFY_CA"
    assert properties["trustCertificateKeyStoreUrl"] == "file:/trust.p12"


@pytest.mark.parametrize("name", ["conf", "spark", "jdbc"])
def test_an_extra_that_is_not_an_object_is_refused_and_its_value_is_not_shown(name: str, tmp_path) -> None:
    text = '{"spark.authenticate.secret": "s3cret"}'  # as in a connection in the form of a URI
    lake = replace(LAKE, extra={"spark": text} if name == "spark" else {})
    warehouse = replace(WAREHOUSE, extra={"jdbc": text} if name == "jdbc" else {})
    with pytest.raises(
        installation.CannotSubmit, match=f'`{name}` .* is not a JSON object. Write {{"{name}": '
    ) as error:
        submission.prepare(BATCH, 9, lake, warehouse, "local[*]", text if name == "conf" else None)
    assert "s3cret" not in str(error.value)
    assert list(tmp_path.glob("minutemark-spark-job-*")) == []


def test_missing_jars_are_named_with_the_remedy(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINUTEMARK_SPARK_JARS", str(tmp_path / "nowhere"))
    with pytest.raises(installation.CannotSubmit, match="no jars for Spark in .*nowhere.*make setup"):
        prepare_job()


def test_without_spark_no_folder_with_passwords_is_left(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """⚑ Only a later task would remove it."""
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))  # so that nothing looks for Spark's own configuration first
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(installation.CannotSubmit, match="Install pyspark 3.5, or set SPARK_HOME"):
        prepare_job()
    assert list(tmp_path.glob("minutemark-spark-job-*")) == []


def test_only_a_local_master_gets_this_python_for_its_executors() -> None:
    local, cluster = prepare_job("local[*]")[0], prepare_job("spark://host:7077", conf=STANDALONE)[0]
    assert local.env_vars["PYSPARK_PYTHON"] == sys.executable
    assert "PYSPARK_PYTHON" not in cluster.env_vars
