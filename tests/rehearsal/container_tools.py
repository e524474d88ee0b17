"""The command-line tools that containers of docker-compose.override.yml call, limited to what those calls need.

With `python -m tests.rehearsal.container_tools TOOL …`, the file's commands and health checks run without the images.
"""

from __future__ import annotations

import argparse
import re
import socket
import sys
from pathlib import Path


def nc(arguments: list[str]) -> int:
    """nc -z HOST PORT: whether something listens there."""
    parser = argparse.ArgumentParser(prog="nc")
    parser.add_argument("-z", action="store_true", required=True)
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    args = parser.parse_args(arguments)
    return 0 if _listens(args.host, args.port) else 1


def nodetool(arguments: list[str]) -> int:
    """nodetool statusbinary: whether the node accepts clients."""
    if arguments != ["statusbinary"]:
        raise SystemExit(f"nodetool {' '.join(arguments)}: only statusbinary is known here")
    print("running" if _listens("localhost", 9042) else "not running")
    return 0


def mysqladmin(arguments: list[str]) -> int:
    """mysqladmin ping -hHOST -uUSER -pPASSWORD: whether the server answers, even by refusing the password."""
    import MySQLdb

    parser = argparse.ArgumentParser(prog="mysqladmin", add_help=False)
    parser.add_argument("command", choices=["ping"])
    parser.add_argument("-h", dest="host", required=True)
    parser.add_argument("-u", dest="user", required=True)
    parser.add_argument("-p", dest="password", required=True)
    args = parser.parse_args(arguments)
    access_denied = 1045
    try:
        MySQLdb.connect(host=args.host, user=args.user, passwd=args.password, connect_timeout=5).close()
    except MySQLdb.Error as error:
        return 0 if error.args[0] == access_denied else 1
    return 0


def cqlsh(arguments: list[str]) -> int:
    """cqlsh HOST -u USER -p PASSWORD -f FILE: run the statements of a file."""
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import Cluster

    parser = argparse.ArgumentParser(prog="cqlsh")
    parser.add_argument("host")
    parser.add_argument("-u", dest="user", required=True)
    parser.add_argument("-p", dest="password", required=True)
    parser.add_argument("-f", dest="file", type=Path, required=True)
    args = parser.parse_args(arguments)
    text = re.sub(r"^--.*$", "", args.file.read_text(encoding="utf-8"), flags=re.MULTILINE)
    cluster = Cluster([args.host], auth_provider=PlainTextAuthProvider(args.user, args.password))
    try:
        session = cluster.connect()
        for statement in filter(None, (part.strip() for part in text.split(";"))):
            session.execute(statement)
    except Exception as error:  # cqlsh ends with 1 after any error of the driver
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        cluster.shutdown()
    return 0


def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=3).close()
    except OSError:
        return False
    return True


TOOLS = {tool.__name__: tool for tool in (nc, nodetool, mysqladmin, cqlsh)}

if __name__ == "__main__":
    sys.exit(TOOLS[sys.argv[1]](sys.argv[2:]))
