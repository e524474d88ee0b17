"""What goes to spark-submit, and what nobody else may see of it."""

from __future__ import annotations

import stat
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest

from include.connections import Endpoint
from include.spark import submission

BATCH = SimpleNamespace(batch_id=5, pipeline="recruitment", minutes=[datetime(2026, 3, 1, 12, 34)], options={})
LAKE = Endpoint("lake_reader", "cassandra", "lake.example", 9042, "reader", "s3cret\\ é", extra={"local_dc": "dc2"})
WAREHOUSE = Endpoint("warehouse_etl", "mysql", "warehouse.example", 3306, "etl", "pa=ss#word")


@pytest.fixture(autouse=True)
def jars(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One empty jar stands for all."""
    (tmp_path / "jars").mkdir()
    (tmp_path / "jars" / "connector.jar").touch()
    monkeypatch.setenv("MINUTEMARK_SPARK_JARS", str(tmp_path / "jars"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))


def prepared(master: str = "local[*]", rows: float = 5_000, settings=None, warehouse: Endpoint = WAREHOUSE):
    found = submission.prepare(BATCH, 9, LAKE, warehouse, master, rows, settings)
    lines = Path(found.properties_file).read_text().splitlines()
    return found, dict(line.split("=", 1) for line in lines)


def test_secrets_are_in_private_files_and_nowhere_else() -> None:
    found, properties = prepared()
    assert stat.S_IMODE(found.dir.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in found.dir.iterdir()} == {0o600}
    assert properties["spark.minutemark.warehouse.password"] == "pa=ss#word"
    assert properties["spark.cassandra.auth.password"] == "s3cret\\\\ \\u00e9"  # as java.util.Properties reads it
    assert "pa=ss#word" not in str(found) + (found.dir / "job.json").read_text()


def test_speculation_stays_off_and_times_stay_utc(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """⚑ Neither the machine's defaults nor the connection may change what results depend on."""
    wrong = {"spark.speculation": "true", "spark.sql.session.timeZone": "Asia/Tokyo"}
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{key}   {value}\n" for key, value in wrong.items()))
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    found, properties = prepared(settings=wrong)
    assert properties["spark.speculation"] == "false"
    assert properties["spark.sql.session.timeZone"] == "UTC"
    assert "-Duser.timezone=UTC" in properties["spark.driver.extraJavaOptions"]
    assert "-Duser.timezone=UTC" in properties["spark.executor.extraJavaOptions"]
    assert "connectionTimeZone=UTC" in (found.dir / "job.json").read_text()


def test_the_machine_s_defaults_are_kept(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    """--properties-file hides spark-defaults.conf, so it is merged."""
    (tmp_path / "spark-defaults.conf").write_text(
        "# ours\nspark.driver.memory 2g\nspark.driver.extraJavaOptions=-Da=b\n"
    )
    monkeypatch.setenv("SPARK_CONF_DIR", str(tmp_path))
    _, properties = prepared(settings={"spark.executor.cores": 3})
    assert properties["spark.driver.memory"] == "2g"
    assert properties["spark.driver.extraJavaOptions"].startswith("-Da=b -Duser.timezone=UTC")
    assert properties["spark.executor.cores"] == "3"


def test_jars_travel_only_to_a_cluster() -> None:
    local, local_properties = prepared("local[2]")
    cluster, cluster_properties = prepared("spark://host:7077")
    assert local.jars is None and local_properties["spark.driver.host"] == "127.0.0.1"
    assert cluster.jars.endswith("connector.jar") and "spark.driver.host" not in cluster_properties


def test_large_deltas_get_the_compiler_that_small_ones_cannot_afford() -> None:
    _, small = prepared(rows=15_000)
    _, large = prepared(rows=300_000)
    assert "TieredStopAtLevel=1" in small["spark.driver.extraJavaOptions"]
    assert "TieredStopAtLevel" not in large["spark.driver.extraJavaOptions"]
    assert (small["spark.sql.codegen.wholeStage"], large["spark.sql.codegen.wholeStage"]) == ("false", "true")


def test_tls_is_what_the_connection_says() -> None:
    extra = {"ssl_mode": "verify_ca", "jdbc": {"trustCertificateKeyStoreUrl": "file:/trust.p12"}}
    _, properties = prepared(warehouse=Endpoint("warehouse_etl", "mysql", "w.example", 3306, "etl", "x", extra=extra))
    assert properties["spark.minutemark.warehouse.sslMode"] == "VERIFY_CA"
    assert properties["spark.minutemark.warehouse.trustCertificateKeyStoreUrl"] == "file:/trust.p12"


def test_missing_jars_are_named_with_the_remedy(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINUTEMARK_SPARK_JARS", str(tmp_path / "nowhere"))
    with pytest.raises(submission.SubmissionImpossible, match="no jars for Spark in .*nowhere.*make setup"):
        prepared()
