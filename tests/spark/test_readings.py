"""Python and Spark read the same number or time from any string."""

from __future__ import annotations

import json
import os
from datetime import datetime, timedelta

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from pyspark.sql import functions as F

from include import readings
from include.pipelines.declaration import NULL_WORDS
from include.spark import values

_EPOCH = datetime(1970, 1, 1)
_LISTS = int(os.environ.get("READING_LISTS", "30"))  # each has a hundred texts, which one job reads

_space = st.text(st.sampled_from(f"{readings.WHITE_SPACE}x"), max_size=2)
_digits = st.text(st.sampled_from("0123456789"), min_size=1, max_size=32)
_number = st.builds(
    "".join,
    st.tuples(
        st.sampled_from(["", "-", "+", "--"]),
        st.one_of(_digits, st.builds("{}.{}".format, _digits, _digits), _digits.map(".{}".format), _digits.map("{}.".format)),
        st.one_of(st.just(""), st.builds("{}{}{}".format, st.sampled_from("eE"), st.sampled_from(["", "-", "+"]), _digits)),
    ),
)  # fmt: skip
_plausible_number = st.one_of(
    st.integers(-(2**66), 2**66).map(str),
    st.floats().map(repr),
    st.integers(0, 10**14).map(lambda number: f"{float(number)!r}"),
)
_two_digits = st.integers(0, 99).map("{:02}".format)
_usual_time = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map("{:%Y-%m-%d %H:%M:%S}".format)
_odd_time = st.builds(
    "{}-{}-{}{}{}:{}".format,
    st.integers(0, 9999).map("{:04}".format),
    _two_digits,
    _two_digits,
    st.sampled_from(" Tt"),
    _two_digits,
    _two_digits,
)
_fraction = st.one_of(st.just(""), st.builds("{}{}".format, st.sampled_from(".,"), _digits))
_zone = st.one_of(
    st.sampled_from(
        ["", "Z", "z", " UTC", "UTC", " Z", "+00", " +0000", "+02:00Z", " CET", "-00:00", "+23:59", "+24:00"]
    ),
    st.builds(
        "{}{}{}{}".format, st.sampled_from(["+", "-", " +", " -"]), _two_digits, st.sampled_from(["", ":"]), _two_digits
    ),
)
_time = st.builds("".join, st.tuples(st.one_of(_usual_time, _odd_time), _fraction, _zone))
_word = st.one_of(
    st.sampled_from([*NULL_WORDS, "Infinity", "true", "²", "１２", "1_000", "0x1f", "1,5"]),
    st.text(st.characters(codec="utf-8"), max_size=12),
)
_text = st.builds("{}{}{}".format, _space, st.one_of(_number, _plausible_number, _time, _word), _space)


def spark_reads(spark, texts):
    """(text, whole number, amount, microseconds since 1970) of each text, as Spark reads it."""
    text = F.explode(F.from_json(F.lit(json.dumps(texts)), "array<string>")).alias("text")
    column = F.col("text")
    return (
        spark.range(1)
        .select(text)
        .select(
            F.expr(values.text(values.trimmed("text"), NULL_WORDS)),
            values.whole_number(column),
            values.amount(column),
            F.unix_micros(values.in_range(values.instant(column))),
        )
        .collect()
    )


def python_reads(text):
    time = readings.instant(text)
    micros = None if time is None or not 1970 <= time.year <= 2100 else (time - _EPOCH) // timedelta(microseconds=1)
    return (readings.text(text, NULL_WORDS), readings.whole_number(text), readings.amount(text), micros)


@settings(
    max_examples=_LISTS,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[Phase.generate],  # the failure names its text: a smaller list would add nothing
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(st.lists(_text, min_size=100, max_size=100))
def test_python_and_spark_read_the_same_from_any_text(spark, texts):
    for text, row in zip(texts, spark_reads(spark, texts), strict=True):
        assert tuple(row) == python_reads(text), text


_NINE = (datetime(2026, 11, 20, 9) - _EPOCH) // timedelta(microseconds=1)
# What people mean by a text: (text, whole number, time in microseconds since 1970).
EXPECTED_READINGS = [
    ("258", 258, None),
    ("258.0", 258, None),
    ("2.58e2", 258, None),
    ("1.2345678E7", 12345678, None),
    ("+007", 7, None),
    ("\u00a0-3\u200b", -3, None),
    ("9223372036854775807", 2**63 - 1, None),
    ("9223372036854775808", None, None),
    ("2.58", None, None),
    ("1,000", None, None),
    ("0x1f", None, None),
    ("１２", None, None),
    ("NaN", None, None),
    ("2026-11-20 09:00:00", None, _NINE),
    ("2026-11-20T09:00Z", None, _NINE),
    ("2026-11-20 09:00:00 UTC", None, _NINE),
    ("2026-11-20 09:00:00+00", None, _NINE),
    ("2026-11-20 09:00:00.000+0000", None, _NINE),
    ("2026-11-20 09:00:00 +0000", None, _NINE),
    ("2026-11-20T11:00:00.000+0200", None, _NINE),
    ("2026-11-20T11:00:00 +02", None, _NINE),
    ("2026-11-20t03:30:00-05:30", None, _NINE),
    ("2026-11-20 09:00:00,25", None, _NINE + 250_000),
    ("1795165200", 1795165200, _NINE),
    ("1795165200000", 1795165200000, _NINE),
    ("1.7951652E9", 1795165200, _NINE),
    ("1795165200.25", None, _NINE + 250_000),
    ("1795165200000000", 1795165200000000, None),
    ("20261120", 20261120, None),
    ("20.11.2026 09:00", None, None),
    ("2026-11-20", None, None),
    ("2026-11-31 09:00:00", None, None),
    ("2026-11-20 09:00:00 CET", None, None),
    ("2026-11-20 24:00:00", None, None),
]


def test_texts_are_parsed_as_people_expect(spark):
    """In addition to the property: two readers that agree may both be wrong."""
    texts = [text for text, *_ in EXPECTED_READINGS]
    for (text, number, micros), row in zip(EXPECTED_READINGS, spark_reads(spark, texts), strict=True):
        assert (row[1], row[3]) == (number, micros), text
        assert python_reads(text)[1::2] == (number, micros), text
