"""docker-compose.override.yml, merged with what the Astro CLI writes: valid, and small enough for a laptop."""

from __future__ import annotations

import json
import re

import pytest
import yaml

from include.kafka.connect import LOGIN_SETTING, URL_SETTING
from tests.airflow_home import PROJECT
from tests.rehearsal.compose import kafka_settings_of

GIB = 1024**3
ASTRO = {"postgres", "db-migration", "scheduler", "dag-processor", "api-server", "triggerer"}  # services of CLI 1.45
ONE_SHOT = {"db-migration", "cassandra-accounts", "connectors"}  # end once their work is done
COMPOSE = yaml.safe_load((PROJECT / "docker-compose.override.yml").read_text())
SERVICES = COMPOSE["services"]
CONNECT_IMAGE = PROJECT / "docker" / "connect" / "Dockerfile"
SETTINGS = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]


def size(text: str) -> int:
    number, unit = re.fullmatch(r"(\d+)([mg])", text).groups()
    return int(number) * {"m": 1024**2, "g": GIB}[unit]


def test_all_services_together_take_at_most_eight_gib():
    always = {name for name, service in SERVICES.items() if not service.get("profiles")} | ASTRO
    limits = {name: SERVICES.get(name, {}).get("mem_limit") for name in always - ONE_SHOT}
    assert None not in limits.values(), f"set mem_limit: {limits}"
    assert sum(size(limit) for limit in limits.values()) <= 8 * GIB


def test_ports_answer_on_this_machine_only():
    ports = [port for service in SERVICES.values() for port in service.get("ports", ())]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports), ports


def test_data_is_in_named_volumes():
    stores = {
        "cassandra": "/var/lib/cassandra",
        "mysql": "/var/lib/mysql",
        "kafka": "/var/lib/kafka/data",
        "grafana": "/var/lib/grafana",
        "zeppelin": "/notes",
    }
    for store, path in stores.items():
        volumes = dict(reversed(volume.split(":")[:2]) for volume in SERVICES[store]["volumes"])
        assert volumes[path] in COMPOSE["volumes"]


def test_mounted_files_exist():
    sources = [volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", ())]
    for build in [service["build"] for service in SERVICES.values() if "build" in service]:
        sources += [build] if isinstance(build, str) else [build["context"], *build["additional_contexts"].values()]
    assert all((PROJECT / source).exists() for source in sources if source.startswith("."))


def test_tasks_start_when_the_stores_answer():
    for service in ("scheduler", "triggerer"):
        waits = SERVICES[service]["depends_on"]
        assert waits["mysql"] == waits["kafka"] == {"condition": "service_healthy"}
        assert waits["cassandra-accounts"] == {"condition": "service_completed_successfully"}
    assert SERVICES["cassandra-accounts"]["depends_on"]["cassandra"] == {"condition": "service_healthy"}
    assert all("healthcheck" in SERVICES[store] for store in ("cassandra", "mysql", "kafka", "connect"))


def test_our_services_are_on_the_network_that_the_cli_defines():
    assert all(service.get("networks") == ["airflow"] for name, service in SERVICES.items() if name not in ASTRO)


@pytest.mark.parametrize("connection", SETTINGS["connections"], ids=lambda connection: connection["conn_id"])
def test_connection_matches_a_service_and_an_account(connection):
    if connection["conn_type"] == "kafka":
        broker = json.loads(connection["conn_extra"])["bootstrap.servers"]
        assert f"CONTAINERS://{broker}" in SERVICES["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
        return
    host = connection["conn_host"]
    if host == "local[*]":
        return
    assert host in SERVICES
    accounts = {"cassandra": "cassandra-accounts.cql", "mysql": "mysql-accounts.sql"}[host]
    text = (PROJECT / "docker" / accounts).read_text()
    login, password = connection["conn_login"], connection["conn_password"]
    line = next(
        line for line in text.splitlines() if re.match(rf"CREATE (ROLE IF NOT EXISTS|USER) '?{login}'?[ @]", line)
    )
    assert f"'{password}'" in line


def test_demo_traffic_is_on_and_counts_the_containers_as_its_own_stores():
    from include.demo.traffic import OWN_HOSTS

    for name in ("scheduler", "dag-processor"):
        assert SERVICES[name]["environment"]["MINUTEMARK_DEMO"] == "${MINUTEMARK_DEMO:-1}"
    stores = {
        setting["conn_host"] for setting in SETTINGS["connections"] if setting["conn_type"] in ("cassandra", "mysql")
    }
    broker = json.loads(
        next(setting["conn_extra"] for setting in SETTINGS["connections"] if setting["conn_type"] == "kafka")
    )
    assert stores | {broker["bootstrap.servers"].partition(":")[0]} <= OWN_HOSTS


def test_airflow_and_the_connectors_share_one_ingest_mode():
    services = ("scheduler", "dag-processor", "connectors")
    assert {SERVICES[name]["environment"]["MINUTEMARK_INGEST"] for name in services} == {
        "${MINUTEMARK_INGEST:-connect}"
    }


def test_the_watch_knows_where_connect_is():
    [url] = [word for word in SERVICES["connectors"]["command"] if word.startswith("http")]
    assert SERVICES["scheduler"]["environment"][URL_SETTING] == url


def test_the_login_of_connect_is_one_of_its_accounts_wherever_it_is_used():
    logins = (PROJECT / "docker" / "connect-logins.properties").read_text().splitlines()
    accounts = [line.replace("=", ":", 1) for line in logins if line and not line.startswith("#")]
    used = {SERVICES[name]["environment"][LOGIN_SETTING] for name in ("connectors", "scheduler", "dag-processor")}
    assert used == set(accounts), "Without an account, Connect requires no login."
    [mount] = SERVICES["connect"]["volumes"]
    place = mount.split(":")[1]
    assert f'file="{place}"' in (PROJECT / "docker" / "connect" / "jaas.conf").read_text()
    assert "-Djava.security.auth.login.config=/opt/connect/jaas.conf\n" in CONNECT_IMAGE.read_text()
    assert "BasicAuthSecurityRestExtension\n" in (PROJECT / "docker" / "connect" / "worker.properties").read_text()


def test_connectors_are_registered_when_connect_answers():
    assert SERVICES["connectors"]["depends_on"]["connect"] == {"condition": "service_healthy"}
    assert SERVICES["connectors"]["command"][:3] == ["python", "-m", "include.kafka.connect"]


def test_connect_and_broker_have_the_same_version():
    image = SERVICES["kafka"]["image"]
    assert f"\nFROM {image}\n" in CONNECT_IMAGE.read_text()
    version = f"<version>{image.rpartition(':')[2]}</version>"
    for pom in ("docker/connect/transform/pom.xml", "local/connect-pom.xml", "local/kafka-pom.xml"):
        assert version in (PROJECT / pom).read_text(), pom


def test_connect_uses_the_containers_listener_of_the_broker_and_the_writers_password():
    worker = (PROJECT / "docker" / "connect" / "worker.properties").read_text()
    settings = {setting["conn_id"]: setting for setting in SETTINGS["connections"]}
    broker = json.loads(settings["kafka_default"]["conn_extra"])
    assert f"bootstrap.servers={broker['bootstrap.servers']}\n" in worker
    passwords = SERVICES["connect"]["environment"]
    assert passwords["LAKE_WRITER_PASSWORD"] == settings["lake_writer"]["conn_password"]
    assert passwords["KAFKA_PASSWORD"] == broker["sasl.password"]
    for client in ("", "producer.", "consumer.", "admin."):
        assert f"\n{client}security.protocol={broker['security.protocol']}\n" in worker
        assert f"\n{client}sasl.jaas.config=" in worker


def test_every_listener_of_the_broker_requires_the_login_of_the_connection():
    settings = kafka_settings_of(SERVICES["kafka"]["environment"])
    extra = next(setting["conn_extra"] for setting in SETTINGS["connections"] if setting["conn_id"] == "kafka_default")
    account, password = (json.loads(extra)[name] for name in ("sasl.username", "sasl.password"))
    protocols = dict(pair.split(":") for pair in settings["listener.security.protocol.map"].split(","))
    assert set(protocols) == {listener.partition(":")[0] for listener in settings["listeners"].split(",")}
    for listener, protocol in protocols.items():
        assert protocol == "SASL_PLAINTEXT"
        login = settings[f"listener.name.{listener.lower()}.plain.sasl.jaas.config"]
        assert f'user_{account}="{password}"' in login


def test_connects_log_is_bounded_by_rate_and_size():
    options = SERVICES["connect"]["logging"]["options"]
    assert size(options["max-size"]) * int(options["max-file"]) <= 30 * 1024**2
    dockerfile = CONNECT_IMAGE.read_text()
    assert "ENV KAFKA_LOG4J_OPTS=-Dlog4j2.configurationFile=/opt/connect/log4j2.properties\n" in dockerfile
    logging = (PROJECT / "docker" / "connect" / "log4j2.properties").read_text()
    assert "appender.console.filter.burst.type = BurstFilter\n" in logging


def test_grafana_queries_the_warehouse_as_the_read_only_account():
    [source] = yaml.safe_load((PROJECT / "docker" / "grafana" / "datasources.yaml").read_text())["datasources"]
    bi = next(setting for setting in SETTINGS["connections"] if setting["conn_id"] == "warehouse_bi")
    assert source["url"] == f"{bi['conn_host']}:{bi['conn_port']}"
    assert (source["user"], source["secureJsonData"]["password"]) == (bi["conn_login"], bi["conn_password"])
    assert (source["uid"], source["jsonData"]["timezone"]) == ("warehouse", "+00:00")


def test_grafana_finds_its_mounted_boards_and_requires_a_login():
    [provider] = yaml.safe_load((PROJECT / "docker" / "grafana" / "dashboards.yaml").read_text())["providers"]
    service = SERVICES["grafana"]
    mounted = dict(reversed(volume.split(":")[:2]) for volume in service["volumes"])
    assert mounted[provider["options"]["path"]] == "./dashboards/grafana"
    assert list((PROJECT / "dashboards" / "grafana").glob("*/*.json"))
    assert service["environment"]["GF_AUTH_ANONYMOUS_ENABLED"] == "false"
    assert service["environment"]["GF_SECURITY_ADMIN_PASSWORD"] != "admin"


def test_grafana_shows_times_in_the_configured_zone():
    from include.warehouse.reporting_zone import DEFAULT, SETTING

    assert SERVICES["grafana"]["environment"]["GF_DATE_FORMATS_DEFAULT_TIMEZONE"] == f"${{{SETTING}:-{DEFAULT}}}"
