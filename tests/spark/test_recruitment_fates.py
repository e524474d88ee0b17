"""Every row has one fate, decided in the order of the design (§8)."""

from __future__ import annotations

import pytest
from pyspark.sql import SparkSession

from tests.spark.rows import classify, click

# (changes to a click that counts, fate, kind, start of the reason)
TABLE = [
    pytest.param({}, "counted", "click", None, id="click"),
    pytest.param({"custom_track": "clicks"}, "counted", "click", None, id="clicks is a click"),
    pytest.param({"custom_track": " Click "}, "counted", "click", None, id="spaces and capitals do not matter"),
    pytest.param({"custom_track": "conversion"}, "counted", "conversion", None, id="conversion"),
    pytest.param({"custom_track": "qualified"}, "counted", "qualified", None, id="qualified"),
    pytest.param({"custom_track": "unqualified"}, "counted", "unqualified", None, id="unqualified"),
    pytest.param({"custom_track": None, "ev": "1"}, "counted", "impression", None, id="page view"),
    pytest.param({"custom_track": None, "ev": "1.0"}, "counted", "impression", None, id="page view as a float"),
    pytest.param({"custom_track": "alive", "ev": "1"}, "ignored", "alive", None, id="a kind beats ev = 1"),
    pytest.param({"custom_track": "impression"}, "ignored", "impression", None, id="only a page view is an impression"),
    pytest.param({"custom_track": None}, "ignored", "none", None, id="no kind at all"),
    pytest.param({"custom_track": "alive", "ts": "x"}, "ignored", "alive", None, id="kind comes before ts"),
    pytest.param({"ts": None}, "rejected", None, "ts is not a timestamp between 1970 and 2100: nothing", id="no ts"),
    pytest.param(
        {"ts": "soon"}, "rejected", None, "ts is not a timestamp between 1970 and 2100: soon", id="ts is a word"
    ),
    pytest.param({"ts": "2022-02-30 01:00:00"}, "rejected", None, "ts is not a timestamp", id="a day that never was"),
    pytest.param({"ts": "2101-01-01 00:00:00"}, "rejected", None, "ts is not a timestamp", id="ts after 2100"),
    pytest.param({"ts": "1969-12-31 23:59:59"}, "rejected", None, "ts is not a timestamp", id="ts before 1970"),
    pytest.param({"ts": "x", "job_id": None}, "rejected", None, "ts is not a timestamp", id="ts comes before no_job"),
    pytest.param({"job_id": None}, "ignored", "no_job", None, id="no job"),
    pytest.param({"job_id": "  "}, "ignored", "no_job", None, id="blank job"),
    pytest.param({"job_id": "abc"}, "rejected", None, "job_id is not a whole number: abc", id="job is a word"),
    pytest.param({"job_id": "-258"}, "ignored", "no_job", None, id="a negative job is none"),
    pytest.param({"job_id": "0.0"}, "ignored", "no_job", None, id="a zero job is none"),
    pytest.param({"job_id": None, "ed": '{"jobId": 0}'}, "ignored", "no_job", None, id="a zero job in ed is none"),
    pytest.param({"job_id": "00"}, "ignored", "no_job", None, id="zeros are none"),
    pytest.param({"job_id": "2.58"}, "rejected", None, "job_id is not a whole number: 2.58", id="job with a fraction"),
    pytest.param({"job_id": "1.2345678E7"}, "counted", "click", None, id="job with an exponent"),
    pytest.param({"job_id": "\u00a0258\t"}, "counted", "click", None, id="white space of every kind"),
    pytest.param(
        {"custom_track": "NULL", "ev": "1"}, "counted", "impression", None, id="a word for null names no kind"
    ),
    pytest.param({"job_id": "\\N"}, "ignored", "no_job", None, id="a word for null names no job"),
    pytest.param({"ts": 1795166640000}, "counted", "click", None, id="milliseconds since 1970"),
    pytest.param({"ts": "1795166640"}, "counted", "click", None, id="seconds since 1970"),
    pytest.param({"ts": "2026-11-20 09:02:03.5 +0000"}, "counted", "click", None, id="an offset after a space"),
    pytest.param(
        {"job_id": "9223372036854775808"}, "rejected", None, "job_id is not a whole number", id="job beyond BIGINT"
    ),
    pytest.param(
        {"job_id": "x", "bid": "-1"}, "rejected", None, "job_id is not a whole number", id="job comes before bid"
    ),
    pytest.param({"job_id": None, "bid": "-1"}, "ignored", "no_job", None, id="no_job comes before bid"),
    pytest.param({"bid": "-3"}, "rejected", None, "bid is negative: -3", id="negative bid"),
    pytest.param({"bid": "-0.0000001"}, "rejected", None, "bid is negative", id="slightly negative bid"),
    pytest.param({"bid": "NaN"}, "counted", "click", None, id="NaN is not a bid"),
    pytest.param({"bid": "Infinity"}, "rejected", None, "bid is not a number: Infinity", id="Infinity"),
    pytest.param({"bid": "1e400"}, "rejected", None, "bid is not a number: 1e400", id="overflow of a double"),
    pytest.param({"bid": "1e-2000000000"}, "rejected", None, "bid is not a number", id="exponent that eats the heap"),
    pytest.param({"bid": "9" * 39}, "rejected", None, "bid is not a number", id="overflow of a decimal"),
    pytest.param({"bid": "100000000000000"}, "rejected", None, "bid is not below", id="bid beyond its column"),
    pytest.param(
        {"bid": "99999999999999.9999999"}, "rejected", None, "bid is not below", id="bid beyond it once rounded"
    ),
    pytest.param(
        {"bid": "x", "custom_track": "conversion"},
        "counted",
        "conversion",
        None,
        id="only clicks need a bid that is a number",
    ),
    pytest.param({"create_time": "x"}, "rejected", None, "create_time is not a time-UUID", id="create_time is a word"),
    pytest.param(
        {"create_time": "0e207ccf-156b-41f1-8000-0a0b0c0d0e0f", "custom_track": "alive"},
        "rejected",
        None,
        "create_time is not a time-UUID",
        id="a random UUID, even of an ignored kind",
    ),  # fmt: skip
]


@pytest.fixture(scope="module")
def fates(spark: SparkSession) -> dict[str, object]:
    """One job reads all rows of the table: each job costs a second, whatever it reads."""
    result = classify(spark, *(click(**case.values[0]) for case in TABLE))
    return dict(zip((case.id for case in TABLE), result, strict=True))


@pytest.mark.parametrize(("changes", "fate", "kind", "reason"), TABLE)
def test_fate(fates: dict[str, object], request: pytest.FixtureRequest, changes, fate, kind, reason) -> None:
    row = fates[request.node.callspec.id]
    assert row.fate == fate
    assert kind is None or row.kind == kind
    assert (row.reason or "").startswith(reason or "") and (row.reason is None) == (reason is None)


def test_a_reason_fits_its_column_for_any_value(spark: SparkSession) -> None:
    [row] = classify(spark, click(bid="9" * 100_000))
    assert row.reason.startswith("bid is not a number: 999") and len(row.reason) <= 500
