"""Sessions with Cassandra: fast to open, LOCAL_QUORUM, one retry, and the server's write timestamps.

With client timestamps, a writer whose clock is ahead would overwrite every later touch, so no client timestamp is sent.
"""

from __future__ import annotations

import contextlib
import logging
import ssl
from collections.abc import Iterator
from typing import TYPE_CHECKING

from include.connections import LAKE_READER, Endpoint, endpoint
from include.lake.errors import LakeError, explain

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, Session

TIMEOUT = 10.0  # seconds that a request may take
PAGE = 5_000  # rows
_SSL_FILES = ("ca_certs", "certfile", "keyfile")


@contextlib.contextmanager
def lake(conn_id: str | Endpoint = LAKE_READER) -> Iterator[Session]:
    """A session of that connection, closed at exit; errors of the driver are raised as LakeError.

    The driver reads neither the schema nor the ring, so that it connects fast. Token-aware routing, which would need
    both, cost a bulk writer 25 % more CPU, to save one hop in the cluster.
    """
    target = endpoint(conn_id)
    with translate_errors(target):
        cluster, session = open_session(target)
    try:
        with translate_errors(target):
            yield session
    finally:
        cluster.shutdown()


@contextlib.contextmanager
def translate_errors(target: Endpoint) -> Iterator[None]:
    """Raise errors of the driver as LakeError about that connection. With two sessions open, wrap the use of the outer one."""
    from cassandra import DriverException
    from cassandra.cluster import NoHostAvailable
    from cassandra.connection import ConnectionException
    from cassandra.protocol import ErrorMessage  # some answers of a node, such as an overloaded one's

    try:
        yield
    except (DriverException, NoHostAvailable, ConnectionException, ErrorMessage) as error:
        raise explain(error, target) from error


def open_session(target: Endpoint) -> tuple[Cluster, Session]:
    """A cluster and its session, with the settings of every session. The caller shuts the cluster down.

    Raises the driver's errors, and LakeError for a connection without a host or with an extra that cannot be used.
    """
    try:
        return _open(target)
    except OSError as error:
        raise explain(error, target) from error


def _open(target: Endpoint) -> tuple[Cluster, Session]:
    from cassandra.cluster import NoHostAvailable

    logging.getLogger("cassandra").setLevel(logging.ERROR)  # what matters arrives as an exception
    if not target.host:
        raise LakeError(f"Connection {target.conn_id} has no host: set it to the address of a Cassandra node.")
    for protocol in (_protocol_version(target), None):  # None: the driver negotiates, for older servers
        cluster = _cluster(target, protocol)
        try:
            session = cluster.connect(target.schema or None)
        except NoHostAvailable as error:
            cluster.shutdown()
            if protocol is None or "protocol" not in str(error).lower():
                raise
        except BaseException:
            cluster.shutdown()
            raise
        session.use_client_timestamp = False
        session.default_fetch_size = PAGE
        return cluster, session
    raise AssertionError("unreachable")


def _protocol_version(target: Endpoint) -> int:
    version = target.extra.get("protocol_version") or 5
    try:
        return int(version)
    except (TypeError, ValueError):
        raise LakeError(
            f"Connection {target.conn_id}: its extra `protocol_version` is {version!r}, which is not a number. Write one, "
            "such as 5, or leave it out."
        ) from None


def _cluster(target: Endpoint, protocol: int | None):
    from cassandra import ConsistencyLevel
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import DCAwareRoundRobinPolicy

    profile = ExecutionProfile(
        load_balancing_policy=DCAwareRoundRobinPolicy(target.extra.get("local_dc") or ""),
        retry_policy=_retry_once(),
        consistency_level=ConsistencyLevel.LOCAL_QUORUM,
        serial_consistency_level=ConsistencyLevel.LOCAL_SERIAL,
        request_timeout=TIMEOUT,
    )
    return Cluster(
        contact_points=[host.strip() for host in target.host.split(",") if host.strip()],
        port=target.port or 9042,
        auth_provider=PlainTextAuthProvider(target.login, target.password or "") if target.login else None,
        ssl_context=_ssl_context(target),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        schema_metadata_enabled=False,
        token_metadata_enabled=False,
        monitor_reporting_enabled=False,
        connect_timeout=5,
        control_connection_timeout=5,
        **({"protocol_version": protocol} if protocol else {}),
    )


def _retry_once():
    """A policy of one retry, which is safe: rows are keyed by their event, and a second touch is only a later one."""
    from cassandra.policies import RetryPolicy

    class RetryOnce(RetryPolicy):
        # The driver passes most of these arguments by name.
        def on_read_timeout(
            self, query, consistency, required_responses, received_responses, data_retrieved, retry_num
        ):
            return (self.RETRY, consistency) if retry_num == 0 else (self.RETHROW, None)

        def on_write_timeout(self, query, consistency, write_type, required_responses, received_responses, retry_num):
            return (self.RETRY, consistency) if retry_num == 0 else (self.RETHROW, None)

        def on_unavailable(self, query, consistency, required_replicas, alive_replicas, retry_num):
            return (self.RETRY_NEXT_HOST, None) if retry_num == 0 else (self.RETHROW, None)

        def on_request_error(self, query, consistency, error, retry_num):
            return (self.RETRY_NEXT_HOST, None) if retry_num == 0 else (self.RETHROW, None)

    return RetryOnce()


def _ssl_context(target: Endpoint) -> ssl.SSLContext | None:
    """The SSL context from extra `ssl_options` of the connection: ca_certs, certfile, keyfile, check_hostname."""
    options = target.extra.get("ssl_options")
    if not options:
        return None
    try:
        context = ssl.create_default_context(cafile=options.get("ca_certs"))
        context.check_hostname = bool(options.get("check_hostname", False))
        if options.get("certfile"):
            context.load_cert_chain(options["certfile"], options.get("keyfile"))
    except (OSError, AttributeError, TypeError) as error:  # a file cannot be read, or the extra is not an object
        # Other options may hold secrets.
        files = (
            [str(options.get(name)) for name in _SSL_FILES if options.get(name)] if isinstance(options, dict) else []
        )
        raise LakeError(
            f"Connection {target.conn_id}: its extra `ssl_options` cannot be used ({', '.join([*files, str(error)])}). Make it "
            f"an object whose {', '.join(_SSL_FILES[:-1])} and {_SSL_FILES[-1]} name PEM files that this user can read."
        ) from error
    return context
