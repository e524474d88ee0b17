"""Errors of the JVM, as users read them."""

from __future__ import annotations

import pytest

from include.spark.problems import EXECUTOR_LOST, LAKE_FAILED, JobFailed, explanation_of, status_of, summary_of

STACK = """An error occurred while calling o1.collectToPython.
: org.apache.spark.SparkException: Job aborted
\tat org.apache.spark.Somewhere
Caused by: java.util.concurrent.ExecutionException: a cause
Caused by: {}
\t... 1 more"""


@pytest.mark.parametrize(
    ("error", "remedy"),
    [
        ("com.datastax.oss.driver.api.core.servererrors.ReadFailureException: Cassandra failure", "Check its load"),
        ("com.datastax.oss.driver.api.core.DriverTimeoutException: Query timed out", "the next attempt reads again"),
        ("com.datastax.oss.driver.api.core.servererrors.UnavailableException: Not enough replicas", "Too few replicas"),
        (
            "com.datastax.oss.driver.api.core.NoNodeAvailableException: No node was available",
            "The lake does not answer",
        ),
        ("java.lang.OutOfMemoryError: Java heap space", "spark.driver.memory"),
        ("java.sql.SQLException: Access denied for user 'etl'", "connection warehouse_etl"),
    ],
)
def test_a_known_error_is_explained_with_a_remedy(error: str, remedy: str) -> None:
    assert remedy in explanation_of(Exception(STACK.format(error)), lake="lake:9042", warehouse="db:3306")


@pytest.mark.parametrize(
    ("error", "status"),
    [
        ("ExecutorLostFailure (executor 1 exited)", EXECUTOR_LOST),
        ("com.datastax.oss.driver.api.core.servererrors.UnavailableException: Not enough replicas", LAKE_FAILED),
        ("com.datastax.oss.driver.api.core.NoNodeAvailableException: No node was available", LAKE_FAILED),
        ("com.datastax.oss.driver.api.core.servererrors.ReadTimeoutException: Cassandra timeout", LAKE_FAILED),
        ("com.datastax.oss.driver.api.core.auth.AuthenticationException: refused", 1),
        ("java.lang.OutOfMemoryError: Java heap space\nDriverTimeoutException", 1),
        ("Job 3 cancelled as part of cancellation of all jobs", 1),
        ("java.lang.IllegalStateException: out of order", 1),
    ],
)
def test_a_driver_keeps_running_only_after_a_failure_that_is_not_its_own(error: str, status: int) -> None:
    assert status_of(Exception(STACK.format(error)), is_local=False) == status
    assert status_of(JobFailed(error), is_local=False) == 1


@pytest.mark.parametrize("error", ["ExecutorLostFailure (executor 1 exited)", "Checkpoint block rdd_9_0 not found"])
def test_a_local_driver_has_no_other_executors(error: str) -> None:
    assert status_of(Exception(STACK.format(error)), is_local=True) == 1


def test_an_unknown_error_is_reported_by_its_last_cause_in_one_line() -> None:
    unknown = Exception(STACK.format("java.lang.IllegalStateException: out of order"))
    assert explanation_of(unknown, lake="lake:9042", warehouse="db:3306") is None
    assert summary_of(unknown) == "java.lang.IllegalStateException: out of order"
    assert summary_of(ValueError("one line")) == "one line"
    assert summary_of(ValueError()) == "ValueError"
