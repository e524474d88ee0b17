"""Sends events to a topic as every producer should: the id as key, its shard as partition, create_time as timestamp."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterable, Iterator

from include.connections import KAFKA
from include.durations import EPOCH, MILLISECOND
from include.kafka import clients
from include.kafka.clients import BrokerError, log_client_error, settings, translate_errors
from include.lake.keys import minute_of, shard_of, time_of
from include.lake.writer import Event, Written, event_id
from include.pipelines import Pipeline

_as_json = json.JSONEncoder(ensure_ascii=False).encode


class MessageTooLong(BrokerError):
    """An event that no message can hold; the producer stays usable."""


class EventProducer:
    """Sends events of one pipeline; use `producer()`."""

    def __init__(self, client, pipeline: Pipeline) -> None:
        self._client = client
        self._pipeline = pipeline
        self._failures: list[str] = []

    def write(self, events: Iterable[Event]) -> Written:
        """Send all events and return when the broker has them. Raises BrokerError."""
        rows, minutes = 0, set()
        for event in events:
            self.add(event)
            minutes.add(minute_of(event.create_time))
            rows += 1
        self.flush()
        return Written(rows, frozenset(minutes))

    def add(self, event: Event) -> None:
        """Queue the event; `flush()` raises if the broker does not accept it. Raises MessageTooLong, BrokerError."""
        identity = event_id(self._pipeline, event)
        fields = {**event.values, "create_time": str(event.create_time)}
        value = _as_json({name: text for name, text in fields.items() if text})
        self.add_message(
            value.encode(),
            partition=shard_of(identity, self._pipeline.shards),
            key=identity.encode(),
            timestamp=(time_of(event.create_time) - EPOCH) // MILLISECOND,
        )

    def send(self, value: bytes | None, partition: int) -> None:
        """Send any value, event or not, and return when the broker has it. Raises BrokerError."""
        self.add_message(value, partition=partition)
        self.flush()

    def add_message(self, value: bytes | None, **options) -> None:
        """Queue any value, as `add` queues an event. Raises MessageTooLong, BrokerError."""
        from confluent_kafka import KafkaError, KafkaException

        with translate_errors():
            while True:
                try:
                    self._client.produce(self._pipeline.topic, value=value, on_delivery=self._record_failure, **options)
                    return
                except BufferError:  # the queue is full
                    self._client.poll(0.1)
                except KafkaException as error:
                    if error.args[0].code() != KafkaError.MSG_SIZE_TOO_LARGE:
                        raise
                    raise MessageTooLong(
                        f"it is too long for a message: {len(value)} bytes (limit: message.max.bytes of connection {KAFKA})"  # ty: ignore[invalid-argument-type]
                    ) from error

    def _record_failure(self, error, _) -> None:
        if error is not None:
            self._failures.append(error.str())

    def flush(self) -> None:
        """Wait until the broker has everything that was added. Raises BrokerError."""
        waiting = self._client.flush(clients.TIMEOUT)
        failures, self._failures = self._failures, []
        if waiting or failures:
            reason = failures[0] if failures else f"no answer within {clients.TIMEOUT:.0f} s"
            raise BrokerError(
                f"{waiting + len(failures)} messages were not sent to topic {self._pipeline.topic}: {reason}. "
                "Check that the brokers answer, then send the messages again: an event counts once, even if it is sent twice."
            )


@contextlib.contextmanager
def producer(pipeline: Pipeline, **options: object) -> Iterator[EventProducer]:
    """A producer for the pipeline's topic; `options` are librdkafka's."""
    from confluent_kafka import Producer

    defaults = {
        "acks": "all",
        "enable.idempotence": True,
        "linger.ms": 5,
        "message.timeout.ms": int(clients.TIMEOUT * 1000),
        "delivery.report.only.error": True,  # flush() waits for all; a report for each takes longer than sending
    }
    with translate_errors():
        client = Producer({**settings(), **defaults, **options, "error_cb": log_client_error})
    yield EventProducer(client, pipeline)
