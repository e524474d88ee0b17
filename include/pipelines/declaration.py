"""What a pipeline declares: its lake table, the tables it fills and its limits. Everything else is shared code."""

from __future__ import annotations

import copyreg
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType

from include.durations import DAY, HOUR, in_words, minute_ceil
from include.pipelines.lakehouse import Lakehouse
from include.pipelines.summed_fact import SummedFact
from include.pipelines.tuples import require_tuples


def _read_only(options: dict[str, object]) -> Mapping[str, object]:
    return MappingProxyType(options)


# A declaration is sent to other processes, and Python cannot pickle the read-only proxy of its options.
copyreg.pickle(MappingProxyType, lambda options: (_read_only, (dict(options),)))


OCCURRENCE = "_minutemark_occurrence"  # number of a rejected row among equal rows; kept in its payload
# Names of fields that ingest adds to an event, and an import to a rejected row: no producer's field has them.
RESERVED = frozenset({"_minute", "_shard", "_day", "_lake_table", OCCURRENCE})
# Names, and prefixes of names, of the columns that the job itself adds.
_OWN_COLUMNS = frozenset(
    {"minute", "shard", "payload", "is_object", "_all", "_parsed", "_names", "_unknown"}
    | {"created_at", "fate", "kind", "reason", "event"}  # added by every transform
)
_OWN_PREFIXES = ("_present_", "_unreadable_")
_LONG_AGO = datetime(1000, 1, 1)  # the earliest time that MySQL accepts
EVOLVE, HOLD = "evolve", "hold"  # what happens to a minute with an undeclared field: only a report, or a hold
MINUTE, CONTINUOUS = SCHEDULES = "minute", "continuous"  # when a run starts: each minute, or when the previous one ends
LONGEST_RETENTION = timedelta(days=36500)
_READ_PAYLOAD = "Leave it out: the transform can still read it from payload."
NULL_WORDS = ("NULL", "null", "\\N", "None", "NaN", "nan")  # null in SQL, in exports, in Python and in data frames


@dataclass(frozen=True)
class Output:
    """Rows that the transform stages and the merge publishes as they are. Contributions of a SummedFact need no Output."""

    name: str  # key of OUTPUTS in include/spark/<pipeline>.py
    staging: str  # database.table that Spark fills; its key starts with (attempt, minute)
    published: str  # database.table that the merge replaces minute by minute
    by_day: bool = False  # `published` is PARTITION BY RANGE (TO_DAYS(minute)): a partition a day, created a week ahead


@dataclass(frozen=True)
class Dimension:
    """A table imported in full from a file; its changes reach the facts at once."""

    name: str  # --table of `./minutemark import`
    table: str  # database.table
    key: str  # column that identifies a row
    columns: tuple[str, ...]  # columns taken from the file, the key included
    refresh: str  # file in include/sql/<pipeline>/ that brings the facts up to date

    def __post_init__(self) -> None:
        require_tuples(self, f"Dimension {self.name}")
        if self.key not in self.columns:
            raise ValueError(f"Dimension {self.name}: its key {self.key} is not in columns: add it.")


@dataclass(frozen=True)
class Retention:
    """How long data that facts do not need is kept. Facts, contributions, the ledger and the reasons for rejections stay forever.

    Raises ValueError for less than a day, because a run, its retries and a cleared run must find their data, and for more
    than 36500 days, because a much longer one would reach back before year 1, the first of Python's dates.
    """

    staging: timedelta = timedelta(days=2)  # an open batch without a new attempt for this long is abandoned
    change_log: timedelta = timedelta(days=30)  # after a day and its last touch; pending or held minutes keep it
    rejected_payloads: timedelta = timedelta(days=90)
    check_samples: timedelta = timedelta(days=30)
    batches: timedelta = timedelta(days=90)  # and records of past drift
    contributions: timedelta = timedelta(days=90)  # minute by minute; older ones are folded per hour
    demo_events: timedelta = timedelta(days=21)  # a week longer than the demo's history
    field_counts: timedelta = timedelta(days=30)  # of fields per minute; the drift checks compare with a day of them
    rows_by_day: timedelta | None = None  # days of outputs with by_day, from which no fact is computed; None: forever

    def __post_init__(self) -> None:
        for name, period in vars(self).items():
            if period is not None and not DAY <= period <= LONGEST_RETENTION:
                raise ValueError(
                    f"Retention {name} is {in_words(period)}. Set it to 1 to {LONGEST_RETENTION.days} days."
                )


@dataclass(frozen=True)
class Pipeline:
    """One flow from a lake table to warehouse facts."""

    name: str
    owner: str
    description: str
    keyspace: str
    table: str
    fields: tuple[str, ...]  # of an event, as its producer names them; the transform reads these
    database: str
    readable: tuple[str, ...]  # tables and views that the bi account may read
    facts: tuple[SummedFact, ...] = ()
    outputs: tuple[Output, ...] = ()  # rows that are published in addition to the facts
    required: tuple[str, ...] = ()  # an event of a counted kind is rejected without these fields; others are optional
    numbers: tuple[str, ...] = ()  # fields with numbers: a minute is held if its values stop being numbers
    times: tuple[str, ...] = ()  # fields with times: a minute is held if its values stop being times
    unknown_fields: str = EVOLVE  # undeclared fields are kept and reported; HOLD: their minute is held until accepted
    dimensions: tuple[Dimension, ...] = ()
    lakehouse: Lakehouse | None = None  # a copy of its events for other engines
    # Options of the transform, with their defaults.
    options: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))
    option_help: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))  # texts of the trigger form
    tags: tuple[str, ...] = ()
    schedule: str = ""  # MINUTE or CONTINUOUS; empty: as MINUTEMARK_SCHEDULE says
    batch_events: bool = False  # an asset event for each merged batch, besides those for complete hours
    topic: str = ""  # of its events in Kafka, with a partition for each shard; empty: <name>.events
    event_id: str = "create_time"  # column whose text identifies an event: shard and checksum come from it
    event_time: str | None = None  # column from which create_time is made if an event has no create_time
    fact_time: str | None = None  # column with the time of facts; None: event_time
    kind_column: str | None = None  # column with the event's kind
    null_words: tuple[str, ...] = NULL_WORDS  # strings that mean an empty value
    shards: int = 4  # fixed for the life of the lake table
    live_minutes: int = 10  # newest minutes, which a batch takes first
    # A batch of max_minutes without rows takes about 20 s on two cores, and so does a batch of max_rows rows in
    # only a few minutes. Minutes and rows share that time: a batch may have, for example, half of each.
    max_minutes: int = 12_000
    max_rows: int = 500_000
    settle: timedelta = timedelta(seconds=30)  # a minute touched less than this before its read is read again
    future_tolerance: timedelta = timedelta(minutes=5)  # minutes further ahead of the lake's clock are backlog
    earliest: datetime = datetime(2000, 1, 1)  # events with an earlier create_time are rejected
    # Events further ahead of the lake's clock are rejected until their time comes.
    most_ahead: timedelta = timedelta(days=1)
    lake_retention: timedelta | None = None  # minutes older than this are closed
    retention: Retention = Retention()
    delay_limit: timedelta = timedelta(seconds=180)  # the watch alerts if a change in the lake is unmerged for longer
    look_limit: timedelta = timedelta(seconds=180)  # the watch alerts if the lake has not been polled for longer

    def __post_init__(self) -> None:
        require_tuples(self, f"Pipeline {self.name}")
        self._check_fields()
        if wrong := [word for word in self.null_words if "," in word or word != word.strip()]:
            raise ValueError(
                f"Pipeline {self.name}: null_words {wrong} contain a comma, or begin or end with white space. Kafka "
                "Connect's list settings cannot express that: choose other words."
            )
        named = {*self.required, *self.numbers, *self.times, self.event_time, self.fact_time, self.kind_column}
        if undeclared := named - {None, *self.fields}:
            raise ValueError(
                f"Pipeline {self.name}: required, numbers, times, event_time, fact_time or kind_column use names that are not "
                f"in fields: {', '.join(sorted(map(str, undeclared)))}. Correct them, or add them to fields."
            )
        if self.lake_retention is not None and not timedelta() < self.lake_retention <= LONGEST_RETENTION:
            raise ValueError(
                f"Pipeline {self.name}: lake_retention is {self.lake_retention}. Set it to more than 0 and at most "
                f"{LONGEST_RETENTION.days} days, or leave it out."
            )
        if self.shards < 1:
            raise ValueError(f"Pipeline {self.name}: shards is {self.shards}: write 1 or more.")
        if self.unknown_fields not in (EVOLVE, HOLD):
            raise ValueError(
                f"Pipeline {self.name}: unknown_fields is {self.unknown_fields!r}: write {EVOLVE!r} or {HOLD!r}."
            )
        if self.schedule not in ("", *SCHEDULES):
            raise ValueError(
                f"Pipeline {self.name}: schedule is {self.schedule!r}: write {MINUTE!r} or {CONTINUOUS!r}, or leave it out."
            )
        for what in ("name", "table"):
            names = [getattr(fact, what) for fact in self.facts]
            if duplicates := sorted({name for name in names if names.count(name) > 1}):
                raise ValueError(f"Pipeline {self.name}: two facts have the {what} {duplicates[0]}: choose another.")
        staged = Counter(output.name for output in self.staged)
        if duplicates := [name for name in staged if staged[name] > 1]:
            raise ValueError(
                f"Pipeline {self.name}: two outputs, or an output and a fact, have the name {duplicates[0]}: choose another."
            )
        if undeclared := {fact.output for fact in self.facts if fact.output} - {output.name for output in self.outputs}:
            raise ValueError(
                f"Pipeline {self.name}: facts sum undeclared outputs, {', '.join(sorted(undeclared))}: declare them in outputs."
            )
        if self.lakehouse and self.lakehouse.fact not in {fact.name for fact in self.facts}:
            raise ValueError(
                f"Pipeline {self.name}: lakehouse counts the fact {self.lakehouse.fact}: declare it in facts."
            )
        if self.lakehouse and (problem := self.lakehouse.problem_of(self.lakehouse_fact)):
            raise ValueError(
                f"Pipeline {self.name}: its lakehouse cannot count its fact: {problem}. Correct the lakehouse or the fact."
            )
        if not self.topic:
            object.__setattr__(self, "topic", f"{self.name}.events")
        if not self.fact_time:
            object.__setattr__(self, "fact_time", self.event_time)
        if self.lakehouse and self.fact_time not in self.times:
            time = f"{self.fact_time}, which is not in times" if self.fact_time else "no column"
            raise ValueError(
                f"Pipeline {self.name}: its lakehouse counts hours of {time}. Declare a fact_time or event_time that is in "
                "times."
            )
        if self.lakehouse and self.event_id not in ("create_time", *self.fields):
            raise ValueError(
                f"Pipeline {self.name}: its lakehouse needs a column for event_id {self.event_id}. Add it to fields."
            )

    def _check_fields(self) -> None:
        """Raise ValueError for unusable names: Spark ignores the case of names, and reads a dot in a name as a path."""
        names = Counter(name.casefold() for name in self.fields)
        if duplicates := [name for name in self.fields if names[name.casefold()] > 1]:
            raise ValueError(
                f"Pipeline {self.name}: fields contains {', '.join(duplicates)}, which Spark cannot distinguish: keep only one."
            )
        if unfit := [name for name in self.fields if not name or "." in name or "`" in name]:
            raise ValueError(
                f"Pipeline {self.name}: fields contains {', '.join(map(repr, unfit))}: a name must not be empty or contain a dot "
                f"or a backtick. {_READ_PAYLOAD}"
            )
        if taken := [name for name in self.fields if _is_taken(name.casefold())]:
            raise ValueError(
                f"Pipeline {self.name}: fields cannot be named {', '.join(taken)}: the pipeline's own columns have these "
                f"names. {_READ_PAYLOAD}"
            )

        if not re.fullmatch(r"[a-z][a-z0-9_]*", self.event_id) or _is_taken(self.event_id):
            raise ValueError(
                f"Pipeline {self.name}: event_id is {self.event_id!r}. It names a column of the lake too: use lower-case "
                "letters, digits and underscores, and not the name of another column of the pipeline."
            )

    @property
    def staged(self) -> tuple[Output, ...]:
        """Everything that the transform stages: the declared outputs, and contributions of facts that sum no output."""
        own = (Output(fact.name, fact.staging, fact.contributions) for fact in self.facts if not fact.output)
        return (*self.outputs, *own)

    @property
    def tables_by_minute(self) -> tuple[str, ...]:
        """Every table that a merge replaces minute by minute."""
        return (*(part.published for part in self.outputs), *(part.contributions for part in self.facts))

    @property
    def lakehouse_fact(self) -> SummedFact:
        """The fact whose hours are counted from the lakehouse."""
        return next(fact for fact in self.facts if fact.name == self.lakehouse.fact)

    def output_of(self, fact: SummedFact) -> Output:
        """The output whose staged rows are the fact's contributions, or add up to them."""
        return next(output for output in self.staged if output.name == (fact.output or fact.name))

    @property
    def too_early_reason(self) -> str:
        """The reason why an event before `earliest` is rejected."""
        return f"create_time is before {self.earliest:%Y-%m-%d}, the earliest that this pipeline accepts"

    @property
    def too_far_ahead_reason(self) -> str:
        """The reason why an event that is further ahead than `most_ahead` is rejected."""
        hours = self.most_ahead / HOUR
        return f"create_time is more than {hours:g} hours ahead of the lake's clock"

    def out_of_range(self, minute: datetime, clock: datetime) -> str | None:
        """Why events of this minute are rejected at this time of the lake's clock; None if they are not.

        The minute alone decides, so this rule rejects all events of a minute or none.
        """
        if minute < self.earliest:
            return self.too_early_reason
        return self.too_far_ahead_reason if minute > clock + self.most_ahead else None

    def first_open(self, clock: datetime) -> datetime:
        """The oldest minute that the lake still has in full at this time of its clock; all earlier ones are closed."""
        if self.lake_retention is None:
            return _LONG_AGO
        return minute_ceil(clock - self.lake_retention)

    def is_closed(self, minute: datetime, clock: datetime) -> bool:
        """Whether the lake's retention may have removed part of the minute."""
        return minute < self.first_open(clock)

    @property
    def retention_text(self) -> str:
        """How long the lake keeps events, for messages; empty if it keeps them forever."""
        return f"{self.lake_table} keeps events for {in_words(self.lake_retention)}" if self.lake_retention else ""

    @property
    def lake_table(self) -> str:
        """keyspace.table, as the change log names it."""
        return f"{self.keyspace}.{self.table}"


def _is_taken(name: str) -> bool:
    return name in _OWN_COLUMNS or name in RESERVED or name.startswith(_OWN_PREFIXES)
