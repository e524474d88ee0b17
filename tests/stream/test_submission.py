"""What a stream passes to spark-submit, and which parts stay secret."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import psutil
import pytest

from include import pipelines
from include.connections import Endpoint, variable
from include.spark.installation import ROOT, CannotSubmit
from include.stream import catch_up, submission
from include.stream.job import Job

PASSWORD = "pa=ss#word"
SPARK = Endpoint("spark_default", "spark", "local[*]", None)
CLUSTER = replace(SPARK, host="yarn")


@pytest.fixture(autouse=True)
def machine(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One empty jar stands for all; nothing listens at the connections' addresses."""
    for name in ("SPARK", "STREAM"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.jar").touch()
        monkeypatch.setenv(f"MINUTEMARK_{name}_JARS", str(tmp_path / name))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    for conn_id in ("lake_writer", "warehouse_etl"):
        monkeypatch.setenv(variable(conn_id), json.dumps({"host": "h", "login": "me", "password": PASSWORD}))
    login = {"security.protocol": "SASL_SSL", "sasl.mechanism": "PLAIN", "sasl.password": PASSWORD}
    monkeypatch.setenv(variable("kafka_default"), json.dumps({"extra": {"bootstrap.servers": "k:1", **login}}))


def prepare(spark: Endpoint = SPARK) -> submission.Submission:
    return submission.prepare(pipelines.get("recruitment"), spark)


def test_passwords_are_in_a_private_file_and_nowhere_else():
    prepared = prepare()
    assert stat.S_IMODE(prepared.dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in prepared.dir.iterdir()} == {0o600}
    job = Job.read(prepared.job_file)
    assert job.lake.password == PASSWORD and PASSWORD in job.kafka["sasl.jaas.config"]
    seen = [*catch_up.command(prepared, SPARK), str(prepared), str(job), Path(prepared.properties_file).read_text()]
    assert PASSWORD not in "".join(map(str, [*seen, prepared.env_vars]))


def test_the_class_path_is_that_of_the_transform():
    """The class archive is valid only for that class path."""
    prepared = prepare()
    properties = properties_of(prepared)
    assert properties["spark.driver.extraClassPath"].endswith("SPARK.jar")
    assert prepared.jars.endswith("STREAM.jar") and "SPARK" not in Path(prepared.jars).name


def properties_of(prepared: submission.Submission) -> dict[str, str]:
    return dict(line.split("=", 1) for line in Path(prepared.properties_file).read_text().splitlines())


def test_a_stream_on_a_standalone_cluster_leaves_cores_to_others():
    secret = {"spark.authenticate.secret": "s"}
    standalone = replace(SPARK, host="spark://m", port=7077, extra={"conf": secret})
    shards = pipelines.get("recruitment").shards
    assert properties_of(prepare(standalone))["spark.cores.max"] == str(shards)
    own = replace(standalone, extra={"conf": secret | {"spark.cores.max": "2"}})
    assert properties_of(prepare(own))["spark.cores.max"] == "2"
    assert "spark.cores.max" not in properties_of(prepare()) | properties_of(prepare(CLUSTER))


def test_spark_defaults_conf_overrides_our_settings_and_the_connection_overrides_both(tmp_path, monkeypatch):
    (tmp_path / "spark-defaults.conf").write_text("spark.driver.memory 2g\nspark.sql.streaming.stopTimeout 5s\n")
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    properties = properties_of(prepare(replace(SPARK, extra={"conf": {"spark.driver.memory": "3g"}})))
    assert properties["spark.driver.memory"] == "3g"
    assert properties["spark.sql.streaming.stopTimeout"] == "5s"
    assert properties["spark.sql.streaming.minBatchesToRetain"] == "2"


def test_the_workers_of_a_cluster_import_the_project_from_an_archive(tmp_path):
    assert prepare().py_files is None
    archive = prepare(CLUSTER).py_files
    code = f"import sys; sys.path.insert(0, {archive!r}); import include.stream.partition as module; print(module.__file__)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env={}, capture_output=True, text=True)
    assert done.stdout.startswith(str(archive)), done.stderr


def test_missing_jars_are_reported_with_the_file_that_names_them(tmp_path, monkeypatch):
    monkeypatch.setenv("MINUTEMARK_STREAM_JARS", str(tmp_path / "nothing"))
    with pytest.raises(CannotSubmit, match=r"include/stream/pom\.xml"):
        prepare()


def test_without_spark_no_folder_with_passwords_is_left(tmp_path, monkeypatch):
    monkeypatch.delenv("SPARK_HOME", raising=False)
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))  # so that nothing looks for Spark's own configuration first
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(CannotSubmit, match="Install pyspark 3.5, or set SPARK_HOME"):
        prepare()
    assert list(tmp_path.glob("minutemark-spark-job-*")) == []


def test_a_missing_spark_submit_is_reported_and_no_folder_is_left(tmp_path, monkeypatch):
    monkeypatch.setattr(catch_up, "own_spark_submit", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv(variable("spark_default"), json.dumps({"host": "local[*]"}))
    with pytest.raises(CannotSubmit, match="spark-submit was not found. Put it on the PATH, or install pyspark"):
        catch_up.run_stream(pipelines.get("recruitment"))
    assert list(tmp_path.glob("minutemark-spark-job-*")) == []


def test_the_checkpoints_are_on_the_drivers_machine_unless_a_setting_names_another_place(monkeypatch):
    prepared = prepare(CLUSTER)
    assert Job.read(prepared.job_file).checkpoints == f"file://{prepared.dir}/checkpoints"
    monkeypatch.setenv(submission.CHECKPOINTS, "hdfs:///minutemark")
    assert Job.read(prepare(CLUSTER).job_file).checkpoints == "hdfs:///minutemark"


@pytest.mark.parametrize("extra", [{"conf": {"spark.submit.deployMode": "cluster"}}, {"deploy-mode": "cluster"}])
def test_a_driver_on_the_cluster_is_refused(extra):
    with pytest.raises(
        CannotSubmit, match=r'spark\.submit\.deployMode to "client".* leave out its extra `deploy-mode`'
    ):
        prepare(replace(CLUSTER, extra=extra))


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with the one that started it")
def test_a_catch_up_that_is_killed_leaves_no_stream_running(tmp_path, monkeypatch):
    monkeypatch.setenv(variable("spark_default"), json.dumps({"conn_type": "spark", "host": "local[*]"}))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    code = (
        "from include import pipelines\nfrom include.stream import catch_up\n"
        "catch_up.command = lambda *_: ['sh', '-c', 'echo $$; exec sleep 300']\n"
        "catch_up.run_stream(pipelines.get('recruitment'), report=lambda line: print(line, flush=True))"
    )
    with subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout
        stream = psutil.Process(int(killed.stdout.readline()))
        killed.kill()
    assert psutil.wait_procs([stream], timeout=10)[0]
