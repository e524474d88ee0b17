"""Visits to an invented job site: the kinds, gaps and oddities of a real site's log, with its own jobs.

The cost of a qualified application differs by campaign and publisher, and changed over the last two weeks, so that each
decision of the board applies to a campaign. Live events have today's costs.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import datetime, timedelta

_SITE = "https://jobs.example.com/candidate-portal"
_FIRST_JOB, _JOBS = 900_001, 40
_FIRST_COMPANY, _COMPANIES = 9_001, 12
_TITLES = ("Baker", "Bus Driver", "Data Engineer", "Electrician", "Gardener", "Nurse", "Teacher", "Welder")
_BIDS = (0, 0, 0, 0, 1, 1, 2, 1.4, 1.5, 0.75)
PAST = timedelta(days=14, hours=1)  # two weeks of full hours for the Decide board
_PUBLISHERS, _PUBLISHER_SHARES = (1, 2, 3), (54, 28, 18)
# Factors for bids: two weeks ago, and now.
_CAMPAIGN_BIDS = {
    900: (1.0, 1.0),  # steady
    901: (0.8, 0.85),  # steady and cheap
    902: (2.6, 0.5),  # gets cheaper, below average: raise
    903: (0.6, 4.2),  # gets more expensive, above average: stop
    904: (2.2, 2.0),  # steady and expensive
    905: (0.9, 1.1),
    906: (1.2, 1.2),
    907: (0.4, 0.4),
}
_PUBLISHER_BIDS = {1: (1.0, 1.0), 2: (1.9, 0.6), 3: (0.8, 2.4)}
# The share of applications that qualify, if not all do: none of 906, few of 907.
_CAMPAIGN_QUALIFIED_SHARES = {906: 0.0, 907: 0.15}
_AGENT = "Mozilla/5.0 ({}) AppleWebKit/537.36 (KHTML, like Gecko) {}"
_BROWSERS = (
    ("Chrome 103", _AGENT.format("Windows NT 10.0; Win64; x64", "Chrome/103.0.0.0 Safari/537.36")),
    ("Chrome 102", _AGENT.format("Macintosh; Intel Mac OS X 10_15_7", "Chrome/102.0.0.0 Safari/537.36")),
    ("Edge 103", _AGENT.format("Windows NT 10.0; Win64; x64", "Chrome/103.0.0.0 Edg/103.0.1264.62")),
)
_SCREENS = ("1366x768", "1920x1080", "1536x864", "1440x900")


def dimension_rows() -> dict[str, list[dict]]:
    """The jobs that the demo's visitors look at. Every fifth one has no group, as in real data."""
    created = datetime(2026, 1, 1)
    return {
        "job": [
            {
                "id": job,
                "title": f"{_TITLES[number % len(_TITLES)]} {number + 1}",
                "status": "1",
                "group_id": _group(job),
                "campaign_id": _campaign(job),
                "company_id": _FIRST_COMPANY + number % _COMPANIES,
                "created_date": created + timedelta(days=number),
                "last_modified_date": created + timedelta(days=number),
            }
            for number, job in enumerate(range(_FIRST_JOB, _FIRST_JOB + _JOBS))
        ]
    }


def event(rng: random.Random, now: datetime) -> dict[str, str]:
    """The raw columns of one event that happened just before `now` (UTC)."""
    return past_event(rng, now, timedelta(0))


def past_event(rng: random.Random, at: datetime, age: timedelta) -> dict[str, str]:
    """The raw columns of an event of that age, which happened just before `at`: bids were different then."""
    make = rng.choices(_MAKERS, cum_weights=_CUMULATIVE_SHARES)[0]
    return make(rng, at, min(1.0, age / PAST))


def broken_event(rng: random.Random, now: datetime) -> dict[str, str]:
    """A click that the transform must reject: unreadable ts, negative bid, or a job_id that is not a number."""
    column, text = rng.choice((("ts", "yesterday"), ("bid", "-1.5"), ("job_id", "job-17")))
    return _click(rng, now, 0.0) | {column: text}


def _group(job: int) -> int | None:
    return None if job % 5 == 0 else 90 + job % 3


def _campaign(job: int) -> int:
    return 900 + job % 8


def _job(rng: random.Random) -> int:
    """A few jobs get most of the visits."""
    return _FIRST_JOB + int(_JOBS * rng.random() ** 2)


def _visit(rng: random.Random, now: datetime, path: str = "/") -> dict[str, str]:
    """The columns of every visit. `ts` is the time by the visitor's clock: usually right, rarely days behind."""
    seconds_behind = rng.gauss(0.2, 0.6) if rng.random() > 0.01 else rng.uniform(60, 864_000)
    name, agent = rng.choice(_BROWSERS)
    screen = rng.choice(_SCREENS)
    return {
        "bn": name, "cd": "24", "de": "UTF-8", "dl": _SITE + path, "dt": "CandidatePortal", "ev": "1", "md": "true",
        "sr": screen, "ts": (now - timedelta(seconds=seconds_behind)).isoformat(" ", "milliseconds"), "tz": "-420", "ua": agent,
        "uid": f"1-{rng.getrandbits(40):010x}", "v": "1", "vp": screen,
    }  # fmt: skip


def _publisher_columns(job: int, rng: random.Random, past: float) -> dict[str, str]:
    """The columns that only visits through a publisher have; other visits have them in `ed`, or not at all.

    `past` is 0 for now and 1 for two weeks ago.
    """
    [publisher] = rng.choices(_PUBLISHERS, _PUBLISHER_SHARES)
    factor = 1.0
    for before, now in (_CAMPAIGN_BIDS[_campaign(job)], _PUBLISHER_BIDS[publisher]):
        factor *= now + (before - now) * past
    columns = {
        "job_id": str(job),
        "bid": f"{rng.choice(_BIDS) * factor:.3g}",
        "campaign_id": str(_campaign(job)),
        "publisher_id": str(publisher),
    }
    if group := _group(job):
        columns["group_id"] = str(group)
    return columns


def _page_view(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    return _visit(rng, now, rng.choice(("/", "/job", "/profile")))


def _job_view(rng: random.Random, now: datetime, past: float) -> dict[str, str]:
    job = _job(rng)
    return _visit(rng, now, f"/job/{job}") | _publisher_columns(job, rng, past)


def _click(rng: random.Random, now: datetime, past: float) -> dict[str, str]:
    job = _job(rng)
    columns = _publisher_columns(job, rng, past)
    details = {"customEvent": "click", "jobId": str(job), "publisherId": columns["publisher_id"]}
    return _custom_event(rng, now, "click", details, f"/job/{job}") | columns


def _unpaid_click(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    job = _job(rng)
    details = {"customEvent": "click", "jobId": str(job) if rng.random() < 0.2 else job, "publisherId": 0, **_user(rng)}
    return _custom_event(rng, now, "click", details)


def _alive(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    job = _job(rng)
    details = {"customEvent": "alive", "jobId": str(job), "publisherId": "1", "stayed_alive": 10}
    return _custom_event(rng, now, "alive", details, f"/job/{job}")


def _application(kind: str, job_share: float) -> Callable[[random.Random, datetime, float], dict[str, str]]:
    """A function that makes applications of visitors without a publisher; some do not name a job."""

    def make(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
        job = _job(rng)
        job_field = {"jobId": str(job)} if rng.random() < job_share and _qualifies(kind, job, rng) else {}
        return _custom_event(
            rng, now, kind, {"customEvent": kind, **job_field, "publisherId": 0, **_user(rng)}, "/profile"
        )

    return make


def _paid_application(kind: str) -> Callable[[random.Random, datetime, float], dict[str, str]]:
    """A function that makes applications after a paid click. If one does not qualify, a job view takes its place."""

    def make(rng: random.Random, now: datetime, past: float) -> dict[str, str]:
        job = _job(rng)
        if not _qualifies(kind, job, rng):
            return _job_view(rng, now, past)
        columns = _publisher_columns(job, rng, past)
        details = {"customEvent": kind, "jobId": str(job), "publisherId": columns["publisher_id"], **_user(rng)}
        return _custom_event(rng, now, kind, details, "/profile") | {
            name: text for name, text in columns.items() if name != "bid"
        }

    return make


def _qualifies(kind: str, job: int, rng: random.Random) -> bool:
    """Whether the job gets an application of this kind; false for some or all qualified ones of some campaigns.

    If false, the caller omits the job, or makes a job view instead.
    """
    return kind != "qualified" or rng.random() < _CAMPAIGN_QUALIFIED_SHARES.get(_campaign(job), 1.0)


def _interview(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    details = {"customEvent": "interview_scheduled", "jobId": str(_job(rng)), "publisherId": "4,1,2,3,5"}
    return _custom_event(rng, now, "interview_scheduled", details, "/confirm-interview")


def _redirect(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    return _custom_event(rng, now, "redirect", {"customEvent": "redirect", "jobId": str(_job(rng)), "publisherId": 0})


def _lower_case(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    """An old client: no custom_track, and the keys of `ed` in lower case."""
    kind = rng.choice(("click", "conversion"))
    return _custom_event(
        rng, now, "", {"customevent": kind, "jobid": _job(rng), "publisherid": "3,1", "userid": rng.randrange(900)}
    )


def _superpixel(rng: random.Random, now: datetime, _: float) -> dict[str, str]:
    """A bare pixel: nothing but its name and an agent, not even a time."""
    return {"custom_track": "superpixel", "ua": rng.choice(_BROWSERS)[1]}


def _custom_event(rng: random.Random, now: datetime, kind: str, details: dict, path: str = "/") -> dict[str, str]:
    text = json.dumps(details, separators=(",", ":"))
    return _visit(rng, now, path) | {"ev": "2", "custom_track": kind, "ed": text}


def _user(rng: random.Random) -> dict[str, int]:
    return {"userId": rng.randrange(900)} if rng.random() < 0.85 else {}


# Shares per 1,000 events; conversions and applications are more frequent than in real life, so that boards show them.
_SHARES: dict[Callable[[random.Random, datetime, float], dict[str, str]], int] = {
    _page_view: 352,
    _job_view: 123,
    _click: 138,
    _unpaid_click: 165,
    _alive: 120,
    _application("conversion", job_share=0.3): 22,
    _application("unqualified", job_share=0.3): 6,
    _application("qualified", job_share=0.5): 4,
    _paid_application("conversion"): 16,
    _paid_application("unqualified"): 18,
    _paid_application("qualified"): 26,
    _interview: 5,
    _redirect: 2,
    _lower_case: 2,
    _superpixel: 1,
}
_MAKERS = tuple(_SHARES)
_CUMULATIVE_SHARES = tuple(sum(tuple(_SHARES.values())[: index + 1]) for index in range(len(_SHARES)))
