"""`make dashboards`: Apache Superset with the boards of dashboards/superset, alongside a running warehouse.

It has a separate Python environment and joins the supervisor that is already running. Its secrets (a key, a login
password, the bi account's connection) are in private files, and from there in its processes' environment.
"""

from __future__ import annotations

import json
import os
import secrets
import urllib.error
from collections.abc import Mapping

from dashboards.superset import tabs
from include.warehouse.errors import is_driver_error
from local import bootstrap, environment, ports, supervisor, waiting, warehouse
from local.files import write_private
from local.layout import DATA, ROOT, STATE, SUPERSET
from local.loopback import answer, fetch, json_request
from local.problems import Problem
from local.progress import say, step
from local.supervisor import Program

SERVER, LOAD = "superset", "superset-load"
ACCOUNT = "analyst"  # dashboards/superset/load.py makes it
FOLDER = ROOT / "dashboards" / "superset"
LOCK = FOLDER / "requirements.lock"
HOME = DATA / "superset"
SECRETS = HOME / "secrets.json"
NOT_INHERITED = ("MINUTEMARK_", "SUPERSET", "AIRFLOW", "PYTHON", "FLASK")


def start() -> None:
    """Install and start Superset, and return when its boards answer. Raises Problem."""
    if not supervisor.running():
        raise Problem("make dashboards", "the stack is not running", "Run `make run` or `make services` first.")
    _require_views()
    install()
    chosen = ports.chosen()
    if not supervisor.is_up_or_starting(SERVER):
        ports.require_free(chosen, ("SUPERSET_PORT",))
    ports.save(chosen)
    known = own_secrets()
    env = superset_environment()
    supervisor.add_programs(
        Program(LOAD, load_command(), 80, once=True, env=env, directory=HOME),
        Program(SERVER, serve_command(chosen["SUPERSET_PORT"]), 80, env=env, directory=HOME),
    )
    with step("load the boards"):
        supervisor.start(LOAD)
        supervisor.wait_for_exit(LOAD, 900)
    url = f"http://127.0.0.1:{chosen['SUPERSET_PORT']}"
    with step("start Superset"):
        supervisor.start(SERVER)
        waiting.until(
            lambda: fetch(f"{url}/health", 5),
            what=f"Superset on {url}",
            seconds=600,
            errors=(OSError,),
            alive=lambda: supervisor.is_up_or_starting(SERVER),
            log=str(supervisor.log_of(SERVER)),
        )
    with step("query each view through Superset"):
        _require_answers(url, known["password"])
    for title, path in addresses():
        say(f"   {title:<14} {url}{path}")
    say(f"   Log in as {ACCOUNT}, password {known['password']}. `make stop` also stops Superset.")


def addresses() -> list[tuple[str, str]]:
    """Title and path of each tab of the dashboard."""
    page = f"/superset/dashboard/{tabs.SLUG}/"
    return [(board["dashboard_title"], f"{page}#{tabs.tab_id(folder)}") for folder, board in tabs.boards().items()]


def install() -> None:
    """Install Superset's environment, exactly as its lock says."""
    bootstrap.install_separately(
        SUPERSET, LOCK, "Superset's environment", "about 150 packages; takes minutes the first time"
    )


def own_secrets() -> dict[str, str]:
    """`key`, which signs sessions, and `password`, which people log in with: made once."""
    if not SECRETS.exists():
        made = {"key": secrets.token_urlsafe(42), "password": secrets.token_urlsafe(12)}
        write_private(SECRETS, json.dumps(made))
    HOME.chmod(0o700)
    return json.loads(SECRETS.read_text())


def superset_environment(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The environment of Superset's processes; the only connection in it is the read-only account's."""
    known, own = environment.read(), own_secrets()
    bi = "AIRFLOW_CONN_WAREHOUSE_BI"
    inherited = environment.user_variables(environ)
    kept = {name: value for name, value in inherited.items() if not name.startswith(NOT_INHERITED)}
    return {
        **kept,
        bi: known[bi],
        "MINUTEMARK_SUPERSET_KEY": own["key"],
        "MINUTEMARK_SUPERSET_PASSWORD": own["password"],
        "SUPERSET_HOME": str(HOME),
        "SUPERSET_CONFIG_PATH": str(FOLDER / "superset_config.py"),
        "FLASK_APP": "superset.app:create_app()",
        # `now` in time ranges is in the time zone of the process, and time columns are in UTC.
        "TZ": "UTC",
        "PYTHONUNBUFFERED": "1",
        "PATH": f"{SUPERSET / 'venv' / 'bin'}:{environ.get('PATH', os.defpath)}",
        environment.MARK: str(STATE),
    }


def _require_views() -> None:
    """Raise Problem if the views of the boards are missing: a version without boards may have set up the warehouse."""
    with warehouse.reader() as connection:
        try:
            connection.cursor().execute("SELECT pipeline FROM etl.board_pipelines LIMIT 1")
        except Exception as error:
            if not is_driver_error(error):
                raise
            raise Problem(
                "Warehouse", f"cannot read the views of the boards: {error.args[-1]}", "Run `./minutemark schema`."
            ) from error


def _require_answers(url: str, password: str) -> None:
    """Query each dataset as a board does: even if Superset is up, it may be unable to reach the warehouse."""
    login = {"username": ACCOUNT, "password": password, "provider": "db"}
    token = _answer("its login", "POST", f"{url}/api/v1/security/login", login)["access_token"]
    count = {"expressionType": "SQL", "sqlExpression": "COUNT(*)", "label": "rows"}
    for dataset in _answer("its datasets", "GET", f"{url}/api/v1/dataset/?q=(page_size:100)", token=token)["result"]:
        query = {
            "datasource": {"id": dataset["id"], "type": "table"},
            "queries": [{"metrics": [count], "columns": [], "row_limit": 1}],
        }
        name = f"its dataset {dataset['schema']}.{dataset['table_name']}"
        _answer(name, "POST", f"{url}/api/v1/chart/data", query, token)


def _answer(what: str, method: str, url: str, body: Mapping | None = None, token: str | None = None) -> dict:
    try:
        return answer(json_request(method, url, body, token), 60)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")[:500]
        raise Problem(
            "Superset",
            f"{what} returned {error.code}: {text}",
            "If a view or a permission is missing, run `./minutemark schema` and `make dashboards` again. Otherwise read "
            f"{supervisor.log_of(SERVER)}.",
        ) from error
    except (OSError, ValueError) as error:  # a timeout, or an answer that is not JSON
        raise Problem(
            "Superset",
            f"{what} could not be read: {error}",
            f"Run `make dashboards` again. If that fails too, read {supervisor.log_of(SERVER)}.",
        ) from error


def load_command() -> list[str]:
    """The command that loads the boards into Superset; it contains no secrets."""
    return [str(SUPERSET / "venv" / "bin" / "python"), str(FOLDER / "load.py")]


def serve_command(port: int) -> list[str]:
    """The command of the server, without secrets. One process with threads is enough for a laptop, and takes half a gigabyte."""
    options = ["--workers", "1", "--worker-class", "gthread", "--threads", "8", "--timeout", "120"]
    # Not venv/bin/gunicorn: its first line names the folder it was installed in, and a checkout may be moved.
    gunicorn = [str(SUPERSET / "venv" / "bin" / "python"), "-m", "gunicorn"]
    return [*gunicorn, *options, "--bind", f"127.0.0.1:{port}", "superset.app:create_app()"]
