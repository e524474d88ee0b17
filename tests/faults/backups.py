"""Backups of the stack's stores, made and restored as docs/backup.md describes: a dump of the warehouse, files of the lake."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from include import pipelines
from include.connections import WAREHOUSE_ADMIN, endpoint
from include.lake.session import lake
from local import layout, start, supervisor
from local.servers import mariadb
from tests.faults.system import CannotInject, System

LAKE = start.CASSANDRA  # the name of the program and of its data folder


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A temporary folder for the backup of a scenario."""
    with tempfile.TemporaryDirectory(prefix="mm-backup-") as name:
        yield Path(name)


def dump_warehouse(system: System, file: Path) -> None:
    """Write a consistent dump of the warehouse while the stack runs."""
    databases = sorted({"etl", *pipelines.all_pipelines()})
    with file.open("wb") as dump:
        _client(system, "mariadb-dump", "--single-transaction", "--databases", *databases, stdout=dump)


def restore_warehouse(system: System, file: Path) -> None:
    """Restore the warehouse to the state of the dump, without anything that was written later."""
    with system.admin() as cursor:
        for database in {"etl", *pipelines.all_pipelines()}:
            cursor.execute(f"DROP DATABASE `{database}`")
    with file.open("rb") as dump:
        _client(system, "mariadb", stdin=dump)


def _client(system: System, program: str, *arguments: str, **streams) -> None:
    if system.stack.warehouse != start.MARIADB:
        raise CannotInject("only MariaDB's client programs are part of the stack")
    server = endpoint(WAREHOUSE_ADMIN)
    options = (
        f"[client]\nhost={server.host}\nport={server.port}\nuser={server.login}\npassword={server.password}\nskip-ssl\n"
    )
    with tempfile.NamedTemporaryFile("w", suffix=".cnf") as file:  # mode 0600: no password among the arguments
        file.write(options)
        file.flush()
        path = mariadb.Server.unpacked() / "bin" / program
        subprocess.run([path, f"--defaults-file={file.name}", *arguments], check=True, timeout=120, **streams)


def copy_lake(system: System, copy: Path) -> None:
    """Copy the node's files, all as of one moment."""
    with _lake_down(system):
        shutil.copytree(layout.DATA / LAKE, copy)


def restore_lake(system: System, copy: Path) -> None:
    """Restore the node's files."""
    with _lake_down(system):
        shutil.rmtree(layout.DATA / LAKE)
        shutil.copytree(copy, layout.DATA / LAKE)


@contextlib.contextmanager
def _lake_down(system: System) -> Iterator[None]:
    supervisor.stop(LAKE)
    try:
        yield
    finally:
        supervisor.start(LAKE)

    def answers() -> bool:
        with lake("lake_reader") as session:
            return bool(session.execute("SELECT key FROM system.local").one())

    system.until(answers, "the lake to answer", 120, every=1)
