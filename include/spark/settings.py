"""Properties of a Spark session, which of them a connection can change, and the file that passes them to spark-submit."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from include.connections import SPARK
from include.spark.cluster import STANDALONE, address_towards
from include.spark.installation import spark_defaults, spark_jars
from include.spark.jvm import TIME_ZONE, is_local, jvm_properties
from include.spark.stores import settings_in_extra

_AUTHENTICATE, _SECRET = "spark.authenticate", "spark.authenticate.secret"
_DYNAMIC = "spark.dynamicAllocation.enabled"
_CONCATENATED = ("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions")
_CLASS_PATHS = ("spark.driver.extraClassPath",)


def driver_properties(
    master: str,
    conf: Mapping[str, object] | None,
    *,
    jars: Sequence[str],
    short_lived: bool,
    others: Mapping[str, str],
) -> dict[str, str]:
    """All properties of a driver. `conf` (extra of spark_default) and spark-defaults.conf win over defaults."""
    runtime_properties = jvm_properties(jars, short_lived=short_lived)
    # If an option occurs twice, the JVM uses the last one.
    options = {key: value for key, value in runtime_properties.items() if key in _CONCATENATED}
    class_paths = {key: value for key, value in runtime_properties.items() if key in _CLASS_PATHS}
    overrides = _effective_settings(conf)
    return _merge(
        _tuning(master),
        _sharing(master, overrides),
        _network_security(master),
        options,
        overrides,
        _correctness(master),
        class_paths,
        others,
    )


def job_settings(conf: Mapping[str, object] | None, *, small: bool) -> dict[str, str]:
    """Settings that depend on the size of a job, unless spark-defaults.conf or `conf` sets them."""
    overrides = _effective_settings(conf)
    return {key: value for key, value in _size_settings(small).items() if key not in overrides}


def session_settings(master: str) -> dict[str, str]:
    """The properties of a session without stores: for notebooks, tests, and the class archive."""
    return _merge(
        _tuning(master),
        _network_security(master),
        _size_settings(small=True),
        _correctness(master),
        jvm_properties(spark_jars(), short_lived=True),
    )


def _size_settings(small: bool) -> dict[str, str]:
    """Settings that depend on the size of a job; spark-defaults.conf and the connection may change them."""
    return {"spark.sql.shuffle.partitions": "1" if small else "4"}


def _tuning(master: str) -> dict[str, str]:
    """Properties that spark-defaults.conf and the connection may change."""
    tuning = {
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.eventLog.enabled": "false",
        "spark.sql.adaptive.enabled": "false",
        # As one method, the code of a whole stage has 400 kB: compiling it can take half a minute, and it runs at two thirds
        # of the speed of one method per expression (docs/benchmarks.md).
        "spark.sql.codegen.wholeStage": "false",
        # Each connection needs a login, which the lake makes slow on purpose; one connection carries thousands of requests.
        "spark.cassandra.connection.localConnectionsPerExecutor": "1",
        # 512 by default: a long backlog would request that many pages at once from a small node, and get none in time.
        "spark.cassandra.concurrent.reads": "32",
        # The executors of a cluster come and go, and each lost executor counts as a failure of its tasks.
        "spark.task.maxFailures": "2" if is_local(master) else "4",
        # The text of a plan is for the UI, which is off; producing it takes a third of a second.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.maxPlanStringLength": "100",
        "spark.sql.debug.maxToStringFields": "3",
    }
    if not is_local(master):
        # Without a timeout, the shuffles of a finished job keep its executors. Those of a running job keep them anyway.
        tuning["spark.dynamicAllocation.shuffleTracking.timeout"] = "60s"
    if address := _own_address(master):
        tuning["spark.driver.host"] = address
    if is_local(master):
        tuning |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # One JVM needs no heartbeat, and a heartbeat while Spark stops delays the stop by ten seconds.
            "spark.executor.heartbeatInterval": "3600s",
            "spark.network.timeout": "7200s",
        }
    return tuning


def _sharing(master: str, overrides: Mapping[str, str]) -> dict[str, str]:
    """Settings with which several applications share a standalone cluster, unless the user has configured this.

    By default an application takes all cores and keeps them until it ends: a driver on another Airflow worker would
    wait for them. Executors of one core fit in any worker of the cluster.
    """
    if not master.startswith(STANDALONE) or {"spark.cores.max", _DYNAMIC} & overrides.keys():
        return {}
    return {_DYNAMIC: "true", "spark.executor.cores": "1"}


def _own_address(master: str) -> str | None:
    """Where executors find this driver; None if Spark, or a variable of this host, decides."""
    if any(os.environ.get(name) for name in ("SPARK_LOCAL_IP", "SPARK_LOCAL_HOSTNAME")):
        return None
    return address_towards(master)


def runs_here(conf: Mapping[str, object] | None) -> bool:
    """Whether the driver runs on the host that submits it (client mode), and not on the cluster."""
    return _effective_settings(conf).get("spark.submit.deployMode", "client").lower() == "client"


def _network_security(master: str) -> dict[str, str]:
    """Authentication and encryption of the traffic between driver and executors."""
    authentication = {_AUTHENTICATE: "true"}
    return (
        authentication
        if is_local(master)
        else authentication | {"spark.network.crypto.enabled": "true", "spark.io.encryption.enabled": "true"}
    )


def _correctness(master: str) -> dict[str, str]:
    """Settings that a connection cannot change: results depend on them, and with a local master security does, too."""
    security = {_AUTHENTICATE: "true", "spark.ui.enabled": "false"} if is_local(master) else {}
    time_zone = dict.fromkeys(_CONCATENATED, TIME_ZONE)
    return {"spark.speculation": "false", **time_zone, **security, **reading_settings()}


def reading_settings() -> dict[str, str]:
    """The correctness settings that a running session accepts: how rows are interpreted, and how the lake is read."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "false",
        "spark.sql.caseSensitive": "false",
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",  # of equal keys in an event
        "spark.sql.json.enablePartialResults": "false",  # an object is parsed as a whole, or not at all
        "spark.cassandra.input.consistency.level": "LOCAL_QUORUM",
        "spark.cassandra.sql.inClauseToJoinConversionThreshold": "1",
    }


def authentication_problem(master: str, conf: Mapping[str, object] | None = None) -> str | None:
    """The problem if a standalone cluster lacks its secret, which master and workers share. Elsewhere Spark creates one."""
    overrides = _effective_settings(conf)
    if not master.startswith(STANDALONE) or _SECRET in overrides or overrides.get(_AUTHENTICATE, "").lower() == "false":
        return None
    return (
        f"{master} is a standalone cluster, but {_SECRET} is not set: other programs could pose as its executors. Start "
        f"master and workers with {_AUTHENTICATE}=true and a secret, and set {_SECRET} in spark-defaults.conf or "
        f'in extra `conf` of connection spark_default. {{"{_AUTHENTICATE}": "false"}} turns authentication off; use this only in '
        "a private network."
    )


def _effective_settings(conf: Mapping[str, object] | None) -> dict[str, str]:
    return _merge(spark_defaults(), settings_in_extra(SPARK, "conf", conf))


def _merge(*layers: Mapping[str, str]) -> dict[str, str]:
    """Later layers win; JVM options and class paths add up."""
    merged: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.items():
            separator = " " if key in _CONCATENATED else ":" if key in _CLASS_PATHS else None
            merged[key] = f"{merged[key]}{separator}{value}" if separator and merged.get(key) else value
    return merged


def properties_text(properties: Mapping[str, str]) -> str:
    """The properties as spark-submit reads them from a file."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it back."""
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "".join(c if " " <= c <= "~" else "".join(f"\\u{unit:04x}" for unit in _utf16(c)) for c in escaped)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
