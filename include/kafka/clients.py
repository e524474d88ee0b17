"""Clients of the broker of connection kafka_default. Its extra configures librdkafka, including TLS and SASL."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

from include.connections import KAFKA, endpoint
from include.errors import MinutemarkError
from include.kafka.ingest_mode import DAG, group_of
from include.pipelines import Pipeline

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, TopicPartition
    from confluent_kafka.admin import AdminClient

log = logging.getLogger(__name__)

TIMEOUT = 20.0  # seconds that a broker may take to answer
_REFUSAL_WAIT = 3.0  # seconds that a broker may take to refuse a login
_SERVERS = "bootstrap.servers"
_READER_SETTINGS = {
    "enable.partition.eof": True,  # reports the end, after control records and aborted messages too
    "isolation.level": "read_committed",  # messages of aborted transactions do not count
    "fetch.wait.max.ms": 100,
    "queued.max.messages.kbytes": 16_384,  # read ahead: this bounds the memory, whatever a message's size
}


class BrokerError(MinutemarkError):
    """The broker could not be reached, or refused a request. The message says where, what was found, and the remedy."""

    is_retried = True


class TopicMissing(BrokerError):
    """A topic that does not exist: set-up has not created it yet, or it was deleted."""


class ThrottledErrorLog:
    """Logs errors that clients report outside of calls, such as a broker that is down.

    Clients repeat them several times a second: the same error is logged again only after `pause` seconds.
    """

    def __init__(self, pause: float = 30.0) -> None:
        self._pause = pause
        self._logged_at: dict[int, float] = {}  # by the error's code

    def __call__(self, error: KafkaError) -> None:
        now = time.monotonic()
        if now - self._logged_at.get(error.code(), -math.inf) >= self._pause:
            self._logged_at[error.code()] = now
            log.warning("Kafka: %s", error.str())


log_client_error = ThrottledErrorLog()


def settings() -> dict:
    """The connection's configuration for a client. Raises ConnectionMissing, or BrokerError if it names no broker."""
    target = endpoint(KAFKA)
    if not target.extra.get(_SERVERS):
        raise BrokerError(f'Connection {KAFKA} names no broker: put {{"{_SERVERS}": "host:9092"}} into its extra.')
    # A short backoff, so that a broker that is back is used at once. Errors are raised or logged here: the client's own log
    # on stderr would only repeat them.
    return {"reconnect.backoff.max.ms": 1_000, **target.extra, "log_level": 2}


def follower_settings(pipeline: Pipeline, consumer: str = DAG) -> dict:
    """A follower's settings, in addition to the connection's configuration."""
    name = group_of(pipeline.name, consumer)
    return {
        "group.id": name,
        # A static member: a successor with this name gets all partitions at once, without a rebalance, and its
        # predecessor is fenced. So each minute's task takes over from the previous task, even if that still runs.
        "group.instance.id": name,
        "heartbeat.interval.ms": 1_000,  # within this time the predecessor is fenced
        "enable.auto.commit": False,
        "auto.offset.reset": "error",  # nothing is skipped: include/kafka/positions.py finds removed messages
        **_READER_SETTINGS,
    }


def follower(pipeline: Pipeline, consumer: str = DAG) -> Consumer:
    """A consumer that follows the topic; the caller closes it. Tasks that only follow use the provider's hook."""
    from confluent_kafka import Consumer

    with translate_errors():
        client = Consumer({**settings(), **follower_settings(pipeline, consumer), "error_cb": log_client_error})
        client.subscribe([pipeline.topic])
    return client


@contextlib.contextmanager
def reader(group: str) -> Iterator[Consumer]:
    """A consumer that reads messages and offsets, but neither joins that group nor commits to it."""
    from confluent_kafka import Consumer

    options = {"group.id": group, "enable.auto.commit": False, "auto.offset.reset": "earliest", **_READER_SETTINGS}
    with translate_errors():
        consumer = Consumer({**settings(), **options, "error_cb": log_client_error})
        try:
            yield consumer
        finally:
            consumer.close()


def admin() -> AdminClient:
    """A client that creates topics, reads and alters their settings, and describes consumer groups. Raises BrokerError."""
    from confluent_kafka.admin import AdminClient

    with translate_errors():
        return AdminClient({**settings(), "error_cb": log_client_error})  # ty: ignore[invalid-argument-type]  # takes callbacks, too


def check_broker() -> None:
    """Check that the broker answers this account. Raises BrokerError, ConnectionMissing."""
    with translate_errors():
        admin().list_topics(timeout=TIMEOUT)


@contextlib.contextmanager
def translate_errors() -> Iterator[None]:
    """Raise the client's errors as BrokerError, with the remedy."""
    from confluent_kafka import KafkaException

    try:
        yield
    except KafkaException as error:
        raise BrokerError(_explanation(error.args[0])) from error


def watermarks(client: Consumer, place: TopicPartition) -> tuple[int, int]:
    """First and end offset of a partition, once it has a leader: a topic that was just created has none for a moment."""
    from confluent_kafka import KafkaError as codes
    from confluent_kafka import KafkaException

    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            return client.get_watermark_offsets(place, timeout=TIMEOUT)
        except KafkaException as error:
            is_leaderless = error.args[0].code() in (codes.NOT_LEADER_FOR_PARTITION, codes.LEADER_NOT_AVAILABLE)
            if not is_leaderless or time.monotonic() > deadline:
                raise
            time.sleep(0.1)


def _explanation(error: KafkaError) -> str:
    from confluent_kafka import KafkaError as codes

    if error.code() in (codes._TRANSPORT, codes._TIMED_OUT, codes._ALL_BROKERS_DOWN):
        error = _find_login_refusal() or error
    problem = f"The broker of connection {KAFKA} ({endpoint(KAFKA).extra.get(_SERVERS)}): {error.str()}."
    if error.code() in (codes.UNKNOWN_TOPIC_OR_PART, codes._UNKNOWN_TOPIC, codes._UNKNOWN_PARTITION):
        return f"{problem} Create the topics: `./minutemark schema`, or the DAG minutemark_setup."
    if error.code() in (codes.TOPIC_AUTHORIZATION_FAILED, codes.GROUP_AUTHORIZATION_FAILED):
        return (
            f"{problem} Grant the connection's account Read on topics and on groups minutemark-*, and Write on the topics that "
            "it writes to. For set-up, also grant Create on the topics. With Kafka Connect, also grant Describe on groups "
            "connect-minutemark-*."
        )
    if _is_login_refusal(error):
        return f"{problem} Correct sasl.username and sasl.password in the extra of connection {KAFKA}."
    return (
        f"{problem} Start it (`make services`), or correct the extra of connection {KAFKA}: the address, and "
        "security.protocol and sasl.* where the broker requires a login."
    )


def _find_login_refusal() -> KafkaError | None:
    """The broker's refusal of this login: only the client's callback gets it; the call itself just times out."""
    from confluent_kafka.admin import AdminClient

    errors: list[KafkaError] = []
    AdminClient({**settings(), "error_cb": errors.append}).poll(_REFUSAL_WAIT)  # ty: ignore[invalid-argument-type]  # takes callbacks, too
    return next((error for error in errors if _is_login_refusal(error)), None)


def _is_login_refusal(error: KafkaError) -> bool:
    from confluent_kafka import KafkaError as codes

    return error.code() in (codes._AUTHENTICATION, codes.SASL_AUTHENTICATION_FAILED)
