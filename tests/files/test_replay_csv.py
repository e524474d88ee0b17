"""A file through a topic on a real broker: what is sent, when, and that a killed replay resumes exactly."""

from __future__ import annotations

import csv
import gzip
import json
import os
import secrets
import signal
import subprocess
import sys
import threading
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka.admin import AlterConfigOpType, ConfigEntry, ConfigResource

from include import pipelines
from include.files import imports, replay_csv, replay_feed
from include.files.replay_options import ReplayOptions
from include.kafka import clients, topics
from include.kafka.clients import BrokerError
from include.kafka.ingest_mode import DAG, SETTING, group_of
from include.kafka.producer import EventProducer
from include.lake.keys import parse, time_of
from include.lake.session import lake
from include.warehouse.session import rows as fetch
from include.warehouse.session import warehouse
from local.layout import ROOT
from tests.kafka.conftest import consume, kept, until
from tests.lake.conftest import event_id

pytestmark = pytest.mark.usefixtures("schemas", "by_dag")

SHOP = pipelines.get("ecommerce")
HEADER = ["event_time", "event_type", "product_id", "category_code", "brand", "price", "user_session"]
MAX = ReplayOptions(rate=None)
AS_IS = ReplayOptions(rate=None, shift=False)


def create_topic(pipeline) -> None:
    """Create the pipeline's topic, and wait until every partition has a leader."""

    def has_leaders() -> bool:
        try:
            return bool(topics.offset_ranges(pipeline, group_of(pipeline.name, DAG)))
        except BrokerError:
            return False

    topics.make_topics([pipeline])
    until(has_leaders)


@pytest.fixture
def shop(kafka_broker):
    """Shop events under another name, so that topic, group and progress are this test's own; the lake table is the same."""
    name = f"shop_{secrets.token_hex(6)}"
    pipeline = replace(SHOP, name=name, topic=f"{name}.events")
    create_topic(pipeline)
    return pipeline


@pytest.fixture
def shop_file(tmp_path):
    """Write a file of `rows` rows at intervals of `interval` seconds, with `others` at its end."""

    def write(rows: int, interval: float, start: str, *others: list[str], name: str = "2019-Nov.csv"):
        path, begin = tmp_path / name, datetime.fromisoformat(start)
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "wt", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(HEADER)
            for number in range(rows):
                time = begin + timedelta(seconds=number * interval)
                kind = "purchase" if number % 50 == 7 else "cart" if number % 20 == 3 else "view"
                writer.writerow([f"{time:%F %T} UTC", kind, number % 90, "a.b", "NaN", "1.10", secrets.token_hex(8)])
            writer.writerows(others)
        return path

    return write


def sent(pipeline, since: dict[int, int] | None = None) -> list[dict]:
    """The values of the topic's messages, from the offsets in `since` on."""
    group = group_of(pipeline.name, DAG)
    span = {
        number: ((since or {}).get(number, offsets.begin), offsets.end)
        for number, offsets in topics.offset_ranges(pipeline, group).items()
    }
    return [json.loads(message.value()) for chunk in topics.messages(pipeline, group, span) for message in chunk]


def identities(messages: list[dict]) -> set[tuple]:
    return {tuple(sorted(message.items())) for message in messages}


def lake_rows(*minutes: datetime) -> list[tuple]:
    query = "SELECT * FROM ecommerce_ks.operations WHERE minute = %s AND shard IN (0, 1, 2, 3)"
    with lake("lake_reader") as session:
        result = [row for minute in minutes for row in session.execute(query, (minute,))]
    return sorted((*row[:-1], tuple(_fields(row.payload))) for row in result)


def _fields(payload: str) -> list[tuple]:
    """The fields without create_time, which a message always has and a file may lack."""
    return sorted((name, text) for name, text in json.loads(payload).items() if name != "create_time")


def replays(pipeline) -> list[dict]:
    with warehouse() as conn:
        return fetch(
            conn.cursor(),
            "SELECT * FROM etl.imports WHERE target = %(target)s AND source_key LIKE 'replay/%%' ORDER BY import_id",
            {"target": pipeline.name},
        )


@pytest.fixture(autouse=True)
def no_replays_before(schemas):
    with warehouse() as conn:
        conn.cursor().execute("DELETE FROM etl.imports")
        conn.cursor().execute("DELETE FROM etl.rejected_events")
        conn.commit()


@pytest.mark.parametrize("topic_first", [False, True])
def test_a_file_by_import_and_by_topic_counts_once_and_so_do_its_broken_lines(shop, shop_file, topic_first):
    start = f"2019-11-0{1 + topic_first} 10:00:00"
    minutes = [datetime.fromisoformat(start) + timedelta(minutes=number) for number in range(5)]
    row = [f"{start} UTC", "view", "7", "a.b", "NaN", "1.10", "s-1"]
    path = shop_file(300, 1, start, row, row, ["soon", *row[1:]], row[:3])

    def by_import() -> None:
        assert imports.import_events(shop, path).written == 302

    def by_topic() -> None:
        summary = replay_csv.replay_csv(shop, path, AS_IS)
        assert (summary.sent, summary.rejected) == (302, 2)
        assert consume(shop).written == 302

    first, second = (by_topic, by_import) if topic_first else (by_import, by_topic)
    first()
    before = lake_rows(*minutes), kept(shop)
    second()
    assert (lake_rows(*minutes), kept(shop)) == before
    assert (len(before[0]), len(before[1])) == (302, 2)
    assert [row["reason"].split(":")[0] for row in before[1]] == [
        "event_time 'soon' is not a timestamp between 1970 and 2100, and there is no create_time",
        "line 305 is not a record",
    ]


def test_json_lines_are_replayed_like_the_rows_of_a_csv(shop, tmp_path):
    path = tmp_path / "events"
    rows = [
        {"event_time": f"2019-11-02 11:00:0{second} UTC", "event_type": kind, "price": second}
        for second, kind in enumerate(["view", "cart", "view"])
    ]
    path.write_text("\n".join([*map(json.dumps, rows), "no object"]), encoding="utf-8")
    summary = replay_csv.replay_csv(shop, path, AS_IS)
    assert (summary.sent, summary.rejected, summary.description) == (3, 1, "UTF-8, JSON lines")
    assert sorted(message["price"] for message in sent(shop)) == ["0", "1", "2"]
    assert [row["payload"] for row in kept(shop)] == ['{"line": "no object"}']


def test_intact_rows_of_a_damaged_file_are_sent_and_the_replay_fails(shop, shop_file, monkeypatch):
    path = shop_file(5, 1, "2019-11-02 12:00:00", name="x.csv.gz")
    intact = path.read_bytes()
    path.write_bytes(intact + b"\x1e" + gzip.compress(b"2019-11-02 12:00:09 UTC,view,1,,,1,s\n")[1:])
    monkeypatch.setitem(replay_csv.pipelines.all_pipelines(), shop.name, shop)
    summary = replay_csv.run_replay(shop.name, str(path), rate="max")
    assert f"the gzip data is damaged at byte {len(intact)}" in summary.problem
    assert "of them were sent" in summary.problem
    assert "shifted times then count a second time" in summary.problem
    assert len(sent(shop)) == 5


def test_at_the_maximum_rate_the_last_event_happens_now_and_none_later(shop, shop_file):
    started = datetime.now(UTC).replace(tzinfo=None)
    summary = replay_csv.replay_csv(shop, shop_file(600, 1, "2019-11-03 10:00:00"), MAX)
    messages = sent(shop)
    times = sorted(time_of(parse(message["create_time"])) for message in messages)
    assert (summary.sent, len(messages), len({message["id"] for message in messages})) == (600, 600, 600)
    assert started <= times[-1] <= datetime.now(UTC).replace(tzinfo=None)
    assert times[-1] - times[0] == timedelta(seconds=599)
    for message in messages:  # the data set's own format
        assert message["event_time"] == f"{time_of(parse(message['create_time'])):%F %T} UTC"
    assert Counter(message["event_type"] for message in messages) == {"view": 558, "cart": 30, "purchase": 12}
    summary = consume(shop)
    assert (summary.written, summary.refused, summary.misplaced) == (600, 0, 0)


def test_each_replay_makes_new_events_and_none_equals_an_imported_one(shop, shop_file):
    path = shop_file(50, 1, "2019-11-04 10:00:00")
    imports.import_events(SHOP, path)
    imported = {row[2] for row in lake_rows(datetime(2019, 11, 4, 10))}
    for _ in range(2):
        replay_csv.replay_csv(shop, path, MAX)
    messages = sent(shop)
    assert len({message["id"] for message in messages}) == len(messages) == 100
    assert not {parse(message["create_time"]) for message in messages} & imported


class SentEvents(list):
    """When each event was handed to a producer, and when it happened."""

    def __init__(self, monkeypatch) -> None:
        add = EventProducer.add

        def spy(producer, event):
            self.append((datetime.now(UTC).replace(tzinfo=None), time_of(event.create_time)))
            return add(producer, event)

        monkeypatch.setattr(EventProducer, "add", spy)


def test_events_are_sent_when_their_time_has_come_and_late_ones_at_once(shop, shop_file, monkeypatch):
    late = ["2019-11-05 10:00:30 UTC", "view", "7", "a.b", "NaN", "1.10", "s-1"]
    path = shop_file(13, 15, "2019-11-05 10:00:00", late)  # three minutes
    events = SentEvents(monkeypatch)
    summary = replay_csv.replay_csv(shop, path, ReplayOptions(rate=60))
    [replay] = replays(shop)
    happened = [when for _, when in events]
    assert happened == [replay["started_at"] + timedelta(seconds=number * 0.25) for number in (*range(13), 2)]
    delays = [(at - when).total_seconds() for at, when in events]
    assert all(delay > -0.05 for delay in delays)  # both clocks are this machine's
    assert sorted(delays)[7] < 0.2  # the broker's first answers may take longer
    assert (summary.sent, replay["state"], replay["rows_written"]) == (14, "done", 14)


def test_progress_is_recorded_while_the_replay_waits_for_the_next_event(shop, shop_file):
    thread = threading.Thread(
        target=lambda: replay_csv.replay_csv(shop, shop_file(2, 8, "2019-11-05 12:00:00"), ReplayOptions()), daemon=True
    )
    thread.start()
    until(lambda: replays(shop) and replays(shop)[0]["position"] == 2)
    assert thread.is_alive() and len(sent(shop)) == 1
    thread.join(30)
    assert replays(shop)[0]["position"] == 3


def test_a_recruitment_file_is_shifted_to_now_with_its_fact_times(pipeline, tmp_path):
    ids = [event_id("2022-07-18 07:05:11"), event_id("2022-07-18 07:07:11")]
    path = tmp_path / "tracking.csv"
    path.write_text(
        "create_time,custom_track,ts,bid\n"
        f"{ids[0]},click,2022-07-18 07:05:11.130,1.5\n{ids[1]},,2022-07-08 07:05:11.130,\nno-id,click,,\n"
    )
    summary = replay_csv.replay_csv(pipeline, path, MAX)
    assert (summary.sent, summary.rejected) == (2, 1)
    first, second = sorted(sent(pipeline), key=lambda message: message["ts"], reverse=True)
    times = [time_of(parse(message["create_time"])) for message in (first, second)]
    assert abs(times[1] - times[0] - timedelta(minutes=2)) < timedelta(milliseconds=1)
    delay = times[0] - datetime.fromisoformat(first["ts"])
    original_delay = time_of(ids[0]) - datetime(2022, 7, 18, 7, 5, 11, 130_000)
    assert abs(delay - original_delay) < timedelta(milliseconds=1)
    assert datetime.fromisoformat(first["ts"]) - datetime.fromisoformat(second["ts"]) == timedelta(days=10)
    assert (first["custom_track"], first["bid"]) == ("click", "1.5") and "custom_track" not in second
    assert consume(pipeline).written == 2


def test_a_record_that_cannot_be_a_message_is_kept_and_the_rest_continues(shop, shop_file):
    fields = ["2019-11-06 10:00:00 UTC", "view", "7", "a.b"]
    path = shop_file(
        3, 1, "2019-11-06 10:00:00", ["never", *fields[1:], "x", "1", "s"], [*fields, "x" * 1_500_000, "1", "s"],
        [*fields, "x", "1", "s"], fields, name="2019-Nov.csv.gz",
    )  # fmt: skip
    summary = replay_csv.replay_csv(shop, path, MAX)
    assert (summary.sent, summary.rejected) == (4, 3)
    result = kept(shop)
    [replay] = replays(shop)
    assert [row["origin_key"] for row in result] == [f"{replay['source_key']}:{line}" for line in (5, 6, 8)]
    assert {row["origin"] for row in result} == {"import"}
    assert result[1]["reason"].startswith("it is too long for a message: 1500")
    assert json.loads(result[1]["payload"])["brand"] == "x" * 1_500_000
    assert len(sent(shop)) == 4
    replay_csv.replay_csv(shop, path, MAX)
    assert len(kept(shop)) == 3  # checked again, not kept twice


def test_a_sample_has_every_kind_and_the_unreadable_records(shop, shop_file):
    path = shop_file(
        2_000, 1, "2019-11-07 10:00:00", ["2019-11-07 10:00:00 UTC", "wishlist", *["1"] * 5], ["half a row"]
    )
    summary = replay_csv.replay_csv(shop, path, ReplayOptions(rate=None, shift=False, sample=100))
    kinds = Counter(message["event_type"] for message in sent(shop))
    assert (summary.sent, summary.rejected) == (99, 1)
    assert kinds == {"view": 92, "cart": 4, "purchase": 2, "wishlist": 1}
    first = identities(sent(shop))
    replay_csv.replay_csv(shop, path, ReplayOptions(rate=None, shift=False, sample=100))
    assert identities(sent(shop)) == first  # the same rows


def test_nothing_is_recorded_that_the_broker_has_not_acknowledged(shop, shop_file, monkeypatch):
    path = shop_file(30, 1, "2019-11-08 10:00:00")
    flush = EventProducer.flush

    def flush_without_answer(producer):
        flush(producer)
        raise BrokerError("no answer")

    with monkeypatch.context() as broken:
        broken.setattr(EventProducer, "flush", flush_without_answer)
        with pytest.raises(BrokerError):
            replay_csv.replay_csv(shop, path, MAX)
    [before] = replays(shop)
    assert (before["position"], before["state"], before["rows_written"]) == (0, "running", 0)
    replay_csv.replay_csv(shop, path, MAX)
    messages = sent(shop)
    assert (len(messages), len(identities(messages))) == (60, 30)
    assert replays(shop)[0]["started_at"] == before["started_at"]


def test_a_replay_that_was_stopped_can_be_abandoned(shop, shop_file, monkeypatch):
    path = shop_file(30, 1, "2019-11-09 10:00:00")
    with monkeypatch.context() as stopped:
        stopped.setattr(EventProducer, "flush", lambda _: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            replay_csv.replay_csv(shop, path, MAX)
    started = replays(shop)[0]["started_at"]
    assert replay_csv.replay_csv(shop, path, MAX, again=True).sent == 30
    [second] = replays(shop)
    assert second["started_at"] > started
    last = max(time_of(parse(message["create_time"])) for message in sent(shop))
    assert last == second["started_at"]


@pytest.mark.parametrize(
    ("rows", "words"),
    [  # one row per second of event time; at a rate of 1200, the replay takes five seconds
        (40_000, ["--rate=max", "--shift=none"]),
        (40_000, ["--rate=max", "--shift=now"]),
        (6_000, ["--rate=1200", "--shift=now"]),
        (6_000, ["--rate=1200", "--shift=now", "--sample=3000"]),
    ],
)
def test_a_replay_that_is_killed_and_restarted_sends_what_an_undisturbed_one_sends(shop, shop_file, rows, words):
    path = shop_file(rows, 1, "2019-11-10 10:00:00")
    create_topic(SHOP)
    group = group_of(SHOP.name, DAG)
    since = {number: offsets.end for number, offsets in topics.offset_ranges(SHOP, group).items()}
    command = [sys.executable, "-m", "include.cli", "replay-csv", "ecommerce", str(path), *words]
    with subprocess.Popen(command, cwd=ROOT) as process:
        try:
            until(lambda: replays(SHOP) and replays(SHOP)[0]["position"], 60)
        finally:
            process.send_signal(signal.SIGKILL)
    [halfway] = replays(SHOP)
    assert halfway["state"] == "running" and 0 < halfway["position"] <= rows
    subprocess.run(command, cwd=ROOT, check=True, timeout=120)
    [done] = replays(SHOP)
    disturbed = sent(SHOP, since)
    assert (done["state"], done["started_at"]) == ("done", halfway["started_at"])

    values = dict(word.removeprefix("--").split("=") for word in words)
    options = replay_csv.parse_options(**values | {"sample": int(values["sample"]) if "sample" in values else None})
    with warehouse() as conn:  # another replay that started at exactly that time, from the file's first line
        conn.cursor().execute(
            "UPDATE etl.imports SET state = 'running', position = 0, rows_written = 0, target = %s", (shop.name,)
        )
        conn.commit()
    assert replay_csv.replay_csv(shop, path, options).sent == done["rows_written"]
    undisturbed = sent(shop)
    assert identities(disturbed) == identities(undisturbed)
    assert len({message["id"] for message in disturbed}) == len(undisturbed) == (options.sample or rows)


def test_a_replay_does_not_run_far_ahead_of_the_consumers(shop, shop_file, monkeypatch):
    monkeypatch.setattr(replay_feed, "_ROWS_PER_CHUNK", 500)
    monkeypatch.setattr(replay_feed, "_ROWS_PER_CHECK", 1_000)
    monkeypatch.setattr(replay_feed, "_MAX_WAITING", 1_500)
    path, summaries = shop_file(6_000, 1, "2019-11-11 10:00:00"), []
    thread = threading.Thread(target=lambda: summaries.append(replay_csv.replay_csv(shop, path, AS_IS)), daemon=True)
    thread.start()
    until(lambda: topics.waiting(shop, group_of(shop.name, DAG)) == 2_000)
    thread.join(3)
    assert thread.is_alive() and topics.waiting(shop, group_of(shop.name, DAG)) == 2_000
    taken = 0
    while thread.is_alive():
        taken += consume(shop).written
        thread.join(0.5)
    taken += consume(shop).written
    assert (taken, summaries[0].sent) == (6_000, 6_000)


def alter(topic: str, **settings: str) -> None:
    entries = [
        ConfigEntry(name.replace("_", "."), value, incremental_operation=AlterConfigOpType.SET)
        for name, value in settings.items()
    ]
    client = clients.admin()
    for done in client.incremental_alter_configs(
        [ConfigResource(ConfigResource.Type.TOPIC, topic, incremental_configs=entries)]
    ).values():
        done.result(timeout=30)


def test_events_that_the_topic_would_not_keep_are_not_sent(shop, shop_file):
    path = shop_file(30, 1, "2019-11-12 10:00:00")
    alter(shop.topic, retention_ms=str(7 * 86_400_000))
    with pytest.raises(BrokerError, match=r"older than 7 days.*event of 2019-11-12 10:00:00 UTC.*use --shift now"):
        replay_csv.replay_csv(shop, path, AS_IS)
    assert sent(shop) == []
    assert replay_csv.replay_csv(shop, path, MAX).sent == 30


def test_an_event_from_the_future_that_the_topic_refuses_is_kept_and_stops_nothing(shop, shop_file):
    path = shop_file(3, 1, "2099-11-12 10:00:00", ["2019-11-12 10:00:00 UTC", "view", *["1"] * 5])
    shop = replace(shop, most_ahead=timedelta(days=40_000))
    assert replay_csv.replay_csv(shop, path, AS_IS).sent == 4  # the broker accepts such times by default
    alter(shop.topic, message_timestamp_after_max_ms="3600000")
    summary = replay_csv.replay_csv(shop, path, AS_IS)
    assert (summary.sent, summary.rejected) == (1, 3)
    assert "further ahead than topic" in kept(shop)[0]["reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["ecommerce"], "Missing argument 'FILE'"),
        (["nothing", "x.csv"], "`pipeline` is 'nothing'. Choose one of"),
        (["ecommerce", "nope.csv"], "nope.csv: file not found"),
        (["ecommerce", "nope.csv", "--rate", "fast"], "`rate` is 'fast'. Use 1"),
        (["ecommerce", "nope.csv", "--shift", "later"], "`shift` is 'later'. Choose one of now, none."),
        (["ecommerce", "nope.csv", "--sample", "some"], "'some', which is not a whole number"),
    ],
)
def test_the_command_line_says_what_is_wrong_in_one_line(kafka_broker, arguments, message, minutemark, capsys):
    create_topic(SHOP)
    assert minutemark("replay-csv", *arguments) == 2
    error = capsys.readouterr().err
    line = error.splitlines()[-1]
    assert line.startswith(("Replay failed. ", "Error: ")) and message in line
    assert "Traceback" not in error


def test_a_replay_without_an_ingest_mode_says_how_to_set_one(shop, shop_file, minutemark, monkeypatch, capsys):
    path = shop_file(1, 1, "2019-11-13 10:00:00")
    monkeypatch.setenv(SETTING, "")
    assert minutemark("replay-csv", "ecommerce", str(path)) == 2
    assert "MINUTEMARK_INGEST is empty, so nothing writes events from topics" in capsys.readouterr().err


@pytest.mark.usefixtures("short_broker_timeout")
def test_a_replay_without_a_connection_or_a_broker_fails_before_it_reads_the_file(
    shop, shop_file, minutemark, monkeypatch, capsys
):
    path = shop_file(1, 1, "2019-11-13 10:00:00")
    unreachable = json.dumps({"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}})
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", unreachable)
    assert minutemark("replay-csv", "ecommerce", str(path)) == 2
    error = capsys.readouterr().err
    assert "127.0.0.1:1" in error and "Then run the same command again to resume." in error
    assert minutemark("replay-csv", "ecommerce", str(path), "--again") == 2
    assert (
        "Then run the same command again, and leave out --again if this replay had started." in capsys.readouterr().err
    )
    assert replays(SHOP) == []
    environment = {name: value for name, value in os.environ.items() if name != "AIRFLOW_CONN_KAFKA_DEFAULT"}
    command = [sys.executable, "-m", "include.cli", "replay-csv", "ecommerce", str(path)]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Replay failed. Connection 'kafka_default' is not defined" in done.stderr and "Traceback" not in done.stderr


def test_ctrl_c_says_that_the_same_command_resumes(kafka_broker, shop_file):
    create_topic(SHOP)
    path = shop_file(2, 3_600, "2019-11-14 10:00:00")
    # As in a terminal: a suite in the background ignores Ctrl-C, and its children inherit that.
    program = (
        "import signal, sys; from include import cli; "
        "signal.signal(signal.SIGINT, signal.default_int_handler); sys.exit(cli.main(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "replay-csv", "ecommerce", str(path)]
    process = subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True)
    try:
        until(lambda: replays(SHOP) and replays(SHOP)[0]["position"] == 2, 60)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Run the same command again, without --again, to resume." in error and "Traceback" not in error


def test_a_missing_topic_is_reported(shop, shop_file):
    with pytest.raises(BrokerError, match="Topic nobody.made.this: .*./minutemark schema"):
        replay_csv.replay_csv(replace(shop, topic="nobody.made.this"), shop_file(1, 1, "2019-11-15 10:00:00"), MAX)
