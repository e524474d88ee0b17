"""A Kafka Connect worker that can be killed and started again, for the session's broker and lake."""

from __future__ import annotations

import os
import secrets
import signal
from pathlib import Path

from include.connections import LAKE_WRITER, endpoint
from include.kafka import clients
from include.kafka.connect import Connect
from local import connect
from local.files import write_private
from local.process import Child, free_port
from tests.kafka.conftest import until


class Worker:
    """A worker with its own login, and a folder with the jars of a sink."""

    def __init__(self, folder: Path, plugin: Path) -> None:
        account, password = "minutemark", secrets.token_urlsafe(24)
        logins = folder / "logins.properties"
        write_private(logins, f"{account}={password}\n")
        broker = clients.settings()
        self._worker = connect.Worker(
            folder / "connect", broker["bootstrap.servers"], logins, port=free_port(), plugins=(plugin,)
        )
        self._passwords = {
            "LAKE_WRITER_PASSWORD": endpoint(LAKE_WRITER).password,
            "KAFKA_PASSWORD": broker["sasl.password"],
        }
        self.log = folder / "connect.log"
        self.url = self._worker.url
        self.login = f"{account}:{password}"
        self.secrets = (password, *self._passwords.values())
        self.rest = Connect(self.url, self.login)

    def start(self) -> None:
        """Start the worker; return when it accepts connectors."""
        self._child = Child(self._worker.prepare(), self.log, os.environ | self._passwords)
        connect.wait_until_ready(self._worker, self.login, alive=self._child.alive, log=str(self.log))

    def kill(self) -> None:
        """Send it SIGKILL, and return when it is gone."""
        os.kill(self._child.pid, signal.SIGKILL)
        until(lambda: not self._child.alive())

    def stop(self) -> None:
        """Stop it cleanly."""
        self._child.stop()
