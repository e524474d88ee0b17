"""A warehouse's SQL server on this machine: what MariaDB and MySQL share, which is all but their binaries and settings.

It listens on loopback only. The accounts come from an init file that only its owner can read; what etl and bi may do is
granted by include/warehouse/schema.py, which works with the administrator made here.
"""

from __future__ import annotations

import abc
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from local import waiting
from local.files import write_private
from local.layout import socket_path
from local.problems import Problem

HOST = "127.0.0.1"
ADMIN = "minutemark_admin"
ETL = "etl"
BI = "bi"
ACCOUNTS = (ADMIN, ETL, BI)


@dataclass(frozen=True)
class WarehouseServer(abc.ABC):
    """Where a server keeps its data and what it listens on."""

    home: Path
    port: int = 3306
    throw_away: bool = False  # for tests: does not wait for the disk at each commit

    name: ClassVar[str]

    @property
    def socket(self) -> Path:
        return socket_path(f"{self.name.lower()}.sock", self.home)

    def prepare(self, passwords: Mapping[str, str]) -> list[str]:
        """Unpack, initialise an empty data folder, write the accounts; return the command that runs the server."""
        self.configure(passwords, base := self.unpacked())
        if not (self.home / "data" / "mysql").is_dir():
            self._initialise(base)
        return self.command()

    def configure(self, passwords: Mapping[str, str], base: Path) -> None:
        """Write the configuration and the accounts for the binaries in `base`."""
        for folder in ("data", "tmp"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self.configuration(base)
        if os.getuid() == 0:
            configuration += "user = root\n"
        (self.home / "my.cnf").write_text(configuration)
        write_private(self.home / "accounts.sql", _accounts(passwords, self.statements_at_start))

    def _initialise(self, base: Path) -> None:
        """Fill a draft folder and move it into place, so that an interrupted start leaves no half-made data."""
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        command = self.initialiser(base, draft)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Problem(
                f"{self.name} in {self.home}",
                f"its data folder can't be made: {(done.stderr or done.stdout).strip()[-800:]}",
                "Free disk space if the disk is full. Otherwise install what the message names as missing, and try again.",
            )
        (self.home / "data").rmdir()
        draft.rename(self.home / "data")

    # What each server has of its own.
    statements_at_start: ClassVar[tuple[str, ...]]

    @staticmethod
    @abc.abstractmethod
    def unpacked() -> Path:
        """The folder of the server's binaries."""

    @abc.abstractmethod
    def command(self) -> list[str]:
        """What runs the prepared server in the foreground."""

    @abc.abstractmethod
    def configuration(self, base: Path) -> str:
        """The text of its option file."""

    @abc.abstractmethod
    def initialiser(self, base: Path, data: Path) -> list[str]:
        """What makes an empty data folder."""


def _accounts(passwords: Mapping[str, str], more: tuple[str, ...]) -> str:
    """Statements that are run at each start; one statement a line, as an init file wants it."""
    lines = []
    for name in ACCOUNTS:
        account = f"'{name}'@'{HOST}'"
        password = passwords[name]
        if not password.replace("-", "").replace("_", "").isalnum():
            raise Problem(
                "Warehouse",
                f"the password of {name} contains characters other than letters, digits, - and _",
                "Choose another.",
            )
        lines.append(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';")
        lines.append(f"ALTER USER {account} IDENTIFIED BY '{password}';")
    lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{ADMIN}'@'{HOST}' WITH GRANT OPTION;")
    return "\n".join([*lines, *more]) + "\n"


def wait_until_ready(
    port: int,
    password: str,
    *,
    seconds: float = 180,
    alive: Callable[[], bool] = lambda: True,
    log: str = "",
) -> None:
    """Return when the administrator can log in; the init file ran before that. Raises Problem when it can't."""
    import MySQLdb

    def log_in() -> None:
        MySQLdb.connect(host=HOST, port=port, user=ADMIN, passwd=password, connect_timeout=5).close()

    waiting.until(
        log_in,
        what=f"The warehouse's server on {HOST}:{port}",
        seconds=seconds,
        errors=(MySQLdb.Error,),
        alive=alive,
        log=log,
    )
