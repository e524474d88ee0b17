"""Checks, for preflight, the server settings without which later writes to the warehouse would fail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from include.connections import Endpoint
from include.warehouse.session import execute, reading

MIN_PACKET = 16 * 1024 * 1024  # bytes: enough for a rejected event with the longest payload that is kept
# SHOW, because a server that no longer has one of the variables still returns the others.
_SETTINGS = "SHOW VARIABLES WHERE Variable_name IN ('log_bin', 'binlog_format', 'max_allowed_packet')"


def problems(conn, target: Endpoint) -> list[str]:
    """The settings of this server that keep merges or rejected events from being written."""
    with reading(conn) as cursor:
        settings = {name.lower(): value for name, value in execute(cursor, _SETTINGS).fetchall()}
    return [f"Connection {target.conn_id}: {problem}" for problem in setting_problems(settings)]


def setting_problems(settings: Mapping[str, str]) -> Iterator[str]:
    """The wrong settings, each with the value that it needs."""
    has_binlog = settings.get("log_bin", "OFF").upper() in ("ON", "1")
    if has_binlog and settings.get("binlog_format", "ROW").upper() == "STATEMENT":
        yield (
            "the server has binlog_format=STATEMENT, with which it refuses the merge's READ COMMITTED (error 1665). Set "
            "binlog_format=ROW in its configuration and with SET GLOBAL."
        )
    packet = int(settings.get("max_allowed_packet", MIN_PACKET))
    if packet < MIN_PACKET:
        yield (
            f"the server has max_allowed_packet={packet} and ends connections that send more (error 2006). Set "
            f"max_allowed_packet={MIN_PACKET} (16 MiB) or more in its configuration and with SET GLOBAL."
        )
