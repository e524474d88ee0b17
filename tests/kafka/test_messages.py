"""What a message contains, decided without a broker: an event, or the reason why it cannot be one."""

import json
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from confluent_kafka import Message

from include import pipelines
from include.kafka.messages import TopicEvents, origin_key, with_topic_id
from include.lake.admission import LONGEST_EVENT, Refused, content_id
from include.lake.keys import parse, shard_of
from include.lake.writer import payload_of
from include.warehouse.rejected import without_topic_id

RECRUITMENT = pipelines.get("recruitment")
ID = "0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f"  # its time is 2026-03-01 12:34:56
CLOCK = datetime(2026, 3, 2)


def message(value, partition=0, offset=7):
    value = json.dumps(value).encode() if isinstance(value, dict | list) else value
    return Message(topic="recruitment.events", partition=partition, offset=offset, value=value)


def read(value, pipeline=RECRUITMENT):
    return TopicEvents(pipeline, CLOCK).read(message(value))


@pytest.mark.parametrize(
    "text",
    [
        '{"create_time": "%s", "bid": 1.50, "job_id": 12345678901234567890, "v": 1e3, "md": true,  "ed": {"jobId": [7]}}',
        '{"create_time": "%s", "mood": "good", "bid": null, "ed": ""}',
        '{"create_time": " %s\\u00a0", "ua": "\\ud83d\\ude00"}',
    ],
)
def test_an_event_is_kept_as_its_producer_wrote_it(text):
    result = read((text % ID).encode())
    assert (result.create_time, payload_of(result).decode()) == (parse(ID), text % ID)


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ('{"create_time": "%s", "bid": NaN, "v": 1.50}', {"bid": "NaN", "v": 1.5}),
        (
            '{"create_time": "%s", "bid": NaN, "ed": {"jobId": [7, 1e400]}}',
            {"bid": "NaN", "ed": {"jobId": [7, float("inf")]}},
        ),
        ('{"create_time": "%s", "bid": -Infinity}', {"bid": "-Infinity"}),
        ('\ufeff{"create_time": "%s", "bid": 2}', {"bid": 2}),
    ],
)
def test_almost_json_of_other_programs_becomes_json(text, fields):
    assert json.loads(payload_of(read((text % ID).encode()))) == {"create_time": ID, **fields}


def test_numbers_next_to_a_nan_are_kept_as_they_were_written():
    text = f'{{"create_time": "{ID}", "bid": NaN, "v": 1.50, "ed": {{"jobId": [12345678901234567890, 1E2]}}}}'
    assert payload_of(read(text.encode())).decode() == text.replace("NaN", '"NaN"')


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "the message has no value"),
        (b"", "the message is not JSON: "),
        (b'{"create_time": "2026-', "the message is not JSON: Unterminated string"),
        (b'{"create_time": "%s", "ed": "a\x00b"}' % ID.encode(), "the message is not JSON: Invalid control character"),
        (b'{"ed": %s}' % (b"[" * 100_000 + b"]" * 100_000), "the message is nested too deeply"),
        (b"[" * 100_000, "the message is nested too deeply"),
        (b'{"create_time": "caf\xe9"}', "the message is not UTF-8: bytes e9 22 7d at position 20"),
        (b'["create_time"]', "the message is JSON, but not an object of fields"),
        (b'{"n": %s}' % (b"1" * 5_000), "create_time '' is not a time-UUID"),  # more digits than Python converts
        (b"17", "the message is JSON, but not an object of fields"),
        ({"custom_track": "click"}, "create_time '' is not a time-UUID"),
        ({"create_time": "yesterday"}, "create_time 'yesterday' is not a time-UUID"),
        ({"create_time": 1772368496}, "create_time '1772368496' is not a time-UUID"),
        ({"create_time": {"at": ID}}, "create_time '{\"at\": "),
        ({"create_time": ID, "ua": "\ud800"}, "the message has an unpaired surrogate"),
        ({"payload": {"after": {"create_time": ID}, "op": "c"}}, "the message is the envelope of a change event"),
        ({"before": None, "after": {"create_time": ID}, "op": "c"}, "the message is the envelope of a change event"),
        ({"schema": {"type": "struct"}, "payload": {"create_time": ID}}, "the message is the envelope of Kafka Connect"),
        ({"create_time": ID, "ua": "x" * (LONGEST_EVENT + 1)}, f"it is longer than {LONGEST_EVENT}"),
        ({"create_time": ID, "ua": "\u20ac" * (LONGEST_EVENT // 3 + 1)}, f"it is longer than {LONGEST_EVENT} bytes"),
    ],
)  # fmt: skip
def test_what_cannot_be_an_event_is_refused_with_its_reason_and_place(value, reason):
    result = read(value)
    assert result.reason.startswith(reason), result.reason
    assert result.key == "recruitment.events/0/7"
    assert len(result.payload.encode()) < 16_000_000  # fits in its column
    assert result.payload  # an empty payload means that housekeeping has removed it


@pytest.mark.parametrize("name", ["recruitment", "ecommerce"])
@pytest.mark.parametrize(
    "value", [b"1" * 5_000, b"1." + b"1" * 5_000, b"[" * 1_200 + b"]" * 1_200, b"[" * 5_000 + b"]" * 5_000]
)
def test_a_message_without_an_event_id_is_refused_for_any_value(name, value):
    """Python parses no number of more than 4,300 digits, and no deeply nested list."""
    result = read(b'{"a": %s}' % value, pipelines.get(name))
    assert isinstance(result, Refused) and result.reason


def test_an_unreadable_record_is_kept_as_a_line_and_a_readable_one_unchanged():
    assert json.loads(read(b'{"create_time": "2026-').payload) == {"line": '{"create_time": "2026-'}
    assert json.loads(read(b"\xff").payload) == {"line": "\\xff"}
    assert json.loads(read(None).payload) == {"line": ""}
    surrogate = json.dumps({"create_time": ID, "ua": "\ud800"})
    assert json.loads(read(surrogate.encode()).payload) == {"line": surrogate}
    assert read(b'{"create_time":  "yesterday", "bid": 1.50}').payload == '{"create_time":  "yesterday", "bid": 1.50}'


def test_an_event_of_a_closed_minute_is_refused_with_its_minute():
    keeps_an_hour = replace(RECRUITMENT, lake_retention=timedelta(hours=1))
    result = read({"create_time": ID}, keeps_an_hour)
    assert "past the lake's retention" in result.reason
    assert result.minute == datetime(2026, 3, 1, 12, 34)


@pytest.mark.parametrize("no_id", [{}, {"id": " "}, {"id": None}, {"id": "NULL"}])
def test_an_event_without_an_id_gets_one_from_its_content(no_id):
    by_order = replace(RECRUITMENT, event_id="id")
    text = {"create_time": ID, "ev": 1, "ed": "x"}
    first, again = (
        read({**text, **no_id}, by_order),
        read({"ed": "x ", **no_id, "ev": "1", "create_time": ID}, by_order),
    )
    assert first.values["id"] == again.values["id"] == content_id(by_order, {"create_time": ID, "ev": "1", "ed": "x"})
    assert read({**text, **no_id, "ev": 2}, by_order).values["id"] != first.values["id"]
    assert read({**text, "id": 17}, by_order).values["id"] == "17"


def test_an_event_in_a_partition_other_than_its_shards_is_reported():
    events, shard = TopicEvents(RECRUITMENT, CLOCK), shard_of(ID, RECRUITMENT.shards)
    for partition in range(RECRUITMENT.shards):
        sent = message({"create_time": ID}, partition)
        assert events.is_misplaced(sent, events.read(sent)) == (partition != shard)


def test_the_key_of_a_long_topic_still_names_partition_and_offset():
    assert origin_key("t" * 249, 31, 2**62) == f"{'t' * 130}/31/{2**62}"


def test_the_key_with_the_topics_id_fits_into_its_column():
    key = with_topic_id(origin_key("t" * 249, 999_999, 2**63), "x" * 22)
    assert len(key) <= 190
    assert key == with_topic_id(key, "another") and without_topic_id(key) == origin_key("t" * 249, 999_999, 2**63)
