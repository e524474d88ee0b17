"""The connectors of Kafka Connect: what they write, as the pipelines declare it, and how they are registered."""

from __future__ import annotations

import json
import re
import threading
from dataclasses import replace
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from include import pipelines
from include.kafka import connect
from include.kafka.connect import Connect, ConnectError, connector, name_of, register_all
from include.kafka.ingest_mode import CONNECT, SETTING, group_of
from include.lake import change_log
from tests.airflow_home import PROJECT

RECRUITMENT = pipelines.get("recruitment")
TEMPLATE = (PROJECT / "docker" / "connect" / "lake-sink.json").read_text()


TRACE = """org.apache.kafka.connect.errors.ConnectException: the task cannot start
\tat org.apache.kafka.connect.runtime.WorkerTask.run(WorkerTask.java:259)
Caused by: com.datastax.oss.driver.api.core.AllNodesFailedException: no node answers
\t... 6 more
Caused by: Keyspace bedan does not exist
\tat java.base/java.util.concurrent.FutureTask.run(FutureTask.java:264)
\tat java.base/java.lang.Thread.run(Thread.java:840)
"""


@pytest.fixture(params=pipelines.all_pipelines())
def pipeline(request):
    return pipelines.get(request.param)


def table_settings(config, pipeline, table):
    prefix = f"topic.{pipeline.topic}.{table}."
    return {key.removeprefix(prefix): value for key, value in config.items() if key.startswith(prefix)}


def parse_mapping(mapping):
    """The field of each column of a mapping."""
    return dict(pair.split("=value.") for pair in mapping.split(", "))


def test_every_placeholder_is_filled(pipeline):
    config = connector(pipeline, TEMPLATE)
    assert not [text for pair in config.items() for text in pair if "<" in text]
    assert config["topics"] == pipeline.topic


def test_an_event_is_written_whole_under_its_whole_key(pipeline):
    table = table_settings(connector(pipeline, TEMPLATE), pipeline, pipeline.lake_table)
    own_id = {} if pipeline.event_id == "create_time" else {pipeline.event_id: "_id"}
    key = {"minute": "_minute", "shard": "_shard", "create_time": "create_time", **own_id}
    columns = [*key, "payload"]
    assert parse_mapping(table["mapping"]) == {**key, "payload": "payload"}
    variables = ", ".join(f":{column}" for column in columns)
    assert table["query"] == f"INSERT INTO {pipeline.lake_table} ({', '.join(columns)}) VALUES ({variables})"


def test_a_touch_is_the_same_as_that_of_our_own_writers(pipeline):
    """now() is not part of a key, so that a redelivery is another touch of the same minute."""
    config = connector(pipeline, TEMPLATE)
    table = table_settings(config, pipeline, "minutemark.minute_changes")
    own_touch = re.sub(r"\?, \?, \?", f"'{pipeline.lake_table}', :day, :minute", change_log._TOUCH_MINUTE)
    assert table["query"] == own_touch
    assert parse_mapping(table["mapping"]) == {"day": "_day", "minute": "_minute"}
    table = table_settings(config, pipeline, "minutemark.changed_days")
    assert table["query"] == re.sub(r"\?, \?", f"'{pipeline.lake_table}', :day", change_log._TOUCH_DAY)
    assert parse_mapping(table["mapping"]) == {"day": "_day"}


def test_the_three_writes_of_a_message_are_acknowledged_within_the_settle_time(pipeline):
    """They are in flight together: a poll that sees the day first keeps reading its minutes until the day has settled."""
    assert int(connector(pipeline, TEMPLATE)["queryExecutionTimeout"]) < pipeline.settle.total_seconds()


def test_write_timestamps_are_the_servers(pipeline):
    """With a mapping alone, the record's timestamp would count: a later touch or a corrected event would lose."""
    config = connector(pipeline, TEMPLATE)
    tables = [key for key in config if key.endswith(".mapping")]
    assert all(key.replace(".mapping", ".query") in config for key in tables)
    assert config["datastax-java-driver.advanced.timestamp-generator.class"] == "ServerSideTimestampGenerator"
    assert not [key for key in config if key.endswith(".query") and "TIMESTAMP" in config[key].upper()]


def test_the_transform_gets_the_declaration_and_the_bytes_as_they_were_sent(pipeline):
    config = connector(pipeline, TEMPLATE)
    settings = {key.removeprefix("transforms.event."): value for key, value in config.items() if "s.event." in key}
    assert config["transforms"] == "event"
    assert settings == {
        "type": "minutemark.connect.LakeEvent",
        "id.field": pipeline.event_id,
        "time.field": pipeline.event_time or "",
        "null.words": ",".join(pipeline.null_words),
        "shards": str(pipeline.shards),
        "retention.seconds": "0",
    }
    # A StringConverter replaces what is not UTF-8, and a JsonConverter changes numbers.
    assert config["value.converter"] == "org.apache.kafka.connect.converters.ByteArrayConverter"


def test_a_lakes_retention_reaches_the_transform():
    short = replace(RECRUITMENT, lake_retention=timedelta(days=2))
    assert connector(short, TEMPLATE)["transforms.event.retention.seconds"] == "172800"


def test_a_value_of_the_template_may_be_a_number():
    """Connect takes strings only."""
    assert connector(RECRUITMENT, '{"tasks.max": 4, "errors.log.enable": false, "topics": "<topic>"}') == {
        "tasks.max": "4",
        "errors.log.enable": "false",
        "topics": "recruitment.events",
    }


@pytest.mark.parametrize("template", ['{"tasks.max": "1",}', "[]"])
def test_a_template_that_is_not_an_object_is_reported_without_a_traceback(
    worker, monkeypatch, tmp_path, capsys, template
):
    monkeypatch.setenv(SETTING, CONNECT)
    (tmp_path / "sink.json").write_text(template)
    assert connect.main([worker("RUNNING").url, str(tmp_path / "sink.json")]) == 2
    assert capsys.readouterr().err.startswith("The connector's template is not a JSON object: ")


def test_declared_values_may_contain_characters_that_json_escapes():
    escaped = replace(RECRUITMENT, null_words=("\\N", 'a"b'))
    assert connector(escaped, TEMPLATE)["transforms.event.null.words"] == '\\N,a"b'


@pytest.mark.parametrize("word", ["n,a", " null"])
def test_a_null_word_with_a_comma_or_outer_white_space_is_refused(word):
    with pytest.raises(ValueError, match="contain a comma, or begin or end with white space"):
        replace(RECRUITMENT, null_words=(word,))


def test_no_refused_write_is_ignored_and_non_events_go_to_the_dead_letter_topic(pipeline):
    config = connector(pipeline, TEMPLATE)
    assert (config["ignoreErrors"], config["errors.tolerance"]) == ("None", "all")
    assert config["errors.deadletterqueue.topic.name"] == f"{pipeline.topic}.dead"
    assert config["errors.deadletterqueue.context.headers.enable"] == "true"
    for table in (pipeline.lake_table, "minutemark.minute_changes", "minutemark.changed_days"):
        result = table_settings(config, pipeline, table)
        assert (result["consistencyLevel"], result["deletesEnabled"]) == ("LOCAL_QUORUM", "false")


def test_verify_uses_the_group_that_connect_derives_from_the_name(pipeline):
    assert group_of(pipeline.name, CONNECT) == f"connect-{name_of(pipeline)}"


class Worker(ThreadingHTTPServer):
    """A stand-in for Connect's REST interface, which keeps the requests that it got."""

    def __init__(self, *states: str) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.states = list(states)  # of the task, one for each status request; the last state is repeated
        self.requests: list[tuple[str, str]] = []
        self.configs: list[dict] = []
        self.refused = ""  # the connector whose configuration is not accepted

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def _answer(self) -> None:
        worker = self.server
        worker.requests.append((self.command, self.path))
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if body:
            worker.configs.append(json.loads(body))
        answer, state = {}, None
        if self.path.endswith("/status"):
            state = worker.states.pop(0) if len(worker.states) > 1 else worker.states[0]
            task = {"state": state, "trace": TRACE}
            answer = {"connector": {"state": "RUNNING"}, "tasks": [task]}
        if state == "GARBLED":  # a TLS alert, as from a worker whose listener is https
            self.wfile.write(b"\x15\x03\x03\x00\x02\x02F")
            self.close_connection = True
            return
        is_refused = self.command == "PUT" and self.path == f"/connectors/{worker.refused}/config"
        is_absent = self.command == "DELETE" or state == "ABSENT"
        self.send_response(400 if is_refused else 404 if is_absent else 200)
        self.end_headers()
        self.wfile.write(b"<html>" if state == "NO JSON" else json.dumps(answer).encode())

    do_GET = do_PUT = do_POST = do_DELETE = _answer

    def log_message(self, *_) -> None:
        """Log nothing."""


@pytest.fixture
def worker():
    workers = []

    def start(*states: str) -> Worker:
        workers.append(Worker(*states))
        # With 0.02, shutdown() takes at most 0.02 s.
        threading.Thread(target=workers[-1].serve_forever, args=[0.02], daemon=True).start()
        return workers[-1]

    yield start
    for started in workers:
        started.shutdown()
        started.server_close()


def test_a_connector_without_its_tables_is_restarted_until_it_runs(worker):
    stand_in = worker("FAILED", "FAILED", "RUNNING")
    register_all(Connect(stand_in.url), [RECRUITMENT], TEMPLATE, patience=20, pause=0.01)
    path = "/connectors/minutemark-recruitment"
    assert stand_in.requests[0] == ("PUT", f"{path}/config")
    assert stand_in.configs == [connector(RECRUITMENT, TEMPLATE)]
    assert stand_in.requests.count(("POST", f"{path}/restart?includeTasks=true&onlyFailed=true")) == 2


def test_the_reason_for_waiting_is_printed_when_it_changes_and_every_15_seconds(worker, capsys, monkeypatch):
    stand_in = worker("UNASSIGNED", "UNASSIGNED", "FAILED", "FAILED", "RUNNING")
    monkeypatch.setattr(connect, "_REPORT_EVERY", 3600)
    register_all(Connect(stand_in.url), [RECRUITMENT], TEMPLATE, patience=20, pause=0.01)
    lines = [line.partition(" (")[0] for line in capsys.readouterr().out.splitlines()]
    waits = "Waiting for connector minutemark-recruitment: "
    reason = "Caused by: Keyspace bedan does not exist"
    assert lines == [
        f"{waits}unassigned {reason}",
        f"{waits}failed {reason}",
        "Connector minutemark-recruitment is running.",
    ]

    monkeypatch.setattr(connect, "_REPORT_EVERY", 0)
    register_all(Connect(worker("FAILED", "FAILED", "RUNNING").url), [RECRUITMENT], TEMPLATE, patience=20, pause=0.01)
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_a_connector_that_never_runs_is_reported_with_connects_error(worker):
    stand_in = worker("FAILED")
    with pytest.raises(ConnectError, match="failed Caused by: Keyspace bedan does not exist"):
        register_all(Connect(stand_in.url), [RECRUITMENT], TEMPLATE, patience=0.1, pause=0.01)


def test_a_connector_whose_table_is_missing_does_not_keep_the_others_waiting(worker, capsys):
    # The states of the first connector, the second one, and the first one from then on.
    stand_in = worker("FAILED", "RUNNING", "FAILED")
    with pytest.raises(ConnectError):
        register_all(Connect(stand_in.url), pipelines.all_pipelines().values(), TEMPLATE, patience=0.2, pause=0.01)
    assert f"Connector {name_of([*pipelines.all_pipelines().values()][1])} is running." in capsys.readouterr().out


def test_a_connector_that_is_refused_does_not_keep_the_others_waiting(worker, capsys):
    first, second = (name_of(pipeline) for pipeline in [*pipelines.all_pipelines().values()][:2])
    stand_in = worker("RUNNING")
    stand_in.refused = first
    with pytest.raises(ConnectError, match=f"Connector {first} is not running: HTTP Error 400"):
        register_all(Connect(stand_in.url), pipelines.all_pipelines().values(), TEMPLATE, patience=0.2, pause=0.01)
    assert f"Connector {second} is running." in capsys.readouterr().out


def test_the_watch_reports_that_a_missing_connector_is_not_registered(worker):
    result = connect.restart_failed(RECRUITMENT, {connect.URL_SETTING: worker("ABSENT").url})
    assert result == (
        "it is not registered. Register it: python -m include.kafka.connect URL docker/connect/lake-sink.json "
        "(with the Astro CLI: astro dev restart)"
    )


@pytest.mark.parametrize("state", ["GARBLED", "NO JSON"])
def test_an_unusable_answer_is_one_of_a_worker_that_is_not_up_yet(worker, capsys, state):
    register_all(Connect(worker(state, "RUNNING").url), [RECRUITMENT], TEMPLATE, patience=20, pause=0.01)
    first, last = capsys.readouterr().out.splitlines()
    assert "gives no usable answer" in first and last == "Connector minutemark-recruitment is running."
    assert "gives no usable answer" in connect.restart_failed(RECRUITMENT, {connect.URL_SETTING: worker(state).url})


@pytest.mark.parametrize("address", ["connect:8083", "connect", "http://connect:80x3", "http://127.0.0.1:1"])
def test_an_address_that_cannot_be_used_is_reported_with_it(address, monkeypatch, capsys):
    monkeypatch.setenv(SETTING, "dag")
    assert connect.main([address, "not-read.json"]) == 2
    assert capsys.readouterr().err.startswith(f"Connect at {address} gives no usable answer: ")


def test_an_unknown_ingest_mode_is_reported_without_a_traceback(monkeypatch, capsys):
    monkeypatch.setenv(SETTING, "magic")
    assert connect.main(["http://127.0.0.1:1", "not-read.json"]) == 2
    assert "magic is not an ingest mode" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("address", "problem"),
    [
        ("http://me:SECRETWORD@127.0.0.1:1/", "gives no usable answer: "),
        ("http://me:SECRET@WORD@127.0.0.1:1", "gives no usable answer: "),
        ("http://me:SECRET/WORD@127.0.0.1:1", "has an @ in its path, or a login with a slash"),
    ],
)
def test_a_password_in_the_address_is_in_no_message(address, problem):
    result = connect.restart_failed(RECRUITMENT, {connect.URL_SETTING: address})
    assert result.startswith(f"Connect at http://127.0.0.1:1 {problem}")
    assert "SECRET" not in result and "WORD" not in result


def test_in_dag_mode_the_connectors_are_removed(worker, monkeypatch, tmp_path):
    monkeypatch.setenv(SETTING, "dag")
    stand_in = worker("RUNNING")
    assert connect.main([stand_in.url, str(tmp_path / "not-read.json")]) == 0
    assert stand_in.requests == [
        ("DELETE", f"/connectors/{name_of(pipeline)}") for pipeline in pipelines.all_pipelines().values()
    ]


def test_in_connect_mode_a_connector_is_registered_for_each_pipeline(worker, monkeypatch, capsys):
    monkeypatch.setenv(SETTING, CONNECT)
    stand_in = worker("RUNNING")
    assert connect.main([stand_in.url, str(PROJECT / "docker" / "connect" / "lake-sink.json")]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [f"Connector {name_of(pipeline)} is running." for pipeline in pipelines.all_pipelines().values()]
