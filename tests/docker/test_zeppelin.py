"""Zeppelin's container and note: they fit the project, and nobody gets in without a login."""

from __future__ import annotations

import configparser
import json
import re
import shlex
from xml.etree import ElementTree

import yaml

from include import pipelines
from include.warehouse.sql import FOLDER as SQL
from tests.airflow_home import PROJECT

FOLDER = PROJECT / "docker" / "zeppelin"
SERVICE = yaml.safe_load((PROJECT / "docker-compose.override.yml").read_text())["services"]["zeppelin"]
CONNECTIONS = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]["connections"]
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
NOTES = {path: json.loads(path.read_text()) for path in (FOLDER / "notes").rglob("*.zpln")}
[NOTE] = NOTES.values()
KEYS = ("host", "port", "login", "password")
TEXTS = [paragraph["text"] for paragraph in NOTE["paragraphs"]]


def mounts() -> dict[str, str]:
    """The source of each mount, by its path in the container."""
    return dict(reversed(volume.split(":")[:2]) for volume in SERVICE["volumes"])


def test_it_starts_only_with_its_profile_and_listens_on_loopback():
    assert SERVICE["profiles"] == ["zeppelin"]
    assert [port.split(":")[0] for port in SERVICE["ports"]] == ["127.0.0.1"]


def test_it_gets_only_the_two_read_only_accounts():
    declared = {connection["conn_id"]: connection for connection in CONNECTIONS}
    environment = {name: json.loads(text) for name, text in SERVICE["environment"].items()}
    assert set(environment) == {"AIRFLOW_CONN_LAKE_READER", "AIRFLOW_CONN_WAREHOUSE_BI"}
    for name, value in environment.items():
        connection = declared[name.removeprefix("AIRFLOW_CONN_").lower()]
        assert value == {"conn_type": connection["conn_type"], **{key: connection[f"conn_{key}"] for key in KEYS}}


def test_a_login_is_required():
    shiro = configparser.ConfigParser(delimiters="=", interpolation=None)
    shiro.read(FOLDER / "shiro.ini")
    assert set(shiro["users"]) == {"analyst"}
    urls = dict(shiro["urls"])
    assert list(urls)[-1] == "/**" and urls.pop("/**") == "authc"
    assert [url for url, needs in urls.items() if needs == "anon"] == ["/api/version"]
    assert "COPY --chown=zeppelin:zeppelin shiro.ini /opt/zeppelin/conf/" in DOCKERFILE


def test_its_spark_has_the_version_of_the_project():
    pinned = re.search(r"^pyspark==\S+", (PROJECT / "requirements.txt").read_text(), re.MULTILINE).group()
    assert f"pip install --no-cache-dir {pinned}\n" in DOCKERFILE


def test_its_jars_are_those_of_the_pom():
    contexts = SERVICE["build"]["additional_contexts"]
    [context, pom] = re.search(r"^COPY --from=(\S+) (\S+) /pom\.xml$", DOCKERFILE, re.MULTILINE).groups()
    root = ElementTree.parse(PROJECT / contexts[context] / pom).getroot()
    artifacts = {element.text for element in root.iterfind(".//{*}dependency/{*}artifactId")}
    assert {"spark-cassandra-connector_2.12", "mysql-connector-j"} <= artifacts
    [folder] = re.findall(r"^COPY --from=jars /jars (\S+)$", DOCKERFILE, re.MULTILINE)
    defaults = dict(
        line.split(maxsplit=1) for line in (FOLDER / "spark-defaults.conf").read_text().splitlines() if line[:1] != "#"
    )
    assert defaults["spark.jars"] == f"{folder}/*.jar"
    assert "COPY spark-defaults.conf ${SPARK_HOME}/conf/" in DOCKERFILE


def test_the_note_is_where_the_container_copies_it_from_and_has_zeppelins_file_name():
    command = json.loads(re.search(r"^CMD (.*)$", DOCKERFILE, re.MULTILINE).group(1))[-1]
    source, target = shlex.split(command.split("&&")[0])[2:]
    assert PROJECT / mounts()[source.removesuffix("/.")] == FOLDER / "notes"
    assert mounts()[target.rstrip("/")] == "zeppelin_notes"
    [path] = NOTES
    assert path.name == f"{NOTE['name']}_{NOTE['id']}.zpln"


def test_the_note_finds_the_project():
    on_path = re.search(r"PYTHONPATH=(\S+)", DOCKERFILE).group(1)
    assert mounts()[f"{on_path}/include"] == "./include" and mounts()[f"{on_path}/notebooks"] == "./notebooks"


def test_the_note_is_committed_without_results_and_uses_known_interpreters():
    assert not [paragraph["id"] for paragraph in NOTE["paragraphs"] if "results" in paragraph]
    assert {text.split()[0] for text in TEXTS} == {"%md", "%spark.pyspark", "%spark.sql"}


def test_tables_and_views_of_the_note_exist_and_may_be_read():
    python, queries = (
        "\n".join(text for text in TEXTS if text.startswith(kind)) for kind in ("%spark.py", "%spark.sql")
    )
    tables = set(re.findall(r"stores\.warehouse\(spark, \"(\S+)\"\)", python))
    recruitment = pipelines.get("recruitment")
    assert tables and tables <= set(recruitment.readable)
    created = "\n".join(path.read_text() for path in (SQL / "recruitment").glob("*.sql"))
    assert not [name for name in tables if not re.search(rf"(TABLE IF NOT EXISTS|VIEW) {re.escape(name)}\b", created)]
    temporary_views = set(re.findall(r"createOrReplaceTempView\(\"(\w+)\"\)", python))
    assert set(re.findall(r"FROM (\w+)", queries)) == temporary_views
