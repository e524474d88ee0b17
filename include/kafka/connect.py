"""Kafka Connect as the ingest mode: a sink connector for each pipeline's topic, registered by `python -m include.kafka.connect`.

The connector is docker/connect/lake-sink.json, filled from the declaration. The transform in docker/connect/transform reads
each message and computes minute and shard from the event; messages that cannot be events go to the dead-letter
topic (include/kafka/dead_letters.py). This module needs only Python's standard library.
"""

from __future__ import annotations

import argparse
import base64
import http.client
import json
import os
import re
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Mapping
from pathlib import Path

from include.errors import MinutemarkError
from include.kafka.ingest_mode import CONNECT, dead_letters_of, ingest_mode
from include.pipelines import Pipeline, all_pipelines

# Columns that the transform computes under other names; all others have the same name in its output and in the table.
_COMPUTED = {"minute": "_minute", "shard": "_shard"}
_PATIENCE = 1_800.0  # seconds: on a first start, the set-up DAG needs minutes to create the tables
_PAUSE = 5.0
_REPORT_EVERY = 15.0
_WATCH_TIMEOUT = 5.0  # seconds: the watch has other pipelines to check
URL_SETTING = "MINUTEMARK_CONNECT_URL"
LOGIN_SETTING = "MINUTEMARK_CONNECT_LOGIN"  # name:password


class ConnectError(MinutemarkError):
    """A connector that is not running, a missing or refused login, or an unusable template; the message says what to do."""


def name_of(pipeline: Pipeline) -> str:
    """The connector's name. Connect derives the consumer group from it (include/kafka/ingest_mode.py)."""
    return f"minutemark-{pipeline.name}"


def connector(pipeline: Pipeline, template: str) -> dict[str, str]:
    """The configuration of the pipeline's connector. Raises ConnectError for a template that is not JSON."""
    own_id = [] if pipeline.event_id == "create_time" else [pipeline.event_id]
    columns = ("minute", "shard", "create_time", *own_id, "payload")
    computed_columns = _COMPUTED | dict.fromkeys(own_id, "_id")
    retention = pipeline.lake_retention
    values = {
        "<topic>": pipeline.topic,
        "<dead_letters>": dead_letters_of(pipeline.topic),
        "<lake_table>": pipeline.lake_table,
        "<columns>": ", ".join(columns),
        "<variables>": ", ".join(f":{column}" for column in columns),
        "<mapping>": ", ".join(f"{column}=value.{computed_columns.get(column, column)}" for column in columns),
        "<id_field>": pipeline.event_id,
        "<time_field>": pipeline.event_time or "",
        "<null_words>": ",".join(pipeline.null_words),
        "<shards>": str(pipeline.shards),
        "<retention_seconds>": str(int(retention.total_seconds()) if retention else 0),
    }

    def fill(text: str) -> str:
        for placeholder, value in values.items():
            text = text.replace(placeholder, value)
        return text

    try:
        settings = json.loads(template)
        if not isinstance(settings, dict):
            raise ValueError(f"its top level is a {type(settings).__name__}")
    except ValueError as error:
        raise ConnectError(f"The connector's template is not a JSON object: {error}. Correct it.") from error
    # Connect takes strings only. A template may well have a number, such as its own `tasks.max`.
    texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in settings.items()}
    return {fill(name): fill(text) for name, text in texts.items()}


def without_login(url: str) -> str:
    """The address without a name and password in it: messages and logs quote it."""
    return re.sub("//.*@", "//", url.strip()).rstrip("/")


class Connect:
    """Connect's REST interface; `login` is `name:password`, or empty. A login in the address is ignored.

    Methods raise ConnectError if the login is missing or refused, or the address is ambiguous, and OSError for any other
    failure.
    """

    def __init__(self, url: str, login: str = "", *, timeout: float = 30.0) -> None:
        self._url, self._timeout = re.sub("//[^/?#]*@", "//", url.strip()).rstrip("/"), timeout
        self._headers = {"Content-Type": "application/json"}
        if login:
            self._headers["Authorization"] = f"Basic {base64.b64encode(login.encode()).decode()}"

    def names(self) -> list[str]:
        """The connectors that are registered."""
        return self._send("GET", "/connectors")

    def register(self, name: str, config: Mapping[str, str]) -> None:
        """Create the connector, or update its configuration."""
        self._send("PUT", f"/connectors/{name}/config", config)

    def remove(self, name: str) -> None:
        """Delete the connector if it exists; its group's offsets stay."""
        try:
            self._send("DELETE", f"/connectors/{name}")
        except urllib.error.HTTPError as error:
            if error.code != 404:
                raise

    def problem_of(self, name: str) -> str | None:
        """What keeps the connector or one of its tasks from running; None if all run."""
        status = self._send("GET", f"/connectors/{name}/status")
        parts = [status["connector"], *status["tasks"]]
        if not status["tasks"]:
            return "it has no task yet"
        return next((_problem_of(part) for part in parts if part["state"] != "RUNNING"), None)

    def restart(self, name: str) -> None:
        """Restart the connector and its tasks, but only those that have failed."""
        self._send("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    def _send(self, method: str, path: str, body: Mapping | None = None):
        if "@" in self._url:  # its host may be part of a password, to which our login must not be sent
            raise ConnectError(
                f"Connect at {without_login(self._url)} has an @ in its path, or a login with a slash. Write only host and port, "
                f"and the login in {LOGIN_SETTING}."
            )
        data = None if body is None else json.dumps(body).encode()
        try:
            request = urllib.request.Request(self._url + path, data, self._headers, method=method)
            with urllib.request.urlopen(request, timeout=self._timeout) as response:
                return json.loads(response.read() or b"{}")
        except urllib.error.HTTPError as error:
            if error.code != 401:
                raise
            state = "is refused" if "Authorization" in self._headers else "is not set"
            raise ConnectError(
                f"Kafka Connect at {self._url} requires a login, and {LOGIN_SETTING} {state} (status 401). "
                f"Set {LOGIN_SETTING}=name:password as in the worker's logins.properties."
            ) from None
        except (OSError, http.client.HTTPException, ValueError) as error:
            # Connect is down or was killed while it answered, or the address is not a URL or belongs to another server.
            reason = repr(error) if isinstance(error, http.client.HTTPException) else error
            raise OSError(f"Connect at {self._url} gives no usable answer: {reason}") from error


def _problem_of(part: Mapping[str, str]) -> str:
    lines = part.get("trace", "").strip().splitlines()
    causes = [line for line in lines if line.startswith("Caused by:")]
    return " ".join([part["state"].lower(), *(causes[-1:] or lines[:1])])


def register_all(
    connect: Connect,
    pipelines: Iterable[Pipeline],
    template: str,
    *,
    patience: float = _PATIENCE,
    pause: float = _PAUSE,
) -> None:
    """Register a connector for each pipeline, and restart it until it runs.

    Connect may start before set-up has created the tables and topics. Prints why it waits. Raises ConnectError after
    `patience` seconds, or at once if Connect refuses the login.
    """
    started, configs = time.monotonic(), {name_of(pipeline): connector(pipeline, template) for pipeline in pipelines}
    queue, registered, reports = list(configs), set(), _Reports()
    while queue:
        name, problem = queue.pop(0), None
        try:
            if name not in registered:
                connect.register(name, configs[name])
                registered.add(name)
            problem = connect.problem_of(name)
            if problem is None:
                print(f"Connector {name} is running.", flush=True)
                continue
            connect.restart(name)
        except OSError as error:  # not up yet, or busy with the previous connector
            problem = problem or str(error)
        queue.append(name)  # after the others, which must not wait for what this connector lacks
        seconds = time.monotonic() - started
        if seconds > patience:
            raise ConnectError(
                f"Connector {name} is not running: {problem}. Read the worker's log. "
                "If tables or topics are missing, run minutemark_setup."
            )
        reports.add(f"Waiting for connector {name}: {problem}", seconds)
        time.sleep(pause)


def restart_failed(pipeline: Pipeline, environ: Mapping[str, str] = os.environ) -> str | None:
    """Restart the failed parts of the pipeline's connector; returns what keeps it from running, or None.

    Without MINUTEMARK_CONNECT_URL, the address of Connect, it does nothing and returns None. The login is
    MINUTEMARK_CONNECT_LOGIN.
    """
    url = environ.get(URL_SETTING, "").strip()
    if not url:
        return None
    connect, name = Connect(url, environ.get(LOGIN_SETTING, ""), timeout=_WATCH_TIMEOUT), name_of(pipeline)
    try:
        problem = connect.problem_of(name)
        if problem and problem.startswith("failed"):  # restarting a task that is still starting would only delay it
            connect.restart(name)
        return problem
    except urllib.error.HTTPError as error:
        if error.code == 404:
            return (
                "it is not registered. Register it: python -m include.kafka.connect URL docker/connect/lake-sink.json "
                "(with the Astro CLI: astro dev restart)"
            )
        return f"Connect at {without_login(url)} answers with an error: {error}"
    except (ConnectError, OSError) as error:
        return str(error)


class _Reports:
    """Prints a line when it differs from the previous one, and every 15 seconds."""

    def __init__(self) -> None:
        self._line, self._next = "", 0.0

    def add(self, line: str, seconds: float) -> None:
        if line != self._line or seconds >= self._next:
            print(f"{line} ({seconds:.0f} s; the DAG minutemark_setup creates tables and topics)", flush=True)
            self._line, self._next = line, seconds + _REPORT_EVERY


def main(arguments: list[str] | None = None) -> int:
    """Register the connectors if MINUTEMARK_INGEST=connect, else remove them: two modes would ingest everything twice.

    The login of Connect is MINUTEMARK_CONNECT_LOGIN, `name:password`.
    """
    parser = argparse.ArgumentParser(prog="python -m include.kafka.connect", description=main.__doc__)
    parser.add_argument("url", help="address of Kafka Connect, such as http://connect:8083")
    parser.add_argument("template", type=Path, help="template of the connector, such as docker/connect/lake-sink.json")
    args = parser.parse_args(arguments)
    connect, pipelines = Connect(args.url, os.environ.get(LOGIN_SETTING, "")), all_pipelines().values()
    try:
        if ingest_mode() == CONNECT:
            register_all(connect, pipelines, args.template.read_text(encoding="utf-8"))
        else:
            for pipeline in pipelines:
                connect.remove(name_of(pipeline))
    except (MinutemarkError, OSError) as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
