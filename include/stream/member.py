"""A stream's membership in the pipeline's consumer group, under the follower's name: each fences the other.

Spark's consumers belong to no group and commit nothing. This client reads nothing, and joins as the static member
whose name followers also use (include/kafka/clients.py). A stream that joins fences the follower or stream before
it, and a follower fences a stream: commits of a fenced member fail. The successor starts at the committed offsets.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

from confluent_kafka import Consumer, KafkaException

from include.kafka import clients, topics
from include.kafka.clients import (
    BrokerError,
    TopicMissing,
    admin,
    follower_settings,
    log_client_error,
    reader,
    settings,
    translate_errors,
)
from include.kafka.follow import partitions_of
from include.kafka.ingest_mode import DAG, group_of
from include.kafka.positions import (
    Gap,
    Offsets,
    Start,
    commit,
    is_taken_over,
    raise_unless_transient,
    starting_offsets,
)
from include.pipelines import Pipeline

_PAUSE = 0.1
_LEAVING = 1.0  # seconds in which the client sends its request to leave


class TakenOver(Exception):
    """A successor has joined, and writes what this stream has not committed."""


class Rejoined(Exception):
    """This stream left the group and joined it again: another member may have committed in between."""


class Member:
    """The stream's membership in the group, once it has joined; a context manager."""

    def __init__(self, pipeline: Pipeline) -> None:
        self._pipeline = pipeline
        self._joins = self._joins_at_start = 0

    @property
    def joined(self) -> bool:
        return self._joins > 0

    def __enter__(self) -> Member:
        with translate_errors():
            self._client = Consumer({**settings(), **follower_settings(self._pipeline), "error_cb": log_client_error})
            self._admin = admin()
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def topic_id(self) -> str | None:
        """The topic's id, which changes when the topic is created again. Raises BrokerError."""
        return topics.topic_id(self._pipeline.topic, self._admin)

    def peek(self) -> Start:
        """The committed offsets, read without joining the group: they may advance until it joins. Raises BrokerError."""
        group, topic_id = group_of(self._pipeline.name, DAG), self.topic_id()
        with reader(group) as client:
            ranges = topics.offset_ranges_of(client, self._pipeline)
        starts = {
            (self._pipeline.topic, number): min(max(offsets.begin, offsets.committed or 0), offsets.end)
            for number, offsets in ranges.items()
        }
        return Start(starts, topic_id)

    def join(self) -> None:
        """Join the group, which fences the predecessor; returns once this stream is the member. Raises BrokerError."""
        if self.joined:
            return
        with translate_errors():
            self._client.subscribe([self._pipeline.topic], on_assign=self._on_assign)
        deadline = time.monotonic() + clients.TIMEOUT
        while not self.joined:
            self.poll(_PAUSE)
            if time.monotonic() > deadline:
                raise BrokerError(
                    f"Could not join the group of {self._pipeline.topic} within {clients.TIMEOUT:.0f} s. Check that the "
                    "broker answers, and that the topic exists (`./minutemark schema`, or the DAG minutemark_setup, creates it)."
                )

    def _on_assign(self, client, _) -> None:
        client.assign([])  # Spark reads
        self._joins += 1

    def leave(self) -> None:
        """Leave the group, if this stream is in it: a member that is only closed stays for 45 s. Raises TakenOver."""
        if not self.joined:
            return
        with translate_errors(), _detect_takeover():
            self._client.unsubscribe()
            deadline = time.monotonic() + _LEAVING
            while time.monotonic() < deadline:
                self._client.poll(_PAUSE)

    def poll(self, seconds: float = 0.0) -> None:
        """Stay in the group. Raises TakenOver, BrokerError."""
        with translate_errors():
            message = self._client.poll(seconds)
            if message is None or (error := message.error()) is None:
                return
            if is_taken_over(error):
                raise TakenOver
            try:
                raise_unless_transient(error)
            except KafkaException:
                # Spark's consumers get this error too, and report it in more detail.
                log_client_error(error)

    def starts(self, record_gaps: Callable[[list[Gap]], None]) -> Start:
        """The offsets to start at, once they are committed and lost messages are recorded.

        Waits for a topic that is being created again. Raises TakenOver, BrokerError.
        """
        deadline = time.monotonic() + clients.TIMEOUT
        while True:
            self._joins_at_start = self._joins
            try:
                with translate_errors(), _detect_takeover():
                    partitions = partitions_of(self._client, self._pipeline.topic)
                    start = starting_offsets(self._client, self._pipeline.topic, partitions, self.topic_id, record_gaps)
                if start is not None:
                    return start
            except TopicMissing:  # a topic that is created again does not exist for a moment
                if time.monotonic() > deadline:
                    raise
            self._wait(deadline, "read the starting offsets")

    def commit(self, offsets: Offsets, topic_id: str | None) -> None:
        """Commit these offsets of the topic with this id. Raises TakenOver, Rejoined, BrokerError."""
        deadline = time.monotonic() + clients.TIMEOUT
        while True:
            if self._joins != self._joins_at_start:
                raise Rejoined
            with translate_errors(), _detect_takeover():
                if commit(self._client, offsets, topic_id):
                    return
            self._wait(deadline, "commit offsets")

    def _wait(self, deadline: float, purpose: str) -> None:
        if time.monotonic() > deadline:
            raise BrokerError(
                f"Could not {purpose} of {self._pipeline.topic} within {clients.TIMEOUT:.0f} s. "
                "Check that the broker answers."
            )
        self.poll(_PAUSE)


@contextlib.contextmanager
def _detect_takeover() -> Iterator[None]:
    """Raise the client's fatal error as TakenOver."""
    try:
        yield
    except KafkaException as error:
        if is_taken_over(error.args[0]):
            raise TakenOver from error
        raise
