"""What spark-submit needs for one attempt: the job, the stores' addresses and accounts, flags that make it fast.

Accounts go into the job's file, which only this user can read. Arguments and --conf are visible to everybody in `ps`, and a
driver serves its properties to its executors, and without authentication to everybody who reaches its port.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import importlib.util
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import IO, TYPE_CHECKING

from include.connections import Endpoint
from include.spark.warm_driver import folder_of

if TYPE_CHECKING:
    from include.warehouse.batches import Batch

ROOT = Path(__file__).resolve().parents[2]
APPLICATION = ROOT / "include" / "spark" / "run.py"
_DRIVER_CODE = (ROOT / "include" / "spark", ROOT / "include" / "pipelines")
_LOG4J = ROOT / "include" / "spark" / "log4j2.properties"
# Up to here the C1 compiler alone is faster; beyond, C2 earns what it costs.
SMALL_DELTA_ROWS = 60_000
# Up to here one task reads everything: a second one would compile the same code once more, for few rows.
ONE_TASK_ROWS = 12_000
ONE_TASK_MINUTES = 2_000  # each is a request for every shard, whether it has rows or not
# A stale archive needs no warning: the JVM runs without it.
_QUIET_ARCHIVE = ("-Xshare:auto", "-Xlog:cds=off", "-Xlog:class+path=off", "-Xlog:cds+dynamic=off")
LAUNCHER_FLAGS = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", *_QUIET_ARCHIVE)
# At its defaults C2 takes two fifths of a cold driver's CPU, for code that only starting runs. Called ten times as late, it has
# compiled what every minute needs after some twenty jobs instead of fifteen.
_LATE_C2 = (
    "-XX:Tier4InvocationThreshold=50000",
    "-XX:Tier4MinInvocationThreshold=6000",
    "-XX:Tier4CompileThreshold=150000",
    "-XX:Tier4BackEdgeThreshold=400000",
    "-XX:Tier3DelayOn=0",  # while C2 has anything to do, C1's code does without the slow counting for it
)
_AUTHENTICATE, _SECRET = "spark.authenticate", "spark.authenticate.secret"
_CONNECTOR = "spark.cassandra."
_FOLDERS = "minutemark-spark-job-"
_YOUNG_SECONDS = 60  # a folder may have no lock yet
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_CONCATENATED = ("spark.driver.extraJavaOptions", "spark.executor.extraJavaOptions")
_CLASS_PATHS = ("spark.driver.extraClassPath",)


class SubmissionImpossible(RuntimeError):
    """Something that spark-submit needs is not there; says what, and how to get it."""


@dataclass(frozen=True)
class Delta:
    """What a submission needs to know of a batch."""

    batch_id: int
    pipeline: str
    minutes: Sequence[datetime]  # naive, UTC
    lake_clock: datetime  # naive, UTC
    options: Mapping[str, object]

    @classmethod
    def of(cls, batch: Batch) -> Delta:
        minutes = [planned.minute for planned in batch.minutes]
        return cls(batch.batch_id, batch.pipeline, minutes, batch.lake_clock, batch.options)


@dataclass(frozen=True)
class Submission:
    """Arguments of SparkSubmitOperator. `dir` holds secrets: the caller removes it afterwards.

    With a `driver_key` they start the warm driver of that key, and `job_file` is its job.
    """

    application: str
    properties_file: str
    application_args: list[str]
    job_file: Path
    driver_key: str | None
    jars: str | None  # that have to travel to a cluster; None when the master is this machine
    env_vars: dict[str, str]
    dir: Path = field(repr=False)
    lock: IO = field(repr=False)  # held while the submitting process lives: sweep() leaves the folder alone


def prepare(
    delta: Delta,
    attempt: int,
    lake: Endpoint,
    warehouse: Endpoint,
    master: str,
    estimated_rows: float,
    settings: Mapping[str, object] | None = None,
    keep: bool = False,
) -> Submission:
    """Write properties and job into a private folder. `settings` (extra `conf` of spark_default) win over defaults.

    With `keep` it is a submission to a driver that stays, where the master is this machine. Raises SubmissionImpossible.
    """
    jars = spark_jars()
    chosen = _chosen(settings)
    if problem := authentication_problem(master, settings):
        raise SubmissionImpossible(problem)
    sweep()
    folder = Path(tempfile.mkdtemp(prefix=_FOLDERS))  # mode 0700
    url = jdbc_url(warehouse)
    keep = keep and is_local(master)  # on a cluster it would hold executors that others wait for
    small = estimated_rows <= SMALL_DELTA_ROWS
    connector, others = _split(lake_settings(lake))
    stores = {"lake": connector, "warehouse": jdbc_properties(warehouse)}
    properties = _merged(
        _tuning(master),
        _secrecy(master),
        chosen,
        _correctness(master),
        runtime(jars, short_lived=small and not keep),
        others,
    )
    session = {key: value for key, value in _session(small).items() if key not in chosen}
    properties_file, job_file = folder / "spark.properties", folder / "job.json"
    _write_private(properties_file, properties_text(properties))
    _write_private(job_file, json.dumps(_job(delta, attempt, url, estimated_rows, session, stores)))
    key = _driver_key(master, properties, stores) if keep else None
    return Submission(
        application=str(APPLICATION),
        properties_file=str(properties_file),
        application_args=["--keep", str(folder_of(key))] if key else ["--job", str(job_file)],
        job_file=job_file,
        driver_key=key,
        jars=None if is_local(master) else ",".join(jars),
        env_vars=environment(master),
        dir=folder,
        lock=_locked(folder),
    )


def sweep() -> None:
    """Remove the folders of tasks that were killed: they hold passwords, and nobody else removes them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDERS}*"):
        with contextlib.suppress(OSError):
            about = folder.lstat()
            is_ours = stat.S_ISDIR(about.st_mode) and about.st_uid == os.getuid()
            if is_ours and time.time() - about.st_mtime > _YOUNG_SECONDS:
                with _locked(folder):
                    shutil.rmtree(folder)


def _locked(folder: Path) -> IO:
    """The lock of the folder; the kernel lets go of it when its process ends. Raises BlockingIOError where one holds it."""
    lock = os.fdopen(os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def session_settings(master: str) -> dict[str, str]:
    """What a session needs without stores: for notebooks and tests, and for making the archive."""
    return _merged(
        _tuning(master),
        _secrecy(master),
        _session(small=True),
        _correctness(master),
        runtime(spark_jars(), short_lived=True),
    )


def properties_text(properties: Mapping[str, str]) -> str:
    """The properties as spark-submit reads them from a file."""
    return "".join(f"{key}={_escaped(value)}\n" for key, value in properties.items())


def is_local(master: str) -> bool:
    """Whether driver and executors are one JVM on this machine."""
    return master == "local" or master.startswith("local[")


def spark_jars() -> list[str]:
    """The connector, the JDBC driver and what they need, from MINUTEMARK_SPARK_JARS or .local/jars."""
    folder = Path(os.environ.get("MINUTEMARK_SPARK_JARS") or ROOT / ".local" / "jars")
    jars = sorted(str(jar) for jar in folder.glob("*.jar"))
    if not jars:
        raise SubmissionImpossible(
            f"There are no jars for Spark in {folder}. `make setup` puts them there; elsewhere run "
            f"`mvn -f include/spark/pom.xml dependency:copy-dependencies -DoutputDirectory={folder}`, "
            "or set MINUTEMARK_SPARK_JARS to the folder that has them."
        )
    return jars


def archive() -> Path:
    """Where the class archive is, or would be: MINUTEMARK_SPARK_ARCHIVE or .local/spark."""
    return Path(os.environ.get("MINUTEMARK_SPARK_ARCHIVE") or ROOT / ".local" / "spark" / "spark.jsa")


def launcher_archive() -> Path:
    """The archive of spark-submit's own first JVM, which only builds a command line."""
    return archive().with_name("launcher.jsa")


def spark_home() -> Path:
    """SPARK_HOME, or where pip has put Spark."""
    if os.environ.get("SPARK_HOME"):
        return Path(os.environ["SPARK_HOME"])
    found = importlib.util.find_spec("pyspark")
    if found is None or found.origin is None:
        raise SubmissionImpossible("There is no Spark here: install pyspark 3.5, or set SPARK_HOME.")
    return Path(found.origin).parent


def environment(master: str) -> dict[str, str]:
    """Variables for spark-submit that save it a search, a JVM's start-up or a name look-up."""
    variables = {"SPARK_HOME": str(spark_home())}
    launcher = list(LAUNCHER_FLAGS)
    if launcher_archive().is_file() and " " not in str(launcher_archive()):  # the shell script would split it
        launcher.append(f"-XX:SharedArchiveFile={launcher_archive()}")
    variables["SPARK_LAUNCHER_OPTS"] = " ".join(launcher)
    if is_local(master):
        variables["SPARK_LOCAL_IP"] = "127.0.0.1"
    return variables


def runtime(jars: Sequence[str], *, short_lived: bool, archive_option: str | None = None) -> dict[str, str]:
    """Class path and JVM flags of the driver. The archive holds for exactly this class path."""
    flags = [
        "-Duser.timezone=UTC",
        f"-Dlog4j2.configurationFile=file:{_LOG4J}",
        "-XX:+UseSerialGC",
        "-XX:-DontCompileHugeMethods",  # Spark generates such, and interpreting them costs more than anything else
        "-XX:MetaspaceSize=256m",  # at its default of 21 MB, loading Spark's classes collects the heap several times
        *_QUIET_ARCHIVE,
    ]
    flags += ["-XX:TieredStopAtLevel=1"] if short_lived else _LATE_C2
    if archive_option:
        flags.append(archive_option)
    elif archive().is_file():
        flags.append(_archive_flag())
    return {
        "spark.driver.extraClassPath": ":".join(jars),
        "spark.driver.extraJavaOptions": " ".join(map(_option, flags)),
        "spark.executor.extraJavaOptions": "-Duser.timezone=UTC",
    }


def _option(flag: str) -> str:
    return f'"{flag}"' if " " in flag else flag


def _archive_flag() -> str:
    return f"-XX:SharedArchiveFile={archive()}"


def _session(small: bool) -> dict[str, str]:
    """What depends on the size of a job, and may be changed by spark-defaults.conf or by the connection."""
    return {
        "spark.sql.shuffle.partitions": "1" if small else "4",
    }


def _tuning(master: str) -> dict[str, str]:
    """What may be changed by spark-defaults.conf or by the connection."""
    tuning = {
        "spark.driver.memory": "1g",
        "spark.ui.enabled": "false",
        "spark.ui.showConsoleProgress": "false",
        "spark.eventLog.enabled": "false",
        "spark.sql.adaptive.enabled": "false",
        # As one method the code of a whole stage has 400 kB: compiling it takes longer than reading a million rows, and it
        # runs half as fast as a method for each expression.
        "spark.sql.codegen.wholeStage": "false",
        # Each connection is a login, which the lake makes slow on purpose; one carries thousands of requests.
        "spark.cassandra.connection.localConnectionsPerExecutor": "1",
        # 512 by default: a long backlog would ask a small node for that many pages at once, and get none in time.
        "spark.cassandra.concurrent.reads": "32",
        "spark.task.maxFailures": "2",
        # The text of a plan goes to a UI that is off; making it costs a third of a second.
        "spark.sql.ui.explainMode": "simple",
        "spark.sql.maxPlanStringLength": "100",
        "spark.sql.debug.maxToStringFields": "3",
    }
    if is_local(master):
        tuning |= {
            "spark.driver.host": "127.0.0.1",
            "spark.driver.bindAddress": "127.0.0.1",
            # One JVM needs no heartbeat, and one that is due while the job stops holds it up for ten seconds.
            "spark.executor.heartbeatInterval": "3600s",
            "spark.network.timeout": "7200s",
        }
    return tuning


def _secrecy(master: str) -> dict[str, str]:
    """Which hosts can connect to driver and executors, and what others on the network can read."""
    local = {_AUTHENTICATE: "true"}
    return (
        local
        if is_local(master)
        else local | {"spark.network.crypto.enabled": "true", "spark.io.encryption.enabled": "true"}
    )


def _correctness(master: str) -> dict[str, str]:
    """Settings that a connection cannot change: results depend on them, and on this machine their secrecy."""
    own = {_AUTHENTICATE: "true", "spark.ui.enabled": "false"} if is_local(master) else {}
    return {"spark.speculation": "false", **own, **reading_settings()}


def authentication_problem(master: str, settings: Mapping[str, object] | None = None) -> str | None:
    """Spark makes the secret itself but for a standalone cluster, whose master and workers have it, too."""
    chosen = _chosen(settings)
    if not master.startswith("spark://") or _SECRET in chosen or chosen.get(_AUTHENTICATE, "").lower() == "false":
        return None
    return (
        f"{master} is a standalone cluster, and {_SECRET} is not set: its executors are not distinguished from other "
        f"programs. Start master and workers with {_AUTHENTICATE}=true and a secret, and set {_SECRET} in spark-defaults.conf or "
        f'in extra `conf` of connection spark_default. {{"{_AUTHENTICATE}": "false"}} turns it off, in a private network.'
    )


def _chosen(settings: Mapping[str, object] | None) -> dict[str, str]:
    return _merged(_spark_defaults(), {key: str(value) for key, value in (settings or {}).items()})


def _split(settings: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(settings of the connector, which it takes from a session too; all others)."""
    connector = {key: value for key, value in settings.items() if key.startswith(_CONNECTOR)}
    return connector, {key: value for key, value in settings.items() if key not in connector}


def reading_settings() -> dict[str, str]:
    """The part that can be set on a running session: what rows mean, and how the lake is read."""
    return {
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.ansi.enabled": "false",
        "spark.sql.caseSensitive": "false",
        "spark.sql.mapKeyDedupPolicy": "LAST_WIN",  # of equal keys in an event
        "spark.sql.json.enablePartialResults": "false",  # an object is whole, or none
        "spark.cassandra.input.consistency.level": "LOCAL_QUORUM",
        "spark.cassandra.sql.inClauseToJoinConversionThreshold": "1",
    }


def lake_settings(lake: Endpoint) -> dict[str, str]:
    """The connector's settings; extra `spark` of the connection adds any of its own (spark.cassandra.…)."""
    extra = lake.extra
    settings = {
        "spark.cassandra.connection.host": lake.host,
        "spark.cassandra.connection.port": str(lake.port or 9042),
    }
    if lake.login:
        settings |= {"spark.cassandra.auth.username": lake.login, "spark.cassandra.auth.password": lake.password or ""}
    if extra.get("local_dc"):
        settings["spark.cassandra.connection.localDC"] = str(extra["local_dc"])
    if extra.get("ssl_options"):
        settings["spark.cassandra.connection.ssl.enabled"] = "true"
    return settings | {key: str(value) for key, value in (extra.get("spark") or {}).items()}


def jdbc_properties(warehouse: Endpoint) -> dict[str, str]:
    """The JDBC driver's properties; extra `jdbc` of the connection adds any of its own (a trust store, say)."""
    given = {key: str(value) for key, value in (warehouse.extra.get("jdbc") or {}).items()}
    properties = {
        "driver": "com.mysql.cj.jdbc.Driver",
        "user": warehouse.login or "",
        "password": warehouse.password or "",
        "sslMode": _ssl_mode(warehouse),
    }
    if warehouse.host in _LOOPBACK:
        properties["allowPublicKeyRetrieval"] = "true"
    return properties | given


def _ssl_mode(warehouse: Endpoint) -> str:
    """As the connection says; on loopback none, because a handshake in a cold JVM takes a third of a second."""
    said = warehouse.extra.get("ssl_mode") or warehouse.extra.get("ssl-mode")
    if said:
        return str(said).upper()
    if warehouse.extra.get("ssl"):
        return "REQUIRED"
    return "DISABLED" if warehouse.host in _LOOPBACK else "PREFERRED"


def jdbc_url(warehouse: Endpoint) -> str:
    """Where the job's JDBC driver finds the warehouse; without account and password."""
    host = f"[{warehouse.host}]" if ":" in warehouse.host else warehouse.host
    options = {
        "rewriteBatchedStatements": "true",
        "connectionTimeZone": "UTC",
        "forceConnectionTimeZoneToSession": "true",
        "sessionVariables": "time_zone='+00:00'",
        "characterEncoding": "UTF-8",
        "connectTimeout": "10000",
        "socketTimeout": "300000",
        "cacheServerConfiguration": "true",
        "useLocalSessionState": "true",
    }
    encoded = "&".join(f"{key}={value.replace('+', '%2B')}" for key, value in options.items())
    return f"jdbc:mysql://{host}:{warehouse.port or 3306}/etl?{encoded}"


def _driver_key(master: str, properties: Mapping[str, str], stores: Mapping[str, Mapping[str, str]]) -> str:
    """Names a kept driver by all that it works with: settings, accounts, interpreter, and the code that it runs."""
    digest = hashlib.sha256()
    # A new archive only makes starting quicker.
    settings = properties_text(properties).replace(f" {_escaped(_option(_archive_flag()))}", "")
    for part in (master, settings, json.dumps(stores), sys.executable, os.environ.get("JAVA_HOME", ""), str(ROOT)):
        digest.update(part.encode() + b"\0")
    for folder in _DRIVER_CODE:
        for file in sorted(folder.glob("*.py")):
            digest.update(file.read_bytes())
    return digest.hexdigest()[:12]


def _job(
    delta: Delta,
    attempt: int,
    url: str,
    estimated_rows: float,
    session: Mapping[str, str],
    stores: Mapping[str, Mapping[str, str]],
) -> dict[str, object]:
    return {
        "pipeline": delta.pipeline,
        "batch_id": delta.batch_id,
        "attempt": attempt,
        "minutes": [f"{minute:%Y-%m-%dT%H:%M:%S}Z" for minute in delta.minutes],
        "lake_clock": f"{delta.lake_clock:%Y-%m-%dT%H:%M:%S.%f}Z",
        "options": dict(delta.options),
        "one_task": estimated_rows <= ONE_TASK_ROWS and len(delta.minutes) <= ONE_TASK_MINUTES,
        "session": dict(session),
        "lake": stores["lake"],
        "warehouse": {"url": url, "properties": stores["warehouse"]},
    }


def _spark_defaults() -> dict[str, str]:
    """The machine's own spark-defaults.conf, which --properties-file would hide."""
    folder = Path(os.environ.get("SPARK_CONF_DIR") or spark_home() / "conf")
    file = folder / "spark-defaults.conf"
    if not file.is_file():
        return {}
    found = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            key, value = (*re.split(r"\s*[=:\s]\s*", line.strip(), maxsplit=1), "")[:2]
            found[key] = value
    return found


def _merged(*layers: Mapping[str, str]) -> dict[str, str]:
    """Later layers win; JVM options and class paths add up."""
    merged: dict[str, str] = {}
    for layer in layers:
        for key, value in layer.items():
            separator = " " if key in _CONCATENATED else ":" if key in _CLASS_PATHS else None
            merged[key] = f"{merged[key]}{separator}{value}" if separator and merged.get(key) else value
    return merged


def _write_private(file: Path, text: str) -> None:
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        out.write(text)


def _escaped(value: str) -> str:
    """A value as java.util.Properties reads it back."""
    escaped = value.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r")
    return "".join(c if " " <= c <= "~" else "".join(f"\\u{unit:04x}" for unit in _utf16(c)) for c in escaped)


def _utf16(character: str) -> list[int]:
    data = character.encode("utf-16-be")
    return [int.from_bytes(data[i : i + 2], "big") for i in range(0, len(data), 2)]
