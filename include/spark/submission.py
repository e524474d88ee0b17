"""Prepares what spark-submit needs for one attempt: the job, the stores' addresses and accounts, and flags.

Accounts are written to the job's file, which only this user can read. Arguments and --conf are visible to everybody in `ps`,
and a driver serves its properties to its executors and, without authentication, to everybody who reaches its port.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shutil
import stat
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from include.connections import Endpoint
from include.spark.installation import ROOT, CannotSubmit, spark_jars
from include.spark.jvm import archive_flag, environment, is_local
from include.spark.listener import IDLE_SECONDS
from include.spark.settings import authentication_problem, driver_properties, job_settings, properties_text, runs_here
from include.spark.stores import jdbc_properties, jdbc_url, lake_settings
from include.spark.warm_driver import folder_of

if TYPE_CHECKING:
    from include.warehouse.batches import Batch

APPLICATION = ROOT / "include" / "spark" / "run.py"
_CODE = ROOT / "include"  # a driver's modules and log configuration
# Environment variables that spark-submit reads.
_VARIABLES = ("SPARK_HOME", "SPARK_CONF_DIR", "HADOOP_CONF_DIR", "YARN_CONF_DIR", "KUBECONFIG")
# Up to this many rows the C1 compiler alone is faster; with more rows, C2 is worth its cost.
SMALL_DELTA_ROWS = 60_000
# Up to this many rows one task reads everything: a second one would compile the same code again for few rows.
ONE_TASK_ROWS = 12_000
ONE_TASK_MINUTES = 2_000  # each takes a request for every shard, even without rows
_CONNECTOR = "spark.cassandra."
_SECRET = re.compile("secret|password|token|access.?key", re.IGNORECASE)  # what Spark redacts, by name
_FOLDER_PREFIX = "minutemark-spark-job-"
_YOUNG_SECONDS = 60  # until then, a folder may have no lock yet


@dataclass(frozen=True)
class Submission:
    """What spark-submit needs for one attempt or stream. `dir` holds secrets: the caller removes it afterwards.

    With a `driver_key`, spark-submit starts the warm driver of that key, and `job_file` is its job.
    """

    application: str
    properties_file: str
    application_args: list[str]
    job_file: Path
    driver_key: str | None
    jars: str | None  # to send with the application; None if the class path has them all
    env_vars: dict[str, str]
    dir: Path = field(repr=False)
    lock: IO = field(repr=False)  # held while the submitting process lives, so that sweep() leaves the folder alone
    py_files: str | None = None  # the project's code, where executors of a cluster run Python


def prepare(
    batch: Batch,
    attempt: int,
    lake: Endpoint,
    warehouse: Endpoint,
    master: str,
    conf: Mapping[str, object] | None = None,
    keep: bool = False,
    idle_seconds: float = IDLE_SECONDS,
    extra: Mapping[str, object] | None = None,
) -> Submission:
    """Write properties and job into a private folder. `conf` (extra of spark_default) wins over defaults.

    `extra` is the whole extra of that connection. The command line depends on it: a different extra means a different driver.
    With `keep`, the driver keeps running on this host until it has had no job for `idle_seconds`. Cluster mode ignores `keep`,
    because its driver runs elsewhere. Raises CannotSubmit.
    """
    jars = spark_jars()
    if problem := authentication_problem(master, conf):
        raise CannotSubmit(problem)
    env_vars = environment(master)
    keep = keep and runs_here(conf)
    small = batch.estimated_rows <= SMALL_DELTA_ROWS
    connector, others = _split(lake_settings(lake))
    stores = {"lake": connector, "warehouse": jdbc_properties(warehouse)}
    others = {**_placeholders(connector), **others}
    properties = driver_properties(master, conf, jars=jars, short_lived=small and not keep, others=others)
    job = {
        "pipeline": batch.pipeline,
        "batch_id": batch.batch_id,
        "attempt": attempt,
        "minutes": [f"{planned.minute:%Y-%m-%dT%H:%M:%S}Z" for planned in batch.minutes],
        "lake_clock": f"{batch.lake_clock:%Y-%m-%dT%H:%M:%S.%f}Z",
        "options": dict(batch.run.options),
        "one_task": batch.estimated_rows <= ONE_TASK_ROWS and len(batch.minutes) <= ONE_TASK_MINUTES,
        "session": job_settings(conf, small=small),
        "lake": connector,
        "warehouse": {"url": jdbc_url(warehouse), "properties": stores["warehouse"]},
    }
    key = None
    if keep:
        key = _driver_key(master, properties, stores, job["warehouse"]["url"], idle_seconds, extra or {})
    sweep()
    folder, lock = private_folder()  # late, because nobody removes it if this function fails
    properties_file, job_file = folder / "spark.properties", folder / "job.json"
    write_private(properties_file, properties_text(properties).encode())
    write_private(job_file, json.dumps(job).encode())
    arguments = ["--keep", str(folder_of(key)), "--idle", f"{idle_seconds:g}"] if key else ["--job", str(job_file)]
    return Submission(
        application=str(APPLICATION),
        properties_file=str(properties_file),
        application_args=arguments,
        job_file=job_file,
        driver_key=key,
        jars=None if is_local(master) else ",".join(jars),
        env_vars=env_vars,
        dir=folder,
        lock=lock,
    )


def private_folder() -> tuple[Path, IO]:
    """A new folder that only this user can enter, and its lock, to be held while the folder is needed."""
    folder = Path(tempfile.mkdtemp(prefix=_FOLDER_PREFIX))  # mode 0700
    return folder, _take_lock(folder)


def sweep() -> None:
    """Remove the folders of killed tasks: they contain passwords, and nothing else removes them."""
    for folder in Path(tempfile.gettempdir()).glob(f"{_FOLDER_PREFIX}*"):
        with contextlib.suppress(OSError):
            info = folder.lstat()
            is_ours = stat.S_ISDIR(info.st_mode) and info.st_uid == os.getuid()
            if is_ours and time.time() - info.st_mtime > _YOUNG_SECONDS:
                with _take_lock(folder):
                    shutil.rmtree(folder)


def _take_lock(folder: Path) -> IO:
    """Take the folder's lock, which the kernel releases when this process ends. Raises BlockingIOError if it is taken."""
    lock = os.fdopen(os.open(folder / "lock", os.O_WRONLY | os.O_CREAT, 0o600), "w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise
    return lock


def _split(settings: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """(the connector's settings, which it also reads from a session; all others)."""
    connector = {key: value for key, value in settings.items() if key.startswith(_CONNECTOR)}
    return connector, {key: value for key, value in settings.items() if key not in connector}


def _placeholders(settings: Mapping[str, str]) -> dict[str, str]:
    """The secret settings of a session with a placeholder for each value, for the driver's properties.

    Spark writes the settings of a session into its event log. It redacts only those that are properties of the driver too.
    """
    return {name: "in the file of the job" for name in settings if _SECRET.search(name)}


def _driver_key(
    master: str,
    properties: Mapping[str, str],
    stores: Mapping[str, Mapping[str, str]],
    warehouse_url: str,
    idle_seconds: float,
    extra: Mapping[str, object],
) -> str:
    """Names a warm driver by everything that it works with: settings, accounts, command line, environment, and its code.

    The part before the hyphen names its place: this installation (project, interpreter and Java), the master and the
    stores' addresses. If two drivers have the same place, the older one has outdated settings, and ends when the newer one
    starts. The project's path has its symbolic links resolved: if a deployment is a link to the folder of a release,
    each release is a place of its own, and its driver ends when it has been idle.
    """
    host, port = (stores["lake"].get(f"spark.cassandra.connection.{name}", "") for name in ("host", "port"))
    java = os.environ.get("JAVA_HOME", "")
    place = _digest(str(ROOT), sys.executable, java, master, host, port, warehouse_url)
    # A new archive only makes the start faster.
    settings = {name: value.replace(f" {archive_flag()}", "") for name, value in properties.items()}
    code = sorted(file for pattern in ("*.py", "log4j2.properties") for file in _CODE.rglob(pattern))
    everything = _digest(
        place,
        properties_text(settings),
        json.dumps(stores),
        json.dumps(extra, sort_keys=True, default=str),
        json.dumps([os.environ.get(name) for name in _VARIABLES]),
        str(idle_seconds),
        *(text for file in code for text in (str(file.relative_to(_CODE)), file.read_text(encoding="utf-8"))),
    )
    return f"{place[:6]}-{everything[:12]}"


def _digest(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def write_private(file: Path, content: bytes) -> None:
    """Write a new file that only this user can read."""
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as out:
        out.write(content)
