"""A real Airflow API server with this project's DAGs and plugin. Its connections are in its own database."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from local import waiting
from local.layout import ROOT
from local.loopback import answer, json_request
from local.process import Child, free_port

# The commands that an operator would run, in one process, because each process takes seconds to start.
_PREPARE = """
import sys
from airflow.cli import cli_parser
for words in (["db", "migrate"], ["connections", "import", sys.argv[1]], ["dags", "reserialize"]):
    arguments = cli_parser.get_parser().parse_args(words)
    arguments.func(arguments)
"""


@dataclass(frozen=True)
class ApiServer:
    """A running API server: its URL, and the passwords of its users."""

    url: str
    passwords: Mapping[str, str]

    def token(self, user: str) -> str:
        """The token that the user gets by logging in."""
        return self.send("POST", "/auth/token", {"username": user, "password": self.passwords[user]})["access_token"]

    def send(
        self, method: str, path: str, body: Mapping | None = None, user: str | None = None, token: str | None = None
    ) -> dict:
        """Send a request as that user, or with that token; returns the JSON of the response."""
        if user is not None:
            token = self.token(user)
        return answer(json_request(method, self.url + path, body, token), 60)


@contextlib.contextmanager
def site(folder: Path, connections: Mapping[str, str], users: Mapping[str, str]) -> Iterator[ApiServer]:
    """A server in that folder, for tests and benchmarks; `users` maps names to roles.

    `connections` are variables AIRFLOW_CONN_<ID>; they are stored in its database, not in its environment.
    """
    port = free_port()
    definitions = {name.removeprefix("AIRFLOW_CONN_").lower(): json.loads(value) for name, value in connections.items()}
    for connection in definitions.values():
        connection["extra"] = json.dumps(connection.get("extra", {}))
    file = folder / "connections.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(definitions))
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith(("AIRFLOW", "_AIRFLOW"))},
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "dags"),
        "AIRFLOW__CORE__PLUGINS_FOLDER": str(ROOT / "plugins"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__UNIT_TEST_MODE": "False",
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_USERS": ",".join(f"{name}:{role}" for name, role in users.items()),
        "AIRFLOW__CORE__FERNET_KEY": "yYmWG3CWHfrYYH7aVzPzT7DCNj4hyNHuzsL0Hj3J3Hs=",
        "AIRFLOW__API_AUTH__JWT_SECRET": "a secret that signs only the tokens of this server",
        "AIRFLOW__API__BASE_URL": f"http://127.0.0.1:{port}",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "PYTHONPATH": str(ROOT),
        "MINUTEMARK_DEMO": "",
    }
    preparation = Child([sys.executable, "-c", _PREPARE, str(file)], folder / "prepare.log", environment)
    waiting.until(
        lambda: _require_end(preparation),
        what="Airflow's database",
        seconds=120,
        errors=(BlockingIOError,),
        log=str(preparation.log),
    )
    options = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command = [sys.executable, "-m", "airflow", "api-server", *options]
    server = Child(command, folder / "api-server.log", environment)
    try:
        running = ApiServer(f"http://127.0.0.1:{port}", {})
        waiting.until(
            lambda: running.send("GET", "/api/v2/monitor/health"),
            what=running.url, seconds=120, errors=(OSError, ValueError), alive=server.alive, log=str(server.log),
        )  # fmt: skip
        passwords = json.loads((folder / "simple_auth_manager_passwords.json.generated").read_text())
        yield ApiServer(running.url, passwords)
    finally:
        server.stop()


def _require_end(process: Child) -> None:
    if process.alive():
        raise BlockingIOError("its preparation is still running")
    if process.exit_code:
        raise RuntimeError(f"Airflow's database could not be prepared:\n{process.log.read_text()[-5000:]}")
