"""The PostgreSQL server of Airflow's metadata, started for real: who can log in, a clean end, and data that survives."""

import dataclasses
import json
import os
import signal
import subprocess

import psutil
import pytest

from local import connections, environment, ports, throwaway
from local.layout import ROOT, STORE_JARS, VENV
from local.problems import Problem
from local.process import Child, free_port
from local.servers import postgres


@pytest.fixture(scope="module")
def passwords():
    return connections.postgres_passwords(connections.new_passwords())


@pytest.fixture(scope="module")
def server(tmp_path_factory, passwords):
    if not list(STORE_JARS.glob("embedded-postgres-binaries-*.jar")):
        pytest.skip(f"PostgreSQL's jar is not in {STORE_JARS}: `make setup` fetches it.")
    with throwaway.postgres_server(tmp_path_factory.mktemp("it's"), passwords) as postgres_server:
        yield postgres_server


def execute(server, user, password, statement, database=postgres.DATABASE):
    import psycopg2

    connection = psycopg2.connect(host=postgres.HOST, port=server.port, user=user, password=password, dbname=database)
    connection.autocommit = True
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchone() if cursor.description else None
    finally:
        connection.close()


def test_airflow_has_a_separate_utf8_database(server, passwords):
    settings = "SELECT current_setting('server_encoding'), current_setting('TimeZone')"
    assert execute(server, postgres.AIRFLOW, passwords[postgres.AIRFLOW], settings) == ("UTF8", "UTC")
    execute(server, postgres.AIRFLOW, passwords[postgres.AIRFLOW], "CREATE TABLE mine (id int)")


def test_a_sourced_env_gives_the_standalone_mode_a_separate_database(server, passwords, tmp_path, monkeypatch):
    monkeypatch.setattr(environment, "ENV_FILE", tmp_path / "env")
    monkeypatch.setattr(environment, "read", lambda file=tmp_path / "env", read=environment.read: read(file))
    known = {
        f"metadata_{name}": passwords[login]
        for name, login in (("admin", postgres.ADMIN), ("airflow", postgres.AIRFLOW))
    }
    (tmp_path / "env").write_text(f"export MINUTEMARK_PASSWORDS='{json.dumps(known)}'\n")
    environment.prepare({**ports.DEFAULTS, "POSTGRES_PORT": server.port}, {})
    # As `astro dev start --standalone` calls it: the shell's environment, and a separate home.
    env = {"PATH": f"{VENV / 'bin'}:{os.defpath}", "AIRFLOW_HOME": str(tmp_path / "standalone"), "HOME": str(tmp_path)}
    script = f'source "{tmp_path / "env"}" && airflow db migrate && airflow pools set spark 1 "one driver" && airflow db check'
    done = subprocess.run(["bash", "-c", script], env=env, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    pools = "SELECT count(*) FROM slot_pool WHERE pool = 'spark'"
    assert execute(server, postgres.AIRFLOW, passwords[postgres.AIRFLOW], pools, postgres.STANDALONE) == (1,)
    stack_table = "SELECT to_regclass('slot_pool')"
    assert execute(server, postgres.AIRFLOW, passwords[postgres.AIRFLOW], stack_table) == (None,)
    assert not list(tmp_path.rglob("*.db"))


@pytest.mark.parametrize("user", [postgres.ADMIN, postgres.AIRFLOW])
def test_the_password_is_required(server, user):
    import psycopg2

    with pytest.raises(psycopg2.OperationalError, match="password authentication failed"):
        execute(server, user, "wrong", "SELECT 1")


def test_data_of_other_passwords_is_reported_at_once_with_what_to_restore(server, passwords):
    """After `.local/env` was lost, the server would never accept the new password."""
    other = dataclasses.replace(server, passwords={**passwords, postgres.ADMIN: "another"})
    with pytest.raises(Problem, match=r"refuses the password of minutemark_admin\n.*\.local/env\. Restore that file"):
        other.wait_until_ready(seconds=60)


def test_airflow_is_not_an_administrator(server, passwords):
    import psycopg2

    for statement in ("CREATE DATABASE intruder", "CREATE ROLE intruder", "COPY mine TO PROGRAM 'true'"):
        with pytest.raises(psycopg2.Error, match="permission denied|must be superuser"):
            execute(server, postgres.AIRFLOW, passwords[postgres.AIRFLOW], statement)


def test_postgresql_listens_on_loopback_only(server):
    listening = [
        net_connection.laddr
        for net_connection in psutil.net_connections("tcp")
        if net_connection.status == psutil.CONN_LISTEN
    ]
    assert {address.ip for address in listening if address.port == server.port} == {"127.0.0.1"}


def test_no_password_is_left_in_the_folder_of_postgresql(server, passwords):
    text = "".join(path.read_text() for path in server.home.iterdir() if path.is_file())
    assert not [password for password in passwords.values() if password in text]


def test_postgresql_ends_on_sigint_and_keeps_its_data_even_after_a_kill(tmp_path, server, passwords):
    instance = postgres.Server(tmp_path / "postgres", free_port(), passwords, throw_away=True)
    log = tmp_path / "log"
    for signal_number, statement in (
        (signal.SIGINT, "CREATE TABLE kept (id int)"),
        (signal.SIGKILL, "INSERT INTO kept VALUES (7)"),
        (signal.SIGINT, "SELECT id FROM kept"),
    ):
        child = Child(instance.prepare(), log)
        try:
            instance.wait_until_ready(alive=child.alive, log=str(log))
            result = execute(instance, postgres.AIRFLOW, passwords[postgres.AIRFLOW], statement)
            family = [process := psutil.Process(child.pid), *process.children()]
            os.kill(child.pid, signal_number)
            assert not psutil.wait_procs(family, timeout=10)[1]
        finally:
            child.stop()
        assert (instance.home / "data" / "postmaster.pid").exists() is (signal_number == signal.SIGKILL)
        if signal_number == signal.SIGKILL:  # as if its process id were another program's now
            lock = instance.home / "data" / "postmaster.pid"
            lock.write_text(lock.read_text().replace(lock.read_text().split("\n")[0], str(os.getpid()), 1))
    assert result == (7,)
