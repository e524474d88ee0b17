"""Whether the consumers of each topic make progress: part of the watch, which runs each minute."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.connections import ConnectionMissing
from include.kafka import topics
from include.kafka.clients import BrokerError, TopicMissing
from include.kafka.connect import name_of, restart_failed
from include.kafka.dead_letters import with_dead_letters
from include.kafka.ingest_mode import CONNECT, DAG, DEAD_LETTERS, group_of, ingest_mode
from include.pipelines import Pipeline
from include.warehouse import topic_progress
from include.warehouse.alerts import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Consumer:
    """Who consumes a topic, by which group, and what to do where it makes no progress."""

    pipeline: Pipeline  # whose topic it is
    group: str
    name: str
    remedy: str


def problems(conn, pipelines: Sequence[Pipeline], now: datetime) -> Iterator[Problem]:
    """Problems of topics at that time of the warehouse: missing, unconsumed, or a broker that has not answered for the limit.

    What has failed of a connector is restarted first, and the log says why it had failed.
    """
    answers = True
    for pipeline in pipelines:
        if ingest_mode() == CONNECT and (state := restart_failed(pipeline)):
            log.warning("Connector %s: %s", name_of(pipeline), state)
        missing: list[str] = []
        try:
            if answers:
                missing = _record(conn, pipeline, now)
        except (BrokerError, ConnectionMissing) as error:  # each further question would wait as long
            log.warning("Topics cannot be watched now. %s", error)
            answers = False
        if missing:
            yield Problem(
                pipeline.name,
                "stuck",
                now,
                f"A topic is missing: {', '.join(missing)}. Its events are not consumed.",
                "Create it: ./minutemark schema, or the DAG minutemark_setup. If it was deleted by mistake, events that were "
                "not consumed have to be sent again.",
            )
        else:
            yield from _problem(conn, pipeline, now, answers)


def _record(conn, pipeline: Pipeline, now: datetime) -> list[str]:
    """Record how far the consumers of the pipeline's topics are; returns the topics that are missing."""
    missing = []
    for consumer in _consumers(pipeline):
        topic = consumer.pipeline.topic
        try:
            reaches = topics.reaches(consumer.pipeline, consumer.group)
        except TopicMissing as error:
            log.warning("This topic cannot be watched now. %s", error)
            if topic == pipeline.topic or ingest_mode() == CONNECT:
                missing.append(topic)
                continue
            reaches = {}  # set-up of an earlier version made no topic of dead letters, and ingest needs none
        topic_progress.record(conn, pipeline, topic, reaches, now)  # ty: ignore[invalid-argument-type]
    return missing


def _consumers(pipeline: Pipeline) -> list[_Consumer]:
    if ingest_mode() != CONNECT:
        name = f"DAG {pipeline.name}_ingest"
        remedy = f"See whether {pipeline.name}_ingest is paused or its runs fail; the log of its newest task says why."
        return [
            _Consumer(pipeline, group_of(pipeline.name, DAG), name, remedy),
            _Consumer(with_dead_letters(pipeline), group_of(pipeline.name, DEAD_LETTERS), name, remedy),
        ]
    connector = name_of(pipeline)
    return [
        _Consumer(
            pipeline,
            group_of(pipeline.name, CONNECT),
            f"Connector {connector}",
            f"Read the connector's state (curl -u minutemark http://connect:8083/connectors/{connector}/status) and the "
            "worker's log (docker compose logs connect), correct the cause, and restart the connector's tasks: "
            f"curl -u minutemark -X POST 'http://connect:8083/connectors/{connector}/restart?includeTasks=true'.",
        ),
        _Consumer(
            with_dead_letters(pipeline),
            group_of(pipeline.name, DEAD_LETTERS),
            "DAG minutemark_dead_letters",
            "See whether minutemark_dead_letters is paused or its runs fail; the log of its newest task says why.",
        ),
    ]


def _problem(conn, pipeline: Pipeline, now: datetime, answers: bool) -> Iterator[Problem]:
    """The first problem of the pipeline's topics."""
    limit = pipeline.delay_limit
    if not answers:
        seen_at = topic_progress.last_answer(conn, pipeline)
        if seen_at and now - seen_at > limit:
            problem = (
                f"The broker has not answered since {seen_at:%Y-%m-%d %H:%M:%S} UTC: {pipeline.topic} is not checked."
            )
            yield Problem(
                pipeline.name, "stuck", seen_at, problem, "Start the broker, or correct connection kafka_default."
            )
        return
    for consumer in _consumers(pipeline):
        topic = consumer.pipeline.topic
        if partitions := topic_progress.stuck(conn, pipeline, topic, limit, now):
            waiting = ", ".join(f"partition {row['partition_number']} ({row['waiting']} wait)" for row in partitions)
            problem = f"{consumer.name} has made no progress in {topic} for more than {limit.total_seconds():.0f} s: {waiting}."
            yield Problem(pipeline.name, "stuck", min(row["moved_at"] for row in partitions), problem, consumer.remedy)
            return
