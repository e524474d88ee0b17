"""Whether the consumers of each topic make progress: part of the watch, which runs each minute."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from include.connections import ConnectionMissing
from include.errors import MinutemarkError
from include.kafka import topics
from include.kafka.clients import BrokerError, TopicMissing, check_broker
from include.kafka.connect import LOGIN_SETTING, URL_SETTING, name_of, restart_failed, without_login
from include.kafka.dead_letters import with_dead_letters
from include.kafka.ingest_mode import CONNECT, DAG, DEAD_LETTERS, group_of, ingest_mode
from include.pipelines import Pipeline
from include.warehouse import topic_progress
from include.warehouse.alerts import Problem

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Consumer:
    """A consumer of a topic, its group, and the remedy if it makes no progress."""

    pipeline: Pipeline  # whose topic it is
    group: str
    name: str
    remedy: str


def problems(conn, pipelines: Sequence[Pipeline], now: datetime) -> Iterator[Problem]:
    """Problems of topics at `now`, by the warehouse's clock: missing, unconsumed, or not checked for longer than the limit.

    An error of one topic does not stop the check of the other pipelines; the log names it, with its pipeline, at the end.
    Failed parts of a connector are restarted first; the log has the cause.
    """
    errors: dict[str, MinutemarkError] = {}
    broker_is_down = False
    for pipeline in pipelines:
        if ingest_mode() == CONNECT and (state := restart_failed(pipeline)):
            log.warning("Connector %s: %s", name_of(pipeline), state)
        if broker_is_down:  # every further request would time out, too
            yield from _unchecked_problems(conn, pipeline, now)
            continue
        try:
            missing = _record(conn, pipeline, now)
        except (BrokerError, ConnectionMissing) as error:
            errors[pipeline.name] = error
            broker_is_down = not _broker_answers()
            yield from _unchecked_problems(conn, pipeline, now, None if broker_is_down else error)
            continue
        if missing:
            yield Problem(
                pipeline.name,
                "stuck",
                now,
                f"Missing topics: {', '.join(missing)}. Their messages are not consumed.",
                "Create them: ./minutemark schema, or the DAG minutemark_setup. If one was deleted by mistake, events that were "
                "not consumed have to be sent again.",
            )
        else:
            yield from _stuck_problem(conn, pipeline, now)
    for name, error in errors.items():
        stopped_here = broker_is_down and name == [*errors][-1] and name != pipelines[-1].name
        others = " The pipelines after it were not checked either." if stopped_here else ""
        log.warning("The topics of pipeline %s were not checked.%s %s", name, others, error)


def _broker_answers() -> bool:
    """False if the broker is down; true if only a topic or a group could not be queried."""
    try:
        check_broker()
    except (BrokerError, ConnectionMissing):
        return False
    return True


def _record(conn, pipeline: Pipeline, now: datetime) -> list[str]:
    """Record how far the consumers of the pipeline's topics are; returns the topics that are missing."""
    missing = []
    for consumer in _consumers(pipeline):
        topic = consumer.pipeline.topic
        try:
            ranges = topics.offset_ranges(consumer.pipeline, consumer.group)
        except TopicMissing as error:
            log.warning("This topic cannot be watched now. %s", error)
            if topic == pipeline.topic or ingest_mode() == CONNECT:
                missing.append(topic)
                continue
            ranges = {}  # an earlier version's set-up created no dead-letter topic, and ingest works without it
        topic_progress.record(conn, pipeline, topic, ranges, now)  # ty: ignore[invalid-argument-type]
    topic_progress.forget_failure(conn, pipeline, now)
    return missing


def _consumers(pipeline: Pipeline) -> list[_Consumer]:
    if ingest_mode() != CONNECT:
        name = f"DAG {pipeline.name}_ingest"
        remedy = (
            f"Check whether {pipeline.name}_ingest is paused or its runs fail; the log of its newest task says why."
        )
        return [
            _Consumer(pipeline, group_of(pipeline.name, DAG), name, remedy),
            _Consumer(with_dead_letters(pipeline), group_of(pipeline.name, DEAD_LETTERS), name, remedy),
        ]
    connector = name_of(pipeline)
    # Without the settings, those of the compose file: curl then runs in a container of its network.
    address = without_login(os.environ.get(URL_SETTING, "")) or "http://connect:8083"
    login = os.environ.get(LOGIN_SETTING, "").strip()
    name = login.partition(":")[0] if ":" in login else "minutemark"
    return [
        _Consumer(
            pipeline,
            group_of(pipeline.name, CONNECT),
            f"Connector {connector}",
            f"Read the connector's state (curl -u {name} {address}/connectors/{connector}/status) and the worker's log, "
            "fix the cause, and restart the connector's tasks: "
            f"curl -u {name} -X POST '{address}/connectors/{connector}/restart?includeTasks=true'.",
        ),
        _Consumer(
            with_dead_letters(pipeline),
            group_of(pipeline.name, DEAD_LETTERS),
            "DAG minutemark_dead_letters",
            "Check whether minutemark_dead_letters is paused or its runs fail; the log of its newest task says why.",
        ),
    ]


def _unchecked_problems(
    conn, pipeline: Pipeline, now: datetime, error: MinutemarkError | None = None
) -> Iterator[Problem]:
    """A problem if the topics were not checked for longer than the limit, because of `error` or a broker that is down."""
    checked_at = topic_progress.record_failed_check(conn, pipeline, now)
    if now - checked_at <= pipeline.delay_limit:
        return
    since = f"since {checked_at:%Y-%m-%d %H:%M:%S} UTC"
    if error:
        finding = f"The topics of {pipeline.name} have not been checked {since}: {error}"
        remedy = "Fix the cause of this error. The log of check_pipelines in minutemark_watch has its full text."
    else:
        finding = f"The broker has not answered {since}: {pipeline.topic} is not checked."
        remedy = "Start the broker, or correct connection kafka_default."
    yield Problem(pipeline.name, "stuck", checked_at, finding, remedy)


def _stuck_problem(conn, pipeline: Pipeline, now: datetime) -> Iterator[Problem]:
    """The problem of the first of the pipeline's consumers that makes no progress."""
    limit = pipeline.delay_limit
    for consumer in _consumers(pipeline):
        topic = consumer.pipeline.topic
        if partitions := topic_progress.stuck(conn, pipeline, topic, limit, now):
            waiting = ", ".join(f"partition {row['partition_number']} ({row['waiting']} waiting)" for row in partitions)
            finding = f"{consumer.name} has made no progress in {topic} for more than {limit.total_seconds():.0f} s: {waiting}."
            yield Problem(pipeline.name, "stuck", min(row["moved_at"] for row in partitions), finding, consumer.remedy)
            return
