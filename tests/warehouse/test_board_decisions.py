"""recruitment.board_decisions: each line of the rule at its border, equal spans, and what it reads."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from include.warehouse.session import rows, warehouse
from tests.warehouse.lab import Lab
from tests.warehouse.test_bookkeeping_cost import NUMBERS, rows_read

NOW = datetime(2026, 3, 20, 15, 34, 56)
END = datetime(2026, 3, 20, 15)  # of the last full hour
HOUR = timedelta(hours=1)
LAST, BEFORE = END - HOUR, END - 169 * HOUR  # an hour of each week
CENT = Decimal("0.01")
A, B = 901, 902  # campaigns


@pytest.fixture
def decide(lab: Lab) -> Callable[..., dict]:
    """Decisions of one kind by name, as the read-only account sees them at NOW."""
    with warehouse("warehouse_bi") as conn:
        conn.cursor().execute("SET timestamp = %s", (NOW.replace(tzinfo=UTC).timestamp(),))

        def read(kind: str = "campaign") -> dict:
            conn.rollback()
            found = rows(
                conn.cursor(), "SELECT * FROM recruitment.board_decisions WHERE kind = %(kind)s", {"kind": kind}
            )
            return {row["name"]: row for row in found}

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


def decisions(found: dict) -> dict[str, str]:
    return {name: f"{row['decision']}: {row['reason']}" for name, row in found.items()}


def test_the_numbers_behind_a_decision(lab: Lab, decide) -> None:
    add(lab, A, LAST, spend=60, qualified=30, clicks=500, disqualified_application=20)
    add(lab, A, LAST - HOUR, spend=30, qualified=15, clicks=100)
    add(lab, A, BEFORE, spend=160, qualified=40, clicks=800, disqualified_application=5)
    [row] = decide().values()
    assert row == {
        "kind": "campaign", "name": "campaign 901", "decision": "raise", "reason": "much cheaper, not above average",
        "cost_per_qualified": 2, "cost_per_qualified_before": 4, "cost_change": Decimal("-0.5"), "enough_data": "yes",
        "spend": 90, "clicks": 600, "applications": 65, "qualified": 45,
        "spend_before": 160, "clicks_before": 800, "applications_before": 45, "qualified_before": 40,
    } | {"average_cost": row["average_cost"]}  # fmt: skip
    assert abs(row["average_cost"] - Decimal(250) / 85) < Decimal("1e-9")


@pytest.mark.parametrize(
    ("last", "before", "decision"),
    [
        # fell by 25 %: from 4 to 3
        ((90, 30), (120, 30), "raise: much cheaper, not above average"),
        ((90 + CENT, 30), (120, 30), "watch: no large change"),
        # rose by 50 %: from 4 to 6
        ((180, 30), (120, 30), "stop: much dearer, above average"),
        ((180 - CENT, 30), (120, 30), "watch: no large change"),
        # too few in one of the weeks
        ((1, 29), (120, 30), "watch: too few applications to judge"),
        ((1, 30), (120, 29), "watch: too few applications to judge"),
        ((1, 30), (120, 30), "raise: much cheaper, not above average"),
        # nothing spent, now or before
        ((0, 30), (120, 30), "watch: no spend in the last week"),
        ((0, 0), (120, 30), "watch: no spend in the last week"),
        ((90, 30), (0, 30), "watch: no spend in the week before"),
        # none qualified, and no average to compare with
        ((90, 0), (0, 0), "watch: no qualified application yet"),
    ],
)
def test_each_line_of_the_rule_at_its_border(lab: Lab, decide, last: tuple, before: tuple, decision: str) -> None:
    add_weeks(lab, A, last=last, before=before)
    assert decisions(decide()) == {"campaign 901": decision}


@pytest.mark.parametrize(
    ("last", "decision"),
    [
        ((12, 0), "stop: high spend, no qualified application"),  # three times the average of 4
        ((12 - CENT, 0), "watch: no qualified application yet"),
        ((12, 1), "watch: too few applications to judge"),
    ],
)
def test_spend_without_a_qualified_application(lab: Lab, decide, last: tuple, decision: str) -> None:
    add_weeks(lab, A, last=last, before=(0, 0))
    others = (4 * 40 - last[0], 40 - last[1])  # so that the average of all is 4
    add_weeks(lab, B, last=others, before=(160, 40))
    found = decide()
    assert {row["average_cost"] for row in found.values()} == {4}
    assert decisions(found)["campaign 901"] == decision


def test_a_cheaper_campaign_above_average_and_a_dearer_one_below_are_watched(lab: Lab, decide) -> None:
    add_weeks(lab, A, last=(900, 100), before=(1200, 100))  # from 12 to 9
    add_weeks(lab, B, last=(150, 100), before=(100, 100))  # from 1 to 1.5
    assert decisions(decide()) == {
        "campaign 901": "watch: much cheaper, still above average",
        "campaign 902": "watch: much dearer, not above average",
    }


def test_a_cost_that_equals_the_average_is_not_above_it(lab: Lab, decide) -> None:
    add_weeks(lab, A, last=(300, 100), before=(400, 100))  # from 4 to 3
    add_weeks(lab, B, last=(250, 100), before=(250, 100))  # the average of all is 3
    assert {name: (row["decision"], row["average_cost"]) for name, row in decide().items()} == {
        "campaign 901": ("raise", 3),
        "campaign 902": ("watch", 3),
    }
    add(lab, B, LAST, spend=100, qualified=100, job=8)
    add_weeks(lab, 903, last=(450, 100), before=(300, 100))  # from 3 to 4.5
    found = decide()["campaign 903"]
    assert found["decision"] == "stop" and found["cost_per_qualified"] > found["average_cost"]


@pytest.mark.parametrize(
    ("unnamed", "decision"),
    [
        (15, "raise: much cheaper, not above average"),
        (16, "watch: too many qualified applications without a publisher"),
    ],
)
def test_applications_that_name_no_publisher(lab: Lab, decide, unnamed: int, decision: str) -> None:
    add_weeks(lab, A, last=(60, 30), before=(120, 30))
    add(lab, A, LAST, qualified=unnamed, publisher=0)  # 15 of 75 are 20 %
    found = decide("publisher")
    assert decisions(found) == {"publisher 1": decision, "none": "watch: no spend in the last week"}
    assert found["publisher 1"]["average_cost"] == 3  # without the unnamed ones
    assert decisions(decide("campaign")) == {"campaign 901": "raise: much cheaper, not above average"}


def test_a_fact_without_a_campaign_counts_for_the_campaign_of_its_job(lab: Lab, decide) -> None:
    lab.query("INSERT INTO recruitment.job (id, title, campaign_id) VALUES (7, 'Baker', %s), (8, 'Nurse', NULL)", A)
    add(lab, 0, LAST, qualified=3, job=7)
    add(lab, 0, LAST, qualified=4, job=8)
    add(lab, B, LAST, qualified=5, job=7)
    assert {name: row["qualified"] for name, row in decide().items()} == {
        "campaign 901": 3,
        "campaign 902": 5,
        "none": 4,
    }


def test_both_spans_have_168_full_hours(lab: Lab, decide) -> None:
    for number, at in enumerate((END, LAST, END - 168 * HOUR, BEFORE, END - 336 * HOUR, END - 337 * HOUR)):
        add(lab, A, at, spend=10**number)
    [row] = decide().values()
    assert (row["spend"], row["spend_before"]) == (110, 11_000)  # neither the running hour nor anything older


def test_the_trend_leads_from_the_cost_before_to_the_cost_now(lab: Lab, decide) -> None:
    for day in range(14):  # a cost of 1 on the day that ends now, of 14 thirteen days ago
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
    """A fact for each hour and campaign of two; two weeks of them are 672 rows."""
    lab.query(
        "INSERT INTO recruitment.events (job_id, dates, hours, publisher_id, campaign_id, group_id, disqualified_application,"
        " qualified_application, conversion, clicks, impressions, bid_sum, bid_count, spend_hour, latest_update_time, sources)"
        " SELECT 7, DATE(h.hour), HOUR(h.hour), 1, c.campaign_id, 0, 0, 1, 0, 1, 0, 1, 1, 1, h.hour, 'Cassandra'"
        " FROM (SELECT UTC_DATE() + INTERVAL HOUR(UTC_TIME()) - b.n * 4000 - a.n HOUR AS hour"
        f" FROM ({NUMBERS}) AS a CROSS JOIN (SELECT 0 AS n UNION ALL SELECT 1) AS b) AS h"
        " CROSS JOIN (SELECT 901 AS campaign_id UNION ALL SELECT 902) AS c"
    )
    assert lab.one("SELECT COUNT(*) FROM recruitment.events") == 16_000
    found = []
    read = rows_read(lab, lambda: found.extend(lab.query(f"SELECT SUM(qualified) FROM recruitment.{view}")))
    assert found == [(672,)] if view == "board_decisions" else [(8 * 672,)]
    assert 672 <= read < 8_000  # of the 16,000
