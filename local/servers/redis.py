"""A real Redis server from Debian's redis-tools: the broker of Airflow's Celery workers.

Debian's redis-server would start a system service; redis-tools has the same binary under another name, and no
service. Redis stores nothing on disk: the scheduler requeues the tasks that were queued when Redis ended.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

from local import bootstrap
from local.files import write_private
from local.problems import Problem
from local.progress import say
from local.servers.server import HOST, Server

ACCOUNT = "default"
PACKAGE = "redis-tools"
_BINARIES = ("redis-server", "redis-check-rdb")  # one program, which acts according to the name it is called by

_CONFIGURATION = """\
bind {host}
port {port}
requirepass {password}
save ""
appendonly no
dir {home}
maxmemory 64mb
maxmemory-policy noeviction
"""


@dataclass(frozen=True)
class Redis(Server):
    """One Redis server; see Server."""

    port: int = 6379

    name = "Redis"

    @property
    def url(self) -> str:
        """The URL for Celery, password included."""
        return f"redis://:{self.passwords[ACCOUNT]}@{HOST}:{self.port}/0"

    def prepare(self) -> list[str]:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(
            host=HOST, port=self.port, password=self.passwords[ACCOUNT], home=self.home
        )
        write_private(self.home / "redis.conf", configuration)
        link = self.home / "redis-server"
        link.unlink(missing_ok=True)
        link.symlink_to(_binary())
        return self.command()

    def command(self) -> list[str]:
        return [str(self.home / "redis-server"), str(self.home / "redis.conf")]

    def log_in(self) -> None:
        import redis

        with redis.Redis(host=HOST, port=self.port, password=self.passwords[ACCOUNT], socket_timeout=2) as client:
            client.ping()

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        import redis

        return (redis.RedisError,)


def _binary() -> Path:
    """The server's program. If it is missing, its package is installed."""
    if not any(map(shutil.which, _BINARIES)):
        bootstrap.install([PACKAGE])
    path = next(filter(None, map(shutil.which, _BINARIES)), None)
    if path is None:
        raise Problem("Redis", f"package {PACKAGE} has none of {', '.join(_BINARIES)}", "Install a Redis server.")
    return Path(path).resolve()


def main() -> None:
    """Install Redis's package, or say that Redis is left out: its test is then skipped."""
    try:
        _binary()
    except Problem as problem:
        say(f"   Redis is left out of the tests.\n{problem}")


if __name__ == "__main__":
    main()
