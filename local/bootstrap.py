"""Set-up of a fresh machine, with nothing but Python's standard library: OS packages, uv, environment, jars.

Each step does only what is missing, so that running it again takes about a second. `python3 -m local.bootstrap`; with
`--for-tests` it also installs the jars of Spark's Kafka source and of an Iceberg REST catalog.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import fcntl
import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from include import env_file
from include.errors import MinutemarkError, storage_problem
from local.layout import (
    CONNECT_JARS,
    KAFKA_JARS,
    LOCAL,
    REST_CATALOG_JARS,
    ROOT,
    SPARK_JARS,
    STORE_JARS,
    STREAM_JARS,
    TOOLS,
    VENV,
)
from local.problems import Problem
from local.progress import say, step
from local.servers import mariadb, postgres

PACKAGES = ROOT / "local" / "packages.txt"
LOCK = ROOT / "local" / "requirements.lock"
LAKEHOUSE_LOCK = ROOT / "include" / "lakehouse" / "requirements.lock"
BIGQUERY_LOCK = ROOT / "include" / "bigquery" / "requirements.lock"
JAVA_VERSION = 17
# The versions that the lock was made for, the preferred one first: the Airflow image runs 3.12.
PYTHONS = ("3.12", "3.11")
UV_VERSION = "0.13.9"
# With its version: otherwise, Maven takes the newest plugin.
MAVEN_GOAL = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies"


def find_python() -> Path:
    """A Python 3.12, or else 3.11, under pyenv or on the PATH. Raises Problem if neither is installed."""
    for version in PYTHONS:
        for candidate in _candidates(version):
            if _runs(candidate, version):
                return candidate
    raise Problem(
        "Python",
        f"no Python {' or '.join(PYTHONS)} on the PATH or under pyenv",
        "Install one: `apt-get install python3.11` (Debian 12) or `pyenv install 3.12`.",
    )


def _candidates(version: str) -> Iterator[Path]:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    yield from sorted(pyenv.glob(f"{version}.*/bin/python{version}"), reverse=True)
    for name in (f"python{version}", "python3"):
        if path := shutil.which(name):
            yield Path(path)


def _runs(python: Path, version: str) -> bool:
    """True if it is that version; a pyenv shim exists even for versions that it then refuses to run."""
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    with contextlib.suppress(OSError):
        return subprocess.run([python, "-c", code], capture_output=True, text=True).stdout.strip() == version
    return False


def find_java_home() -> str | None:
    """The folder of a Java 17 installation: JAVA_HOME, else that of `java` on the PATH, else one in /usr/lib/jvm; or None."""
    homes = [os.environ.get("JAVA_HOME")]
    if on_path := shutil.which("java"):
        homes.append(str(Path(on_path).resolve().parents[1]))
    homes += sorted(str(path) for path in Path("/usr/lib/jvm").glob(f"*{JAVA_VERSION}*") if path.is_dir())
    for home in homes:
        if home and _java_version(Path(home) / "bin" / "java") == JAVA_VERSION:
            return home
    return None


def _java_version(java: Path) -> int | None:
    try:
        output = subprocess.run([java, "-version"], capture_output=True, text=True).stderr
    except OSError:
        return None
    match = re.search(r'version "(?:1\.)?(\d+)', output)
    return int(match.group(1)) if match else None


def missing_packages() -> list[str]:
    """The packages of packages.txt that are missing: installed neither by Debian nor in another way."""
    missing = []
    for line in PACKAGES.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words and not _is_installed(words[1]):
            missing.append(words[0])
    return missing


def _is_installed(requirement: str) -> bool:
    kind, _, name = requirement.partition(":")
    if kind == "command":
        return find_java_home() is not None if name == "java" else shutil.which(name) is not None
    if kind == "pkg-config":
        tool = shutil.which("pkg-config")
        return bool(tool) and any(
            subprocess.run([tool, "--exists", package]).returncode == 0 for package in name.split("|")
        )
    code = {
        "headers": "import sysconfig, os, sys; "
        "sys.exit(not os.path.exists(os.path.join(sysconfig.get_paths()['include'], 'Python.h')))",
        "venv": "import ensurepip, venv",
    }[name]
    return subprocess.run([find_python(), "-c", code], capture_output=True).returncode == 0


def install_packages() -> None:
    """Install missing OS packages as root. For other users, or without apt-get, raises Problem with the packages."""
    if missing := missing_packages():
        install(missing)


def install(missing: list[str]) -> None:
    """Install these OS packages. Raises Problem if apt-get is missing or, with the command to run, if this user is not root."""
    command = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if not shutil.which("apt-get"):
        raise Problem(
            "Operating system",
            f"missing packages, by their Debian names: {', '.join(missing)}",
            "Install the equivalent packages with this system's package manager.",
        )
    if os.getuid() != 0:
        raise Problem("Operating system", f"missing packages: {', '.join(missing)}", f"Run: sudo {' '.join(command)}")
    with step(f"as root: {' '.join(command)}"):
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        _run(["apt-get", "update"], "apt-get", quiet)
        _run(command, "apt-get", quiet)


def install_uv() -> Path:
    """Install uv into a folder of its own, apart from the machine's packages. Returns the path of uv."""
    uv = TOOLS / "uv" / "bin" / "uv"
    if (
        not uv.exists()
        or f"uv {UV_VERSION}" not in subprocess.run([uv, "--version"], capture_output=True, text=True).stdout
    ):
        with step(f"uv {UV_VERSION}"):
            shutil.rmtree(TOOLS / "uv", ignore_errors=True)
            python = str(find_python())
            pip = [python, "-m", "pip", "--disable-pip-version-check", "--no-input"]
            folder = TOOLS / "uv"
            # A Python of the distribution may have no pip; an environment has one.
            if subprocess.run([*pip, "--version"], capture_output=True).returncode == 0:
                _run([*pip, "install", "-q", "--no-deps", "--target", str(folder), f"uv=={UV_VERSION}"], "pip")
            else:
                _run([python, "-m", "venv", str(folder)], "Python's venv")
                _run([str(folder / "bin" / "python"), *pip[1:], "install", "-q", f"uv=={UV_VERSION}"], "pip")
    return uv


def install_environment() -> None:
    """Install the Python environment, exactly as the lock says; only when the lock, the Python or the folder changed."""
    python = find_python()
    uv = install_uv()  # even if the environment fits: targets of the Makefile run uv themselves
    stamp = Stamp(VENV / ".made-of", LOCK, str(python))
    is_in_place = _is_in_place(VENV)
    if stamp.fits() and is_in_place:
        return
    uv_env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "VIRTUAL_ENV": str(VENV)}
    with step(f"Python environment ({python})"):
        if not is_in_place or not _runs(VENV / "bin" / "python", _version_of(python)):
            _run([str(uv), "venv", "-q", "--clear", "--python", str(python), str(VENV)], "uv", uv_env)
        _run([str(uv), "pip", "sync", "-q", str(LOCK)], "uv", uv_env)
        for stamp_name in (".lakehouse-of", ".bigquery-of", ".cluster-of"):
            (VENV / stamp_name).unlink(missing_ok=True)
        stamp.write()


def install_optional() -> None:
    """Install what the lakehouse, BigQuery and streams need, if a setting turns them on; only after a change."""
    dot_env = env_file.read_dot_env(ROOT / ".env")
    declared = {**dot_env, **env_file.overrides(os.environ, dot_env)}
    if declared.get("MINUTEMARK_LAKEHOUSE"):
        install_from_lock(LAKEHOUSE_LOCK, ".lakehouse-of", "packages of the lakehouse (250 MB)")
    if declared.get("MINUTEMARK_BIGQUERY"):
        install_from_lock(BIGQUERY_LOCK, ".bigquery-of", "client of BigQuery")
    if declared.get("MINUTEMARK_INGEST", "").strip().lower() == "spark":
        install_stream_jars()


def install_stream_jars() -> None:
    """Install Spark's Kafka source, for streams and their tests."""
    install_jars(ROOT / "include" / "stream" / "pom.xml", STREAM_JARS, "jars of Spark's Kafka source")


def install_from_lock(lock: Path, stamp_name: str, what: str) -> None:
    """Add the packages of a lock to the Python environment; only when the lock changed."""
    stamp = Stamp(VENV / stamp_name, lock)
    if stamp.fits():
        return
    with step(what):
        command = [str(install_uv()), "pip", "install", "-q", "--python", str(VENV / "bin" / "python")]
        _run([*command, "-r", str(lock)], "uv")
        stamp.write()


def install_separately(folder: Path, lock: Path, what: str, size: str) -> None:
    """Install a separate environment in `folder`/venv, exactly as its lock says.

    It does nothing unless the lock, the Python or the folder has changed.
    """
    python = find_python()
    venv = folder / "venv"
    stamp = Stamp(folder / ".made-of", lock, str(python))
    if stamp.fits() and _is_in_place(venv):
        return
    folder.mkdir(parents=True, exist_ok=True)
    with _only_one(folder / ".installing"):
        if stamp.fits() and _is_in_place(venv):  # another process has just installed it
            return
        uv = install_uv()
        with step(f"{what}: {size}"):
            uv_env = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "VIRTUAL_ENV": str(venv)}
            shutil.rmtree(venv, ignore_errors=True)
            for command in (["venv", "-q", "--python", str(python), str(venv)], ["pip", "sync", str(lock)]):
                result = subprocess.run([str(uv), *command], env=uv_env)  # shows its own progress
                if result.returncode != 0:
                    problem = (
                        f"`uv {' '.join(command[:2])}` ended with status {result.returncode}; the lines above say why"
                    )
                    raise Problem(what, problem, "Run the same command again. Completed downloads are kept.")
            stamp.write()


def _is_in_place(venv: Path) -> bool:
    """Whether an environment was created in this folder: its scripts name their Python's path, and a checkout may be moved."""
    activate = venv / "bin" / "activate"
    lines = activate.read_text().splitlines() if activate.exists() else []
    created_in = [shlex.split(line)[0].partition("=")[2] for line in lines if line.startswith("VIRTUAL_ENV=")]
    return not {str(venv), str(venv.resolve())}.isdisjoint(created_in)  # `.local` may be a link to another disk


def _version_of(python: Path) -> str:
    return next(version for version in PYTHONS if _runs(python, version))


def install_jars(pom: Path, folder: Path, what: str) -> None:
    """Install exactly the jars of a pom in a folder; only when the pom changed."""
    stamp = Stamp(folder / ".made-of", pom, MAVEN_GOAL)
    if stamp.fits() and any(folder.glob("*.jar")):
        return
    maven = shutil.which("mvn")
    if not maven:
        raise Problem("Maven", "mvn is not on the PATH", "Install it (Debian: apt-get install maven).")
    with step(what):
        draft = folder.with_name(f"{folder.name}.new")
        shutil.rmtree(draft, ignore_errors=True)
        command = [maven, "-B", "-f", str(pom), MAVEN_GOAL, f"-DoutputDirectory={draft}", "-DincludeScope=runtime"]
        _run_maven(command, what)
        _replace_jars(draft, folder)
        stamp.write()


def install_stores() -> None:
    """Install the jars of the stores, and unpack the binaries of MariaDB and PostgreSQL from theirs."""
    install_jars(ROOT / "local" / "pom.xml", STORE_JARS, "jars of Cassandra, MariaDB and PostgreSQL")
    install_jars(ROOT / "local" / "kafka-pom.xml", KAFKA_JARS, "jars of Kafka")
    install_jars(ROOT / "local" / "connect-pom.xml", CONNECT_JARS, "jars of Kafka Connect")
    with step("MariaDB's binaries", min_seconds=1.0):
        mariadb.BINARIES.unpacked()
    with step("PostgreSQL's binaries", min_seconds=1.0):
        postgres.BINARIES.unpacked()


def _replace_jars(draft: Path, folder: Path) -> None:
    """Move the jars of `draft` into `folder`. Other jars of `folder` are deleted; its other files are kept."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {jar.name for jar in draft.glob("*.jar")}
    for old in folder.glob("*.jar"):
        if old.name not in names:
            old.unlink()
    for name in names:
        (draft / name).replace(folder / name)
    shutil.rmtree(draft)


def _run_maven(command: list[str], what: str) -> None:
    """Run Maven, and print now and then how many files it has fetched: with a cold cache it takes minutes."""
    home = find_java_home()
    env = {**os.environ, "JAVA_HOME": home} if home else None
    fetched, output = 0, []
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env) as maven:
        for line in maven.stdout or ():
            output = [*output[-200:], line]
            if line.startswith(("Downloaded", "[INFO] Downloaded")):
                fetched += 1
                if fetched % 50 == 0:
                    say(f"   … {what}: {fetched} files downloaded")
    if maven.returncode != 0:
        errors = [line.strip() for line in output if "ERROR" in line or "error" in line] or output
        raise Problem("Maven", f"cannot download the {what}: {' '.join(errors)[:600]}", _network_remedy())


def _run(command: list[str], what: str, env: dict[str, str] | None = None) -> None:
    result = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if result.returncode != 0:
        raise Problem(what, f"`{' '.join(command)}` failed:\n{result.stdout.strip()[-1500:]}", _network_remedy())


def _network_remedy() -> str:
    free = shutil.disk_usage(ROOT).free / 1e9
    if free < 3:
        return f"The disk has only {free:.1f} GB left. Free up space (3 GB is enough), then run the same command again."
    return "Read the message above. If the network failed, run the same command again. Completed downloads are kept."


class Stamp:
    """Records from which file something was made, so that it is made again only when that file has changed."""

    def __init__(self, path: Path, source: Path, *details: str) -> None:
        self._path = path
        self._text = hashlib.sha256(source.read_bytes() + "\n".join(details).encode()).hexdigest()

    def fits(self) -> bool:
        return self._path.is_file() and self._path.read_text() == self._text

    def write(self) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        self._path.write_text(self._text)


def set_up() -> None:
    """Run all steps, the slow ones in parallel. Raises Problem."""
    if find_java_home() is None and not shutil.which("apt-get"):
        raise Problem("Java", f"Java {JAVA_VERSION} not found", "Install it, or set JAVA_HOME to its folder.")
    LOCAL.mkdir(exist_ok=True)
    with only_one_set_up():
        find_python()
        install_packages()
        with concurrent.futures.ThreadPoolExecutor() as pool:
            installs = [
                pool.submit(install_environment),
                pool.submit(install_stores),
                pool.submit(install_jars, ROOT / "include" / "spark" / "pom.xml", SPARK_JARS, "jars for Spark"),
            ]
            for install_step in installs:
                install_step.result()
        install_optional()


def only_one_set_up() -> contextlib.AbstractContextManager[None]:
    """Wait for another set-up of the same folder to end."""
    return _only_one(LOCAL / ".set-up")


@contextlib.contextmanager
def _only_one(lock: Path) -> Iterator[None]:
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def main() -> int:
    try:
        set_up()
        if "--for-tests" in sys.argv[1:]:
            with only_one_set_up():
                install_stream_jars()
                pom = ROOT / "tests" / "lakehouse" / "rest_catalog" / "pom.xml"
                install_jars(pom, REST_CATALOG_JARS, "jars of an Iceberg REST catalog")
    except MinutemarkError as problem:
        print(f"\n{problem}", file=sys.stderr)
        return 2
    except OSError as error:
        problem = storage_problem(error, LOCAL) or f"{error}\n  What to do: {_network_remedy()}"
        print(f"\n{problem}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
