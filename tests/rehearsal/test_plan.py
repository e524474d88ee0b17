"""`make rehearse` starts every service of the compose files that is not left out on purpose, with its declared settings."""

from __future__ import annotations

import json
import subprocess

import pytest

from local.layout import ROOT
from local.problems import Problem
from local.servers import cassandra
from tests.rehearsal import __main__ as rehearsal
from tests.rehearsal import compose, machine
from tests.rehearsal.__main__ import connection_variables
from tests.rehearsal.machine import FILES, LEFT_OUT, Machine, image_of, planned, with_image_settings, without_fast_start


@pytest.fixture(scope="module")
def services():
    return planned({})


def test_every_service_is_rehearsed_or_left_out_for_a_reason(services, tmp_path):
    declared = compose.read(FILES, {})
    assert set(declared) == set(services) | set(LEFT_OUT) | {
        name for name, service in declared.items() if service.profiles
    }
    images = Machine(services, str(tmp_path)).stand_ins
    assert {image_of(service) for service in services.values()} == set(images)


def test_a_compose_file_that_cannot_be_read_is_refused_before_anything_starts(monkeypatch, tmp_path):
    file = tmp_path / "compose.yml"
    file.write_text("services: {mysql: {command: ['--port=$PORT']}}")
    monkeypatch.setattr(machine, "FILES", (file,))
    monkeypatch.setattr(rehearsal, "HOME", tmp_path / "rehearsal")
    (tmp_path / "rehearsal").mkdir()
    with pytest.raises(Problem, match=r"compose\.yml, service mysql: a \$ that is not in the form"):
        rehearsal.main()
    assert (tmp_path / "rehearsal").exists()


def test_the_docs_name_what_is_left_out():
    page = (ROOT / "docs" / "deploy.md").read_text(encoding="utf-8").lower()
    section = page.partition("## a rehearsal without docker")[2].partition("\n## ")[0]
    profiles = {name for name, service in compose.read(FILES, {}).items() if service.profiles}
    assert all(name in section for name in (*LEFT_OUT, *profiles))


def test_kafka_gets_the_settings_that_its_image_derives_from_the_variables(services):
    settings = compose.kafka_settings_of(services["kafka"].environment)
    assert settings["listeners"] == "CONTAINERS://:19092,HOST://:9092,CONTROLLER://:9093"
    assert settings["log.message.timestamp.after.max.ms"] == "9223372036854775807"
    assert settings["auto.create.topics.enable"] == "false"
    assert "heap.opts" not in settings
    assert compose.kafka_settings_of({"KAFKA_A__B___C": "1"}) == {"a_b-c": "1"}


def test_the_command_of_the_compose_file_turns_on_passwords_and_permissions(services, tmp_path):
    """Before the command runs, the configuration allows everything without a login, as the image's does."""
    conf = tmp_path / "cassandra.yaml"
    conf.write_text(with_image_settings(cassandra._CONFIGURATION))
    assert "AllowAllAuthenticator" in conf.read_text() and "AllowAllAuthorizer" in conf.read_text()
    script = services["cassandra"].command[2].partition("&&")[0].replace("/etc/cassandra", str(tmp_path))
    subprocess.run(["bash", "-c", script], check=True)
    assert "authenticator: PasswordAuthenticator\nauthorizer: CassandraAuthorizer" in conf.read_text()


def test_cassandra_starts_without_the_shortcuts_of_the_local_stack():
    assert "validity" not in with_image_settings(cassandra._CONFIGURATION)
    options = '"-Xss256k"\n"-Dcassandra.superuser_setup_delay_ms=0"\n"-Dcassandra.skip_wait_for_gossip_to_settle=0"\n'
    assert without_fast_start(options) == '"-Xss256k"\n'


def test_connections_have_the_fields_that_airflow_reads():
    variables = connection_variables()
    assert json.loads(variables["AIRFLOW_CONN_LAKE_READER"]) == {
        "conn_type": "cassandra",
        "host": "cassandra",
        "port": 9042,
        "login": "lake_reader",
        "password": "local-only-reader",
    }
    assert set(json.loads(variables["AIRFLOW_CONN_KAFKA_DEFAULT"])) == {"conn_type", "extra"}


def test_airflow_gets_the_variables_of_the_override_and_waits_for_the_stores(services):
    order = list(services)
    for store in ("cassandra-accounts", "mysql", "kafka", "db-migration"):
        assert order.index(store) < order.index("scheduler")
    assert services["scheduler"].environment["MINUTEMARK_INGEST"] == "connect"
    assert services["connectors"].once and not services["scheduler"].once
