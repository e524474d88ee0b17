"""A real MySQL server without Docker: Debian's packages of it and of what it needs, unpacked into one folder.

The system's apt downloads them from its Debian mirror, from the unstable suite: the only one that has MySQL. apt's lists
and state are below `.local/`, so that nothing in the system changes, and root is not needed. The packages' own loader
starts the server, because their C library is newer than the system's. `python3 -m local.servers.mysql` fetches the
packages, or prints why it cannot.
"""

from __future__ import annotations

import fcntl
import functools
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from local.layout import MYSQL
from local.problems import Problem
from local.progress import say, step
from local.servers.warehouse_server import HOST, WarehouseServer

# Defaults that the image's own configuration leaves alone are left alone here too: tests should meet what users meet.
_CONFIGURATION = """\
[mysqld]
basedir = {base}/usr
datadir = {home}/data
tmpdir = {home}/tmp
plugin-dir = {base}/usr/lib/mysql/plugin
socket = {socket}
pid-file = {home}/mysqld.pid
init-file = {home}/accounts.sql
bind-address = {host}
port = {port}
mysqlx = OFF
skip-name-resolve
secure-file-priv = {home}/tmp
# 0 for throw-away servers: otherwise statements wait for the disk.
innodb-flush-log-at-trx-commit = {flush}
"""
_THROW_AWAY = """\
innodb-flush-method = nosync
innodb-doublewrite = OFF
"""
# The server's options in docker-compose.override.yml.
OPTIONS = ("innodb-buffer-pool-size=128M", "performance-schema=OFF", "skip-log-bin")

_PACKAGE = "mysql-server-core"
_SUITE = "sid"
_SERVER = MYSQL / "server"


@dataclass(frozen=True)
class Server(WarehouseServer):
    """A MySQL server; see WarehouseServer."""

    options: tuple[str, ...] = OPTIONS

    name = "MySQL"
    # The account without a password in a new data folder is not needed.
    statements_at_start = ("ALTER USER IF EXISTS 'root'@'localhost' ACCOUNT LOCK;",)

    @staticmethod
    def unpacked() -> Path:
        if not _SERVER.is_dir():
            raise Problem("MySQL", f"it is not in {MYSQL}", "Fetch it: `python3 -m local.servers.mysql`.")
        return _SERVER

    def command(self) -> list[str]:
        return [*mysqld(_SERVER), f"--defaults-file={self.home / 'my.cnf'}"]

    def configuration(self, base: Path) -> str:
        settings = _CONFIGURATION.format(
            base=base, home=self.home, socket=self.socket, host=HOST, port=self.port, flush=0 if self.throw_away else 1
        )
        return "\n".join([settings, *self.options, _THROW_AWAY if self.throw_away else ""])

    def initializer(self, base: Path, data: Path) -> list[str]:
        command = [*mysqld(base), "--no-defaults", "--initialize-insecure", f"--basedir={base}/usr"]
        return [*command, f"--datadir={data}", *(["--user=root"] if os.getuid() == 0 else [])]


def mysqld(base: Path) -> list[str]:
    """The loader of the packages' own C library, its libraries, and the server."""
    loader = next((base / "usr" / "lib").glob("*-linux-gnu*/ld-linux*.so.*"))
    return [str(loader), "--library-path", str(loader.parent), str(base / "usr" / "sbin" / "mysqld")]


def fetch() -> None:
    """Download and unpack the server if that has not happened yet. Raises Problem if it is not available."""
    if _SERVER.is_dir():
        return
    mirror = _mirror()
    MYSQL.mkdir(parents=True, exist_ok=True)
    with (MYSQL / ".fetch").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not _SERVER.is_dir():  # else another process has just unpacked it
            _unpack_from(mirror)


def _unpack_from(mirror: str) -> None:
    with step("MySQL: 60 MB from Debian's unstable suite"):
        folder, draft = MYSQL / "apt", MYSQL / "server.new"
        for old in (folder, draft):
            shutil.rmtree(old, ignore_errors=True)
        for part in ("lists/partial", "cache/archives/partial", "state", "packages"):
            (folder / part).mkdir(parents=True)
        keyring = next(iter(sorted(Path("/usr/share/keyrings").glob("debian-archive-keyring.*"))), None)
        signed_by = f"[signed-by={keyring}] " if keyring else ""
        (folder / "sources.list").write_text(f"deb {signed_by}{mirror} {_SUITE} main\n")
        apt = functools.partial(_apt, folder)
        apt("update")
        planned = [line.split() for line in apt("--simulate", "install", _PACKAGE).splitlines()]
        # Perl is for the package's scripts; the server does not need it.
        packages = [words[1] for words in planned if words[:1] == ["Inst"] and "perl" not in words[1]]
        apt("download", *packages, cwd=folder / "packages")
        for package in sorted((folder / "packages").glob("*.deb")):
            _run(["dpkg-deb", "--extract", str(package), str(draft)])
        shutil.rmtree(folder)
        draft.rename(_SERVER)


def _mirror() -> str:
    """The mirror of this Debian's packages, from its own apt sources. Raises Problem on another system."""
    release = Path("/etc/os-release")
    system = (
        dict(line.split("=", 1) for line in release.read_text().splitlines() if "=" in line) if release.exists() else {}
    )
    if system.get("ID") != "debian" or not shutil.which("apt-get"):
        name = system.get("PRETTY_NAME", sys.platform).strip('"')
        raise Problem("MySQL", f"this system is not Debian: {name}", "Use MariaDB, or run this on Debian.")
    suites = {system.get("VERSION_CODENAME", _SUITE), "stable", "testing", "unstable", _SUITE}
    targets = _run(
        ["apt-get", "indextargets", "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)", "Created-By: Packages"]
    )
    for suite, component, uri in (line.split() for line in targets.splitlines()):
        if suite in suites and component == "main":
            return uri
    raise Problem(
        "MySQL", "apt's sources name no mirror of Debian's main archive", "Add one to /etc/apt/sources.list.d."
    )


def _apt(folder: Path, *arguments: str, cwd: Path | None = None) -> str:
    """apt-get with sources, lists, state and cache in `folder`, as if nothing were installed."""
    options = {
        "Dir::Etc::sourcelist": folder / "sources.list",
        "Dir::Etc::sourceparts": "/dev/null",
        "Dir::State": folder / "state",
        "Dir::State::lists": folder / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": folder / "cache",
        # apt's own account could not write below a private home.
        "APT::Sandbox::User": "root",
        "APT::Install-Recommends": "false",
        "APT::Update::Error-Mode": "any",
        "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        "Acquire::Languages": "none",
    }
    settings = [word for name, value in options.items() for word in ("-o", f"{name}={value}")]
    return _run(["apt-get", "-q", *settings, *arguments], cwd)


def _run(command: list[str], cwd: Path | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**os.environ, "LC_ALL": "C"})
    if done.returncode != 0:
        problem = f"`{command[0]}` failed: {(done.stderr or done.stdout).strip()[-600:]}"
        raise Problem(
            "MySQL",
            problem,
            "Check the network, and that the disk has 500 MB free. Then run: python3 -m local.servers.mysql",
        )
    return done.stdout


def main() -> int:
    """Fetch it, or say that it is left out: tests on MySQL are then skipped."""
    try:
        fetch()
    except Problem as problem:
        say(f"   MySQL is left out of the tests.\n{problem}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
