"""A Spark standalone cluster from the installed pyspark: a master, and workers that start executors for applications.

All of it listens on loopback. Its processes authenticate each other with the cluster's secret, from a file that only its
owner can read: `ps` would show the secret if it were an option of the JVM. The web pages show applications and their
executors to every user of the machine, but accept no commands.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

from include.spark.installation import spark_home
from local.files import write_private
from local.loopback import fetch
from local.servers.java import flags, java
from local.servers.server import HOST, Server

_LOGGING = """\
rootLogger.level = info
rootLogger.appenderRef.stdout.ref = console
appender.console.type = Console
appender.console.name = console
appender.console.target = SYSTEM_ERR
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yy/MM/dd HH:mm:ss} %p %c{1}: %m%n
"""


@dataclass(frozen=True)
class SparkServer(Server):
    """What master and worker share. `web_port` is for the page and its JSON."""

    web_port: int = 0
    secret: str = field(default="", repr=False)
    heap_mb: int = 192

    main_class = ""

    def prepare(self) -> list[str]:
        self.home.mkdir(mode=0o700, parents=True, exist_ok=True)
        (self.home / "log4j2.properties").write_text(_LOGGING)
        properties = "".join(f"{name}={value}\n" for name, value in self.properties().items())
        write_private(self._properties_file, properties)
        return self.command()

    @property
    def _properties_file(self) -> Path:
        return self.home / "spark.properties"

    def properties(self) -> dict[str, str]:
        """Spark's properties of this process, the secret included."""
        return {
            "spark.authenticate": "true",
            "spark.authenticate.secret": self.secret,
            "spark.network.crypto.enabled": "true",
            "spark.ui.killEnabled": "false",
        }

    def environment(self) -> dict[str, str]:
        """The caller's environment without Airflow's variables, and without Spark's, which would override `properties`.

        Executors inherit this environment.
        """
        prefixes = ("SPARK_", "PYSPARK_", "AIRFLOW_")
        own = {name: value for name, value in os.environ.items() if not name.startswith(prefixes)}
        return {
            **own,
            "SPARK_HOME": str(spark_home()),
            "SPARK_SCALA_VERSION": _scala_version(),  # Spark's scripts set it; without it a worker starts no executor
            "SPARK_LOCAL_IP": HOST,
            "SPARK_CONF_DIR": str(self.home),
        }

    def command(self) -> list[str]:
        return [
            java(),
            *flags(self.heap_mb, first_mb=32),
            f"-Dlog4j2.configurationFile=file:{self.home / 'log4j2.properties'}",
            "-cp",
            f"{spark_home() / 'jars'}/*",
            self.main_class,
            *("--host", HOST, "--port", str(self.port), "--webui-port", str(self.web_port)),
            *("--properties-file", str(self._properties_file)),
            *self._arguments(),
        ]

    def _arguments(self) -> list[str]:
        return []

    def state(self) -> dict:
        """What the server's page shows. Raises OSError if the server does not answer."""
        return json.loads(fetch(f"http://{HOST}:{self.web_port}/json/", 5))

    def startup_errors(self) -> tuple[type[BaseException], ...]:
        return OSError, ValueError, _NotYet


def _scala_version() -> str:
    """The Scala version of the installed Spark, from the name of a jar: spark-core_2.12-3.5.9.jar."""
    [core] = (spark_home() / "jars").glob("spark-core_*.jar")
    return core.name.removeprefix("spark-core_").partition("-")[0]


@dataclass(frozen=True)
class Master(SparkServer):
    """The master of a cluster. `url` is what spark-submit takes."""

    port: int = 7077
    web_port: int = 8080

    name = "Spark's master"
    main_class = "org.apache.spark.deploy.master.Master"

    @property
    def url(self) -> str:
        return f"spark://{HOST}:{self.port}"

    def log_in(self) -> None:
        """Succeeds once the master is alive: it has no login."""
        if self.state()["status"] != "ALIVE":
            raise _NotYet("it is not alive yet")

    def workers(self) -> list[str]:
        """Ids of the workers that can start executors now."""
        return [worker["id"] for worker in self.state()["workers"] if worker["state"] == "ALIVE"]

    def applications(self) -> list[str]:
        """Ids of the applications that are connected now, including those that wait for executors."""
        return [application["id"] for application in self.state()["activeapps"]]


@dataclass(frozen=True)
class Worker(SparkServer):
    """A worker of the master at `master_url`, with `cores` cores and `memory_mb` MiB of memory for executors.

    Its work folder, with the jars and logs of applications, and the folder for spilled data are within `home`.
    """

    master_url: str = ""
    cores: int = 1
    memory_mb: int = 1_024

    name = "Spark's worker"
    main_class = "org.apache.spark.deploy.worker.Worker"

    @property
    def work_folder(self) -> Path:
        return self.home / "work"

    @property
    def local_folder(self) -> Path:
        return self.home / "local"

    def environment(self) -> dict[str, str]:
        return {**super().environment(), "SPARK_LOCAL_DIRS": str(self.local_folder)}

    def prepare(self) -> list[str]:
        command = super().prepare()
        for folder in (self.work_folder, self.local_folder):
            folder.mkdir(mode=0o700, exist_ok=True)
        return command

    def _arguments(self) -> list[str]:
        resources = ["--cores", str(self.cores), "--memory", f"{self.memory_mb}m"]
        return [*resources, "--work-dir", str(self.work_folder), self.master_url]

    def log_in(self) -> None:
        """Succeeds once the worker is registered with its master: before that, it starts no executor."""
        if not self.state()["masterwebuiurl"]:
            raise _NotYet("it is not registered with its master yet")


class _NotYet(Exception):
    """A process that answers before it can work."""
