"""A real Kafka broker from Maven jars: its folder, its command line, and its readiness check.

A node in KRaft mode, broker and controller in one process, on loopback, sized for a laptop, alone or one of a cluster.
Both listeners require a login. The topics belong to include/kafka/topics.py.
"""

from __future__ import annotations

import base64
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from local.files import write_private
from local.layout import KAFKA_JARS
from local.problems import Problem
from local.servers.java import flags, java
from local.servers.server import HOST, Server

ACCOUNT = "minutemark"
_MAIN = "kafka.Kafka"
_FORMAT = "kafka.tools.StorageTool"

_CONFIGURATION = """\
process.roles=broker,controller
node.id={node_id}
controller.quorum.voters={voters}
listeners=BROKER://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=BROKER://{host}:{port}
inter.broker.listener.name=BROKER
controller.listener.names=CONTROLLER
listener.security.protocol.map=BROKER:SASL_PLAINTEXT,CONTROLLER:SASL_PLAINTEXT
# PLAIN keeps the account only in this file. SCRAM keeps it in the data, which a controller reads after its start.
sasl.enabled.mechanisms=PLAIN
sasl.mechanism.inter.broker.protocol=PLAIN
sasl.mechanism.controller.protocol=PLAIN
listener.name.broker.plain.sasl.jaas.config={login}
listener.name.controller.plain.sasl.jaas.config={login}
log.dirs={data}

# A topic that set-up did not make would have another number of partitions.
auto.create.topics.enable=false
default.replication.factor={replicas}
min.insync.replicas={in_sync}
offsets.topic.replication.factor={replicas}
offsets.topic.num.partitions=1
transaction.state.log.replication.factor={replicas}
transaction.state.log.min.isr={in_sync}
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor={replicas}
share.coordinator.state.topic.min.isr={in_sync}
# A group's first member gets its partitions without waiting for others.
group.initial.rebalance.delay.ms=0

# Limit a partition by size, not by age: messages carry the timestamps of their events, which may be years old or ahead.
log.retention.hours=-1
log.retention.bytes=268435456
log.message.timestamp.after.max.ms=9223372036854775807
log.segment.bytes=33554432
num.network.threads=2
num.io.threads=2
background.threads=2
log.cleaner.dedupe.buffer.size=16777216
"""

# One account, with which the node also logs in to itself.
_LOGIN = (
    "org.apache.kafka.common.security.plain.PlainLoginModule required"
    ' username="{account}" password="{password}" user_{account}="{password}";'
)

_LOGGING = """\
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{ISO8601} %-5p [%t] %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


@dataclass(frozen=True)
class Quorum:
    """A cluster of brokers on one address, each also a controller. Each has a replica of every partition; one may be down."""

    id: str  # the cluster's id, which is also in the data folders
    controller_ports: tuple[int, ...]  # in the order of the node ids 1, 2 …

    @property
    def voters(self) -> str:
        return ",".join(f"{node}@{HOST}:{port}" for node, port in enumerate(self.controller_ports, 1))


@dataclass(frozen=True)
class Broker(Server):
    """One broker; see Server."""

    port: int = 9092
    controller_port: int = 9093
    heap_mb: int = 256
    # All of server.properties except log.dirs; empty: the configuration of this module.
    settings: Mapping[str, str] = field(default_factory=dict)
    jars: Path = KAFKA_JARS
    quorum: Quorum | None = None  # None: not in a cluster
    node_id: int = 1

    name = "Kafka"

    @property
    def password(self) -> str:
        return self.passwords.get(ACCOUNT, "")

    def prepare(self) -> list[str]:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "log4j2.properties").write_text(_LOGGING)
        if not (self.home / "data").is_dir():
            self.fill_data_folder(self._format_command)
        self._configure("data")
        return self.command()

    def command(self) -> list[str]:
        return [*self._java(), _MAIN, str(self.home / "server.properties")]

    def _configure(self, data: str) -> Path:
        path = self.home / "server.properties"
        write_private(path, self.configuration(data))
        return path

    def configuration(self, data: str = "data") -> str:
        """The text of server.properties, password included."""
        if self.settings:
            settings = {**self.settings, "log.dirs": self.home / data}
            return "".join(f"{name}={value}\n" for name, value in settings.items())
        replicas = len(self.quorum.controller_ports) if self.quorum else 1
        return _CONFIGURATION.format(
            node_id=self.node_id,
            voters=self.quorum.voters if self.quorum else f"{self.node_id}@{HOST}:{self.controller_port}",
            replicas=replicas,
            in_sync=max(1, replicas - 1),
            host=HOST,
            port=self.port,
            controller_port=self.controller_port,
            data=self.home / data,
            login=_LOGIN.format(account=ACCOUNT, password=self.password),
        )

    def _format_command(self, draft: Path) -> list[str]:
        cluster = self.quorum.id if self.quorum else new_cluster_id()
        return [*self._java(), _FORMAT, "format", "-t", cluster, "-c", str(self._configure(draft.name))]

    def _java(self) -> list[str]:
        if not list(self.jars.glob("kafka_*.jar")):
            raise Problem(
                "Kafka", f"its jars are not in {self.jars}", "Run `make setup`, which fetches them with Maven."
            )
        return [
            java(),
            *flags(self.heap_mb),
            f"-Dlog4j2.configurationFile={self.home / 'log4j2.properties'}",
            "-cp",
            f"{self.jars}/*",
        ]

    def log_in(self) -> None:
        """Request the broker's metadata. Raises _NotYet if it is not registered with its controller."""
        from confluent_kafka.admin import AdminClient

        # The client's messages before the server listens are noise.
        quiet_settings: dict[str, Any] = {"log_level": 0, "error_cb": lambda _: None, "reconnect.backoff.max.ms": 250}
        client = AdminClient({**client_settings(self.port, self.password), **quiet_settings})
        if self.node_id not in client.list_topics(timeout=2).brokers:
            raise _NotYet(f"broker {self.node_id} is not registered")

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        from confluent_kafka import KafkaException

        return KafkaException, _NotYet


def new_cluster_id() -> str:
    """A random id for a cluster, in the form that the storage tool takes."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "_")


def client_settings(port: int, password: str, *more_ports: int) -> dict[str, str]:
    """A client's configuration for the brokers on these ports, as librdkafka takes it."""
    return {
        "bootstrap.servers": ",".join(f"{HOST}:{each}" for each in (port, *more_ports)),
        "security.protocol": "SASL_PLAINTEXT",
        "sasl.mechanism": "PLAIN",
        "sasl.username": ACCOUNT,
        "sasl.password": password,
    }


class _NotYet(Exception):
    """The broker answers, but its metadata does not list it yet."""
