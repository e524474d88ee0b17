"""The zone that dashboards show times in, on a server whose time zone tables are empty."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest

from include.readings import YEARS
from include.warehouse import reporting_zone
from include.warehouse.schema import apply_schema
from include.warehouse.session import warehouse
from tests.warehouse.lab import Lab, contribution, minute
from tests.warehouse.shop import Shop, operation

BERLIN = "Europe/Berlin"
HOUR = timedelta(hours=1)
# The day on which summer time ends in Berlin: at 01:00 UTC the clock goes back from 03:00 to 02:00.
AUTUMN = datetime(2026, 10, 25)


def days(name: str) -> dict[date, tuple]:
    return {row[0]: row[1:] for row in reporting_zone.days_away_from_utc(name)}


def local_time(time: datetime, zone_days: dict[date, tuple]) -> datetime:
    """A time as the views convert it."""
    before, changes_at, after = zone_days.get(time.date(), (0, time, 0))
    return time + timedelta(seconds=before if time < changes_at else after)


def test_utc_needs_no_rows() -> None:
    assert days("UTC") == {}


def test_a_day_of_change_has_its_time_and_value() -> None:
    result = days(BERLIN)
    assert result[date(2026, 3, 29)] == (3_600, datetime(2026, 3, 29, 1), 7_200)
    assert result[date(2026, 10, 25)] == (7_200, datetime(2026, 10, 25, 1), 3_600)
    assert result[date(2026, 7, 1)] == (7_200, datetime(2026, 7, 2), 7_200)


# Lord Howe changes by half an hour, and Casablanca for Ramadan; London has UTC in winter; Kathmandu went from an offset of
# 5:30 to 5:45 hours, and Apia skipped a day.
@pytest.mark.parametrize(
    ("name", "year"),
    [(BERLIN, 2026), ("Australia/Lord_Howe", 2026), ("Africa/Casablanca", 2026), ("Europe/London", 2026),
     ("Asia/Kathmandu", 1986), ("Pacific/Apia", 2011), ("America/New_York", YEARS[-1])],
)  # fmt: skip
def test_every_quarter_of_an_hour_is_shown_as_the_zone_has_it(name: str, year: int) -> None:
    zone_days, zone, time = days(name), ZoneInfo(name), datetime(year, 1, 1)
    while time.year == year:
        assert local_time(time, zone_days) == time.replace(tzinfo=UTC).astimezone(zone).replace(tzinfo=None), time
        time += timedelta(minutes=15)


@pytest.mark.parametrize("name", ["Berlin", "../etc/passwd", "Europe/"])
def test_an_unknown_zone_is_refused(name: str) -> None:
    with pytest.raises(reporting_zone.UnknownZone, match="MINUTEMARK_REPORTING_ZONE.*not a time zone.*Europe/Berlin"):
        reporting_zone.reporting_zone({reporting_zone.SETTING: name})


@pytest.fixture
def berlin(lab: Lab, monkeypatch: pytest.MonkeyPatch):
    """A warehouse that reports in Berlin's time, and again in UTC afterwards."""
    with monkeypatch.context() as patch:
        patch.setenv(reporting_zone.SETTING, BERLIN)
        apply_schema()
        yield lab
    apply_schema()
    assert lab.query("SELECT zone FROM etl.reporting_zone") == [("UTC",)]
    assert lab.one("SELECT COUNT(*) FROM etl.reporting_days") == 0


def test_the_server_itself_need_not_know_the_zone(berlin: Lab) -> None:
    # If the server knew the zone, this test would prove less.
    assert berlin.one("SELECT CONVERT_TZ('2026-07-01', 'UTC', 'Europe/Berlin')") is None
    assert berlin.query("SELECT DISTINCT reporting_zone FROM etl.board_pipelines") == [(BERLIN,)]


def test_hours_across_a_clock_change(berlin: Lab) -> None:
    hours = [AUTUMN - 3 * HOUR, AUTUMN, AUTUMN + HOUR, AUTUMN + 2 * HOUR]
    berlin.publish({minute(0): [contribution(dates=hour.date(), hours=hour.hour) for hour in hours]})
    result = dict(berlin.query("SELECT hour_utc, hour FROM recruitment.board_events"))
    assert result == {
        datetime(2026, 10, 24, 21): datetime(2026, 10, 24, 23),
        datetime(2026, 10, 25, 0): datetime(2026, 10, 25, 2),
        datetime(2026, 10, 25, 1): datetime(2026, 10, 25, 2),  # the clock shows this hour twice
        datetime(2026, 10, 25, 2): datetime(2026, 10, 25, 3),
    }
    assert dict(berlin.query("SELECT hour_utc, hour_local FROM recruitment.bi_events")) == result
    assert berlin.query("SELECT SUM(clicks) FROM recruitment.board_events GROUP BY hour ORDER BY hour") == [
        (1,),
        (2,),
        (1,),
    ]


def test_minutes_rejects_batches_and_sales_are_shown_in_the_zone(berlin: Lab) -> None:
    berlin.publish({minute(0): [contribution()]}, rejects=[(minute(0), "bid is negative")], ignored=20)
    Shop(berlin.conn).publish({minute(0): [operation()]}, run_id="shop")
    assert set(berlin.query("SELECT minute FROM etl.board_minutes")) == {(minute(0) + HOUR,)}
    assert berlin.query("SELECT minute FROM etl.board_rejected") == [(minute(0) + HOUR,)]
    assert berlin.query("SELECT hour, hour_of_day FROM ecommerce.board_sales") == [(datetime(2026, 3, 1, 11), "11h")]
    for view in ("bi_sales", "bi_visits"):
        assert berlin.query(f"SELECT hour_local FROM ecommerce.{view}") == [(datetime(2026, 3, 1, 11),)], view
    offset = int(ZoneInfo(BERLIN).utcoffset(datetime.now()).total_seconds())
    for view, column in (("board_batches", "opened"), ("board_lag", "published")):
        result = berlin.query(f"SELECT TIMESTAMPDIFF(SECOND, {column}_utc, {column}) FROM etl.{view}")
        assert set(result) == {(offset,)}, view


def test_applying_again_writes_nothing(berlin: Lab) -> None:
    result = []

    class RecordingCursor:
        def __init__(self, cursor) -> None:
            self.cursor = cursor

        def execute(self, text: str, *binds: object) -> None:
            self.cursor.execute(text, *binds)
            result.append((text.split()[0], self.cursor.rowcount))

        def fetchall(self) -> list:
            return self.cursor.fetchall()

    with warehouse() as conn:
        reporting_zone.write(RecordingCursor(conn.cursor()))
    assert [count for verb, count in result if verb != "SELECT"] == [0, 0]
