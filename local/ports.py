"""The ports of the local stack: from the environment, else `.local/ports`, else defaults. Names the programs on taken ports."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable, Mapping

from local.layout import PORTS_FILE
from local.problems import Problem
from local.process import free_port

DEFAULTS = {
    "AIRFLOW_PORT": 8080,
    "CASSANDRA_PORT": 9042,
    "CASSANDRA_STORAGE_PORT": 7000,
    "MARIADB_PORT": 3306,
    # Not 5432: the machine's own PostgreSQL often uses it, and nobody has to type this one.
    "POSTGRES_PORT": 15432,
    "KAFKA_PORT": 9092,
    "KAFKA_CONTROLLER_PORT": 9093,
    "SUPERSET_PORT": 8088,
    "JUPYTER_PORT": 8888,
    "BIGQUERY_PORT": 9050,
}


def chosen(environ: Mapping[str, str] = os.environ) -> dict[str, int]:
    """The port of each name. Raises Problem for a value that is not a port, or a port that two names share."""
    numbers: dict[str, str | int] = dict(DEFAULTS)
    if PORTS_FILE.exists():
        lines = (line.partition("#")[0].strip() for line in PORTS_FILE.read_text().splitlines())
        for name, _, value in (line.partition("=") for line in lines if line):
            if name.strip() not in DEFAULTS:
                raise Problem(
                    str(PORTS_FILE), f"{name.strip()} is not a port variable", f"Use one of {', '.join(DEFAULTS)}."
                )
            numbers[name.strip()] = value.strip()
    numbers |= {name: environ[name] for name in DEFAULTS if environ.get(name)}
    ports = {name: _number(name, value) for name, value in numbers.items()}
    for name, port in ports.items():
        twin = next((other for other in ports if other != name and ports[other] == port), None)
        if twin:
            raise Problem(
                "Ports", f"{name} and {twin} are both {port}", f"Choose another: run the same command with {name}=…"
            )
    return ports


def save(ports: Mapping[str, int]) -> None:
    """Remember the choice, so that status, dashboards, notebook and the next run use it."""
    PORTS_FILE.write_text("".join(f"{name}={port}\n" for name, port in ports.items()))


def _number(name: str, value: str | int) -> int:
    try:
        port = int(value)
    except ValueError:
        port = 0
    if not 1024 <= port <= 65535:
        raise Problem(
            "Ports",
            f"{name}={value} is not a port between 1024 and 65535",
            f"Choose one: run the same command with {name}=…",
        )
    return port


def require_free(ports: Mapping[str, int], names: Iterable[str]) -> None:
    """Raise Problem for the first of these ports that something listens on."""
    for name in names:
        if _is_taken(ports[name]):
            raise Problem(
                f"Port {ports[name]} ({name})",
                f"taken{_owner(ports[name])}",
                f"Stop that program, or run the same command with another port: {name}={free_port()}",
            )


def _is_taken(port: int) -> bool:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return True
    return False


def _owner(port: int) -> str:
    import psutil

    try:
        for connection in psutil.net_connections("tcp"):
            if connection.status == psutil.CONN_LISTEN and connection.laddr.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass
    return " by a program of another user"
