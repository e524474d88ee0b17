"""The properties of a connection's cluster that decide whether events survive: replicas, data centers, clocks."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from include.connections import Endpoint
from include.lake.errors import LakeError
from include.lake.keys import time_of

if TYPE_CHECKING:
    from cassandra.cluster import Session

SETTING = "MINUTEMARK_REPLICATION_FACTOR"
SINGLE = "{'class': 'SimpleStrategy', 'replication_factor': 1}"
MIN_NODES_FOR_REPLICATION = 3  # with this many or more, a single replica must be declared
MAX_CLOCK_DIFFERENCE = timedelta(seconds=5)
_KEYSPACE = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = %s"


class ReplicationRefused(LakeError):
    """Set-up would keep a single replica of each event, or the setting is invalid; the message says what to set."""


def data_centers(session: Session) -> Counter[str]:
    """The nodes of each data center, as the driver found them when it connected."""
    return Counter(host.datacenter or "" for host in session.cluster.metadata.all_hosts())


def local_data_center(session: Session, target: Endpoint) -> str:
    """The data center that the connection names, or else that of the first node."""
    return target.extra.get("local_dc") or next(iter(data_centers(session)), "")


def replication(session: Session, target: Endpoint, keyspaces: list[str]) -> str:
    """The replication of keyspaces that set-up creates. Raises ReplicationRefused, see `refusal`."""
    factor, local = os.environ.get(SETTING, "").strip(), local_data_center(session, target)
    if factor and not (factor.isascii() and factor.isdigit() and int(factor)):
        raise ReplicationRefused(f"{SETTING}={factor} is not a number of replicas: use a whole number of at least 1.")
    nodes = data_centers(session)[local]
    if reason := refusal(nodes, factor, replicas(session, local, keyspaces)):
        raise ReplicationRefused(reason)
    if not factor:
        return SINGLE
    name = local.replace("'", "''")
    return f"{{'class': 'NetworkTopologyStrategy', '{name}': {int(factor)}}}"


def replicas(session: Session, local: str, keyspaces: list[str]) -> dict[str, int | None]:
    """The replicas of each keyspace in that data center; None if the keyspace does not exist."""
    copies: dict[str, int | None] = {}
    for keyspace in keyspaces:
        row = session.execute(_KEYSPACE, (keyspace,)).one()
        copies[keyspace] = None if row is None else replicas_of(row.replication, local)
    return copies


def replicas_of(options: Mapping[str, str], local: str) -> int:
    """The replicas in a keyspace's options. With SimpleStrategy, those of the whole cluster; otherwise, of the data center."""
    is_simple = options.get("class", "").endswith("SimpleStrategy")
    return int(str(options.get("replication_factor" if is_simple else local, 0)).partition("/")[0])


def refusal(nodes: int, factor: str, replicas: Mapping[str, int | None]) -> str | None:
    """The reason why set-up stops: a keyspace has, or would get, one replica in a data center of three nodes or more."""
    if nodes < MIN_NODES_FOR_REPLICATION or factor == "1":
        return None
    missing_keyspaces = [keyspace for keyspace, count in replicas.items() if count is None and not factor]
    unreplicated_keyspaces = [keyspace for keyspace, count in replicas.items() if count is not None and count < 2]
    if not missing_keyspaces and not unreplicated_keyspaces:
        return None
    parts = []
    if missing_keyspaces:
        parts.append(
            f"Keyspaces that do not exist yet: {', '.join(missing_keyspaces)}. Set {SETTING}=3 where set-up runs, or "
            "create them yourself with your own replication."
        )
    if unreplicated_keyspaces:
        parts.append(
            f"Keyspaces with fewer than two replicas there: {', '.join(unreplicated_keyspaces)}. Add replicas with "
            "ALTER KEYSPACE … WITH replication, then run `nodetool repair --full` on every node."
        )
    return (
        f"The lake's data center has {nodes} nodes: with one replica, a failed disk loses events. "
        f"{' '.join(parts)} {SETTING}=1 accepts one replica."
    )


def problems(session: Session, target: Endpoint) -> Iterator[str]:
    """The problems that preflight reports about a reachable cluster."""
    results = (
        data_center_problem(data_centers(session), target.extra.get("local_dc")),
        clock_problem(clock_differences(session)),
    )
    yield from (f"Connection {target.conn_id}: {problem}" for problem in results if problem)


def data_center_problem(names: Collection[str], local: str | None) -> str | None:
    """The problem if chance decides which of several data centers a session uses."""
    if len(names) < 2 or local:
        return None
    first, *_ = sorted(names)
    return (
        f"the cluster has the data centers {', '.join(sorted(names))}, and the connection names none. Each session then uses "
        "the one that it reaches first. A minute could then be read before its events arrive. Set the extra "
        f'{{"local_dc": "{first}"}}, the same one for all readers and writers.'
    )


def clock_differences(session: Session) -> dict[str, timedelta]:
    """Each coordinator's now() minus this machine's clock, to within half a round trip; only of nodes that answer."""
    from cassandra import OperationTimedOut
    from cassandra.cluster import NoHostAvailable
    from cassandra.query import SimpleStatement

    query, differences = SimpleStatement("SELECT now() AS now FROM system.local"), {}
    # A separate session: other sessions start as soon as they can reach one node.
    every_node = session.cluster.connect(wait_for_all_pools=True)
    try:
        for host in session.cluster.metadata.all_hosts():
            before = time.time()
            try:
                now = every_node.execute(query, host=host).one().now
            except (NoHostAvailable, OperationTimedOut):
                continue
            middle = datetime.fromtimestamp((before + time.time()) / 2, UTC).replace(tzinfo=None)
            differences[str(host.endpoint)] = time_of(now) - middle
    finally:
        every_node.shutdown()
    return differences


def clock_problem(differences: Mapping[str, timedelta]) -> str | None:
    """The problem if two coordinators' clocks differ too much.

    The settle time tolerates 30 s, and a drifting clock eventually exceeds that.
    """
    if not differences:
        return None
    earliest, latest = min(differences, key=differences.get), max(differences, key=differences.get)  # ty: ignore[no-matching-overload]  # each key has a value
    difference = differences[latest] - differences[earliest]
    if difference <= MAX_CLOCK_DIFFERENCE:
        return None
    return (
        f"the clocks of its nodes {earliest} and {latest} are {difference.total_seconds():.1f} s apart; the limit is "
        f"{MAX_CLOCK_DIFFERENCE.total_seconds():g} s. If the difference exceeds the settle time, a touch can be lost. "
        "Run NTP (chrony) on both."
    )
