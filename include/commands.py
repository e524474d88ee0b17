"""Every operation once. From this table come the command line, the variables of make, the DAGs' forms and docs/commands.md.

DAG files import this module while they are parsed: it opens nothing, and imports a function's module only to call it.
"""

from __future__ import annotations

from dataclasses import replace

from include import pipelines
from include.parameters import MINUTE, NUMBER, WHOLE, Command, Parameter

CHECK = "Check and fix"
LISTING = ("table", "tsv", "json")

PIPELINE = Parameter(
    "pipeline", "Pipeline to work on.", choices=tuple(pipelines.all_pipelines()), required=True, positional=True
)
ONE_OR_ALL = replace(PIPELINE, help="Only this pipeline. Empty: all pipelines.", required=False)
WHY = Parameter("why", "Reason, kept in the record.")
BY = Parameter("by", "Name to note beside the reason. The record names the user who runs the command.")
FROM = Parameter("from", "First minute of the range (UTC).", MINUTE, keyword="start")
TO = Parameter("to", "End of the range (UTC), not included.", MINUTE, keyword="end")

COMMANDS = (
    Command(
        "verify",
        "include.verify.verify:run_verify",
        "Compares topics and lake with ledger, contributions and facts, and reports each difference.",
        CHECK,
        (
            ONE_OR_ALL,
            replace(FROM, help="First minute to verify (UTC). Empty: all known minutes."),
            replace(TO, help="End of the range to verify (UTC), not included."),
            Parameter("patience", "Seconds to wait for pending minutes to be merged.", NUMBER, 120, least=0),
            Parameter(
                "lines",
                "Maximum number of lines to print for each kind of difference.",
                WHOLE,
                20,
                least=1,
                variable="SHOW",
            ),
        ),
        details="It changes nothing, and runs beside the pipelines ([operations.md](operations.md#verify-lake-and-warehouse))",
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
        details="A new touch, a manual run or a backfill that passes the checks publishes them",
        failed="List failed.",
        formats=LISTING,
    ),
    Command(
        "rejected",
        "include.operations.rejected:rejected_events",
        "Lists rejected events by reason, with samples.",
        CHECK,
        (ONE_OR_ALL, FROM, TO),
        details="[operations.md](operations.md#rows-are-rejected)",
        failed="List failed.",
        formats=LISTING,
    ),
    Command(
        "release",
        "include.operations.held:release_minutes",
        "Publishes held minutes although they fail a check, once, and records who released them and why.",
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
        failed="Nothing is released.",
        dag="minutemark_release",
    ),
    Command(
        "accept",
        "include.operations.held:accept_drift",
        "Accepts the drift of a field, so that it holds no more minutes, and records who accepted it and why.",
        CHECK,
        (
            PIPELINE,
            Parameter("field", "Field whose drift to accept, as `held` shows it.", required=True, positional=True),
            Parameter(
                "kind",
                "Only this kind of drift. Empty: every kind that is open for the field.",
                choices=("disappeared", "unreadable", "ignored", "appeared"),
            ),
            WHY,
            BY,
        ),
        details="[operations.md](operations.md#the-fields-of-a-producer-change)",
        passes=("user",),
        failed="Nothing is accepted.",
        dag="minutemark_accept",
    ),
)


def get(name: str) -> Command:
    """The command of that name."""
    return next(command for command in COMMANDS if command.name == name)
