"""A StatsD server for one test, on loopback: it keeps what Airflow sends to it."""

from __future__ import annotations

import socket
import time


class Listener:
    """Listens on a free port; with `settings`, Airflow sends to it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self._socket.setblocking(False)

    @property
    def settings(self) -> dict[str, str]:
        return {
            "AIRFLOW__METRICS__STATSD_ON": "True",
            "AIRFLOW__METRICS__STATSD_HOST": "127.0.0.1",
            "AIRFLOW__METRICS__STATSD_PORT": str(self._socket.getsockname()[1]),
        }

    def received(self) -> dict[str, str]:
        """Our metrics received since the last call, `value|type` by name. On loopback they arrive as soon as they are sent."""
        time.sleep(0.1)
        result = {}
        while True:
            try:
                packet = self._socket.recv(65_536).decode()
            except BlockingIOError:
                return result
            for line in packet.splitlines():
                name, _, sent = line.partition(":")
                if name.startswith("airflow.minutemark."):
                    assert name not in result, f"{name} came twice: {result[name]} and {sent}"
                    result[name] = sent

    def close(self) -> None:
        self._socket.close()
