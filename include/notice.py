"""Notices: what is wrong, since when, and what to do; the same text for every channel."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

STARTED, REMINDER, RESOLVED = "begun", "reminder", "over"  # `state` in the webhook's JSON: receivers depend on them
_HEADS = {STARTED: "Problem", REMINDER: "Ongoing", RESOLVED: "Resolved"}
_TITLES = {
    "stale": "is stale",
    "blind": "is not polled",
    "held": "has held minutes",
    "failing": "keeps failing",
    "stuck": "makes no progress in its topic",
    "lakehouse_behind": "is not writing to the lakehouse",
    "hours_differ": "has hours that differ in the lakehouse",
    "bigquery_behind": "is not loading into BigQuery",
    "failed": "failed",
}


@dataclass(frozen=True)
class Notice:
    """One message. `since` and `until` are naive UTC; `link` leads to the page to open first."""

    subject: str  # a pipeline or a DAG
    problem: str  # a key of _TITLES
    state: str  # begun, reminder or over
    found: str
    remedy: str = ""
    since: datetime | None = None
    until: datetime | None = None  # when a resolved problem ended
    link: str | None = None

    @property
    def title(self) -> str:
        """One line, for example for the subject of an email."""
        return f"Minutemark · {_HEADS[self.state]}: {self.subject} {_TITLES[self.problem]}"

    @property
    def text(self) -> str:
        """The whole message: one line each for the title, what was found, since when, what to do, and the link."""
        times = f"Since {self.since:%Y-%m-%d %H:%M:%S} UTC" if self.since else ""
        if times and self.until:
            times += f" until {self.until:%Y-%m-%d %H:%M:%S} UTC"
        remedy = f"What to do: {self.remedy}" if self.remedy and self.state != RESOLVED else ""
        return "\n".join(line for line in (self.title, self.found, times, remedy, self.link) if line)

    def as_json(self) -> dict[str, str | None]:
        """What a webhook gets: `text` as chat services show it, and the parts for programs."""
        return {
            "text": self.text,
            "title": self.title,
            "subject": self.subject,
            "problem": self.problem,
            "state": self.state,
            "found": self.found,
            "remedy": self.remedy,
            "since": self.since.isoformat() + "Z" if self.since else None,
            "until": self.until.isoformat() + "Z" if self.until else None,
            "link": self.link,
        }
