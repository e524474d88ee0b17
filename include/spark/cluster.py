"""The application of a warm driver on a cluster: whether it can still get executors, and how they reach the driver.

A standalone master that was restarted does not know earlier applications. Such an application stays alive until its
driver ends, but gets no new executors: a job would wait for them forever.
"""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pyspark.sql import SparkSession

STANDALONE = "spark://"
_UNLIMITED = 2**31 - 1  # executors; the initial limit of a standalone application
_CHECK_SECONDS = 10  # between two checks while a job runs
_REFUSALS = 2  # in a row, before a job is cancelled: a master that is starting may refuse once

log = logging.getLogger("minutemark")


def has_application(spark: SparkSession) -> bool:
    """Whether the session's application can run another job."""
    context = spark.sparkContext
    if context._jsc.sc().isStopped():  # the cluster ended it
        log.info("the cluster has ended application %s", context.applicationId)
        return False
    if not context.master.startswith(STANDALONE):
        return True
    try:
        is_known = _request_executors(spark)
    except Exception as error:
        is_known, reason = False, f": {str(error).splitlines()[0]}"
    else:
        reason = ""
    if not is_known:
        log.info("the master does not know application %s%s", context.applicationId, reason)
    return is_known


@contextlib.contextmanager
def watch_application(spark: SparkSession, seconds: float = _CHECK_SECONDS) -> Iterator[None]:
    """While a job runs, cancel it if the master no longer knows the application: its executors would never come.

    Only explicit answers count. A master that does not answer may return and still know the application.
    """
    if not spark.sparkContext.master.startswith(STANDALONE):
        yield
        return
    is_over = threading.Event()
    threading.Thread(target=_cancel_without_application, args=(spark, is_over, seconds), daemon=True).start()
    try:
        yield
    finally:
        is_over.set()


def _cancel_without_application(spark: SparkSession, is_over: threading.Event, seconds: float) -> None:
    refusals = 0
    while not is_over.wait(seconds):
        try:
            refusals = refusals + 1 if _is_unknown(spark) else 0
        except Exception:  # such as a stopped context, which fails the job anyway
            refusals = 0
        if refusals < _REFUSALS or is_over.is_set():
            continue
        if refusals == _REFUSALS:
            log.info("the master no longer knows application %s", spark.sparkContext.applicationId)
        with contextlib.suppress(Exception):
            spark.sparkContext.cancelAllJobs()  # again at each check: the batch's job may start another Spark job


def _is_unknown(spark: SparkSession) -> bool:
    """Whether an active master answers that it does not list the application, and no other one lists it.

    The application's own connection led to the previous master, and stays closed: requests on it always fail.
    """
    jvm, application = spark._jvm, spark.sparkContext.applicationId
    loader = spark.sparkContext._jsc.sc().getClass().getClassLoader()

    def companion(name: str):
        return loader.loadClass(f"org.apache.spark.{name}$").getField("MODULE$").get(None)

    rpc, question = jvm.org.apache.spark.SparkEnv.get().rpcEnv(), companion("deploy.DeployMessages$RequestMasterState")
    kind = jvm.scala.reflect.ClassTag.apply(
        loader.loadClass("org.apache.spark.deploy.DeployMessages$MasterStateResponse")
    )
    is_unknown = False
    for address in spark.sparkContext.master.removeprefix(STANDALONE).split(","):
        host, _, port = address.rpartition(":")
        try:
            master = rpc.setupEndpointRef(jvm.org.apache.spark.rpc.RpcAddress(host, int(port)), "Master")
            state = master.askSync(question, kind)
        except Exception:  # it does not answer
            continue
        if application in [active.id() for active in state.activeApps()]:
            return False
        is_unknown = is_unknown or str(state.status()) == "ALIVE"
    return is_unknown


def _request_executors(spark: SparkSession) -> bool:
    """Repeat the application's request for executors; False if the master does not know the application."""
    context = spark.sparkContext._jsc.sc()
    if context.getConf().getBoolean("spark.dynamicAllocation.enabled", False):
        return context.requestExecutors(0)  # in addition to those that Spark itself has requested
    hosts = spark._jvm.PythonUtils.toScalaMap({})
    return context.requestTotalExecutors(_UNLIMITED, 0, hosts)


def address_towards(master: str) -> str | None:
    """The IPv4 address of the interface by which this host reaches a standalone master; None if that is not known.

    Spark uses the first of several interfaces, which executors may be unable to reach.
    """
    host, _, port = master.removeprefix(STANDALONE).partition(",")[0].rpartition(":")
    if not master.startswith(STANDALONE) or not port.isdecimal():
        return None
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host.strip("[]"), int(port), family=socket.AF_INET, type=socket.SOCK_DGRAM
        )
        with socket.socket(family, kind) as probe:
            probe.connect(address)  # sends nothing: it is a datagram socket
            return probe.getsockname()[0]
    except (OSError, UnicodeError):  # UnicodeError: a host name that cannot exist, such as one with an empty label
        return None
