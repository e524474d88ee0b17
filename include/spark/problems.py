"""Explains the errors that stop a job, for the reader of the task's log."""

from __future__ import annotations

# Statuses of failed jobs after which the driver can run another job. 0: complete; 1: any other failure.
EXECUTOR_LOST, LAKE_FAILED = 2, 4  # 3: the driver's own, when its client has left
# Between an attempt's number and its error in the driver's log, which is the only report of a driver on a cluster.
FAILED, FAILED_FOR_GOOD = " failed: ", " failed for good: "


class JobFailed(RuntimeError):
    """A failure that the job can explain: where, what was found, what to do."""


class JobRefused(JobFailed):
    """A failure that every attempt repeats until its remedy is applied."""


_LAKE_SILENT = (
    "The lake does not answer at {lake}. Check that Cassandra is running, and check the connection lake_reader."
)
_LAKE_REFUSES = "The lake at {lake} refuses the account of connection lake_reader. Set its login and password."
_LAKE_FORBIDS = (
    "lake_reader has no permission to read the lake at {lake}. Grant it SELECT: run the DAG minutemark_setup."
)
_LAKE_SLOW = (
    "The lake at {lake} failed a read or was too slow; the data is not necessarily at fault. Check its load and its log; "
    "the next attempt reads again."
)
_LAKE_UNAVAILABLE = (
    "Too few replicas of the lake at {lake} are up for a read with LOCAL_QUORUM. Check that all Cassandra nodes are "
    "up; the next attempt reads again."
)
_EXECUTOR_LOST = (
    "An executor was lost while the job ran, with the rows that it had read. The next attempt reads them again. If it "
    "happens often, check the memory of executors (spark.executor.memory) and the log of the worker that started them."
)
_APPLICATION_UNKNOWN = (
    "The Spark master no longer knows the application, so it gets no executors. The next attempt starts a new "
    "application."
)
_NO_MEMORY = (
    "The driver or an executor does not have enough memory. Give it more (spark.driver.memory or spark.executor.memory in "
    "extra `conf` of connection spark_default), or limit the rows of a batch (max_rows of the pipeline)."
)
_WAREHOUSE_SILENT = (
    "The warehouse does not answer at {warehouse}. Check that it is running, and check the connection warehouse_etl."
)
_WAREHOUSE_REFUSES = (
    "The warehouse at {warehouse} refuses the account of connection warehouse_etl. Set its login and password."
)
_WAREHOUSE_FORBIDS = (
    "warehouse_etl has no permission to write to the warehouse at {warehouse}. Run the DAG minutemark_setup."
)
_WAREHOUSE_EMPTY = "The warehouse at {warehouse} has no staging tables. Run the DAG minutemark_setup."

# A text in the JVM's error, and the sentence that explains it. The first match wins.
_KNOWN = (
    # Rows that only the executor had, a task that ran on it, and a stage that needed its output.
    ("Checkpoint block rdd_", _EXECUTOR_LOST),
    ("ExecutorLostFailure", _EXECUTOR_LOST),
    ("FetchFailed(", _EXECUTOR_LOST),
    ("cancelled as part of cancellation of all jobs", _APPLICATION_UNKNOWN),
    ("OutOfMemoryError", _NO_MEMORY),  # before the timeouts that it causes
    ("AuthenticationException", _LAKE_REFUSES),
    ("Authentication error", _LAKE_REFUSES),
    ("UnauthorizedException", _LAKE_FORBIDS),
    ("UnavailableException", _LAKE_UNAVAILABLE),
    ("NoNodeAvailableException", _LAKE_SILENT),
    ("AllNodesFailedException", _LAKE_SILENT),
    ("ReadFailureException", _LAKE_SLOW),
    ("ReadTimeoutException", _LAKE_SLOW),
    ("DriverTimeoutException", _LAKE_SLOW),
    ("Communications link failure", _WAREHOUSE_SILENT),
    ("Access denied for user", _WAREHOUSE_REFUSES),
    ("command denied to user", _WAREHOUSE_FORBIDS),
    ("Unknown database", _WAREHOUSE_EMPTY),
    ("doesn't exist", _WAREHOUSE_EMPTY),
)


def summary_of(error: BaseException) -> str:
    """One line of an unknown error: its last cause, if the JVM names one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    causes = [line for line in lines if line.startswith("Caused by: ")]
    return causes[-1].removeprefix("Caused by: ") if causes else lines[0]


def explanation_of(error: BaseException, *, lake: str, warehouse: str) -> str | None:
    """What to do about an error of the JVM, or None if the error is not a known one."""
    sentence = _sentence_of(error)
    return sentence and sentence.format(lake=lake, warehouse=warehouse)


def status_of(error: BaseException, *, is_local: bool) -> int:
    """The status of the failed job. With a local master, a lost executor is a fault of the driver itself."""
    if isinstance(error, JobFailed):
        return 1
    sentence = _sentence_of(error)
    if sentence == _EXECUTOR_LOST and not is_local:
        return EXECUTOR_LOST
    return LAKE_FAILED if sentence in (_LAKE_SILENT, _LAKE_UNAVAILABLE, _LAKE_SLOW) else 1


def _sentence_of(error: BaseException) -> str | None:
    text = str(error)
    return next((sentence for sign, sentence in _KNOWN if sign in text), None)
