"""A real Connect worker with the project's worker.properties, template and transform, from the topic into a real lake.

The sink is the tests' own and obeys the DataStax sink's rules; with MINUTEMARK_TEST_SINK it is the DataStax sink itself.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import secrets
import signal
import uuid
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import psutil
import pytest
from confluent_kafka import Message, Producer

from include import pipelines
from include.connections import LAKE_WRITER, endpoint
from include.demo import traffic
from include.kafka import clients, topics
from include.kafka.connect import LOGIN_SETTING, URL_SETTING, connector, name_of, register_all, restart_failed
from include.kafka.ingest import ingest_dead_letters
from include.kafka.ingest_mode import CONNECT, SETTING, group_of
from include.kafka.messages import TopicEvents
from include.kafka.topic_watch import problems
from include.lake import change_log
from include.lake.keys import minute_of, shard_of, time_uuid
from include.lake.schema import table_statements
from include.lake.session import lake
from include.lake.writer import Event, event_id, payload_of
from include.operations.held import accept_drift
from include.pipelines import Pipeline
from include.verify import verify
from include.warehouse.session import warehouse
from local import connect
from tests.e2e import runs
from tests.kafka.conftest import kept, until

EVENTS = int(os.environ.get("MINUTEMARK_TEST_EVENTS", "600"))  # for each pipeline and test
START = datetime(2026, 10, 3, 12)
# Tests that do not depend on the pipeline run with one pipeline, unless the sink is the real one.
SOME_PIPELINES = [*pipelines.all_pipelines()] if "MINUTEMARK_TEST_SINK" in os.environ else ["ecommerce"]
some_pipelines = pytest.mark.parametrize("pipeline", SOME_PIPELINES, indirect=True)
POISON = [
    b'{"create_time": "2026-',
    b'["create_time", "custom_track"]',
    b'{"custom_track": "click", "event_type": "view"}',  # no create_time, no id
    b'{"create_time": "yesterday", "id": "e-1"}',
    b'{"create_time": "%s", "id": "e-2", "mood": ["\\ud800"]}' % str(time_uuid(START, "x")).encode(),
    b"\xff\xfe\x00",
    None,
]


@pytest.fixture(scope="module")
def template(cassandra_node) -> str:
    """The project's template, for this machine's sink and node."""
    config = json.loads((connect.IMAGE / "lake-sink.json").read_text())
    if "MINUTEMARK_TEST_SINK" not in os.environ:
        config["connector.class"] = "minutemark.tests.StrictSink"
    lake_writer = endpoint(LAKE_WRITER)
    return json.dumps(config | {"contactPoints": lake_writer.host, "port": str(lake_writer.port)})


@pytest.fixture(scope="module")
def worker(connect_worker, schemas):
    return connect_worker


@pytest.fixture(params=pipelines.all_pipelines())
def pipeline(request, worker, template, monkeypatch):
    """A pipeline under another name, with its own topics and running connector; its lake table is the same."""
    monkeypatch.setenv(SETTING, CONNECT)
    name = f"{request.param}_{secrets.token_hex(4)}"
    result = replace(pipelines.get(request.param), name=name, topic=f"{name}.events")
    topics.make_topics([result])
    register_all(worker.rest, [result], template, patience=60, pause=0.2)
    yield result
    worker.rest.remove(name_of(result))


@pytest.fixture
def recruitment(worker, template, monkeypatch):
    """The pipeline under its own name, which its DAG knows, with a topic of this test's own."""
    monkeypatch.setenv(SETTING, CONNECT)
    result = replace(pipelines.get("recruitment"), topic=f"drift_{secrets.token_hex(4)}")
    topics.make_topics([result])
    register_all(worker.rest, [result], template, patience=60, pause=0.2)
    yield result
    worker.rest.remove(name_of(result))


@pytest.fixture
def airflow(worker, tmp_path_factory):
    running = runs.Airflow(tmp_path_factory.mktemp("airflow"))  # short: a socket's path has a limit
    yield running
    running.stop()


def values(pipeline: Pipeline, count: int) -> list[bytes]:
    """Messages as producers send them: with absent fields, nulls, numbers and unknown fields, some without create_time."""
    rng, demo = random.Random(pipeline.name), traffic.demo_of(pipelines.get(pipeline.database))
    messages = []
    for number in range(count):
        at = START + timedelta(seconds=rng.uniform(0, 1_800))
        fields = {"create_time": str(time_uuid(at, f"{pipeline.name}{number}")), **demo.event(rng, at)}
        if pipeline.event_time and number % 10 == 0:
            del fields["create_time"]
        if number % 7 == 0:
            fields |= {"mood": {"deep": [1]}, pipeline.fields[0]: None}
        text = json.dumps(fields)
        if number % 5 == 0:  # numbers that JsonConverter would change
            text = f'{text[:-1]}, "{pipeline.fields[1]}": 1.50, "{pipeline.fields[2]}": 12345678901234567890}}'
        messages.append(text.encode())
    return messages


def send(pipeline: Pipeline, messages) -> None:
    """Send to random partitions, now: neither the partition nor the time of sending may matter."""
    rng, producer = random.Random(3), Producer(clients.settings())
    for number, value in enumerate(messages):
        if number % 1_000 == 0:
            producer.flush(20)
        producer.produce(pipeline.topic, value, partition=rng.randrange(pipeline.shards))
    assert producer.flush(20) == 0


def waiting_messages(pipeline: Pipeline) -> int:
    return sum(offsets.waiting for offsets in topics.offset_ranges(pipeline, group_of(pipeline.name, CONNECT)).values())


def wait_until_drained(pipeline: Pipeline, seconds: float = 90) -> None:
    """Return when Connect has committed all messages, and their dead letters are consumed."""
    until(lambda: waiting_messages(pipeline) == 0, seconds)
    ingest_dead_letters(pipeline, seconds=60)


def expected_rows(pipeline: Pipeline, messages) -> dict[tuple[datetime, int], dict[str, tuple[str, str]]]:
    """The create_time and payload that Python makes of these messages, by partition and by event."""
    reader = TopicEvents(pipeline, datetime.now(UTC).replace(tzinfo=None))
    rows: dict = {}
    for value in messages:
        result = reader.read(Message(topic=pipeline.topic, partition=0, offset=0, value=value))
        if isinstance(result, Event):
            identity = event_id(pipeline, result)
            place = minute_of(result.create_time), shard_of(identity, pipeline.shards)
            rows.setdefault(place, {})[identity] = (str(result.create_time), payload_of(result).decode())
    return rows


def lake_rows(pipeline: Pipeline, places) -> dict[tuple[datetime, int], dict[str, tuple[str, str]]]:
    columns = f"create_time, {pipeline.event_id} AS identity, payload"
    with lake("lake_reader") as session:
        select = session.prepare(f"SELECT {columns} FROM {pipeline.lake_table} WHERE minute = ? AND shard = ?")
        return {
            place: {str(row.identity): (str(row.create_time), row.payload) for row in session.execute(select, place)}
            for place in places
        }


def touched_minutes(pipeline: Pipeline, day: date) -> set[datetime]:
    """The touched minutes, as a poll finds them: the day first."""
    with lake("lake_reader") as session:
        assert day in change_log.changed_days(session, pipeline.lake_table)
        return set(change_log.minutes_of_day(session, pipeline.lake_table, day))


def topic_findings(pipeline: Pipeline) -> dict[str, int]:
    """The differences that verify reports for the topic, without those of minutes, because no batch runs here."""
    report = verify.verify([pipeline], patience=0).pipelines[0]
    counts = report.differences.counts | report.apart.counts
    return {kind: count for kind, count in counts.items() if kind.startswith("topic_")}


def check_all_is_safe(pipeline: Pipeline, messages) -> None:
    rows = expected_rows(pipeline, messages)
    result = lake_rows(pipeline, rows)
    for place, events in rows.items():
        assert {identity: result[place].get(identity) for identity in events} == events
    [day] = {minute.date() for minute, _ in rows}
    assert {minute for minute, _ in rows} <= touched_minutes(pipeline, day)
    poison = [value for value in messages if value in POISON]
    assert len(kept(pipeline)) == len(poison)
    assert all(row["place"].startswith(f"{pipeline.topic}/") for row in kept(pipeline))
    assert topic_findings(pipeline) == {}


def with_poison(messages: list[bytes], copies: int) -> list[bytes | None]:
    mixed = [*messages, *POISON * copies]
    random.Random(5).shuffle(mixed)
    return mixed


def test_every_event_is_in_the_lake_as_python_writes_it_and_poison_among_the_rejected_events(pipeline):
    messages = with_poison(values(pipeline, EVENTS), copies=5)
    send(pipeline, messages)
    wait_until_drained(pipeline)
    check_all_is_safe(pipeline, messages)
    reasons = {row["reason"].partition(":")[0] for row in kept(pipeline)}
    assert "the message has no value" in reasons and len(reasons) >= 6


@some_pipelines
def test_nothing_is_lost_or_stuck_when_the_worker_is_killed(pipeline, worker):
    messages = with_poison(values(pipeline, EVENTS), copies=2)
    send(pipeline, messages[: EVENTS // 2])
    places = expected_rows(pipeline, messages[: EVENTS // 2])
    until(lambda: any(lake_rows(pipeline, places).values()))  # written, and not committed yet
    send(pipeline, messages[EVENTS // 2 :])
    worker.kill()
    worker.start()
    wait_until_drained(pipeline)
    check_all_is_safe(pipeline, messages)


@some_pipelines
def test_aborted_messages_are_nowhere_and_nothing_waits_for_them(pipeline):
    messages = values(pipeline, 40)
    for part, is_aborted in ((messages[:20], False), (messages[20:], True)):
        client = Producer({**clients.settings(), "transactional.id": pipeline.name})
        client.init_transactions(30)
        client.begin_transaction()
        for value in part:
            client.produce(pipeline.topic, value, partition=1)
        client.flush(30)
        (client.abort_transaction if is_aborted else client.commit_transaction)(30)
    wait_until_drained(pipeline)
    check_all_is_safe(pipeline, messages[:20])
    aborted = expected_rows(pipeline, messages[20:])
    result = lake_rows(pipeline, aborted)
    assert not any(events.keys() & result[place].keys() for place, events in aborted.items())


@some_pipelines
def test_nothing_is_lost_or_stuck_while_the_lake_is_down(pipeline, worker):
    messages = with_poison(values(pipeline, EVENTS), copies=2)
    with frozen(endpoint(LAKE_WRITER).port):
        started = worker.log.stat().st_size
        send(pipeline, messages)
        until(
            lambda: any(text in worker.log.read_bytes()[started:] for text in (b"refused a write", b"Error inserting")),
            60,
        )
        assert waiting_messages(pipeline) > 0
    wait_until_drained(pipeline)
    check_all_is_safe(pipeline, messages)


def test_a_task_that_failed_is_restarted_by_the_watch(worker, template, monkeypatch):
    """Here, its table is created late; a lake that is down when the worker starts fails a task in the same way."""
    monkeypatch.setenv(SETTING, CONNECT)
    monkeypatch.setenv(URL_SETTING, worker.url)
    monkeypatch.setenv(LOGIN_SETTING, worker.login)
    name = f"ecommerce_{secrets.token_hex(4)}"
    late = replace(pipelines.get("ecommerce"), name=name, topic=f"{name}.events", table=name)
    topics.make_topics([late])
    worker.rest.register(name_of(late), connector(late, template))
    until(lambda: (restart_failed(late) or "").startswith("failed"), 90)
    make_table_of(late)
    with warehouse() as conn:
        until(lambda: not list(problems(conn, [late], START)) and worker.rest.problem_of(name_of(late)) is None, 90)
    messages = values(late, 50)
    send(late, messages)
    wait_until_drained(late)
    check_all_is_safe(late, messages)
    worker.rest.remove(name_of(late))


def make_table_of(late: Pipeline) -> None:
    """Create the pipeline's lake table. It remains: other tests truncate all tables."""
    with lake("lake_admin") as session:
        for statement in table_statements(late):
            session.execute(statement)
        session.execute(f'GRANT MODIFY ON TABLE {late.lake_table} TO "{endpoint(LAKE_WRITER).login}"')


@contextlib.contextmanager
def frozen(port: int):
    """Suspend the process that listens on this port during the block."""
    [pid] = {
        net_connection.pid
        for net_connection in psutil.net_connections("tcp")
        if net_connection.status == "LISTEN" and net_connection.laddr.port == port
    }
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@some_pipelines
def test_the_log_stays_small_under_endless_poison(pipeline, worker):
    size = worker.log.stat().st_size
    send(pipeline, [POISON[number % len(POISON)] for number in range(5_000)])
    wait_until_drained(pipeline)
    assert worker.log.stat().st_size - size < 200_000
    assert len(kept(pipeline)) == 5_000


def test_a_message_without_a_time_does_not_get_that_of_its_record(pipeline):
    """The producer chooses the record's timestamp and partition: an id derived from them would change with a second send."""
    send(pipeline, [json.dumps({"id": str(uuid.uuid4()), "ev": "1"}).encode()])
    wait_until_drained(pipeline)
    assert [row["reason"].split()[0] for row in kept(pipeline)] in (["create_time"], ["event_time"])


def test_drift_that_comes_through_connect_is_held_by_name_until_a_person_accepts_it(recruitment, airflow):
    """Fields are renamed, retyped, dropped or added. The lake has what was sent; a minute with an added field is merged."""
    noon = START + timedelta(days=2)
    rng, demo = random.Random(7), traffic.demo_of(recruitment)

    def minute(number: int, change=dict) -> list[bytes]:
        at = [noon + timedelta(minutes=number, seconds=rng.uniform(0, 59)) for _ in range(200)]
        rows = ({"create_time": str(time_uuid(time, secrets.token_hex(8))), **demo.event(rng, time)} for time in at)
        return [json.dumps(change(row)).encode() for row in rows]

    def rename(row: dict) -> dict:
        return {"jobId" if name == "job_id" else name: value for name, value in row.items()}

    def retype(row: dict) -> dict:
        return {**row, "publisher_id": {"id": row["publisher_id"]}} if row.get("publisher_id") else row

    def drop(row: dict) -> dict:
        return {name: value for name, value in row.items() if name != "campaign_id"}

    good = [message for number in (0, 1, 2, 3, 15) for message in minute(number)]
    drifted = [*minute(10, rename), *minute(20, retype), *minute(25, drop)]
    messages = [*good, *drifted, *minute(30, lambda row: {**row, "novelty": [1]})]
    send(recruitment, messages)
    wait_until_drained(recruitment)
    check_all_is_safe(recruitment, messages)

    renamed_at, retyped_at, dropped_at = (noon + timedelta(minutes=number) for number in (10, 20, 25))
    ledger = (
        "SELECT minute, reason FROM etl.minute_ledger WHERE pipeline = 'recruitment' AND state = %(state)s "
        "AND minute >= %(noon)s"
    )
    airflow.catch_up()
    held = dict(runs.query(ledger, state="held", noon=noon))
    assert held.keys() == {renamed_at, retyped_at, dropped_at}
    assert held[renamed_at].startswith("staging_field_disappeared: job_id is in none of 200 rows")
    assert "jobId" in held[renamed_at]
    assert re.match(r"staging_field_unreadable: \d+ of \d+ values of publisher_id are not numbers", held[retyped_at])
    assert held[dropped_at].startswith("staging_field_disappeared: campaign_id is in none of 200 rows")
    assert runs.count("etl.drifts WHERE kind = 'appeared' AND field = 'novelty'") == 1
    published = "SELECT DISTINCT minute FROM recruitment.events_by_minute WHERE minute >= %(noon)s"
    assert not held.keys() & {at for (at,) in runs.query(published, noon=noon)}

    for field in ("job_id", "publisher_id", "campaign_id"):
        assert accept_drift("recruitment", field, None, user="test").minutes == 1
    airflow.catch_up()
    assert len(runs.query(ledger, state="merged", noon=noon)) == 9
    assert verify.verify([recruitment], start=noon, end=noon + timedelta(hours=1)).clean
