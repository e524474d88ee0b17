"""What stops a job, said for the person who reads the task's log."""

from __future__ import annotations


class JobFailed(RuntimeError):
    """A failure that the job can explain: where, what was found, what to do."""


# What the JVM says, and what that means here. The first match wins.
_KNOWN = (
    ("Could not open native connection", "The lake does not answer at {lake}. Is Cassandra up, and is connection lake_reader right?"),
    ("AllNodesFailedException", "The lake does not answer at {lake}. Is Cassandra up, and is connection lake_reader right?"),
    ("AuthenticationException", "The lake at {lake} refuses the account of connection lake_reader. Set its login and password."),
    ("UnauthorizedException", "The lake at {lake} lets lake_reader in but not read. Apply the lake's schema with an account that may grant."),
    ("Communications link failure", "The warehouse does not answer at {warehouse}. Is it up, and is connection warehouse_etl right?"),
    ("Access denied for user", "The warehouse at {warehouse} refuses the account of connection warehouse_etl. Set its login and password."),
    ("command denied to user", "The warehouse at {warehouse} does not let warehouse_etl write. Apply the warehouse's schema with an account that may grant."),
    ("Unknown database", "The warehouse at {warehouse} has no staging tables. Run the DAG minutemark_setup."),
    ("doesn't exist", "The warehouse at {warehouse} has no staging tables. Run the DAG minutemark_setup."),
)  # fmt: skip


def explained(error: BaseException, *, lake: str, warehouse: str) -> str | None:
    """What to do about an error of the JVM, or None when it is not a known one."""
    text = str(error)
    for sign, sentence in _KNOWN:
        if sign in text:
            return sentence.format(lake=lake, warehouse=warehouse)
    return None
