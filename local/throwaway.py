"""Throw-away stores for tests and benchmarks: `python -m local.throwaway` starts them and keeps them until Ctrl-C.

With MINUTEMARK_TEST_STORES=<the path that it prints> in the environment, test sessions use these stores and start none.
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
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from include.errors import MinutemarkError
from local import connections
from local.process import free_port
from local.servers import cassandra, kafka, mariadb, mysql, postgres
from local.servers.warehouse_server import WarehouseServer

SPARK_MASTER = "local[2]"
_MEMORY = Path("/dev/shm")
_PREFIX, _LOCK = "minutemark-stores-", "lock"
_SECONDS_TO_LOCK = 60  # a new folder has its lock long before that
_REQUIRED_MEMORY = 4 << 30  # bytes: the stores of the two processes of `make test` take half of it


@contextlib.contextmanager
def data_folder() -> Iterator[Path]:
    """A new folder for the data of stores: in memory if enough is free, because DDL waits for writes to a disk."""
    if _MEMORY.is_dir():
        _remove_leftovers()
    in_memory = _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free > _REQUIRED_MEMORY
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir=_MEMORY if in_memory else None) as name:
        draft = Path(name) / "lock.new"
        with draft.open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            draft.rename(Path(name) / _LOCK)
            yield Path(name)


def _remove_leftovers() -> None:
    """Remove the folders of killed sessions: they are unlocked, or have no lock if the session was killed at once."""
    for folder in _MEMORY.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if not (folder / _LOCK).exists():
                if time.time() - folder.stat().st_mtime > _SECONDS_TO_LOCK:
                    shutil.rmtree(folder)
                continue
            with (folder / _LOCK).open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder)


@contextlib.contextmanager
def cassandra_node(folder: Path, *, heap_mb: int = 512, throw_away: bool = True) -> Iterator[dict[str, str]]:
    """A node without data; yields the variables of its connections."""
    passwords = connections.new_passwords()
    accounts = connections.lake_passwords(passwords)
    ports: dict[str, Any] = {"port": free_port(), "storage_port": free_port()}
    node = cassandra.Node(folder / "cassandra", passwords=accounts, throw_away=throw_away, heap_mb=heap_mb, **ports)
    with node.running():
        yield connections.lake(passwords, node.port)


def warehouse_server(
    folder: Path, passwords: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[dict[str, str]]:
    """The server that MINUTEMARK_WAREHOUSE names, without data; yields the variables of its connections."""
    start = mysql_server if os.environ.get("MINUTEMARK_WAREHOUSE") == "mysql" else mariadb_server
    return start(folder, passwords)


def mariadb_server(
    folder: Path, passwords: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[dict[str, str]]:
    """A MariaDB server without data; yields the variables of its connections."""
    return _warehouse_server(mariadb.Server, folder / "mariadb", passwords)


def mysql_server(
    folder: Path, passwords: Mapping[str, str] | None = None
) -> contextlib.AbstractContextManager[dict[str, str]]:
    """A MySQL server without data; yields the variables of its connections."""
    return _warehouse_server(mysql.Server, folder / "mysql", passwords)


@contextlib.contextmanager
def _warehouse_server(
    kind: type[WarehouseServer], home: Path, passwords: Mapping[str, str] | None
) -> Iterator[dict[str, str]]:
    passwords = passwords or connections.new_passwords()
    server = kind(home, free_port(), connections.warehouse_passwords(passwords), throw_away=True)
    with server.running():
        yield connections.warehouse(passwords, server.port)


@contextlib.contextmanager
def kafka_broker(folder: Path) -> Iterator[dict[str, str]]:
    """A broker without topics; yields the variable of its connection."""
    passwords = connections.new_passwords()
    accounts = connections.broker_passwords(passwords)
    broker = kafka.Broker(folder / "kafka", free_port(), accounts, controller_port=free_port())
    with broker.running():
        yield connections.broker(passwords, broker.port)


@contextlib.contextmanager
def postgres_server(folder: Path, passwords: Mapping[str, str] | None = None) -> Iterator[postgres.Server]:
    """A PostgreSQL server with empty databases for metadata and the lakehouse's catalog; `passwords` are by account."""
    passwords = passwords or connections.postgres_passwords(connections.new_passwords())
    server = postgres.Server(folder / "postgres", free_port(), passwords, throw_away=True)
    with server.running(patience=30):
        yield server


def main() -> int:
    """Start the stores, print the path of the file with their connections, and keep them running until Ctrl-C."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        with data_folder() as folder, contextlib.ExitStack() as stores:
            _start_all(folder, stores)
            signal.pause()
    except MinutemarkError as problem:
        print(problem, file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        pass
    return 0


def _start_all(folder: Path, stores: contextlib.ExitStack) -> None:
    print("Starting the warehouse, Kafka and Cassandra …", flush=True)
    content = {
        **stores.enter_context(warehouse_server(folder)),
        **stores.enter_context(kafka_broker(folder)),
        **stores.enter_context(cassandra_node(folder)),
        **connections.spark(SPARK_MASTER),
    }
    file = folder / "connections.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(content, indent=1))
    print(f"export MINUTEMARK_TEST_STORES={file}\nCtrl-C stops them.", flush=True)


if __name__ == "__main__":
    sys.exit(main())
