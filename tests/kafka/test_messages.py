"""What a message holds, decided without a broker: an event, or the reason why it can be none."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from confluent_kafka import Message

from include import pipelines
from include.kafka.messages import LONGEST_EVENT, TopicEvents, origin_key
from include.lake.keys import parse, shard_of
from include.lake.writer import Event

RECRUITMENT = pipelines.get("recruitment")
ID = "0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f"  # of 2026-03-01 12:34:56
CLOCK = datetime(2026, 3, 2)


def message(value, partition=0, offset=7):
    value = json.dumps(value).encode() if isinstance(value, dict | list) else value
    return Message(topic="recruitment.events", partition=partition, offset=offset, value=value)


def read(value, pipeline=RECRUITMENT):
    return TopicEvents(pipeline, CLOCK).read(message(value))


def test_fields_become_the_texts_of_the_pipelines_columns():
    found = read({"create_time": ID, "custom_track": "click", "mood": "good", "bid": None, "ed": ""})
    assert found == Event(parse(ID), {"custom_track": "click"})  # what says nothing is left out


def test_numbers_keep_the_digits_that_were_sent():
    found = read(b'{"create_time": "%s", "bid": 1.50, "job_id": 258.0, "ev": 1, "v": 1e3, "md": true}' % ID.encode())
    assert found.values == {"bid": "1.50", "job_id": "258.0", "ev": "1", "v": "1e3", "md": "true"}
    assert all(type(json.loads(json.dumps(text))) is str for text in found.values.values())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the message has no value"),
        (b"", "the message is no JSON: "),
        (b'{"create_time": "2026-', "the message is no JSON: Unterminated string"),
        (b'{"create_time": "%s", "ed": "a\x00b"}' % ID.encode(), "the message is no JSON: Invalid control character"),
        (b'{"bid": NaN}', "the message is no JSON: NaN is no JSON"),
        (b"[" * 100_000, "the message is no JSON: "),
        (b'{"create_time": "caf\xe9"}', "the message is no UTF-8: bytes e9 22 7d at 20"),
        (b'["create_time"]', "the message is JSON, but no object of fields"),
        (b"17", "the message is JSON, but no object of fields"),
        ({"custom_track": "click"}, "create_time '' is no time-UUID"),
        ({"create_time": "yesterday"}, "create_time 'yesterday' is no time-UUID"),
        ({"create_time": 1772368496}, "create_time '1772368496' is no time-UUID"),
        ({"create_time": {"at": ID}}, "create_time is neither text nor a number"),
        ({"create_time": ID, "ed": {"jobId": 7}}, "ed is neither text nor a number: send nested values as JSON"),
        ({"create_time": ID, "ua": "\ud800"}, "ua holds half of a character"),
        ({"create_time": ID, "ua": "x" * (LONGEST_EVENT + 1)}, f"it is longer than {LONGEST_EVENT}"),
        ({"create_time": ID, "ua": "\u20ac" * (LONGEST_EVENT // 3 + 1)}, f"it is longer than {LONGEST_EVENT} bytes"),
    ],
)  # fmt: skip
def test_what_can_be_no_event_is_refused_with_its_reason_and_place(value, reason):
    found = read(value)
    assert found.reason.startswith(reason), found.reason
    assert found.key == "recruitment.events/0/7"
    assert len(found.payload.encode()) < 16_000_000  # fits into its column
    assert found.payload  # an empty one says that housekeeping has removed it


def test_what_cannot_be_read_is_kept_as_a_line_and_the_rest_as_it_was_sent():
    assert json.loads(read(b'{"create_time": "2026-').payload) == {"line": '{"create_time": "2026-'}
    assert json.loads(read(b"\xff").payload) == {"line": "\\xff"}
    assert json.loads(read(None).payload) == {"line": ""}
    assert json.loads(read({"create_time": ID, "ua": "\ud800"}).payload)["ua"] == "\ud800"
    assert read(b'{"create_time":  "yesterday", "bid": 1.50}').payload == '{"create_time":  "yesterday", "bid": 1.50}'


def test_an_event_of_a_closed_minute_is_refused_with_its_minute():
    keeps_an_hour = replace(RECRUITMENT, lake_retention=timedelta(hours=1))
    found = read({"create_time": ID}, keeps_an_hour)
    assert "older than the lake keeps" in found.reason
    assert found.minute == datetime(2026, 3, 1, 12, 34)


def test_an_event_without_the_id_that_its_pipeline_declares_is_refused():
    by_order = replace(RECRUITMENT, event_id="id")
    assert read({"create_time": ID, "ev": "1"}, by_order).reason == "id, the event's id, is empty"
    assert isinstance(read({"create_time": ID, "id": 17}, by_order), Event)


@pytest.mark.parametrize("blank", [" ", "\u00a0\t", "NaN", " NaN "])
def test_a_blank_id_and_a_word_for_null_are_not_ids(blank):
    by_order = replace(RECRUITMENT, event_id="id", absent=("NaN",))
    assert read({"create_time": ID, "id": blank}, by_order).reason == "id, the event's id, is empty"


def test_an_event_in_another_partition_than_its_shard_is_told():
    events, shard = TopicEvents(RECRUITMENT, CLOCK), shard_of(ID, RECRUITMENT.shards)
    for partition in range(RECRUITMENT.shards):
        there = message({"create_time": ID}, partition)
        assert events.misplaced(there, events.read(there)) == (partition != shard)


def test_the_key_of_a_long_topic_still_names_partition_and_offset():
    assert origin_key("t" * 249, 31, 2**62) == f"{'t' * 150}/31/{2**62}"
