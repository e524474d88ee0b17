"""Throw-away stores for tests: `python -m local.throwaway` starts them and keeps them until Ctrl-C.

With MINUTEMARK_TEST_STORES=<the file it names> in the environment, test sessions use those instead of their own.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from local import connections
from local.process import Child, free_port
from local.servers import cassandra, kafka, mariadb, mysql, postgres
from local.servers.warehouse_server import ADMIN, WarehouseServer, wait_until_ready

SPARK_MASTER = "local[2]"
_MEMORY = Path("/dev/shm")
_PREFIX, _LOCK = "minutemark-stores-", "lock"
_ROOM = 4 << 30  # bytes: the stores of two processes take half of them


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder for the data of stores: in memory where that has room, because DDL waits for a disk."""
    if _MEMORY.is_dir():
        _remove_leftovers()
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _ROOM
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_MEMORY if in_memory else None) as name:
        draft = Path(name) / "lock.new"
        with draft.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(Path(name) / _LOCK)
            yield Path(name)


def _remove_leftovers() -> None:
    """Sessions that were killed leave their folders, which nobody has locked."""
    for file in _MEMORY.glob(f"{_PREFIX}*/{_LOCK}"):
        with contextlib.suppress(OSError), file.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(file.parent)


@contextlib.contextmanager
def cassandra_node(folder: Path, *, heap_mb: int = 512, throw_away: bool = True) -> Iterator[dict[str, str]]:
    """A node with empty data; yields the variables of its connections."""
    passwords = connections.new_passwords()
    node = cassandra.Node(
        home=folder / "cassandra", port=free_port(), storage_port=free_port(), heap_mb=heap_mb, throw_away=throw_away
    )
    child = Child(node.prepare(), folder / "cassandra.log")
    try:
        cassandra.bootstrap(
            node.port, connections.lake_passwords(passwords), seconds=180, alive=child.alive, log=str(child.log)
        )
        yield connections.lake(passwords, node.port)
    finally:
        child.stop(0)


def warehouse_server(
    folder: Path, passwords: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[dict[str, str]]:
    """The server that WAREHOUSE names, with empty data."""
    start = mysql_server if os.environ.get("MINUTEMARK_WAREHOUSE") == "mysql" else mariadb_server
    return start(folder, passwords)


@contextlib.contextmanager
def mariadb_server(folder: Path, passwords: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A MariaDB server with empty data; yields the variables of its connections."""
    server = mariadb.Server(home=folder / "mariadb", port=free_port(), throw_away=True)
    with _warehouse_server(server, passwords) as variables:
        yield variables


@contextlib.contextmanager
def mysql_server(folder: Path, passwords: Mapping[str, str] | None = None) -> Iterator[dict[str, str]]:
    """A MySQL server with empty data; yields the variables of its connections."""
    server = mysql.Server(home=folder / "mysql", port=free_port(), throw_away=True)
    with _warehouse_server(server, passwords) as variables:
        yield variables


@contextlib.contextmanager
def _warehouse_server(server: WarehouseServer, passwords: Mapping[str, str] | None) -> Iterator[dict[str, str]]:
    passwords = passwords or connections.new_passwords()
    by_account = connections.warehouse_passwords(passwords)
    child = Child(server.prepare(by_account), server.home.with_suffix(".log"))
    try:
        password = by_account[ADMIN]
        wait_until_ready(server.port, password, alive=child.alive, log=str(child.log))
        yield connections.warehouse(passwords, server.port)
    finally:
        child.stop(0)


@contextlib.contextmanager
def kafka_broker(folder: Path) -> Iterator[dict[str, str]]:
    """A broker without topics; yields the variable of its connection."""
    passwords = connections.new_passwords()
    broker = kafka.Broker(folder / "kafka", passwords["kafka_default"], port=free_port(), controller_port=free_port())
    child = Child(broker.prepare(), folder / "kafka.log")
    try:
        kafka.wait_until_ready(broker.port, broker.password, alive=child.alive, log=str(child.log))
        yield connections.broker(passwords, broker.port)
    finally:
        child.stop(0)


@contextlib.contextmanager
def postgres_server(folder: Path, passwords: Mapping[str, str] | None = None) -> Iterator[postgres.Server]:
    """A PostgreSQL server with an empty database for Airflow's metadata."""
    passwords = passwords or connections.metadata_passwords(connections.new_passwords())
    server = postgres.Server(home=folder / "postgres", port=free_port(), throw_away=True)
    child = Child(server.prepare(passwords), folder / "postgres.log")
    try:
        postgres.wait_until_ready(server.port, passwords, alive=child.alive, log=str(child.log))
        yield server
    finally:
        child.stop()


def main() -> None:
    """Start them, say where they are, keep them until Ctrl-C."""
    with data_folder() as folder, contextlib.ExitStack() as stores:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("Starting the warehouse, Kafka and Cassandra …", flush=True)
        found = {
            **stores.enter_context(warehouse_server(folder)),
            **stores.enter_context(kafka_broker(folder)),
            **stores.enter_context(cassandra_node(folder)),
            **connections.spark(SPARK_MASTER),
        }
        file = folder / "connections.json"
        file.touch(mode=0o600)
        file.write_text(json.dumps(found, indent=1))
        print(f"export MINUTEMARK_TEST_STORES={file}\nCtrl-C stops them.", flush=True)
        with contextlib.suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
