"""Errors of the JVM, as users read them."""

from __future__ import annotations

import pytest

from include.spark.problems import explained, summary_of

STACK = """An error occurred while calling o1.collectToPython.
: org.apache.spark.SparkException: Job aborted
\tat org.apache.spark.Somewhere
Caused by: java.util.concurrent.ExecutionException: a cause
Caused by: {}
\t... 1 more"""


@pytest.mark.parametrize(
    ("error", "what_to_do"),
    [
        ("com.datastax.oss.driver.api.core.servererrors.ReadFailureException: Cassandra failure", "Check its load"),
        ("com.datastax.oss.driver.api.core.DriverTimeoutException: Query timed out", "the next attempt reads again"),
        ("java.lang.OutOfMemoryError: Java heap space", "spark.driver.memory"),
        ("java.sql.SQLException: Access denied for user 'etl'", "connection warehouse_etl"),
    ],
)
def test_a_known_error_comes_with_what_to_do(error: str, what_to_do: str) -> None:
    assert what_to_do in explained(Exception(STACK.format(error)), lake="lake:9042", warehouse="db:3306")


def test_an_unknown_error_is_reported_by_its_last_cause_in_one_line() -> None:
    unknown = Exception(STACK.format("java.lang.IllegalStateException: out of order"))
    assert explained(unknown, lake="lake:9042", warehouse="db:3306") is None
    assert summary_of(unknown) == "java.lang.IllegalStateException: out of order"
    assert summary_of(ValueError("one line")) == "one line"
    assert summary_of(ValueError()) == "ValueError"
