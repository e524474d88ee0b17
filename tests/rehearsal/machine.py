"""The services of the compose files as processes: each image has a stand-in, which is the same software from `.local/`."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path

from include import env_file
from local import bootstrap, connect
from local.layout import ROOT, SPARK_JARS, STATE, VENV
from local.problems import Problem
from local.process import Child
from local.progress import say
from local.servers import cassandra, kafka, mysql, postgres
from tests.docker import sink
from tests.rehearsal import compose
from tests.rehearsal.compose import Service
from tests.rehearsal.container_tools import TOOLS

FILES = (ROOT / "tests" / "rehearsal" / "astro-compose.yml", ROOT / "docker-compose.override.yml")
LEFT_OUT = {"grafana": "Grafana is not in any package registry that the project uses"}
AIRFLOW = "minutemark/airflow"  # the image that the CLI builds from the project
PROJECT_FOLDERS = ("dags", "include", "plugins")  # the folders that the Astro CLI mounts
HOME = STATE / "rehearsal"
SINK = "MINUTEMARK_TEST_SINK"  # a folder with the jars of the DataStax sink; without it the tests' own sink is used


class Machine:
    """Starts the services of the compose files as processes, and knows which of them are healthy."""

    def __init__(self, services: Mapping[str, Service], temporary: str) -> None:
        self.services = services
        self.children: dict[str, Child] = {}
        self._began = time.monotonic()
        self.stand_ins: dict[str, Callable[[Service], list[str]]] = {
            "cassandra": self._cassandra,
            "mysql": self._mysql,
            "apache/kafka": self._kafka,
            "postgres": self._postgres,
            AIRFLOW: self._airflow,
            "python": self._python,
            "connect": self._connect,
        }
        self._temporary = temporary
        self._keys = {name: base64.urlsafe_b64encode(os.urandom(32)).decode() for name in ("fernet", "jwt", "secret")}
        self._up = {name: Future() for name in services}  # healthy, or completed
        self._started = {name: Future() for name in services}

    # Starting

    def start(self) -> None:
        """Start every service in its own thread, as soon as the services that it depends on are ready; return at once."""
        for name in self.services:
            threading.Thread(target=self._bring_up, args=(name,), daemon=True).start()

    def await_up(self, *names: str) -> None:
        """Wait until these services are healthy or have completed. Raises the Problem of the first one that failed."""
        for name in names:
            self._await(self._up[name])

    def raise_if_failed(self) -> None:
        """Raise the Problem of a service that did not start, or of one that has failed since."""
        for future in self._up.values():
            if future.done():
                future.result()
        for name, child in list(self.children.items()):  # other threads may still add services
            if not child.alive() and child.exit_code != 0:
                raise self._ended(name)

    def log(self, name: str) -> Path:
        return HOME / "logs" / f"{name}.log"

    def note(self, what: str) -> None:
        """Print a line with the seconds since the start of the services."""
        say(f"   {time.monotonic() - self._began:6.1f} s  {what}")

    def seconds(self) -> float:
        return time.monotonic() - self._began

    def stop(self) -> None:
        """End the processes; the sandbox would end them anyway, but not in order."""
        for child in reversed(list(self.children.values())):
            child.stop(10)

    def _await(self, future: Future) -> None:
        while not future.done():
            self.raise_if_failed()
            with contextlib.suppress(TimeoutError):
                future.result(timeout=0.5)
        future.result()

    def _bring_up(self, name: str) -> None:
        service = self.services[name]
        try:
            for other, condition in service.depends_on.items():
                (self._started if condition == compose.STARTED else self._up)[other].result()
            command = self._stand_in(service)
            self.children[name] = child = Child(
                command, self.log(name), self._variables(service), self._working_folder(service)
            )
            self._started[name].set_result(None)
            if self._is_one_off(name):
                child.wait()
                if child.exit_code != 0:
                    raise self._ended(name)
                self.note(f"{name} has completed")
            elif service.health:
                self._await_health(service, child)
                self.note(f"{name} is healthy")
            else:
                self.note(f"{name} has started")
            self._up[name].set_result(None)
            child.wait()  # a child gets TERM when the thread that started it ends
        except BaseException as error:
            for future in (self._started[name], self._up[name]):
                if not future.done():
                    future.set_exception(error)

    def _is_one_off(self, name: str) -> bool:
        """Whether it is a one-off service: `restart: "no"`, or one whose end another service waits for."""
        waited = (other.depends_on.get(name) == compose.COMPLETED for other in self.services.values())
        return self.services[name].once or any(waited)

    def _await_health(self, service: Service, child: Child) -> None:
        check, deadline = service.health, time.monotonic() + service.health.patience
        command = [self._localize(service, word) for word in check.command]
        while True:
            time.sleep(check.interval)  # as Docker does, before each check
            if not child.alive():
                raise self._ended(service.name)
            with contextlib.suppress(subprocess.TimeoutExpired):
                done = subprocess.run(
                    command, env=self._variables(service), capture_output=True, timeout=check.timeout, check=False
                )
                if done.returncode == 0:
                    return
            if time.monotonic() > deadline:
                raise self._problem(service.name, f"not healthy after {check.patience:.0f} s")

    def _ended(self, name: str) -> Problem:
        return self._problem(name, f"ended with exit status {self.children[name].exit_code}")

    def _problem(self, name: str, problem: str) -> Problem:
        log = self.log(name)
        lines = log.read_text(errors="replace").splitlines()[-15:] if log.exists() else []
        return Problem(
            f"Service {name}", "\n    ".join([f"{problem}; the last lines of its log:", *lines]), f"Read {log}."
        )

    # What differs between containers

    def _root(self, service: Service) -> Path:
        """The folder for the container's file system: mounts are links, volumes are folders."""
        root = HOME / "containers" / service.name
        for target in service.volumes:
            (root / target.lstrip("/")).mkdir(parents=True, exist_ok=True)
        for target, source in service.mounts.items():
            link = root / target.lstrip("/")
            link.parent.mkdir(parents=True, exist_ok=True)
            if not link.exists():
                link.symlink_to(source)
        return root

    def _localize(self, service: Service, text: str, **paths: Path) -> str:
        """A word of a command, with the container's paths replaced by those of this machine."""
        root = self._root(service)
        local = {target: root / target.lstrip("/") for target in (*service.mounts, *service.volumes)} | paths
        for target in sorted(local, key=len, reverse=True):
            text = text.replace(target, str(local[target]))
        return text

    def _working_folder(self, service: Service) -> Path:
        if service.image == AIRFLOW:
            return HOME / "airflow"
        folder = self._root(service) / (service.working_dir or "").lstrip("/")
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _variables(self, service: Service) -> dict[str, str]:
        """The service's environment: from the user's shell, it has only the path to programs."""
        home = self._root(service) / "home"
        home.mkdir(parents=True, exist_ok=True)
        variables = {
            "PATH": f"{self._tools(service)}:{VENV / 'bin'}:{os.environ.get('PATH', os.defpath)}",
            "HOME": str(home),
            "TMPDIR": self._temporary,
            "LANG": "C.UTF-8",
        }
        if java_home := bootstrap.find_java_home():
            variables["JAVA_HOME"] = java_home
        if service.image == AIRFLOW:
            variables |= self._airflow_variables()
        return variables | service.environment

    def _tools(self, service: Service, **commands: list[str]) -> Path:
        """A folder of commands that the image has and this machine may lack."""
        folder = HOME / "tools" / service.name
        folder.mkdir(parents=True, exist_ok=True)
        known = {tool: [str(VENV / "bin" / "python"), "-m", "tests.rehearsal.container_tools", tool] for tool in TOOLS}
        for name, command in (known | commands).items():
            path = folder / name
            if name in commands or not path.exists():
                draft = folder / f".{name}.{threading.get_ident()}"
                draft.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {shlex.join(command)} "$@"\n')
                draft.chmod(0o755)
                draft.replace(path)
        return folder

    # A stand-in for each image

    def _stand_in(self, service: Service) -> list[str]:
        self.log(service.name).parent.mkdir(parents=True, exist_ok=True)
        return self.stand_ins[image_of(service)](service)

    def _cassandra(self, service: Service) -> list[str]:
        """The service's command, with its image's settings: the command's `sed` turns on passwords and permissions."""
        if self._is_one_off(service.name):
            return [self._localize(service, word) for word in service.command]
        node = cassandra.Node(self._root(service), heap_mb=int(service.environment["MAX_HEAP_SIZE"].rstrip("M")))
        start, conf = node.prepare(), node.home / "conf"
        _rewrite(conf / "cassandra.yaml", with_image_settings)
        _rewrite(conf / "jvm.options", without_fast_start)
        self._tools(service, **{"docker-entrypoint.sh": ["sh", "-c", f"exec {shlex.join(start)}", "cassandra"]})
        return [self._localize(service, word, **{"/etc/cassandra": conf}) for word in service.command]

    def _mysql(self, service: Service) -> list[str]:
        """Create a data folder, and run the accounts' file on the first start, as the image's entry point does."""
        base, root = mysql.Server.unpacked(), self._root(service)
        server = [*mysql.mysqld(base), "--no-defaults", f"--basedir={base}/usr", f"--datadir={root / 'data'}"]
        server += ["--user=root"]  # the root of the sandbox
        done = subprocess.run([*server, "--initialize-insecure"], capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise Problem(
                "Service mysql", f"no data folder: {done.stderr.strip()[-800:]}", "Correct what the message names."
            )
        accounts = root / "docker-entrypoint-initdb.d" / "accounts.sql"
        init_file = root / "first-start.sql"
        password = service.environment["MYSQL_ROOT_PASSWORD"]
        init_file.write_text(f"ALTER USER 'root'@'localhost' IDENTIFIED BY '{password}';\n{accounts.read_text()}")
        places = {"socket": "mysqld.sock", "mysqlx-socket": "mysqlx.sock", "pid-file": "mysqld.pid"}
        options = [f"--{option}={self._temporary}/{name}" for option, name in places.items()]
        options += [
            f"--plugin-dir={base}/usr/lib/mysql/plugin",
            f"--secure-file-priv={root}",
            f"--init-file={init_file}",
            "--skip-name-resolve",
        ]
        return [*server, *options, *service.command]

    def _kafka(self, service: Service) -> list[str]:
        heap = re.search(r"-Xmx(\d+)m", service.environment["KAFKA_HEAP_OPTS"])[1]
        broker = kafka.Broker(
            self._root(service) / service.volumes[0].lstrip("/"),
            heap_mb=int(heap),
            settings=compose.kafka_settings_of(service.environment),
        )
        return broker.prepare()

    def _connect(self, service: Service) -> list[str]:
        """The worker of the project's Dockerfile, with the sink that MINUTEMARK_TEST_SINK names or the tests' own."""
        root = self._root(service)
        logins = Path(self._localize(service, "/opt/connect/logins.properties"))
        worker = connect.Worker(root, "kafka:19092", logins, plugins=(self._sink(root / "sink"),))
        return worker.prepare()

    @staticmethod
    def _sink(folder: Path) -> Path:
        if jars := os.environ.get(SINK):
            return Path(jars)
        folder.mkdir(parents=True)
        connect.compile_java(connect.IMAGE / "transform" / "src" / "main", folder / "transform")
        return sink.plugin(sink.compile_classes(folder / "transform", folder / "classes"), folder / "plugin")

    def _postgres(self, service: Service) -> list[str]:
        user, password = service.environment["POSTGRES_USER"], service.environment["POSTGRES_PASSWORD"]
        server = postgres.Server(self._root(service), 5432, {user: password}, superuser=user)
        command = server.prepare()
        _rewrite(
            server.home / "postgresql.conf",
            lambda text: re.sub(r"max_connections = \d+", "max_connections = 100", text),
        )
        return command

    def _python(self, service: Service) -> list[str]:
        """Python without packages, as in the image."""
        if not os.environ.get(SINK):
            template = self._root(service) / "minutemark" / "lake-sink.json"
            config = json.loads(template.read_text()) | {"connector.class": sink.CLASS}
            template.unlink()
            template.write_text(json.dumps(config))
        self._tools(service, python=[str(Path(sys._base_executable).resolve()), "-E", "-s", "-S"])
        return service.command

    def _airflow(self, service: Service) -> list[str]:
        project = HOME / "airflow"
        for folder in PROJECT_FOLDERS:  # a copy: nothing else of the project is in the image
            if not (project / folder).exists():
                shutil.copytree(
                    ROOT / folder, project / folder, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True
                )
        return service.command

    def _airflow_variables(self) -> dict[str, str]:
        """What Astro's image and the CLI set in addition to the compose file: `.env`, folders, keys."""
        from include.spark import installation

        project = HOME / "airflow"
        return {
            **env_file.read_dot_env(ROOT / ".env"),
            "AIRFLOW_HOME": str(project),
            "PYTHONPATH": str(project),
            "PYTHONUNBUFFERED": "1",
            "AIRFLOW__CORE__FERNET_KEY": self._keys["fernet"],
            "AIRFLOW__API_AUTH__JWT_SECRET": self._keys["jwt"],
            "AIRFLOW__API__SECRET_KEY": self._keys["secret"],
            "MINUTEMARK_SPARK_JARS": str(SPARK_JARS),
            "MINUTEMARK_SPARK_ARCHIVE": str(installation.archive()),
        }


def image_of(service: Service) -> str:
    """The image without its tag, or the service's name if it has its own Dockerfile."""
    return service.image.partition(":")[0] if service.image else service.name


def with_image_settings(text: str) -> str:
    """The settings of cassandra.yaml in the image: no login, no permission checks, and roles are cached for 2 s."""
    text = text.replace("PasswordAuthenticator", "AllowAllAuthenticator").replace(
        "CassandraAuthorizer", "AllowAllAuthorizer"
    )
    return re.sub(r"^(roles|permissions|credentials)_validity: .*\n", "", text, flags=re.MULTILINE)


def without_fast_start(text: str) -> str:
    """The JVM's options without those that make the local stack's node start faster than the image's."""
    shortcuts = ("superuser_setup_delay_ms", "auth_bcrypt", "skip_wait_for_gossip")
    return "".join(line for line in text.splitlines(keepends=True) if not any(name in line for name in shortcuts))


def _rewrite(path: Path, change: Callable[[str], str]) -> None:
    path.write_text(change(path.read_text()))


def planned(environ: Mapping[str, str]) -> dict[str, Service]:
    """The services that are rehearsed, in the order of their dependencies."""
    declared = compose.read(FILES, {**env_file.read_dot_env(ROOT / ".env"), **environ})
    services = {name: service for name, service in declared.items() if not service.profiles and name not in LEFT_OUT}
    return {name: services[name] for name in compose.start_order(services)}
