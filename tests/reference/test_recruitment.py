"""The reference itself, on hand-written rows: a wrong yardstick would pass a wrong pipeline."""

from __future__ import annotations

import uuid
from collections import Counter
from datetime import date, datetime, timedelta
from decimal import Decimal

import pytest

from tests.reference import recruitment
from tests.reference.rows import click, event_id, page_view

NOON = datetime(2026, 3, 1, 12, 0, 5)
KEY = (7, date(2026, 3, 1), 12, 2, 30, 40)


def test_one_row_of_each_counted_kind_adds_one_to_its_metric():
    rows = [
        click(NOON, 1),
        click(NOON, 2, custom_track="clicks", bid="2.25"),
        click(NOON, 3, custom_track="conversion", bid="9"),  # only the bids of clicks are spent
        click(NOON, 4, custom_track="qualified"),
        click(NOON, 5, custom_track="unqualified"),
        page_view(NOON, 6),
    ]
    fact = recruitment.facts(rows, {7: 70})
    assert fact == {
        KEY: recruitment.Fact(
            company_id=70,
            clicks=2,
            conversion=1,
            qualified_application=1,
            disqualified_application=1,
            impressions=1,
            bid_sum=Decimal("3.75"),
            bid_count=2,
            latest_update_time=NOON,
        )
    }
    assert (fact[KEY].bid_set, fact[KEY].spend_hour) == (Decimal("1.875"), Decimal("3.75"))


def test_a_click_without_a_bid_is_counted_but_leaves_the_average_alone():
    fact = recruitment.facts([click(NOON, 1, bid="1"), click(NOON, 2, bid=None)], {})[KEY]
    assert (fact.clicks, fact.bid_set) == (2, Decimal(1))
    assert recruitment.facts([click(NOON, bid=None)], {})[KEY].bid_set is None


@pytest.mark.parametrize(
    ("cells", "fate"),
    [
        pytest.param({"create_time": str(uuid.UUID(int=5, version=4))}, ("rejected", "create_time"), id="no time-UUID"),
        pytest.param(
            {"create_time": str(event_id(datetime(1999, 12, 31)))}, ("rejected", "create_time"), id="too early"
        ),
        pytest.param(
            {"create_time": str(event_id(datetime(2099, 6, 1)))}, ("rejected", "create_time"), id="too far ahead"
        ),
        pytest.param(
            {"custom_track": "alive", "ts": "?", "job_id": "x"}, ("ignored", "alive"), id="kind before ts and job_id"
        ),
        pytest.param({"custom_track": None, "ev": "2"}, ("ignored", recruitment.NO_KIND), id="no kind at all"),
        pytest.param({"custom_track": "redirect", "ev": "1"}, ("ignored", "redirect"), id="ev 1 with a kind"),
        pytest.param({"ts": "yesterday", "job_id": "x"}, ("rejected", "ts"), id="ts before job_id"),
        pytest.param({"ts": None}, ("rejected", "ts"), id="no ts"),
        pytest.param({"ts": "1969-12-31 23:59:59"}, ("rejected", "ts"), id="ts before 1970"),
        pytest.param({"ts": "9999-12-31 23:59:59-05:00"}, ("rejected", "ts"), id="ts beyond any calendar"),
        pytest.param({"job_id": "7a", "bid": "-1"}, ("rejected", "job_id"), id="job_id before bid"),
        pytest.param({"job_id": "99999999999999999999"}, ("rejected", "job_id"), id="job_id out of range"),
        pytest.param({"job_id": None, "bid": "-1"}, ("ignored", "no_job"), id="no job before bid"),
        pytest.param({"bid": "-0.01"}, ("rejected", "bid"), id="negative bid"),
        pytest.param({"bid": "99999999999999.9999999"}, ("rejected", "bid"), id="bid beyond its column once rounded"),
        pytest.param({"bid": "NaN"}, ("counted", "click"), id="bid NaN"),
        pytest.param({"job_id": "0"}, ("ignored", "no_job"), id="zero is not a job"),
        pytest.param({"bid": "cheap"}, ("rejected", "bid"), id="bid not a number"),
        pytest.param({"bid": "-1", "custom_track": "conversion"}, ("counted", "conversion"), id="bid of a conversion"),
    ],
)
def test_the_first_rule_that_applies_decides_the_fate(cells, fate):
    result = recruitment.fate_of(click(NOON, **cells))
    assert (result.name, result.reason if result.name == "rejected" else result.kind) == fate


@pytest.mark.parametrize(
    ("cells", "job_and_publisher"),
    [
        ({"job_id": "258.0", "publisher_id": "3.0"}, (258, 3)),
        ({"publisher_id": "4,1,2,3,5"}, (7, 4)),
        ({"publisher_id": "1\\"}, (7, 0)),
        ({"publisher_id": None}, (7, 0)),
        ({"job_id": None, "publisher_id": None, "ed": '{"jobId": 9, "publisherId": "4,1,2"}'}, (9, 4)),
        ({"job_id": None, "publisher_id": None, "ed": '{"jobid": "9", "publisherid": [5, 6]}'}, (9, 5)),
        ({"ed": '{"jobId": 9, "publisherId": 3}'}, (7, 2)),  # filled columns take precedence
    ],
)
def test_keys_come_from_columns_or_ed(cells, job_and_publisher):
    assert recruitment.fate_of(click(NOON, **cells)).key[0::3][:2] == job_and_publisher


def test_recover_fills_the_kind_only_where_ev_is_2():
    incomplete = click(NOON, custom_track=None, ed='{"customevent": "conversion"}')
    assert recruitment.fate_of(incomplete).kind == "conversion"
    assert recruitment.fate_of(incomplete, recover=False).name == "ignored"
    assert recruitment.fate_of({**incomplete, "ev": "1"}).kind == "page view"


def test_without_recover_ed_is_not_read():
    incomplete = click(NOON, job_id=None, publisher_id=None, ed='{"jobId": 9, "publisherId": 3}')
    assert recruitment.fate_of(incomplete, recover=False).kind == "no_job"
    assert recruitment.fate_of({**incomplete, "job_id": "7"}, recover=False).key[3] == 0


@pytest.mark.parametrize("ed", ["{", "[1]", '"x"', "null", '{"jobId": null}', '{"jobId": ""}'])
def test_an_ed_without_a_job_leaves_the_event_without_a_job(ed):
    assert recruitment.fate_of(click(NOON, job_id=None, ed=ed)).kind == "no_job"


def test_a_recovered_job_that_is_not_a_number_rejects_the_row():
    assert recruitment.fate_of(click(NOON, job_id=None, ed='{"jobId": "52fe"}')).reason == "job_id"


def test_hour_and_date_are_those_of_ts_and_the_minute_that_of_create_time():
    back_dated = click(NOON, ts="2026-02-20 23:59:59.999")
    assert list(recruitment.facts([back_dated], {})) == [(7, date(2026, 2, 20), 23, 2, 30, 40)]
    assert list(recruitment.minutes([back_dated])) == [datetime(2026, 3, 1, 12, 0)]


def test_the_last_version_of_an_event_replaces_the_others_entirely():
    last = click(NOON, bid=None, group_id="41")
    assert recruitment.facts([click(NOON), last], {}) == recruitment.facts([last], {})
    assert recruitment.minutes([click(NOON), last])[datetime(2026, 3, 1, 12, 0)].raw_rows == 1


def test_each_row_of_a_minute_has_one_fate():
    rows = [
        click(NOON, 1),
        click(NOON, 2, custom_track="alive"),
        click(NOON, 3, job_id=None),
        click(NOON, 4, ts="?"),
        click(NOON, 5, bid="-1"),
        click(NOON, create_time="no uuid"),  # never in the lake, so in no minute
    ]
    (minute,) = recruitment.minutes(rows).values()
    assert (minute.raw_rows, minute.counted_rows, minute.ignored_rows, minute.rejected_rows) == (5, 1, 2, 2)
    assert minute.ignored_by_kind == Counter(alive=1, no_job=1)
    assert minute.rejected_by_reason == Counter(ts=1, bid=1)
    assert recruitment.never_reached_the_lake(rows) == [rows[-1]]


def test_latest_update_time_is_the_newest_create_time_in_microseconds():
    newest = NOON + timedelta(microseconds=123456)
    rows = [click(newest, create_time=str(event_id(newest, ticks=9))), click(NOON, 2)]  # 900 ns are cut off
    assert recruitment.facts(rows, {})[KEY].latest_update_time == newest


@pytest.mark.real_data
def test_without_recover_the_real_log_gives_the_classic_result(real_data):
    rows, jobs = _real(real_data)
    result = recruitment.facts(rows, jobs, recover=False)
    assert len(result) == 64
    assert _total(result, "clicks") == 920
    assert _total(result, "impressions") == 952
    assert _total(result, "spend_hour") == Decimal("787.2")


@pytest.mark.real_data
def test_with_recover_the_real_log_gives_more_than_twice_the_clicks_and_conversions(real_data):
    rows, jobs = _real(real_data)
    classic, recovered = (recruitment.facts(rows, jobs, recover) for recover in (False, True))
    assert _total(recovered, "clicks") > 2 * _total(classic, "clicks")
    assert _total(recovered, "conversion") > 2 * _total(classic, "conversion")
    assert _total(recovered, "impressions") == _total(classic, "impressions")


@pytest.mark.real_data
@pytest.mark.parametrize("recover", [True, False])
def test_every_row_of_the_real_log_is_in_one_minute_of_the_ledger(real_data, recover):
    rows, _ = _real(real_data)
    result = recruitment.minutes(rows, recover).values()
    assert sum(minute.raw_rows for minute in result) == len(rows)
    assert all(m.raw_rows == m.counted_rows + m.ignored_rows + m.rejected_rows for m in result)


def _real(folder):
    rows = recruitment.read_rows(folder / "tracking.csv")
    return rows, recruitment.companies(recruitment.read_rows(folder / "job.csv"))


def _total(facts, metric):
    return sum(getattr(fact, metric) for fact in facts.values())
