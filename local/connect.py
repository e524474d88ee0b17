"""A real Kafka Connect worker from Maven jars, with the project's worker.properties and its own transform.

The worker of docker/connect without an image, for tests, rehearsals and benchmarks. The jars include no sink:
`plugins` names its folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from include.kafka.connect import Connect
from local import waiting
from local.layout import CONNECT_JARS, ROOT
from local.problems import Problem
from local.servers.java import flags, java

HOST = "127.0.0.1"
IMAGE = ROOT / "docker" / "connect"  # the sources of its image
_MAIN = "org.apache.kafka.connect.cli.ConnectDistributed"


@dataclass(frozen=True)
class Worker:
    """Where a worker keeps its files, which broker it uses, and where its REST interface listens."""

    home: Path
    broker: str  # host:port
    logins: Path  # accounts of its REST interface: name=password, a line for each
    port: int = 8083
    plugins: tuple[Path, ...] = ()  # folders of further plugins, each of jars or of classes
    heap_mb: int = 256

    @property
    def url(self) -> str:
        return f"http://{HOST}:{self.port}"

    def prepare(self, jars: Path = CONNECT_JARS) -> list[str]:
        """Compile the transform and write the configuration; returns the command that runs the worker in the foreground."""
        if not list(jars.glob("connect-runtime-*.jar")):
            raise Problem("Kafka Connect", f"its jars are not in {jars}", "Run `make setup`, which fetches them.")
        folder = self.home / "plugins"
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        compile_java(IMAGE / "transform" / "src" / "main", folder / "lake-event", jars)
        for plugin in self.plugins:
            (folder / plugin.name).unlink(missing_ok=True)
            (folder / plugin.name).symlink_to(plugin)
        return [
            java(),
            *flags(self.heap_mb),
            f"-Dlog4j2.configurationFile={IMAGE / 'log4j2.properties'}",
            f"-Djava.security.auth.login.config={self._write_login_configuration()}",
            "-cp",
            f"{jars}/*",
            _MAIN,
            str(self._configure(folder)),
        ]

    def _configure(self, plugins: Path) -> Path:
        """Write the image's worker.properties with this worker's broker, listener and plugins; returns the file's path."""
        places = {"bootstrap.servers": self.broker, "listeners": self.url, "plugin.path": str(plugins)}
        lines = (IMAGE / "worker.properties").read_text().splitlines()
        kept = [line for line in lines if line.partition("=")[0] not in places]
        path = self.home / "worker.properties"
        path.write_text("\n".join([*kept, *(f"{name}={value}" for name, value in places.items()), ""]))
        return path

    def _write_login_configuration(self) -> Path:
        """Write the image's jaas.conf with the path of this worker's accounts; returns the file's path."""
        text = (IMAGE / "jaas.conf").read_text().replace("/opt/connect/logins.properties", str(self.logins))
        path = self.home / "jaas.conf"
        path.write_text(text)
        return path


def compile_java(source: Path, target: Path, jars: Path = CONNECT_JARS, classes: Iterable[Path] = ()) -> None:
    """Compile a source folder, `java/` and `resources/`, into a folder of classes that Connect loads as a plugin.

    `classes` are folders of classes, or further jars, that the source needs besides those in `jars`.

    Raises Problem if the source does not compile, or if no Java compiler is installed: a JRE does not include one.
    """
    compiler = [java(), "-m", "jdk.compiler/com.sun.tools.javac.Main"]
    shutil.rmtree(target, ignore_errors=True)
    if (source / "resources").is_dir():
        shutil.copytree(source / "resources", target)
    target.mkdir(parents=True, exist_ok=True)
    files = [str(file) for file in sorted((source / "java").rglob("*.java"))]
    # Started this way, the compiler expands no wildcard.
    path = os.pathsep.join(map(str, [*jars.glob("*.jar"), *classes]))
    done = subprocess.run([*compiler, "-d", str(target), "-cp", path, *files], capture_output=True, text=True)
    if done.returncode != 0:
        problem = f"compiling {source} failed: {(done.stderr or done.stdout).strip()[:800]}"
        remedy = "If Java has no compiler, install a JDK (Debian: apt-get install openjdk-17-jdk-headless)."
        raise Problem("Kafka Connect", problem, remedy)


def wait_until_ready(
    worker: Worker, login: str, *, seconds: float = 90, alive: Callable[[], bool] = lambda: True, log: str = ""
) -> None:
    """Return when the worker accepts this login, `name:password`.

    Raises ConnectError if it refuses the login, and Problem if it ends or is not ready in time.
    """
    connect = Connect(worker.url, login, timeout=10)
    what = f"Kafka Connect on {worker.url}"
    waiting.until(connect.names, what=what, seconds=seconds, errors=(OSError,), alive=alive, log=log)
