"""`.local/env`: created once, readable only by its owner, and never in the way of the user's own stores."""

import json
import os
import re
import stat
import subprocess

import pytest

from include.env_file import use
from include.kafka.ingest_mode import UnknownIngestMode
from local import environment, login, ports
from local.layout import ROOT
from local.problems import Problem
from local.servers import kafka

OWN_WAREHOUSE = {
    "AIRFLOW_CONN_WAREHOUSE_ETL": '{"conn_type": "mysql", "host": "db.example", "login": "loader"}',
    "AIRFLOW_CONN_WAREHOUSE_BI": '{"conn_type": "mysql", "host": "db.example", "login": "looker"}',
}


@pytest.fixture(autouse=True)
def env_file(tmp_path, monkeypatch):
    path = tmp_path / "env"
    monkeypatch.setattr(environment, "ENV_FILE", path)
    monkeypatch.setattr(environment, "read", lambda file=path, read=environment.read: read(file))
    return path


def test_only_the_owner_can_read_the_env_file(env_file):
    environment.prepare(ports.DEFAULTS, {})
    assert stat.S_IMODE(env_file.stat().st_mode) == 0o600


def test_passwords_and_keys_stay_when_ports_change():
    first = environment.prepare(ports.DEFAULTS, {})
    second = environment.prepare({**ports.DEFAULTS, "MARIADB_PORT": 3399}, {})
    assert second.passwords == first.passwords
    assert second.variables["AIRFLOW__CORE__FERNET_KEY"] == first.variables["AIRFLOW__CORE__FERNET_KEY"]
    assert json.loads(second.variables["AIRFLOW_CONN_WAREHOUSE_ETL"])["port"] == 3399


def test_each_account_has_its_own_password():
    passwords = environment.prepare(ports.DEFAULTS, {}).passwords
    assert len(set(passwords.values())) == len(passwords) == 10


def test_a_local_lakehouse_has_a_folder_and_a_catalog_and_is_off_by_default():
    assert "LAKEHOUSE" not in " ".join(environment.prepare(ports.DEFAULTS, {}).variables)
    result = environment.prepare(ports.DEFAULTS, {"MINUTEMARK_LAKEHOUSE": "local"})
    assert result.variables["MINUTEMARK_LAKEHOUSE"] == (environment.DATA / "lakehouse").as_uri()
    catalog = json.loads(result.variables["AIRFLOW_CONN_LAKEHOUSE_CATALOG"])
    assert (catalog["login"], catalog["password"]) == ("lakehouse", result.passwords["lakehouse_catalog"])


def test_a_local_bigquery_is_the_emulator_even_for_a_shell_that_sourced_the_file():
    local = {"MINUTEMARK_LAKEHOUSE": "local", "MINUTEMARK_BIGQUERY": "local"}
    result = environment.prepare({**ports.DEFAULTS, "BIGQUERY_PORT": 9059}, local).variables
    assert result["MINUTEMARK_BIGQUERY"] == "minutemark-local.lakehouse"
    assert result["BIGQUERY_EMULATOR_HOST"] == "http://127.0.0.1:9059"
    again = environment.prepare(ports.DEFAULTS, result).variables
    assert again["BIGQUERY_EMULATOR_HOST"] == "http://127.0.0.1:9050"


def test_another_dataset_needs_no_emulator_and_bigquery_is_off_by_default():
    assert "BIGQUERY" not in " ".join(environment.prepare(ports.DEFAULTS, {}).variables)
    own = {"MINUTEMARK_LAKEHOUSE": "gs://bucket", "MINUTEMARK_BIGQUERY": "project.counts"}
    result = environment.prepare(ports.DEFAULTS, own).variables
    assert result["MINUTEMARK_BIGQUERY"] == "project.counts"
    assert "BIGQUERY_EMULATOR_HOST" not in result


@pytest.mark.parametrize(
    ("variables", "message"),
    [
        (
            {"MINUTEMARK_LAKEHOUSE": "/data/lake"},
            "MINUTEMARK_LAKEHOUSE is '/data/lake'(?s:.*)such as file:///data/lakehouse",
        ),
        (
            {"MINUTEMARK_LAKEHOUSE": "local", "MINUTEMARK_BIGQUERY": "nodot"},
            "MINUTEMARK_BIGQUERY is 'nodot'(?s:.*)such as my-",
        ),
    ],
)
def test_an_invalid_lakehouse_location_or_dataset_is_refused_before_anything_starts(variables, message):
    with pytest.raises(Problem, match=message):
        environment.prepare(ports.DEFAULTS, variables)


def test_dot_env_turns_lakehouse_and_bigquery_on_and_the_command_line_turns_them_off(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text(
        "MINUTEMARK_LAKEHOUSE=gs://bucket/lakehouse\nMINUTEMARK_BIGQUERY=my-project.lakehouse\n"
    )
    result = environment.prepare(ports.DEFAULTS, {}).variables
    assert result["MINUTEMARK_LAKEHOUSE"] == "gs://bucket/lakehouse"
    assert result["MINUTEMARK_BIGQUERY"] == "my-project.lakehouse"
    assert "AIRFLOW_CONN_LAKEHOUSE_CATALOG" in result
    off = {"MINUTEMARK_LAKEHOUSE": "", "MINUTEMARK_BIGQUERY": ""}
    assert not {*off} & {*environment.prepare(ports.DEFAULTS, off).variables}


def test_bigquery_without_the_lakehouse_is_refused():
    with pytest.raises(Problem, match="MINUTEMARK_BIGQUERY is set, but MINUTEMARK_LAKEHOUSE is not"):
        environment.prepare(ports.DEFAULTS, {"MINUTEMARK_BIGQUERY": "local"})


def test_the_stack_and_the_standalone_mode_have_separate_databases(env_file):
    result = environment.prepare({**ports.DEFAULTS, "POSTGRES_PORT": 15499}, {})
    seen = environment.airflow_environment(result, {**ports.DEFAULTS, "POSTGRES_PORT": 15499}, result.variables)
    server = f"postgresql+psycopg2://airflow:{result.passwords['metadata_airflow']}@127.0.0.1:15499"
    setting = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"
    assert seen[setting] == f"{server}/airflow"
    assert environment.read(env_file)[setting] == f"{server}/airflow_standalone"


def test_a_users_own_database_for_the_standalone_mode_is_not_replaced(env_file):
    environment.prepare(ports.DEFAULTS, {"AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": "postgresql://db.example/airflow"})
    assert "SQL_ALCHEMY" not in env_file.read_text()


def test_an_env_file_from_before_an_account_existed_keeps_its_passwords(env_file):
    old = {"lake_admin": "kept"}
    env_file.write_text(f"export MINUTEMARK_PASSWORDS='{json.dumps(old)}'\n")
    passwords = environment.prepare(ports.DEFAULTS, {}).passwords
    assert passwords["lake_admin"] == "kept" and passwords["metadata_airflow"] and passwords["kafka_default"]


def test_a_shell_reads_the_values_that_the_env_file_was_given(env_file):
    result = environment.prepare(ports.DEFAULTS, {})
    script = f'. "{env_file}"; printf %s "$AIRFLOW_CONN_LAKE_READER"'
    text = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True).stdout
    assert text == result.variables["AIRFLOW_CONN_LAKE_READER"]


def test_an_external_warehouse_is_used_and_none_is_started():
    result = environment.prepare(ports.DEFAULTS, OWN_WAREHOUSE)
    assert result.external_warehouse and not result.external_lake
    assert result.variables["AIRFLOW_CONN_WAREHOUSE_ETL"] == OWN_WAREHOUSE["AIRFLOW_CONN_WAREHOUSE_ETL"]
    assert "AIRFLOW_CONN_WAREHOUSE_ADMIN" not in result.variables


def test_by_default_dags_ingest_from_a_broker_of_this_stack():
    result = environment.prepare({**ports.DEFAULTS, "KAFKA_PORT": 9999}, {})
    assert (result.external_kafka, result.ingest, result.variables["MINUTEMARK_INGEST"]) == (False, "dag", "dag")
    connection = json.loads(result.variables["AIRFLOW_CONN_KAFKA_DEFAULT"])
    assert connection == {"conn_type": "kafka", "extra": kafka.client_settings(9999, result.passwords["kafka_default"])}


def test_an_external_broker_is_used_and_none_is_started():
    own = '{"conn_type": "kafka", "extra": {"bootstrap.servers": "b1:9093", "security.protocol": "SASL_SSL"}}'
    result = environment.prepare(ports.DEFAULTS, {"AIRFLOW_CONN_KAFKA_DEFAULT": own})
    assert result.external_kafka and not result.external_lake
    assert result.variables["AIRFLOW_CONN_KAFKA_DEFAULT"] == own


def test_dot_env_selects_the_ingest_mode_and_the_command_line_overrides_it(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("MINUTEMARK_INGEST=spark\n")
    assert environment.prepare(ports.DEFAULTS, {}).ingest == "spark"
    assert environment.prepare(ports.DEFAULTS, {"MINUTEMARK_INGEST": "dag"}).ingest == "dag"


def test_dot_env_overrides_what_a_terminal_only_sourced(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    sourced = environment.prepare(ports.DEFAULTS, {"MINUTEMARK_LAKEHOUSE": "local"}).variables
    (tmp_path / ".env").write_text("MINUTEMARK_INGEST=spark\nMINUTEMARK_LAKEHOUSE=\n")
    for _ in range(2):  # the second time, the file no longer has the value that was sourced
        result = environment.prepare(ports.DEFAULTS, sourced)
        assert result.ingest == "spark"
        airflow = environment.airflow_environment(result, ports.DEFAULTS, sourced)
        assert (airflow["MINUTEMARK_INGEST"], airflow["MINUTEMARK_LAKEHOUSE"]) == ("spark", "")
    assert environment.prepare(ports.DEFAULTS, {**sourced, "MINUTEMARK_INGEST": "connect"}).ingest == "connect"
    stated = {**sourced, "MINUTEMARK_INGEST": "dag", "MAKEFLAGS": " -- MINUTEMARK_INGEST=dag"}
    assert environment.prepare(ports.DEFAULTS, stated).ingest == "dag"


@pytest.mark.parametrize(("value", "mode"), [(" Spark ", "spark"), ("  ", "")])
def test_the_ingest_mode_is_read_as_tasks_read_it(value, mode):
    result = environment.prepare(ports.DEFAULTS, {"MINUTEMARK_INGEST": value})
    assert result.ingest == result.variables["MINUTEMARK_INGEST"] == mode


def test_an_unknown_ingest_mode_is_refused_before_anything_starts(env_file):
    with pytest.raises(UnknownIngestMode, match="MINUTEMARK_INGEST=magic is not an ingest mode: set it to dag, "):
        environment.prepare(ports.DEFAULTS, {"MINUTEMARK_INGEST": "magic"})
    assert not env_file.exists()


def test_without_an_ingest_mode_no_broker_is_started():
    result = environment.prepare(ports.DEFAULTS, {"MINUTEMARK_INGEST": ""})
    assert result.ingest == "" == result.variables["MINUTEMARK_INGEST"]


def test_the_documented_connections_are_all_that_external_stores_need():
    page = (ROOT / "docs" / "deploy.md").read_text()
    documented = re.findall(r"^export (AIRFLOW_CONN_\w+)='(.*)'$", page, flags=re.MULTILINE)
    result = environment.prepare(ports.DEFAULTS, dict(documented))
    assert result.external_lake and result.external_warehouse


def test_half_an_external_warehouse_is_refused():
    with pytest.raises(
        Problem, match="only some are set: AIRFLOW_CONN_WAREHOUSE_ETL. Not set: AIRFLOW_CONN_WAREHOUSE_BI"
    ):
        environment.prepare(ports.DEFAULTS, {"AIRFLOW_CONN_WAREHOUSE_ETL": OWN_WAREHOUSE["AIRFLOW_CONN_WAREHOUSE_ETL"]})


def test_connections_of_a_sourced_env_file_are_not_external_stores(env_file):
    sourced = environment.prepare(ports.DEFAULTS, {}).variables
    before_marks = {name: value for name, value in sourced.items() if name != "MINUTEMARK_SOURCED"}
    moved = {**ports.DEFAULTS, "MARIADB_PORT": 3399}
    for environ in ({**before_marks, "MINUTEMARK_ENV_FILE": str(env_file)}, sourced, sourced):
        again = environment.prepare(moved, environ)
        assert not (again.external_lake or again.external_warehouse or again.external_kafka)
        assert json.loads(again.variables["AIRFLOW_CONN_WAREHOUSE_ETL"])["port"] == 3399


def test_an_external_warehouse_stays_external_in_a_terminal_that_sourced_the_file():
    sourced = {**OWN_WAREHOUSE, **environment.prepare(ports.DEFAULTS, OWN_WAREHOUSE).variables}
    again = environment.prepare(ports.DEFAULTS, sourced)
    assert again.external_warehouse and not again.external_lake
    assert again.variables == {name: sourced[name] for name in again.variables}, "programs would restart"


def test_connections_in_dot_env_are_ignored_and_settings_apply(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("# why\nAIRFLOW__CORE__PARALLELISM=4\nAIRFLOW_CONN_LAKE_READER=cassandra://other\n")
    result = environment.prepare(ports.DEFAULTS, {})
    seen = environment.airflow_environment(result, ports.DEFAULTS, {"PATH": "/usr/bin"})
    assert seen["AIRFLOW__CORE__PARALLELISM"] == "4"
    assert seen["AIRFLOW_CONN_LAKE_READER"] == result.variables["AIRFLOW_CONN_LAKE_READER"]
    assert seen["PATH"].split(":")[0].endswith(".local/venv/bin")


@pytest.mark.parametrize(
    "own",
    [
        {name: value for name, value in OWN_WAREHOUSE.items() if "WAREHOUSE" in name},
        {"AIRFLOW_CONN_LAKE_READER": "cassandra://mine", "AIRFLOW_CONN_LAKE_WRITER": "cassandra://mine"},
        {"AIRFLOW_CONN_KAFKA_DEFAULT": '{"conn_type": "kafka", "extra": {"bootstrap.servers": "localhost:9092"}}'},
    ],
)
def test_no_demo_events_are_sent_to_an_external_store_by_default(own, env_file):
    def demo(environ: dict[str, str]) -> str:
        return environment.airflow_environment(environment.prepare(ports.DEFAULTS, environ), ports.DEFAULTS, environ)[
            "MINUTEMARK_DEMO"
        ]

    for environ, expected in (({}, "1"), (own, "0"), ({**own, "MINUTEMARK_DEMO": "1"}, "1")):
        assert (demo(environ), environment.read(env_file)["MINUTEMARK_STACK_DEMO"]) == (expected, expected)
    shown = subprocess.run(["bash", "-c", f'. "{env_file}"; env'], capture_output=True, text=True, env={}).stdout
    assert "AIRFLOW_CONN_LAKE_READER" in shown and "DEMO" not in shown, "the standalone mode has no demo"


def test_dot_env_sets_the_demo_and_its_events(tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("MINUTEMARK_DEMO=0\nMINUTEMARK_DEMO_EVENTS=5000\n")
    result = environment.prepare(ports.DEFAULTS, {})
    assert result.demo == "0"
    assert environment.airflow_environment(result, ports.DEFAULTS, {})["MINUTEMARK_DEMO_EVENTS"] == "5000"
    chosen = {"MINUTEMARK_DEMO_EVENTS": "10"}
    assert environment.airflow_environment(result, ports.DEFAULTS, chosen)["MINUTEMARK_DEMO_EVENTS"] == "10"


def test_the_stack_sees_the_same_environment_from_every_terminal():
    result = environment.prepare(ports.DEFAULTS, {})
    shell = {"PATH": "/usr/bin", "HTTP_PROXY": "http://proxy"}
    first = {
        **shell,
        "TERM": "xterm",
        "SHLVL": "1",
        "PWD": "/a",
        "SSH_TTY": "/dev/pts/1",
        "DETACH": "1",
        "MAKEFLAGS": "s",
    }
    second = {**shell, "TERM": "screen", "SHLVL": "3", "PWD": "/b", "TMUX": "1", "AIRFLOW_PORT": "8080"}
    assert environment.airflow_environment(result, ports.DEFAULTS, first) == environment.airflow_environment(
        result, ports.DEFAULTS, second
    )
    assert environment.airflow_environment(result, ports.DEFAULTS, first)["HTTP_PROXY"] == "http://proxy"


def test_a_sourced_administrator_is_not_used_for_an_external_warehouse(monkeypatch):
    sourced = environment.prepare(ports.DEFAULTS, {}).variables
    own = {**sourced, **OWN_WAREHOUSE}
    result = environment.prepare(ports.DEFAULTS, own)
    assert result.external_warehouse
    assert "AIRFLOW_CONN_WAREHOUSE_ADMIN" not in environment.airflow_environment(result, ports.DEFAULTS, own)
    for name, value in own.items():
        monkeypatch.setenv(name, value)
    use(result.variables)
    assert "AIRFLOW_CONN_WAREHOUSE_ADMIN" not in os.environ
    assert "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN" not in os.environ
    assert os.environ["AIRFLOW_CONN_WAREHOUSE_ETL"] == OWN_WAREHOUSE["AIRFLOW_CONN_WAREHOUSE_ETL"]


def test_a_store_sees_its_ports_and_no_connection():
    seen = environment.store_environment(ports.DEFAULTS, ("MARIADB_PORT",))
    assert seen["MARIADB_PORT"] == "3306"
    assert not [name for name in seen if name.startswith(("AIRFLOW", "KAFKA"))]


def test_a_terminal_that_sourced_the_file_does_not_switch_the_warehouse_back(env_file):
    environment.prepare(ports.DEFAULTS, {})
    script = f'. "{env_file}"; env -0'
    env = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True, env={}).stdout
    sourced = dict(line.split("=", 1) for line in env.split("\0") if line)
    environment.prepare(ports.DEFAULTS, {"MINUTEMARK_WAREHOUSE": "mysql"})
    assert environment.prepare(ports.DEFAULTS, sourced).warehouse == "mysql"


def test_the_server_of_the_warehouse_is_chosen_once_and_kept(env_file):
    assert environment.prepare(ports.DEFAULTS, {}).warehouse == "mariadb"
    assert environment.prepare(ports.DEFAULTS, {"MINUTEMARK_WAREHOUSE": "mysql"}).warehouse == "mysql"
    assert environment.prepare(ports.DEFAULTS, {}).warehouse == "mysql"
    with pytest.raises(Problem, match=r"WAREHOUSE=oracle(?s:.*)mariadb or mysql"):
        environment.prepare(ports.DEFAULTS, {"MINUTEMARK_WAREHOUSE": "oracle"})


def test_the_local_airflow_has_a_login_unless_it_is_turned_off(monkeypatch, tmp_path):
    monkeypatch.setattr(login, "PASSWORDS", tmp_path / "passwords.json")
    result = environment.prepare(ports.DEFAULTS, {})
    users = "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS"
    seen = environment.airflow_environment(result, ports.DEFAULTS, {users: "vera:viewer, ulf:op, admin:viewer"})
    assert seen["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "False"
    assert seen[users] == "admin:admin,vera:viewer,ulf:op"
    login.make_passwords(seen)
    known = login.PASSWORDS.read_text()
    assert stat.S_IMODE(login.PASSWORDS.stat().st_mode) == 0o600
    assert set(json.loads(known)) == {"admin", "vera", "ulf"} and login.credentials()["password"] in known
    login.make_passwords(seen)
    assert login.PASSWORDS.read_text() == known
    unlocked = environment.airflow_environment(result, ports.DEFAULTS, {"MINUTEMARK_LOGIN": "none"})
    assert unlocked["AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS"] == "True"
    with pytest.raises(Problem, match="MINUTEMARK_LOGIN=off is not a login mode"):
        environment.airflow_environment(result, ports.DEFAULTS, {"MINUTEMARK_LOGIN": "off"})
