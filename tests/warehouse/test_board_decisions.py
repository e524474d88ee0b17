"""recruitment.board_decisions: each line of the rule at its limit, equal spans, and the rows that the view reads."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from include.warehouse.session import rows, warehouse
from local.layout import ROOT
from tests.warehouse.lab import Lab
from tests.warehouse.test_bookkeeping_cost import NUMBERS, rows_read

NOW = datetime(2026, 3, 20, 15, 34, 56)
END = datetime(2026, 3, 20, 15)  # the end of the last full hour
HOUR = timedelta(hours=1)
LAST, BEFORE = END - HOUR, END - 169 * HOUR  # an hour of each week
CENT = Decimal("0.01")
A, B = 901, 902  # campaigns
VIEWS = (ROOT / "include" / "sql" / "recruitment" / "views.sql").read_text()
RULE = {
    name: abs(Decimal(number))
    for number, name in re.findall(r"(-?[\d.]+) AS (\w+)", re.search(r"WITH rule AS \(\n(.*)\n", VIEWS)[1])
}


@pytest.fixture
def decide(lab: Lab) -> Callable[..., dict]:
    """Decisions of one kind by name, as the read-only account sees them at NOW."""
    with warehouse("warehouse_bi") as conn:
        conn.cursor().execute("SET timestamp = %s", (NOW.replace(tzinfo=UTC).timestamp(),))

        def read(kind: str = "campaign") -> dict:
            conn.rollback()
            records = rows(
                conn.cursor(), "SELECT * FROM recruitment.board_decisions WHERE kind = %(kind)s", {"kind": kind}
            )
            return {row["name"]: row for row in records}

        yield read


def add(lab: Lab, campaign: int, at: datetime, *, spend=0, qualified=0, publisher=1, job=7, **values) -> None:
    """A fact of that hour."""
    fact = {
        "job_id": job, "dates": at.date(), "hours": at.hour, "publisher_id": publisher, "campaign_id": campaign, "group_id": 0,
        "disqualified_application": 0, "qualified_application": qualified, "conversion": 0, "clicks": 0, "impressions": 0,
        "bid_sum": spend, "bid_count": 0, "spend_hour": spend, "latest_update_time": at, "sources": "Cassandra",
    } | values  # fmt: skip
    lab.query(
        f"INSERT INTO recruitment.events ({', '.join(fact)}) VALUES ({', '.join(['%s'] * len(fact))})", *fact.values()
    )


def add_weeks(lab: Lab, campaign: int, *, last: tuple, before: tuple) -> None:
    """(spend, qualified applications) of each week."""
    for at, (spend, qualified) in ((LAST, last), (BEFORE, before)):
        add(lab, campaign, at, spend=spend, qualified=qualified)


def decisions(records: dict) -> dict[str, str]:
    return {name: f"{row['decision']}: {row['reason']}" for name, row in records.items()}


def add_others(lab: Lab, average: Decimal | int = 4, qualified: int = 60) -> None:
    """Add a campaign to compare with: `qualified` qualified applications in both weeks together, at `average` each."""
    add(lab, B, BEFORE, spend=average * qualified, qualified=qualified)


def test_the_numbers_behind_a_decision(lab: Lab, decide) -> None:
    add(lab, A, LAST, spend=60, qualified=30, clicks=500, disqualified_application=20)
    add(lab, A, LAST - HOUR, spend=30, qualified=15, clicks=100)
    add(lab, A, BEFORE, spend=160, qualified=40, clicks=800, disqualified_application=5)
    add_others(lab)
    add(lab, 0, LAST, qualified=5)
    assert decide()["campaign 901"] == {
        "kind": "campaign", "name": "campaign 901", "decision": "raise", "reason": "cost fell sharply, not above average",
        "cost_per_qualified": 2, "cost_per_qualified_before": 4, "cost_change": Decimal("-0.5"), "average_cost": 4,
        "enough_data": "yes", "beyond_chance": "yes", "unnamed_share": Decimal("0.0333"),  # 5 of 150
        "spend": 90, "clicks": 600, "applications": 65, "qualified": 45,
        "spend_before": 160, "clicks_before": 800, "applications_before": 45, "qualified_before": 40,
    }  # fmt: skip


RAISE, DEARER = "raise: cost fell sharply, not above average", "stop: cost rose sharply, above average"
FAR, NONE_QUALIFIED = "stop: far above average", "stop: high spend, no qualified application"
SAME, BY_CHANCE = "watch: no large change", "watch: large change, but chance may explain it"
TOO_FEW, NO_COST = "watch: too few applications to judge", "watch: no cost in one of the weeks"
IDLE, NO_OTHERS = "watch: no spend in the last week", "watch: no average to compare with"


@pytest.mark.parametrize(
    ("last", "before", "decision"),
    [
        # fell by 25 %: from 4 to 3
        ((3000, 1000), (4000, 1000), RAISE),
        ((3000 + CENT, 1000), (4000, 1000), SAME),
        # rose by 50 %: from 4 to 6
        ((6000, 1000), (4000, 1000), DEARER),
        ((6000 - CENT, 1000), (4000, 1000), SAME),
        # with 60 in each week, chance explains a fall by 25.9 %; with 31, a rise by 51.7 %
        (("177.80", 60), (240, 60), RAISE),
        (("177.95", 60), (240, 60), BY_CHANCE),
        (("188.2", 31), (124, 31), DEARER),
        (("187.9", 31), (124, 31), BY_CHANCE),
        # fewer than 60 in both weeks together
        ((30, 30), (116, 29), TOO_FEW),
        ((30, 30), (120, 30), RAISE),
        ((50, 50), (40, 10), RAISE),
        # 3 times the average of 4, even with one more application
        ((12, 0), (0, 0), NONE_QUALIFIED),
        ((12 - CENT, 0), (0, 0), TOO_FEW),
        ((24, 1), (0, 0), FAR),
        ((24 - CENT, 1), (0, 0), TOO_FEW),
        ((360, 29), (360, 29), FAR),
        ((360 - CENT, 29), (360, 29), TOO_FEW),
        ((372, 30), (372, 30), FAR),
        ((372 - CENT, 30), (372, 30), SAME),
        # few now, although many were expected
        ((4000, 0), (4000, 1000), NONE_QUALIFIED),
        ((4000, 1), (4000, 1000), FAR),
        ((1200, 29), (1200, 300), FAR),
        ((100_000, 29), (100_000, 29), FAR),
        ((240, 29), (240, 60), DEARER),
        ((150, 29), (150, 300), DEARER),
        # no cost now, or before
        ((0, 30), (120, 30), IDLE),
        ((0, 0), (120, 30), IDLE),
        ((240, 60), (0, 60), NO_COST),
        ((240, 60), (240, 0), NO_COST),
        ((12 - CENT, 0), (240, 60), NO_COST),
    ],
)
def test_each_line_of_the_rule_at_its_limit(lab: Lab, decide, last: tuple, before: tuple, decision: str) -> None:
    add_weeks(lab, A, last=last, before=before)
    add_others(lab)
    assert decisions(decide())["campaign 901"] == decision


@pytest.mark.parametrize(
    ("last", "before", "average", "decision"),
    [
        ((300, 100), (400, 100), 3, RAISE),
        ((300, 100), (400, 100), 3 - CENT, "watch: cost fell sharply, still above average"),
        ((450, 100), (300, 100), Decimal("4.5"), "watch: cost rose sharply, not above average"),
        ((450, 100), (300, 100), Decimal("4.5") - CENT, DEARER),
    ],
)
def test_a_cost_that_equals_the_average_is_not_above_it(lab: Lab, decide, last, before, average, decision) -> None:
    add_weeks(lab, A, last=last, before=before)
    add_others(lab, average)
    result = decide()
    assert result["campaign 901"]["average_cost"] == average
    assert decisions(result)["campaign 901"] == decision


@pytest.mark.parametrize(
    ("others", "decision"),
    [
        ([], NO_OTHERS),
        ([(240, 59)], NO_OTHERS),
        ([(240, 60)], DEARER),
        ([(120, 30), (120, 30)], DEARER),
        ([(240, 0)], NO_OTHERS),  # no average without a qualified application
        ([(0, 60)], NO_OTHERS),  # nor from applications that cost nothing
    ],
)
def test_the_average_is_that_of_the_other_campaigns(lab: Lab, decide, others: list[tuple], decision: str) -> None:
    add_weeks(lab, A, last=(6000, 1000), before=(4000, 1000))
    for campaign, (spend, qualified) in enumerate(others, B):
        add(lab, campaign, BEFORE, spend=spend, qualified=qualified)
    result = decide()
    assert decisions(result)["campaign 901"] == decision
    assert result["campaign 901"]["average_cost"] == (None if decision == NO_OTHERS else 4)


def test_without_qualified_applications_all_campaigns_are_watched(lab: Lab, decide) -> None:
    add_weeks(lab, A, last=(4000, 0), before=(4000, 0))
    add_weeks(lab, B, last=(1, 0), before=(1, 0))
    assert decisions(decide()) == {"campaign 901": NO_OTHERS, "campaign 902": NO_OTHERS}


@pytest.mark.parametrize("last", [(10_000, 0), (10_000, 10), (20, 100)])
def test_events_without_a_name_are_watched(lab: Lab, decide, last: tuple) -> None:
    """Even at a cost for which a named campaign or publisher would be stopped or raised."""
    add_weeks(lab, A, last=(240, 60), before=(240, 60))
    for at, (spend, qualified) in ((LAST, last), (BEFORE, (20, 10))):
        add(lab, 0, at, spend=spend, qualified=qualified, publisher=0)
    for kind in ("campaign", "publisher"):
        result = decide(kind)
        assert decisions(result)["none"] == f"watch: events without a {kind}"
        assert not [row for row in result.values() if row["decision"] != "watch"]


@pytest.mark.parametrize(
    ("unnamed", "decision"),
    [
        (30, RAISE),
        (31, "watch: too many qualified applications without a publisher"),
    ],
)
def test_applications_that_name_no_publisher(lab: Lab, decide, unnamed: int, decision: str) -> None:
    add_weeks(lab, A, last=(60, 30), before=(120, 30))
    add(lab, B, BEFORE, spend=240, qualified=60, publisher=2)
    add(lab, A, LAST, qualified=unnamed, publisher=0)  # 30 of 150 are 20 %
    result = decide("publisher")
    assert decisions(result)["publisher 1"] == decision
    assert result["publisher 1"]["average_cost"] == 4  # without the unnamed ones
    assert decisions(decide("campaign"))["campaign 901"] == RAISE


def test_chance_alone_raises_or_stops_at_most_one_campaign_in_twenty() -> None:
    """For a campaign whose cost stays at the average, as ADR 34 states: applications come one by one, at equal spend."""
    enough, deviations, raise_from, stop_from, averages = (
        float(RULE[name]) for name in ("enough", "deviations", "raise_from", "stop_from", "averages")
    )

    def poisson(expected: float) -> list[float]:
        return [math.exp(n * math.log(expected) - expected - math.lgamma(n + 1)) for n in range(int(expected * 2) + 40)]

    raised, stopped = [], []
    for expected in (20, 25, 30, 35, 40, 45, 50, 60, 80, 100):
        odds = list(enumerate(poisson(expected)))[1:]
        changes = [
            (before / now - 1, odds_now * odds_before)
            for now, odds_now in odds
            for before, odds_before in odds
            if now + before >= enough and abs(math.log(before / now)) >= deviations * math.sqrt(1 / now + 1 / before)
        ]
        raised.append(sum(odds for change, odds in changes if change <= raise_from))
        stopped.append(sum(odds for change, odds in changes if change >= stop_from))
    by_level = [
        sum(odds for n, odds in enumerate(poisson(expected)) if expected >= averages * (n + 1))
        for expected in (3, 4, 6, 9, 12, 30)
    ]
    figures = [f"{max(shares):.1%}".replace("%", " %") for shares in (raised, stopped, by_level)]
    assert figures == ["5.0 %", "4.1 %", "5.0 %"]
    adr = " ".join((ROOT / "docs" / "adr" / "0034-a-rule-for-where-to-spend-next.md").read_text().split())
    assert (
        "at most {} of them are raised, {} stopped because of a change, and {} because of their level".format(*figures)
        in adr
    )


def test_a_fact_without_a_campaign_counts_for_the_campaign_of_its_job(lab: Lab, decide) -> None:
    """The Decide and Recruitment boards agree on this."""
    lab.query(
        "INSERT INTO recruitment.job (id, title, campaign_id) VALUES (7, 'Baker', %s), (8, 'Nurse', NULL), (9, 'Welder', 0)",
        A,
    )
    add(lab, 0, LAST, qualified=3, job=7)
    add(lab, 0, LAST, qualified=4, job=8)
    add(lab, 0, LAST, qualified=1, job=9)
    add(lab, 0, LAST, qualified=2, job=10)  # not in the job table
    add(lab, B, LAST, qualified=5, job=7)
    expected = {"campaign 901": 3, "campaign 902": 5, "none": 7}
    assert {name: row["qualified"] for name, row in decide().items()} == expected
    assert dict(lab.query("SELECT campaign, SUM(qualified) FROM recruitment.board_events GROUP BY 1")) == expected


def test_both_spans_have_168_full_hours(lab: Lab, decide) -> None:
    for number, at in enumerate((END, LAST, END - 168 * HOUR, BEFORE, END - 336 * HOUR, END - 337 * HOUR)):
        add(lab, A, at, spend=10**number)
    [row] = decide().values()
    assert (row["spend"], row["spend_before"]) == (110, 11_000)  # neither the running hour nor anything older


def test_the_trend_leads_from_the_cost_before_to_the_cost_now(lab: Lab, decide) -> None:
    for day in range(14):  # the cost is 1 on the day that ends now, and was 14 thirteen days earlier
        add(lab, A, LAST - day * 24 * HOUR, spend=10 * (day + 1), qualified=10)
    with warehouse("warehouse_bi") as conn:
        conn.cursor().execute("SET timestamp = %s", (NOW.replace(tzinfo=UTC).timestamp(),))
        trend = rows(
            conn.cursor(),
            "SELECT until_utc, spend / qualified AS cost FROM recruitment.board_cost_trend"
            " WHERE kind = 'campaign' ORDER BY until_utc",
        )
    assert trend == [{"until_utc": END - day * 24 * HOUR, "cost": 4 + day} for day in range(7, -1, -1)]
    [decision] = decide().values()
    assert decision["cost_per_qualified"] == trend[-1]["cost"]
    assert decision["cost_per_qualified_before"] == trend[0]["cost"]


@pytest.mark.parametrize("view", ["board_decisions", "board_cost_trend"])
def test_a_year_of_facts_is_not_read(lab: Lab, view: str) -> None:
    """There is a fact for each hour of two campaigns; two weeks have 672 of these facts."""
    lab.query(
        "INSERT INTO recruitment.events (job_id, dates, hours, publisher_id, campaign_id, group_id, disqualified_application,"
        " qualified_application, conversion, clicks, impressions, bid_sum, bid_count, spend_hour, latest_update_time, sources)"
        " SELECT 7, DATE(h.hour), HOUR(h.hour), 1, c.campaign_id, 0, 0, 1, 0, 1, 0, 1, 1, 1, h.hour, 'Cassandra'"
        " FROM (SELECT UTC_DATE() + INTERVAL HOUR(UTC_TIME()) - b.n * 4000 - a.n HOUR AS hour"
        f" FROM ({NUMBERS}) AS a CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1) AS b) AS h"
        " CROSS JOIN (SELECT 901 AS campaign_id UNION ALL SELECT 902) AS c"
    )
    assert lab.one("SELECT COUNT(*) FROM recruitment.events") == 16_000
    result = []
    read = rows_read(lab, lambda: result.extend(lab.query(f"SELECT SUM(qualified) FROM recruitment.{view}")))
    assert result == [(672 if view == "board_decisions" else 8 * 672,)]
    assert 672 <= read < 8_000  # less than half of the 16,000 facts
