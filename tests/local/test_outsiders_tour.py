"""A tour of each port of the stores without a login and with wrong logins: no session, no topic, no message."""

from __future__ import annotations

import contextlib
import json
import socket
import ssl
import stat
import struct
import zlib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, pkcs12

from local import connections
from local.servers import cassandra, kafka, postgres

LISTEN, DAY = psutil.CONN_LISTEN, timedelta(days=1)
WRONG_PASSWORDS = ("", "not-the-password")
# Kafka's protocol allows two requests before a login: the list of versions, and the choice of a mechanism.
HANDSHAKE, API_VERSIONS, AUTHENTICATE = 17, 18, 36
REFUSED_LOGIN, REFUSED_MECHANISM = 58, 33
API_KEYS = 100  # more than Kafka has


def listener_pid(port: int) -> int:
    """The process that listens on the port."""
    [pid] = {
        net_connection.pid
        for net_connection in psutil.net_connections("tcp")
        if (net_connection.status, net_connection.laddr.port) == (LISTEN, port)
    }
    return pid


def listeners_of_process(port: int) -> dict[int, str]:
    """Each TCP port that the process behind this port listens on, with the address."""
    connections = psutil.Process(listener_pid(port)).net_connections("tcp")
    return {connection.laddr.port: connection.laddr.ip for connection in connections if connection.status == LISTEN}


def fields(variables: dict[str, str], conn_id: str) -> dict:
    return json.loads(variables[connections.variable(conn_id)])


# Kafka: the wire protocol itself, since no client speaks it without the login that the listener requires.


class Wire:
    """A connection to a listener of Kafka."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection((kafka.HOST, port), timeout=10)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def request(self, api_key: int, version: int = 0, body: bytes = b"") -> bytes | None:
        """The answer's body; None if the listener closes the connection instead."""
        payload = struct.pack(">hhi", api_key, version, 7) + text("tour") + body
        try:
            self._socket.sendall(struct.pack(">i", len(payload)) + payload)
            size = self._read(4)
            answer = size and self._read(*struct.unpack(">i", size))
        except ConnectionError:
            return None
        return answer[4:] if answer else None  # without the request's number

    def login(self, account: str, password: str, mechanism: str = "PLAIN") -> int:
        """Kafka's error code of the response; 0 is success."""
        [code] = struct.unpack_from(">h", self.request(HANDSHAKE, 1, text(mechanism)))
        if code:
            return code
        token = f"\0{account}\0{password}".encode()
        answer = self.request(AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        return struct.unpack_from(">h", answer)[0]

    def _read(self, size: int) -> bytes:
        read = b""
        while len(read) < size and (more := self._socket.recv(size - len(read))):
            read += more
        return read


def text(value: str) -> bytes:
    return struct.pack(">h", len(value)) + value.encode()


@pytest.fixture(params=["broker", "controller"])
def listener(request, kafka_broker) -> int:
    """The port of a listener."""
    port = int(fields(kafka_broker, "kafka_default")["extra"]["bootstrap.servers"].partition(":")[2])
    [controller] = set(listeners_of_process(port)) - {port}
    return {"broker": port, "controller": controller}[request.param]


def test_kafka_answers_no_request_without_a_login(listener):
    answered = set()
    for api_key in set(range(API_KEYS)) - {HANDSHAKE, API_VERSIONS}:
        with Wire(listener) as wire:
            if wire.request(api_key) is not None:
                answered.add(api_key)
    assert answered == set()


@pytest.mark.parametrize("account", [kafka.ACCOUNT, "admin", ""])
@pytest.mark.parametrize("password", WRONG_PASSWORDS)
def test_kafka_refuses_wrong_logins(listener, account, password):
    with Wire(listener) as wire:
        assert wire.login(account, password) == REFUSED_LOGIN


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER", "GSSAPI", "ANONYMOUS"])
def test_kafka_has_no_other_mechanism(listener, mechanism):
    with Wire(listener) as wire:
        assert wire.login(kafka.ACCOUNT, "x", mechanism) == REFUSED_MECHANISM


def test_kafka_answers_its_account(listener, kafka_broker):
    """Otherwise the tour would pass a listener that refuses everything."""
    extra = fields(kafka_broker, "kafka_default")["extra"]
    with Wire(listener) as wire:
        assert wire.login(extra["sasl.username"], extra["sasl.password"]) == 0
        assert wire.request(API_VERSIONS) is not None


# Stores with accounts: SQL and CQL.


def test_cassandra_lets_in_only_its_accounts(cassandra_node):
    from cassandra.cluster import Cluster, NoHostAvailable

    port = fields(cassandra_node, "lake_reader")["port"]
    logins = [(account, password) for account in cassandra.ACCOUNTS for password in WRONG_PASSWORDS]
    for account, password in [*logins, ("cassandra", "cassandra"), ("cassandra", ""), ("", "")]:
        with pytest.raises(NoHostAvailable, match=r"AuthenticationFailed|Bad credentials|incorrect"):
            cassandra.connect(port, account, password)
    anonymous = Cluster([cassandra.HOST], port=port, protocol_version=5)
    try:
        with pytest.raises(NoHostAvailable, match="requires authentication"):
            anonymous.connect()
    finally:
        anonymous.shutdown()


def internode_answer(connection: socket.socket) -> bytes:
    """Cassandra's answer to the handshake of another node; empty if it closes the connection."""
    version, port = 12, connection.getpeername()[1]
    flags = 0b10010 | version << 8 | version << 16 | version << 24  # small messages, with checksums
    hello = struct.pack(">II4B", 0xCA552DFA, flags, 6, 127, 0, 0) + struct.pack(">BH", 1, port)
    try:
        connection.sendall(hello + struct.pack(">I", zlib.crc32(b"\xfa\x2d\x55\xca" + hello)))
        return connection.recv(12)
    except OSError:
        return b""


def encrypt(connection: socket.socket, *identity: Path) -> ssl.SSLSocket:
    """Wrap the connection in TLS, with or without a certificate and its key."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    if identity:
        context.load_cert_chain(*identity)
    return context.wrap_socket(connection)


def write_pem(folder: Path, key, certificate) -> tuple[Path, Path]:
    """Write a certificate and its key to files."""
    files = folder / "certificate.pem", folder / "key.pem"
    files[0].write_bytes(certificate.public_bytes(Encoding.PEM))
    files[1].write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return files


def strangers_identity(folder: Path) -> tuple[Path, Path]:
    """A certificate with the node's own name, and a key that is not the node's."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name.from_rfc4514_string("CN=minutemark")
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
        .serial_number(1).not_valid_before(now - DAY).not_valid_after(now + DAY).sign(key, hashes.SHA256())
    )  # fmt: skip
    return write_pem(folder, key, certificate)


def test_cassandra_lets_in_no_other_node(cassandra_node, tmp_path):
    port = fields(cassandra_node, "lake_reader")["port"]
    [internode] = set(listeners_of_process(port)) - {port}

    def connection() -> socket.socket:
        return socket.create_connection((cassandra.HOST, internode), timeout=10)

    with connection() as plain:
        assert internode_answer(plain) == b""
    for identity in ((), strangers_identity(tmp_path)):
        with connection() as plain, contextlib.suppress(ssl.SSLError), encrypt(plain, *identity) as secret:
            assert internode_answer(secret) == b""

    keys = conf_of(port) / "internode.p12"
    assert stat.S_IMODE(keys.stat().st_mode) == 0o600
    key, certificate, _ = pkcs12.load_key_and_certificates(keys.read_bytes(), cassandra._KEYS_PASSWORD.encode())
    with connection() as plain, encrypt(plain, *write_pem(tmp_path, key, certificate)) as secret:
        assert len(internode_answer(secret)) == 12, (
            "The node's own key is refused: the tour would pass a port that refuses everything."
        )


def conf_of(port: int) -> Path:
    """The folder of the configuration that the node on this port was started with."""
    command = psutil.Process(listener_pid(port)).cmdline()
    return next(Path(word[1:]).parent for word in command if word.startswith("@"))


@pytest.mark.both_servers
def test_the_warehouse_lets_in_only_its_accounts(warehouse_server):
    import MySQLdb

    account = fields(warehouse_server, "warehouse_etl")
    logins = [(login, password) for login in connections.WAREHOUSE_LOGINS.values() for password in WRONG_PASSWORDS]
    for login, password in [*logins, *((name, word) for name in ("root", "mysql", "") for word in ("", name))]:
        with pytest.raises(MySQLdb.Error, match="Access denied|not allowed"):
            MySQLdb.connect(host=account["host"], port=account["port"], user=login, passwd=password)


@pytest.fixture(scope="module")
def metadata(tmp_path_factory):
    """A PostgreSQL server for Airflow's metadata; its port."""
    from local import throwaway

    with throwaway.postgres_server(tmp_path_factory.mktemp("metadata")) as server:
        yield server.port


def test_postgresql_lets_in_only_its_accounts(metadata):
    import psycopg2

    accounts = (postgres.ADMIN, postgres.AIRFLOW, "postgres", "root")
    for account in accounts:
        for password in (*WRONG_PASSWORDS, account):
            for database in (postgres.DATABASE, "postgres"):
                with pytest.raises(psycopg2.OperationalError, match="password authentication failed|no password"):
                    psycopg2.connect(
                        host=postgres.HOST, port=metadata, user=account, password=password, dbname=database
                    )


@pytest.mark.both_servers
def test_each_store_listens_only_on_loopback_and_on_the_ports_of_this_tour(
    cassandra_node, warehouse_server, kafka_broker, metadata
):
    """A port without a test might admit a client without a login."""
    broker = fields(kafka_broker, "kafka_default")["extra"]["bootstrap.servers"]
    known = {
        fields(cassandra_node, "lake_reader")["port"]: 2,  # for clients, and for other nodes
        fields(warehouse_server, "warehouse_etl")["port"]: 1,
        int(broker.partition(":")[2]): 2,  # broker and controller
        metadata: 1,
    }
    for port, count in known.items():
        result = listeners_of_process(port)
        assert len(result) == count, result
        assert {address.removeprefix("::ffff:") for address in result.values()} == {"127.0.0.1"}, result
