"""The parts of Airflow's REST API that the local stack uses: health, pools, connections, DAGs, runs and backfills."""

from __future__ import annotations

import contextlib
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from local import login
from local.layout import LOGS
from local.loopback import answer, json_request
from local.problems import Problem

_HEALTH = "/api/v2/monitor/health"
TIMEOUT = 90.0  # seconds; a write waits for the writes of a scheduler that has just started


class Airflow:
    """The API server on loopback, as its administrator."""

    def __init__(self, port: int, passwords: Path = login.PASSWORDS) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self._passwords = passwords
        self._token: str | None = None

    def health(self) -> dict[str, str | None]:
        """State of each component by name; raises OSError while the server does not answer."""
        components = self._send("GET", _HEALTH)
        return {name: component["status"] for name, component in components.items()}

    def make_pool(self, name: str, slots: int, description: str) -> None:
        """Create a pool; an existing one keeps its slots."""
        body = {"name": name, "slots": slots, "description": description, "include_deferred": False}
        try:
            self._send("POST", "/api/v2/pools", body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise

    def make_connection(self, conn_id: str, fields: Mapping[str, object]) -> None:
        """Create or update a connection; `fields` are conn_type, host, port, login, password and extra."""
        body = {"connection_id": conn_id, **fields}
        try:
            self._send("POST", "/api/v2/connections", body)
        except urllib.error.HTTPError as error:
            if error.code != 409:
                raise
            self._send("PATCH", f"/api/v2/connections/{urllib.parse.quote(conn_id)}", body)

    def get(self, path: str) -> dict:
        """The JSON of any other path of the API server, such as a plugin's."""
        return self._send("GET", path)

    def dags(self) -> dict[str, bool]:
        """Whether each known DAG is paused."""
        dags: dict[str, bool] = {}
        while True:  # a page has at most [api] maximum_page_limit DAGs, whatever the limit here
            page = self._send("GET", f"/api/v2/dags?limit=200&offset={len(dags)}&exclude_stale=true&order_by=dag_id")
            dags |= {dag["dag_id"]: dag["is_paused"] for dag in page["dags"]}
            if not page["dags"] or len(dags) >= page["total_entries"]:
                return dags

    def import_errors(self) -> dict[str, str]:
        """The last line of the error of each file that cannot be imported."""
        response = self._send("GET", "/api/v2/importErrors?limit=20")
        return {error["filename"]: error["stack_trace"].strip().splitlines()[-1] for error in response["import_errors"]}

    def unpause(self, dag_id: str) -> None:
        self._set_paused(dag_id, False)

    def pause(self, dag_id: str) -> None:
        """No run starts from now on; a running one continues to the end of its running task."""
        self._set_paused(dag_id, True)

    def _set_paused(self, dag_id: str, is_paused: bool) -> None:
        self._send("PATCH", f"/api/v2/dags/{urllib.parse.quote(dag_id)}", {"is_paused": is_paused})

    def trigger(self, dag_id: str, note: str, conf: Mapping | None = None) -> str:
        """Start a manual run; returns its id."""
        body = {"logical_date": None, "note": note, "conf": dict(conf or {})}
        return self._send("POST", f"/api/v2/dags/{urllib.parse.quote(dag_id)}/dagRuns", body)["dag_run_id"]

    def backfill(self, dag_id: str, start: datetime, end: datetime, *, reprocess: bool = True) -> int:
        """Start a backfill of the intervals that begin between `start` and `end` (UTC, both included); returns its id.

        With `reprocess`, completed runs of these intervals are cleared and run again.
        """
        body = {
            "dag_id": dag_id,
            "from_date": f"{start.isoformat()}Z",
            "to_date": f"{end.isoformat()}Z",
            "reprocess_behavior": "completed" if reprocess else "none",
            "max_active_runs": 1,
        }
        return self._send("POST", "/api/v2/backfills", body)["id"]

    def backfill_is_over(self, backfill_id: int) -> bool:
        """Whether all runs of the backfill have ended."""
        return self._send("GET", f"/api/v2/backfills/{backfill_id}")["completed_at"] is not None

    def runs(self, dag_id: str, limit: int = 5) -> list[dict]:
        """The newest runs of a DAG."""
        path = f"/api/v2/dags/{urllib.parse.quote(dag_id)}/dagRuns?order_by=-run_after&limit={limit}"
        return self._send("GET", path)["dag_runs"]

    def run_state(self, dag_id: str, run_id: str) -> str:
        """The state of a run: queued, running, success or failed."""
        path = f"/api/v2/dags/{urllib.parse.quote(dag_id)}/dagRuns/{urllib.parse.quote(run_id)}"
        return self._send("GET", path)["state"]

    def tasks(self, dag_id: str, run_id: str, *states: str) -> list[str]:
        """Tasks of a run that are in one of these states."""
        ids = f"{urllib.parse.quote(dag_id)}/dagRuns/{urllib.parse.quote(run_id)}"
        query = urllib.parse.urlencode([("state", state) for state in states])
        return [
            task["task_id"] for task in self._send("GET", f"/api/v2/dags/{ids}/taskInstances?{query}")["task_instances"]
        ]

    def running_task(self, dag_id: str, task_id: str) -> tuple[str, int] | None:
        """The ids of the run and of the process of that task, if it is running in any run of the DAG."""
        path = f"/api/v2/dags/{urllib.parse.quote(dag_id)}/dagRuns/~/taskInstances?state=running"
        tasks = [task for task in self._send("GET", path)["task_instances"] if task["task_id"] == task_id]
        return next(((task["dag_run_id"], task["pid"]) for task in tasks if task["pid"]), None)

    def failed_task(self, dag_id: str, run_id: str) -> str | None:
        """The first failed task of a run; None if no task has failed."""
        return next(iter(self.tasks(dag_id, run_id, "failed")), None)

    def _send(self, method: str, path: str, body: Mapping | None = None) -> dict:
        if path == _HEALTH:  # callers of `health` expect OSError while the server starts
            return answer(json_request(method, self.url + path, body), TIMEOUT)
        return self._answer(method, path, body, self._log_in())

    def _log_in(self) -> str:
        if self._token is None:
            credentials = login.credentials(self._passwords)
            self._token = self._answer("POST", "/auth/token", credentials)["access_token"]
        return self._token

    def _answer(self, method: str, path: str, body: Mapping | None, token: str | None = None) -> dict:
        """The response's JSON; raises Problem if the server accepts the request and does not answer in time."""
        try:
            return answer(json_request(method, self.url + path, body, token), TIMEOUT)
        except TimeoutError as error:
            raise Problem(
                "Airflow's API",
                f"no answer to {method} {path} within {TIMEOUT:.0f} s",
                f"The machine may be overloaded: try again, or read {LOGS / 'api-server.log'}.",
            ) from error


@contextlib.contextmanager
def explained() -> Iterator[None]:
    """Raises Problem in place of an error response, and if the server cannot be reached."""
    try:
        yield
    except urllib.error.HTTPError as error:
        raise explain(error) from error
    except (urllib.error.URLError, ConnectionError) as error:
        raise Problem(
            "Airflow's API",
            f"it cannot be reached: {error}",
            f"Read {LOGS / 'api-server.log'}, then run the same command again.",
        ) from error


def explain(error: urllib.error.HTTPError) -> Problem:
    """Airflow's error response as a Problem."""
    text = error.read().decode(errors="replace")[:300]
    return Problem("Airflow's API", f"{error.code} for {error.url}: {text}", f"Read {LOGS / 'api-server.log'}.")
