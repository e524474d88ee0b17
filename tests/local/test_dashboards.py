"""What Superset gets, how its own secrets are kept, and that no secret is on a command line."""

from __future__ import annotations

import importlib.util
import json
import stat
import threading
from http.server import HTTPServer, SimpleHTTPRequestHandler
from types import ModuleType

import pytest
from sqlalchemy.engine import make_url

from local import connections, dashboards, environment, ports, supervisor, warehouse
from local.problems import Problem

BI = {
    "conn_type": "mysql", "host": "db.example", "port": 3307, "login": "looker", "password": "its-secret",
    "extra": {"ssl": {"ca": "/ca.pem"}},
}  # fmt: skip


@pytest.fixture(autouse=True)
def stack(tmp_path, monkeypatch):
    """A folder of state with `.local/env`, but nothing running."""
    monkeypatch.setattr(environment, "ENV_FILE", tmp_path / "env")
    monkeypatch.setattr(environment, "read", lambda file=tmp_path / "env", read=environment.read: read(file))
    monkeypatch.setattr(dashboards, "HOME", tmp_path / "superset")
    monkeypatch.setattr(dashboards, "SECRETS", tmp_path / "superset" / "secrets.json")
    for name in ("RUN", "LOGS"):
        monkeypatch.setattr(supervisor, name, tmp_path / name.lower())
    environment.prepare(ports.DEFAULTS, {})
    return tmp_path


def test_superset_gets_one_account_only():
    seen = dashboards.superset_environment(
        {
            "AIRFLOW_CONN_LAKE_ADMIN": "{}",
            "MINUTEMARK_PASSWORDS": "{}",
            "PYTHONPATH": "/x",
            "HOME": "/h",
            "PATH": "/bin",
        }
    )
    known = environment.read()
    passwords = json.loads(known["MINUTEMARK_PASSWORDS"])
    shown = [name for name, password in passwords.items() if password in "\n".join(seen.values())]
    assert shown == ["warehouse_bi"]
    assert {name for name in seen if name.startswith("AIRFLOW")} == {connections.variable("warehouse_bi")}
    assert "PYTHONPATH" not in seen and seen["HOME"] == "/h" and seen["TZ"] == "UTC"


def test_no_secret_is_on_a_command_line():
    environment = dashboards.superset_environment({})
    secrets = [environment["MINUTEMARK_SUPERSET_KEY"], environment["MINUTEMARK_SUPERSET_PASSWORD"]]
    secrets.append(json.loads(environment["AIRFLOW_CONN_WAREHOUSE_BI"])["password"])
    for command in (dashboards.load_command(), dashboards.serve_command(8088)):
        line = " ".join(command)
        assert not [secret for secret in secrets if secret in line]
    assert "--bind 127.0.0.1:8088" in line


def test_key_and_password_are_created_once_and_only_for_the_owner(stack):
    first = dashboards.own_secrets()
    assert dashboards.own_secrets() == first and len(set(first.values())) == 2
    assert stat.S_IMODE(dashboards.SECRETS.stat().st_mode) == 0o600
    assert stat.S_IMODE(dashboards.HOME.stat().st_mode) == 0o700


def test_boards_need_a_running_stack():
    with pytest.raises(Problem, match="the stack is not running.*\n.*make run"):
        dashboards.start()


def test_a_superset_that_refuses_is_reported_with_its_answer():
    with HTTPServer(("127.0.0.1", 0), SimpleHTTPRequestHandler) as server:  # refuses a POST
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(Problem, match=r"(?s)its login returned 501: .*Unsupported method.*./minutemark schema"):
            dashboards._require_answers(f"http://127.0.0.1:{server.server_port}", "x")


def test_an_answer_that_is_not_json_is_reported_with_the_log():
    class Page(SimpleHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

    with HTTPServer(("127.0.0.1", 0), Page) as server:
        threading.Thread(target=server.handle_request, daemon=True).start()
        with pytest.raises(Problem, match=r"its login could not be read: .*\n.*`make dashboards` again.*superset.log"):
            dashboards._require_answers(f"http://127.0.0.1:{server.server_port}", "x")


def test_a_warehouse_older_than_the_boards_is_reported(warehouse_server, stack, monkeypatch):
    from tests import emptying

    emptying.drop_warehouse()
    (stack / "env").write_text("".join(f"{name}='{value}'\n" for name, value in warehouse_server.items()))
    with pytest.raises(Problem, match="cannot read the views of the boards.*\n.*./minutemark schema"):
        dashboards._require_views()
    with warehouse.reader() as connection:
        assert connection


def settings(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """superset_config.py, as Superset loads it."""
    for name, value in dashboards.superset_environment({}).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AIRFLOW_CONN_WAREHOUSE_BI", json.dumps(BI))
    spec = importlib.util.spec_from_file_location("superset_config", dashboards.FOLDER / "superset_config.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_account_and_host_are_added_to_the_address_at_each_connect(monkeypatch):
    uri, params = settings(monkeypatch).DB_CONNECTION_MUTATOR(
        make_url("mysql+pymysql://bi@warehouse/ecommerce"), {"pool_pre_ping": True}, "analyst", None, None
    )
    assert uri.render_as_string(hide_password=False) == "mysql+pymysql://looker:its-secret@db.example:3307/ecommerce"
    assert params["pool_pre_ping"] and params["connect_args"]["ssl"] == {"ca": "/ca.pem"}
    assert "READ ONLY" in params["connect_args"]["init_command"]


def test_other_databases_are_left_alone(monkeypatch):
    other = make_url("postgresql://me@elsewhere/x")
    assert settings(monkeypatch).DB_CONNECTION_MUTATOR(other, {}, "analyst", None, None) == (other, {})


def test_a_board_loads_nothing_from_another_host(monkeypatch):
    policy = settings(monkeypatch).TALISMAN_CONFIG["content_security_policy"]
    assert policy["default-src"] == ["'self'"]
    assert not [source for sources in policy.values() for source in sources if "." in source or "*" in source]


def test_a_login_is_required_and_no_response_is_cached(monkeypatch):
    result = settings(monkeypatch)
    assert result.PUBLIC_ROLE_LIKE is None and not result.AUTH_USER_REGISTRATION
    assert result.DATA_CACHE_CONFIG == {"CACHE_TYPE": "NullCache"}
    assert dashboards.own_secrets()["key"] == result.SECRET_KEY
