"""The real MySQL server without Docker: who can log in, and what is reported if it is not available."""

import contextlib
import json
import os
import shlex
import shutil
import stat
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import MySQLdb
import pytest

from local.layout import ROOT
from local.problems import Problem
from local.servers import mysql


def _open(account: dict) -> MySQLdb.Connection:
    return MySQLdb.connect(
        host=account["host"], port=account["port"], user=account["login"], passwd=account["password"]
    )


@pytest.fixture
def admin(mysql_server) -> dict:
    return json.loads(mysql_server["AIRFLOW_CONN_WAREHOUSE_ADMIN"])


def test_the_server_is_mysql_with_the_options_of_the_compose_file(admin):
    server = _open(admin)
    cursor = server.cursor()
    cursor.execute("SELECT VERSION(), @@collation_server, @@performance_schema, @@log_bin")
    version, *settings = cursor.fetchone()
    assert "MariaDB" not in version and settings == ["utf8mb4_0900_ai_ci", 0, 0]
    server.close()


def test_root_is_locked_on_the_socket_too(admin):
    server = _open(admin)
    cursor = server.cursor()
    cursor.execute("SELECT @@socket")
    ((path,),) = cursor.fetchall()
    server.close()
    with pytest.raises(MySQLdb.OperationalError, match="locked"):
        MySQLdb.connect(unix_socket=path, user="root", passwd="")
    with pytest.raises(MySQLdb.OperationalError, match="not allowed|denied|locked"):
        _open({**admin, "login": "root", "password": ""})


def test_local_commands_use_the_settings_of_the_connection(admin, tmp_path):
    with contextlib.closing(_open(admin)) as server:
        cursor = server.cursor()
        cursor.execute("SELECT @@datadir")
        ((data,),) = cursor.fetchall()
        cursor.execute("CREATE USER IF NOT EXISTS tls@127.0.0.1 IDENTIFIED BY 'secret' REQUIRE SSL")
    account = {**admin, "login": "tls", "password": "secret", "schema": "", "extra": {"ssl": {"ca": f"{data}ca.pem"}}}
    (tmp_path / "env").write_text(f"AIRFLOW_CONN_WAREHOUSE_BI={shlex.quote(json.dumps(account))}\n")
    read = "from local import warehouse\nwith warehouse.reader() as connection:\n    cursor = connection.cursor()"
    read += (
        "\n    cursor.execute('SELECT CURRENT_USER(), @@autocommit, @@transaction_read_only'); print(cursor.fetchone())"
    )
    env = os.environ | {"MINUTEMARK_STATE": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", read], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.stdout == "('tls@127.0.0.1', 1, 1)\n", done.stderr


def test_passwords_are_in_a_file_that_only_its_owner_can_read(tmp_path):
    accounts = dict.fromkeys(("minutemark_admin", "etl", "bi"), "secret")
    mysql.Server(tmp_path / "mysql", passwords=accounts).configure(tmp_path)
    assert stat.S_IMODE((tmp_path / "mysql" / "accounts.sql").stat().st_mode) == 0o600
    assert "secret" not in (tmp_path / "mysql" / "my.cnf").read_text()


def test_a_system_without_apt_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(mysql, "_SERVER", tmp_path / "absent")
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(Problem, match="not Debian"):
        mysql.fetch()
    assert mysql.main() == 0, "`make test` continues without it"


def test_only_one_of_two_concurrent_fetches_downloads(monkeypatch, tmp_path):
    unpacked = []

    def unpack(mirror):
        unpacked.append(mirror)
        (tmp_path / "server").mkdir(exist_ok=True)

    monkeypatch.setattr(mysql, "_SERVER", tmp_path / "server")
    monkeypatch.setattr(mysql, "MYSQL", tmp_path)
    both = threading.Barrier(2)
    monkeypatch.setattr(mysql, "_mirror", lambda: f"mirror {both.wait(30)}")  # both have found no server by now
    monkeypatch.setattr(mysql, "_unpack_from", unpack)
    with ThreadPoolExecutor() as pool:
        for fetch in [pool.submit(mysql.fetch) for _ in range(2)]:
            fetch.result()
    assert len(unpacked) == 1


def test_a_failed_download_says_what_failed(monkeypatch, tmp_path):
    monkeypatch.setattr(mysql, "_SERVER", tmp_path / "absent")
    monkeypatch.setattr(mysql, "MYSQL", tmp_path / "mysql")
    monkeypatch.setattr(mysql, "_mirror", lambda: f"file:{tmp_path}/mirror")
    with pytest.raises(Problem, match=f"(?s)apt-get.*{tmp_path}/mirror"):
        mysql.fetch()
    assert not (tmp_path / "absent").exists()
