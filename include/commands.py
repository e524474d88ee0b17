"""The table of operations. The command line, make's variables, the DAGs' forms and docs/commands.md are made from it.

DAG files import this module while they are parsed: it opens no store, and imports a function's module only to call it.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

from include import pipelines
from include.parameters import FLAG, MINUTE, NUMBER, PERCENTAGE, TEXT, WHOLE, Command, Parameter
from include.pipelines.declaration import LONGEST_RETENTION

BRING = "Bring data in"
CHECK = "Check and fix"
READ = "Read"
LISTING = ("table", "tsv", "json")

PIPELINE = Parameter(
    "pipeline", "Pipeline to work on.", choices=tuple(pipelines.all_pipelines()), required=True, positional=True
)
ONE_OR_ALL = replace(PIPELINE, help="Only this pipeline. Empty: all pipelines.", required=False)
WHY = Parameter("why", "Reason, kept in the record.")
BY = Parameter("by", "Name to record with the reason, in addition to the user who runs the command.")
REASON = Parameter("reason", "Only events whose rejection reason starts with this text.")
FROM = Parameter("from", "First minute of the range (UTC).", MINUTE, keyword="start")
TO = Parameter("to", "End of the range (UTC), not included.", MINUTE, keyword="end")
FILE = Parameter(
    "file",
    "File of CSV or JSON lines, plain or compressed (gzip, bzip2, xz, zstd, zip), recognized by its content.",
    positional=True,
)
STATEMENT = Parameter("sql", "Statement to run.", keyword="statement", required=True, positional=True)
FILE_OPTIONS = (
    Parameter(
        "encoding", "Character encoding of the file, such as cp1252. Empty: UTF-8, or as its byte order mark says."
    ),
    Parameter(
        "format",
        "Format of the file, as comma-separated words, such as csv,semicolon,backslash or jsonl. Empty: recognized by content.",
        keyword="format_words",
    ),
    Parameter(
        "max_rejected",
        "Fail if more than this percentage of the rows are rejected.",
        PERCENTAGE,
        20,
        minimum=0,
        maximum=100,
    ),
)
STOPPED = "Stopped. Run the same command again to resume."
RETENTIONS = {
    "staging": "Days until an open batch without new attempts is abandoned and its staged rows are deleted.",
    "change_log": "Days to keep a day of the change log after it or its last touch, whichever is later.",
    "rejected_payloads": "Days to keep the payloads of rejected events.",
    "check_samples": "Days to keep the sample rows of check results.",
    "batches": "Days to keep batches, their minutes and attempts, and records of past drift.",
    "contributions": "Days to keep contributions by minute before they are folded by hour.",
    "demo_events": "Days to keep demo events in the lake.",
    "field_counts": "Days to keep the counts of fields per minute.",
    "rows_by_day": "Days to keep rows of events, for pipelines that declare rows_by_day.",
}


def _keep(name: str, declared: timedelta | None) -> Parameter:
    default = "forever" if declared is None else declared.days
    text = f"{RETENTIONS[name]} Empty: as declared, {default} by default."
    return Parameter(f"keep_{name}", text, NUMBER, minimum=1, maximum=LONGEST_RETENTION.days)


COMMANDS = (
    Command(
        "import",
        "include.files.imports:run_import",
        "Imports events from a file or a Cassandra table, or a dimension from a file.",
        BRING,
        (
            replace(FILE, help=f"{FILE.help} The DAG takes a path below MINUTEMARK_IMPORT_ROOT."),
            replace(
                PIPELINE, help="Pipeline of the events. Leave empty for a dimension.", required=False, positional=False
            ),
            Parameter("table", "Dimension to import the file into, such as job."),
            Parameter("from", "Flat Cassandra table to copy, as keyspace.table.", TEXT, keyword="source"),
            *FILE_OPTIONS,
        ),
        details="[operations.md](operations.md#import-a-file-or-a-table)",
        failed="Import failed.",
        stopped=STOPPED,
        dag="minutemark_import",
    ),
    Command(
        "replay-csv",
        "include.files.replay_csv:run_replay",
        "Sends a file of events through Kafka, by default as if they happened now, at any speed, all of them or a sample.",
        BRING,
        (
            PIPELINE,
            replace(FILE, required=True),
            Parameter("rate", "Speed relative to the original, or max.", default="1"),
            Parameter(
                "shift",
                "Whether the times of the events are shifted to now, with new ids, or kept with their ids.",
                default="now",
                choices=("now", "none"),
            ),
            Parameter("sample", "Number of rows to send, with each kind in proportion. Empty: all.", WHOLE, minimum=1),
            *FILE_OPTIONS,
            Parameter("again", "Start over instead of resuming a replay that was stopped.", FLAG, False),
        ),
        details="[operations.md](operations.md#replay-a-file-as-if-its-events-happened-now)",
        passes=("report",),
        failed="Replay failed.",
        stopped="Stopped. Run the same command again, without --again, to resume.",
    ),
    Command(
        "ingest",
        "include.stream.catch_up:consume",
        "Consumes a topic into the lake, up to its end; with Kafka Connect, its dead letters.",
        BRING,
        (
            PIPELINE,
            Parameter("seconds", "Follow the topic for this many seconds. Empty: up to its end.", NUMBER, minimum=1),
            Parameter("again", "Consume once more everything that the topic still holds.", FLAG, False),
        ),
        details="[operations.md](operations.md#the-topics)",
        failed="Ingest failed.",
        stopped="Stopped. Uncommitted messages will be read again.",
    ),
    Command(
        "schema",
        "include.operations.setup:set_up",
        "Creates missing tables, topics and grants in Cassandra, MySQL and Kafka.",
        BRING,
        details="It deletes no facts, and changes existing tables only after an upgrade or a change to a pipeline's declaration",
        dag="minutemark_setup",
    ),
    Command(
        "verify",
        "include.verify.verify:run_verify",
        "Compares topics and lake with ledger, contributions and facts, and reports each difference.",
        CHECK,
        (
            ONE_OR_ALL,
            replace(FROM, help="First minute to verify (UTC). Empty: all known minutes."),
            replace(TO, help="End of the range to verify (UTC), not included."),
            Parameter("patience", "Seconds to wait for pending minutes to be merged.", NUMBER, 120, minimum=0),
            Parameter(
                "lines",
                "Maximum number of lines to print for each kind of difference.",
                WHOLE,
                20,
                minimum=1,
                variable="SHOW",
            ),
        ),
        details="It changes nothing, and pipelines need not be paused ([operations.md](operations.md#verify-lake-and-warehouse))",
        failed="Nothing was verified.",
        dag="minutemark_verify",
        permission="see",
    ),
    Command(
        "held",
        "include.operations.held:held_minutes",
        "Lists held minutes and the checks that they failed.",
        CHECK,
        (ONE_OR_ALL,),
        details=(
            "They are read again after a new touch, by a manual run with `from` and `to`, or by a backfill, and published "
            "if they pass"
        ),
        failed="Listing failed.",
        formats=LISTING,
    ),
    Command(
        "rejected",
        "include.operations.rejected:rejected_events",
        "Lists rejected events by reason, with samples.",
        CHECK,
        (ONE_OR_ALL, FROM, TO, REASON),
        details="[operations.md](operations.md#rows-are-rejected)",
        failed="Listing failed.",
        formats=LISTING,
    ),
    Command(
        "release",
        "include.operations.held:release_minutes",
        "Publishes held minutes once, even though they fail a check, and records who released them and why.",
        CHECK,
        (
            PIPELINE,
            Parameter("minute", "Minute to release (UTC). Leave empty to release a range.", MINUTE, positional=True),
            replace(FROM, help="First minute of the range to release (UTC)."),
            replace(TO, help="End of the range to release (UTC), not included."),
            WHY,
            BY,
        ),
        details="[operations.md](operations.md#a-minute-is-held)",
        passes=("user",),
        failed="Nothing was released.",
        dag="minutemark_release",
    ),
    Command(
        "accept",
        "include.operations.held:accept_drift",
        "Accepts the drift of a field, so that it stops holding minutes, and records who accepted it and why.",
        CHECK,
        (
            PIPELINE,
            Parameter("field", "Field whose drift to accept, as `held` shows it.", required=True, positional=True),
            Parameter(
                "kind",
                "Only this kind of drift. Empty: every kind on record for the field that is not accepted yet.",
                choices=("disappeared", "unreadable", "ignored", "appeared"),
            ),
            WHY,
            BY,
        ),
        details="[operations.md](operations.md#a-producer-changes-its-fields)",
        passes=("user",),
        failed="Nothing was accepted.",
        dag="minutemark_accept",
    ),
    Command(
        "reprocess",
        "include.operations.reprocess:run_reprocess",
        "Reprocesses rejected events after a rule or a row has been fixed.",
        CHECK,
        (
            PIPELINE,
            REASON,
            replace(FROM, help="Only events from this minute on (UTC)."),
            replace(TO, help="Only events before this minute (UTC)."),
            Parameter("wait", "Wait until the minutes are merged, and report the outcome.", FLAG, True),
        ),
        details="They count once ([operations.md](operations.md#rows-are-rejected))",
        passes=("report",),
        failed="Reprocessing failed.",
        stopped="Stopped. Minutes made pending are processed anyway; the same command resumes.",
        dag="minutemark_replay",
        alias="replay",
    ),
    Command(
        "housekeeping",
        "include.housekeeping.steps:run_housekeeping",
        "Deletes data past its retention, in short transactions, while the pipelines run.",
        CHECK,
        (
            Parameter("dry_run", "Only count what would be deleted.", FLAG, False, variable="DRY"),
            *(_keep(name, retention) for name, retention in vars(pipelines.Retention()).items()),
        ),
        details="A DAG does it every night ([operations.md](operations.md#retention))",
        passes=("report",),
        dag="minutemark_housekeeping",
    ),
    Command(
        "query",
        "include.operations.query:query",
        "Runs one SQL statement on the warehouse, with the read-only account.",
        READ,
        (STATEMENT,),
        formats=LISTING,
    ),
    Command(
        "bigquery",
        "include.operations.query:query_bigquery",
        "Runs one SQL statement on BigQuery, or on its emulator.",
        READ,
        (STATEMENT,),
        details="[bigquery.md](bigquery.md)",
        formats=LISTING,
    ),
    Command(
        "sql",
        "include.warehouse.sql:as_text",
        "Prints the SQL of a pipeline as it runs: its own files, and the rendered templates of its facts.",
        READ,
        (PIPELINE,),
        connects=False,
    ),
    Command(
        "lineage",
        "include.column_lineage:as_text",
        "Prints where a column comes from, from fact to topic.",
        READ,
        (
            Parameter(
                "column",
                "Column of a table or view, such as recruitment.events.spend_hour.",
                required=True,
                positional=True,
            ),
        ),
        details="[monitoring.md](monitoring.md#lineage-of-columns)",
        connects=False,
    ),
    Command(
        "dbt-sources",
        "include.bi.dbt_sources:sources_of_all",
        "Prints the views for BI tools as sources of a dbt project, with the freshness of each pipeline.",
        READ,
        details="[assets.md](assets.md#dbt)",
        connects=False,
    ),
)


def get(name: str) -> Command:
    """The command of that name, or with that alias."""
    return next(command for command in COMMANDS if name in (command.name, command.alias))
