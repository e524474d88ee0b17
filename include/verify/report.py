"""The report of verify: the differences, findings that are listed separately, and the totals; as text or JSON."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from include.durations import MINUTE
from include.planner import MAX_RANGE

COLUMNS = (
    "minutes", "lake_rows", "counted", "ignored", "rejected", "contributions", "facts", "pending", "open", "held", "closed",
)  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """A difference, or a finding that is listed separately.

    `expected` and `found` map names to the values that differ; an empty map means a missing row.
    """

    kind: str
    minute: datetime | None
    where: str
    expected: Mapping[str, object]
    found: Mapping[str, object]
    remedy: str

    def __str__(self) -> str:
        at = f"{self.minute:%Y-%m-%d %H:%M}  " if self.minute else ""
        compared = f"expected {_values(self.expected)}, found {_values(self.found)}"
        if self.expected == self.found:  # a minute that is listed separately
            compared = f"{_values(self.found)}, as expected so far"
        return f"{at}{self.where}: {compared}\n  {self.remedy}"

    def as_dict(self) -> dict:
        return {
            "minute": self.minute,
            "where": self.where,
            "expected": dict(self.expected) or None,
            "found": dict(self.found) or None,
            "remedy": self.remedy,
        }


class Findings:
    """All findings by kind: their number, and the first `lines` of each, so that memory is bounded."""

    def __init__(self, lines: int) -> None:
        self._lines = lines
        self.purposes: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.kept: dict[str, list[Finding]] = {}

    def add(self, finding: Finding, purpose: str) -> None:
        kind = finding.kind
        self.purposes[kind] = purpose
        self.counts[kind] = self.counts.get(kind, 0) + 1
        kept = self.kept.setdefault(kind, [])
        if len(kept) < self._lines:
            kept.append(finding)

    def __len__(self) -> int:
        return sum(self.counts.values())

    def text(self) -> Iterator[str]:
        for kind, count in self.counts.items():
            yield f"  {kind}, {count:,}: {self.purposes[kind]}"
            for finding in sorted(self.kept[kind], key=lambda entry: entry.minute or datetime.min):
                yield from (f"    {line}" for line in str(finding).splitlines())
            if count > len(self.kept[kind]):
                yield f"    … and {count - len(self.kept[kind]):,} more"

    def as_list(self) -> list[dict]:
        return [
            {
                "kind": kind,
                "purpose": self.purposes[kind],
                "count": count,
                "first": [finding.as_dict() for finding in self.kept[kind]],
            }
            for kind, count in self.counts.items()
        ]


@dataclass
class PipelineReport:
    """The report of one pipeline.

    Findings in `apart` are not differences: they cannot be decided yet, or can no longer be decided.
    """

    pipeline: str
    span: str
    differences: Findings
    apart: Findings
    totals: dict[str, int | None] = field(default_factory=lambda: dict.fromkeys(COLUMNS, 0))
    notes: list[str] = field(default_factory=list)

    def add(self, **totals: int) -> None:
        for name, value in totals.items():
            self.totals[name] = (self.totals[name] or 0) + value

    def text(self) -> Iterator[str]:
        count = len(self.differences)
        outcome = f"{count:,} difference{'s' if count > 1 else ''}" if count else "nothing differs"
        yield f"{self.pipeline}, {self.span}: {outcome}"
        yield from self.differences.text()
        if len(self.apart):
            yield "  Listed separately, not differences:"
            yield from self.apart.text()
        yield from (f"  {note}" for note in self.notes)


@dataclass
class Report:
    """The reports of all verified pipelines; str() is for people."""

    pipelines: list[PipelineReport]

    @property
    def clean(self) -> bool:
        return not any(len(part.differences) for part in self.pipelines)

    def __str__(self) -> str:
        lines = [line for part in self.pipelines for line in (*part.text(), "")]
        head = ["pipeline", *(name.replace("_", " ") for name in COLUMNS), "differ"]
        body = [
            [part.pipeline, *(_number(part.totals[name]) for name in COLUMNS), _number(len(part.differences))]
            for part in self.pipelines
        ]
        widths = [max(len(row[index]) for row in (head, *body)) for index in range(len(head))]
        for row in (head, *body):
            first, *numbers = zip(row, widths, strict=True)
            lines.append("  ".join([first[0].ljust(first[1]), *(text.rjust(width) for text, width in numbers)]))
        return "\n".join(lines)

    @property
    def problem(self) -> str | None:
        return None if self.clean else "There are differences. The report lists them."

    def as_data(self) -> dict:
        return {
            "clean": self.clean,
            "pipelines": {
                pipeline.pipeline: {
                    "span": pipeline.span,
                    "totals": pipeline.totals | {"differences": len(pipeline.differences)},
                    "differences": pipeline.differences.as_list(),
                    "apart": pipeline.apart.as_list(),
                    "notes": pipeline.notes,
                }
                for pipeline in self.pipelines
            },
        }


def reread_remedy(pipeline: str, minute: datetime | None, last: datetime | None = None, *, shrink: bool = False) -> str:
    """The remedy to read a minute again, or all minutes from `minute` to `last`."""
    if minute is None:
        return f"trigger {pipeline}_minute with `from` and `to`"
    end = (last or minute) + MINUTE
    if end - minute > timedelta(minutes=MAX_RANGE):
        return f"backfill {pipeline}_reconcile from {minute:%Y-%m-%dT%H}:00Z to {end:%Y-%m-%dT%H:%M}Z, with all runs"
    return trigger_remedy(f"{pipeline}_minute", minute, end, **({"allow_shrink": True} if shrink else {}))


def trigger_remedy(dag_id: str, start: datetime, end: datetime, **parameters: bool) -> str:
    """The remedy that runs a DAG for the minutes from `start` to `end` (excluded)."""
    conf = {"from": f"{start:%Y-%m-%dT%H:%M}Z", "to": f"{end:%Y-%m-%dT%H:%M}Z", **parameters}
    return f"trigger {dag_id} with {json.dumps(conf)}"


def _values(values: Mapping[str, object]) -> str:
    return " ".join(f"{name}={value}" for name, value in values.items()) or "nothing"


def _number(value: int | None) -> str:
    return "" if value is None else f"{value:,}"
