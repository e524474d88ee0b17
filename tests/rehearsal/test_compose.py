"""The compose file as plain values: variables, order, and refused forms."""

from __future__ import annotations

import pytest

from local.layout import ROOT
from local.problems import Problem
from tests.rehearsal import compose

FILE = ROOT / "docker-compose.override.yml"
ASTRO = ROOT / "tests" / "rehearsal" / "astro-compose.yml"


def write_compose_file(folder, text):
    path = folder / "compose.yml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("127.0.0.1:${PORT:-9042}:9042", "127.0.0.1:9042:9042"),
        ("${SET:-unused}", "yes"),
        ("${EMPTY:-default}", "default"),  # :- takes the default for an empty variable, too
        ("${EMPTY:-}", ""),
        ("${SET}", "yes"),
        ("$$(seq 30)", "$(seq 30)"),
    ],
)
def test_variables_are_replaced_as_docker_compose_replaces_them(text, value):
    assert compose.interpolate(text, {"SET": "yes", "EMPTY": ""}) == value


@pytest.mark.parametrize("text", ["${NOWHERE}", "$NAME", "${NAME:?needed}", "${NAME:-${OTHER}}"])
def test_what_docker_would_read_differently_is_refused(text):
    with pytest.raises(ValueError, match="NOWHERE is not set|is not in the form"):
        compose.interpolate(text, {"NAME": "x"})


def test_a_service_comes_after_those_it_depends_on():
    services = {name: service for name, service in compose.read([ASTRO, FILE], {}).items() if not service.profiles}
    order = compose.start_order(services)
    assert sorted(order) == sorted(services)
    assert all(order.index(other) < order.index(name) for name in order for other in services[name].depends_on)


def test_a_cycle_and_an_unknown_service_are_named(tmp_path):
    cycle = "services: {a: {depends_on: [b]}, b: {depends_on: {a: {condition: service_healthy}}}}"
    with pytest.raises(Problem, match="wait for each other"):
        compose.start_order(compose.read([write_compose_file(tmp_path, cycle)], {}))
    with pytest.raises(Problem, match="it depends on nowhere"):
        compose.start_order(compose.read([write_compose_file(tmp_path, "services: {a: {depends_on: [nowhere]}}")], {}))


def test_commands_and_checks_are_those_that_docker_would_run():
    services = compose.read([FILE], {"MINUTEMARK_INGEST": "dag"})
    assert services["connectors"].environment["MINUTEMARK_INGEST"] == "dag"
    assert "$(seq 30)" in services["cassandra-accounts"].command[2]
    assert services["kafka"].health.command == ["sh", "-c", "nc -z localhost 19092"]
    assert services["mysql"].health.command[:2] == ["mysqladmin", "ping"]
    assert services["kafka"].health.patience == 30 + 24 * 5
    assert services["kafka"].environment["KAFKA_LOG_RETENTION_HOURS"] == "-1"
    assert services["connectors"].mounts["/minutemark/include"] == ROOT / "include"
    assert services["kafka"].volumes == ["/var/lib/kafka/data"]


def test_the_error_for_a_mistake_names_the_files_and_the_service(tmp_path):
    path = write_compose_file(tmp_path, "services: {mysql: {command: ['--port=${NOWHERE}']}}")
    with pytest.raises(Problem, match=r"override\.yml, .*compose\.yml, service mysql: NOWHERE is not set"):
        compose.read([FILE, path], {"MINUTEMARK_INGEST": "dag"})


def test_the_override_adds_to_what_the_astro_cli_declares():
    scheduler = compose.read([ASTRO, FILE], {})["scheduler"]
    assert scheduler.command == ["airflow", "scheduler"]
    assert scheduler.environment["MINUTEMARK_INGEST"] == "connect"
    assert scheduler.environment["AIRFLOW__CORE__EXECUTOR"] == "LocalExecutor"
    assert scheduler.depends_on["db-migration"] == compose.COMPLETED
    assert scheduler.depends_on["mysql"] == compose.HEALTHY
