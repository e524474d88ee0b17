"""A warehouse's SQL server on this machine: what MariaDB and MySQL share, which is all but their binaries and settings.

It listens on loopback only. The accounts come from an init file that only its owner can read. include/warehouse/schema.py
uses the administrator account to grant etl and bi their permissions.
"""

from __future__ import annotations

import abc
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from local.files import write_private
from local.layout import socket_path
from local.problems import Problem
from local.servers.server import ADMIN, HOST, Server

if TYPE_CHECKING:
    from MySQLdb.connections import Connection

ETL = "etl"
BI = "bi"
ACCOUNTS = (ADMIN, ETL, BI)


@dataclass(frozen=True)
class WarehouseServer(Server):
    """A server for the warehouse; see Server."""

    port: int = 3306

    @property
    def socket(self) -> Path:
        return socket_path(f"{self.name.lower()}.sock", self.home)

    def prepare(self) -> list[str]:
        self.configure(base := self.unpacked())
        if not (self.home / "data" / "mysql").is_dir():
            self.fill_data_folder(lambda draft: self.initializer(base, draft))
        return self.command()

    def configure(self, base: Path) -> None:
        """Write the configuration and the accounts for the binaries in `base`."""
        for folder in ("data", "tmp"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = self.configuration(base)
        if os.getuid() == 0:
            configuration += "user = root\n"
        (self.home / "my.cnf").write_text(configuration)
        write_private(self.home / "accounts.sql", _accounts(self.passwords, self.statements_at_start))

    def log_in(self) -> None:
        """Check that the administrator can log in: the server runs the init file before it accepts logins."""
        self.administrator().close()

    def administrator(self) -> Connection:
        """A session of the administrator; the caller closes it."""
        import MySQLdb

        return MySQLdb.connect(
            host=HOST, port=self.port, user=ADMIN, passwd=self.passwords[ADMIN], connect_timeout=5, autocommit=True
        )

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        import MySQLdb

        return (MySQLdb.Error,)

    # What differs between the servers.
    statements_at_start: ClassVar[tuple[str, ...]]

    @staticmethod
    @abc.abstractmethod
    def unpacked() -> Path:
        """The folder of the server's binaries."""

    @abc.abstractmethod
    def configuration(self, base: Path) -> str:
        """The text of its option file."""

    @abc.abstractmethod
    def initializer(self, base: Path, data: Path) -> list[str]:
        """The command that initializes a data folder."""


def _accounts(passwords: Mapping[str, str], more: tuple[str, ...]) -> str:
    """Statements that are run at each start; one statement per line, as an init file requires."""
    lines = []
    for name in ACCOUNTS:
        account = f"'{name}'@'{HOST}'"
        password = passwords[name]
        if not password.replace("-", "").replace("_", "").isalnum():
            raise Problem(
                "Warehouse",
                f"the password of {name} contains characters other than letters, digits, - and _",
                "Change it in MINUTEMARK_PASSWORDS of .local/env.",
            )
        lines.append(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';")
        lines.append(f"ALTER USER {account} IDENTIFIED BY '{password}';")
    lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{ADMIN}'@'{HOST}' WITH GRANT OPTION;")
    return "\n".join([*lines, *more]) + "\n"
