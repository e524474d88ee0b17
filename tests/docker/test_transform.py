"""Connect's transform writes the same rows as include/kafka/messages.py does for the same messages.

It may refuse more messages. These become dead letters, and Python decides whether they are events (dags/dead_letters.py).
"""

from __future__ import annotations

import base64
import json
import os
import random
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from confluent_kafka import Message

from include import pipelines
from include.kafka.connect import connector
from include.kafka.messages import TopicEvents
from include.lake.keys import minute_of, shard_of
from include.lake.writer import Event, event_id, payload_of
from local.servers.java import java
from tests.airflow_home import PROJECT

TEMPLATE = (PROJECT / "docker" / "connect" / "lake-sink.json").read_text()
RECRUITMENT, ECOMMERCE = pipelines.get("recruitment"), pipelines.get("ecommerce")
ID = "0e207ccf-156b-11f1-aa17-1a2b3c4d5e6f"  # of 2026-03-01 12:34:56
SHOP = {"id": "e-1", "event_time": "2019-11-01 00:00:00 UTC", "price": 1.5}


class Transform:
    """The transform of a pipeline's connector, in a separate process for each call."""

    def __init__(self, classes) -> None:
        self._path = os.pathsep.join(map(str, classes))

    def rows(self, pipeline, values) -> list[dict | str]:
        """For each message, its row, or the reason why it is refused."""
        config, prefix = connector(pipeline, TEMPLATE), "transforms.event."
        settings = [f"{name.removeprefix(prefix)}={text}" for name, text in config.items() if name.startswith(prefix)]
        lines = ["-" if value is None else base64.b64encode(value).decode() for value in values]
        command = [java(), "-XX:TieredStopAtLevel=1", "-cp", self._path, "minutemark.tests.Apply", *settings]
        done = subprocess.run(command, input="\n".join([*lines, ""]), capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        outcomes = [line.split(" ") for line in done.stdout.splitlines()]
        assert len(outcomes) == len(values)
        return [_outcome(kind, [base64.b64decode(part).decode() for part in parts]) for kind, *parts in outcomes]


def _outcome(kind, parts):
    return parts[0] if kind == "refused" else dict(zip(parts[::2], parts[1::2], strict=True))


@pytest.fixture(scope="module")
def transform(connect_jars, transform_classes, test_classes):
    return Transform([transform_classes, test_classes, f"{connect_jars}/*"])


# The transform does not check the declared range of create_time: Spark rejects what is outside.
EVERY_TIME = {"earliest": datetime(1, 1, 1), "most_ahead": timedelta(days=365 * 4_000)}


def read_by_python(pipeline, value):
    message = Message(topic=pipeline.topic, partition=0, offset=7, value=value)
    return TopicEvents(replace(pipeline, **EVERY_TIME), datetime.now(UTC).replace(tzinfo=None)).read(message)


def row_of(pipeline, event):
    """The row that the sink should write for an event."""
    minute = minute_of(event.create_time)
    return {
        "payload": payload_of(event).decode(),
        "_id": event_id(pipeline, event),
        "create_time": str(event.create_time),
        "_minute": f"{minute:%Y-%m-%dT%H:%M:00Z}",
        "_day": f"{minute:%Y-%m-%d}",
        "_shard": str(shard_of(event_id(pipeline, event), pipeline.shards)),
    }


def raw(fields):
    return json.dumps(fields).encode()


EVENTS = [
    (RECRUITMENT, raw({"create_time": ID})),
    (RECRUITMENT, raw({"create_time": ID, "custom_track": "click", "mood": {"a": [1, "]"]}, "bid": None, "ed": ""})),
    # Numbers keep the digits that were sent.
    (
        RECRUITMENT,
        b'{"create_time": "%s", "bid": 1.50, "id": 12345678901234567890, "v": 1e-7, "md": true, "ev": -0}' % ID.encode(),
    ),
    (RECRUITMENT, b' \n{"create_time": "%s", "ev": "1", "ev": "2"}\r\n' % ID.encode()),  # the last one counts
    (RECRUITMENT, b'{"ev": {"a": 1}, "create_time": "%s", "ev": "2"}' % ID.encode()),
    (RECRUITMENT, raw({"create_time": ID, "ed": {"jobId": 7}})),
    (RECRUITMENT, raw({"create_time": f" {ID.upper()}\u00a0\u2003", "ua": "caf\u00e9 \U0001f600 \u0000 \x7f"})),
    (RECRUITMENT, raw({"create_time": "00000000-0000-1000-8000-000000000000"})),  # 1582
    (RECRUITMENT, raw({"create_time": "ffffffff-ffff-1fff-ffff-ffffffffffff"})),  # 5236
    (ECOMMERCE, raw({**SHOP, "create_time": ID})),
    (ECOMMERCE, raw({"create_time": ID, "id": " caf\u00e9 \U0001f600 ", "brand": "NaN", "price": "NaN"})),
    (ECOMMERCE, raw({"create_time": ID, "id": 17})),
    (ECOMMERCE, raw({"create_time": ID, "id": "\U0001f600" * 1_000})),
    # No create_time: the event's own time stands in for it.
    *(
        (ECOMMERCE, raw({**SHOP, "event_time": text}))
        for text in (
            "2019-11-01 00:00:00 UTC", "2019-11-01T23:59:59.123456Z", "2019-11-01 00:30:00+05:30",
            "\t2019-11-01 00:00:00.5 UTC ", "2019-11-01 00:00:00", "1970-01-01 14:00:00+14:00", "2100-12-31 11:59:59-12:00",
        )
    ),
    (ECOMMERCE, raw({**SHOP, "create_time": " "})),
    (ECOMMERCE, raw({**SHOP, "create_time": "NaN"})),
    (ECOMMERCE, raw({**SHOP, "create_time": None})),
]  # fmt: skip

POISON = [
    (RECRUITMENT, None),
    (RECRUITMENT, b""),
    (RECRUITMENT, b"\xff\xfe\x00"),
    (RECRUITMENT, b'{"create_time": "%s", "ua": "\xed\xa0\x80"}' % ID.encode()),
    (RECRUITMENT, b'{"create_time": "2026-'),
    (RECRUITMENT, b'{"create_time": "%s"} {}' % ID.encode()),
    (RECRUITMENT, b'{"create_time": "%s",}' % ID.encode()),
    (RECRUITMENT, b'{"create_time": "%s", "unknown": 01}' % ID.encode()),
    (RECRUITMENT, b'{"create_time": "%s", "unknown": "a\x00b"}' % ID.encode()),
    (RECRUITMENT, b'{"create_time": "%s", "unknown": "\\q"}' % ID.encode()),
    (RECRUITMENT, b'["create_time"]'),
    (RECRUITMENT, b"17"),
    (RECRUITMENT, raw({"custom_track": "click"})),
    (RECRUITMENT, raw({"create_time": "yesterday"})),
    (RECRUITMENT, raw({"create_time": ID.replace("11f1", "41f1")})),  # version 4
    (RECRUITMENT, raw({"create_time": 1772368496})),
    (RECRUITMENT, raw({"create_time": {"at": ID}})),
    (RECRUITMENT, raw({"create_time": ID, "ua": "\ud800"})),
    (RECRUITMENT, raw({"create_time": ID, "ua": "x" * 4_000_001})),
    (ECOMMERCE, raw({"create_time": ID, "id": "\U0001f600" * 1_001})),
    (ECOMMERCE, raw({"id": "e-1"})),
    (ECOMMERCE, raw({**SHOP, "event_time": "2019-02-30 00:00:00 UTC"})),
    (ECOMMERCE, raw({**SHOP, "event_time": "1969-12-31 23:59:59 UTC"})),
    (ECOMMERCE, raw({**SHOP, "event_time": "1970-01-01 00:00:00+14:00"})),
    (ECOMMERCE, raw({**SHOP, "event_time": "2100-12-31 23:59:59-12:00"})),
    (ECOMMERCE, raw({**SHOP, "create_time": "yesterday"})),
]

LEFT_TO_PYTHON = [
    (RECRUITMENT, b'\xef\xbb\xbf{"create_time": "%s"}' % ID.encode()),  # a byte order mark
    (RECRUITMENT, b'{"create_time": "%s", "bid": NaN}' % ID.encode()),
    # Events without an id: Python makes one from their content.
    (ECOMMERCE, raw({"create_time": ID})),
    (ECOMMERCE, raw({"create_time": ID, "id": " \u00a0"})),
    (ECOMMERCE, raw({"create_time": ID, "id": "NaN "})),
    (RECRUITMENT, b'{"create_time": "%s", "unknown": %s}' % (ID.encode(), b"[" * 600 + b"]" * 600)),
    (ECOMMERCE, raw({**SHOP, "event_time": "2019-11-01 00:00"})),
    (ECOMMERCE, raw({**SHOP, "event_time": "2019-11-01T00:00:00 +0530"})),
    (ECOMMERCE, raw({**SHOP, "event_time": 1572566400000})),
    (ECOMMERCE, raw({**SHOP, "event_time": "2019-11-01 00:00:00.1234567 UTC"})),
]


def by_pipeline(messages):
    for pipeline in (RECRUITMENT, ECOMMERCE):
        yield pipeline, [value for declared, value in messages if declared is pipeline]


def test_an_event_becomes_the_row_that_python_makes_of_it(transform):
    for pipeline, values in by_pipeline(EVENTS):
        for value, outcome in zip(values, transform.rows(pipeline, values), strict=True):
            assert outcome == row_of(pipeline, read_by_python(pipeline, value)), value[:200]


def test_poison_is_refused_by_both_with_a_reason(transform):
    for pipeline, values in by_pipeline(POISON):
        for value, outcome in zip(values, transform.rows(pipeline, values), strict=True):
            assert isinstance(outcome, str) and len(outcome) > 10, (value, outcome)
            assert not isinstance(read_by_python(pipeline, value), Event), value[:200]


def test_messages_that_the_transform_cannot_decide_are_left_to_python(transform):
    for pipeline, values in by_pipeline(LEFT_TO_PYTHON):
        for value, outcome in zip(values, transform.rows(pipeline, values), strict=True):
            assert isinstance(outcome, str), value[:200]
            assert isinstance(read_by_python(pipeline, value), Event), value[:200]


def test_damaged_messages_are_written_as_python_writes_them_or_not_at_all(transform):
    """Good messages with bytes removed, repeated or inserted; the same in every run."""
    rng, written = random.Random(14), 0
    for pipeline, values in by_pipeline(EVENTS):
        damaged = [_damaged(rng, rng.choice(values)) for _ in range(3_000)]
        for value, outcome in zip(damaged, transform.rows(pipeline, damaged), strict=True):
            if isinstance(outcome, dict):
                written += 1
                assert outcome == row_of(pipeline, read_by_python(pipeline, value)), value
    assert written > 200


def _damaged(rng, value):
    value = bytearray(value[:2_000])
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(value) + 1)
        kind = rng.randrange(3)
        if kind == 0:
            del value[at : at + rng.randint(1, 4)]
        elif kind == 1:
            value[at:at] = value[at : at + rng.randint(1, 40)]
        else:
            value[at:at] = rng.choice(
                (b'"', b"\\", b"{}", b"[1]", b", ", b":", b"\\ud83d", b"\xc3", b"NaN", b" ", b"0", b"\t")
            )
    return bytes(value)


def test_an_event_of_a_closed_minute_is_refused_and_one_of_an_open_minute_is_not(transform):
    value, short = raw({"create_time": ID}), replace(RECRUITMENT, lake_retention=timedelta(days=30))
    age = datetime.now(UTC).replace(tzinfo=None) - datetime(2026, 3, 1, 12, 34)
    (closed,) = transform.rows(short, [value])
    assert closed == "its minute 2026-03-01T12:34:00Z is closed, because it is past the lake's retention"
    (row,) = transform.rows(replace(RECRUITMENT, lake_retention=age + timedelta(days=1)), [value])
    assert row["_minute"] == "2026-03-01T12:34:00Z"
