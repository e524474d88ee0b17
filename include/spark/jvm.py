"""Flags of the JVMs that spark-submit starts, and variables that make spark-submit start faster."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from include.spark.installation import ROOT, archive, launcher_archive, spark_home

_LOG4J = ROOT / "include" / "spark" / "log4j2.properties"
# A stale archive needs no warning: the JVM runs without it.
_QUIET_ARCHIVE = ("-Xshare:auto", "-Xlog:cds=off", "-Xlog:class+path=off", "-Xlog:cds+dynamic=off")
# Spark generates huge methods; interpreting them costs more than anything else.
_HUGE_METHODS = "-XX:-DontCompileHugeMethods"
# The connector repeats a refused request on the same node. The Cassandra driver's default policy tries the next node: a node
# that is cut off from the others refuses every quorum until it is reconnected. The connector has no setting for the
# policy; a property of the JVM takes precedence over the connector's own.
_RETRY_POLICY = "-Ddatastax-java-driver.advanced.retry-policy.class=DefaultRetryPolicy"
# A node that has stopped answering would hold a page of rows for two minutes: after three seconds the next node reads
# the page too, and the first answer counts. The connector marks its reads as idempotent, and only those are repeated.
_SPECULATION = (
    "-Ddatastax-java-driver.advanced.speculative-execution-policy.class=ConstantSpeculativeExecutionPolicy",
    "-Ddatastax-java-driver.advanced.speculative-execution-policy.max-executions=2",
    "-Ddatastax-java-driver.advanced.speculative-execution-policy.delay=3s",
)
TIME_ZONE = "-Duser.timezone=UTC"
LAUNCHER_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *_QUIET_ARCHIVE)
# With default thresholds, C2 takes two fifths of a cold driver's CPU, for code that runs only at the start. With thresholds
# ten times as high, it has compiled the code that every minute needs after some twenty jobs instead of fifteen.
_LATE_C2 = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
    "-XX:Tier3DelayOn=0",  # while C2 is busy, C1's code runs without the slow profiling for C2
)


def jvm_properties(jars: Sequence[str], *, short_lived: bool, archive_option: str | None = None) -> dict[str, str]:
    """Spark properties: class path and JVM flags of the driver, and JVM flags of the executors.

    The class archive is valid only for exactly this class path.
    """
    flags = [
        TIME_ZONE,
        _RETRY_POLICY,
        *_SPECULATION,
        f"-Dlog4j2.configurationFile=file:{_LOG4J}",
        "-XX:+UseSerialGC",
        _HUGE_METHODS,
        "-XX:MetaspaceSize=256m",  # at its default of 21 MB, loading Spark's classes collects the heap several times
        *_QUIET_ARCHIVE,
    ]
    flags += ["-XX:TieredStopAtLevel=1"] if short_lived else _LATE_C2
    if archive_option:
        flags.append(archive_option)
    options = [*map(_option, flags)]
    if not archive_option and archive().is_file():
        options.append(archive_flag())
    return {
        "spark.driver.extraClassPath": ":".join(jars),
        "spark.driver.extraJavaOptions": " ".join(options),
        "spark.executor.extraJavaOptions": " ".join((TIME_ZONE, _RETRY_POLICY, *_SPECULATION, _HUGE_METHODS)),
    }


def environment(master: str) -> dict[str, str]:
    """Variables for spark-submit: its driver finds this Python and this project, and starts faster."""
    variables = {
        "SPARK_HOME": str(spark_home()),
        "PYSPARK_DRIVER_PYTHON": sys.executable,
        "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
    }
    launcher = list(LAUNCHER_FLAGS)
    if launcher_archive().is_file() and " " not in str(launcher_archive()):  # the shell script would split it
        launcher.append(f"-XX:SharedArchiveFile={launcher_archive()}")
    variables["SPARK_LAUNCHER_OPTS"] = " ".join(launcher)
    if is_local(master):
        variables |= {"SPARK_LOCAL_IP": "127.0.0.1", "PYSPARK_PYTHON": sys.executable}
    return variables


def _option(flag: str) -> str:
    return f'"{flag}"' if " " in flag else flag


def archive_flag() -> str:
    """The flag of the class archive, as it appears among the driver's options."""
    return _option(f"-XX:SharedArchiveFile={archive()}")


def is_local(master: str) -> bool:
    """Whether driver and executors are one JVM on this machine."""
    return master == "local" or master.startswith("local[")
