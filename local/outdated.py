"""`make outdated`: which pinned packages, locks and jars are outdated. It changes nothing.

uv and Maven look the versions up in the repositories that they are configured to use. For jars, including those of the
servers, only updates within the same major version are listed. Images are not checked: their tags are in the
Dockerfiles and in docker-compose.override.yml.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from local import bootstrap
from local.layout import ROOT
from local.problems import Problem

MAVEN_GOAL = "org.codehaus.mojo:versions-maven-plugin:2.19.1:display-dependency-updates"
_PIN = re.compile(r"^([A-Za-z0-9][\w.-]*)(?:\[[^\]]*\])?==([^\s;]+)", re.MULTILINE)
_UPDATE = re.compile(r"^\[INFO\] +(\S+:\S+) \.*\s*(?:\[INFO\] +)?(\S+) -> (\S+)", re.MULTILINE)
_PREVIEW = r"(?i).*[.-](alpha|beta|rc|m|preview|snapshot)[.-]?\d*"


class Update(NamedTuple):
    """An outdated package, and its newest version."""

    name: str
    pinned: str
    newest: str

    def __str__(self) -> str:
        return f"  {self.name:<55} {self.pinned:<14} {self.newest}"


def pins(text: str) -> dict[str, str]:
    """The pinned version of each package, from lines `package==version`."""
    return {name.lower().replace("_", "-"): version for name, version in _PIN.findall(text)}


def find_outdated(pinned: Mapping[str, str], newest: Mapping[str, str]) -> list[Update]:
    """The packages whose version is not the newest one."""
    return [
        Update(name, version, newest[name])
        for name, version in sorted(pinned.items())
        if newest.get(name, version) != version
    ]


def maven_updates(output: str) -> list[Update]:
    """The updates that the plugin lists; it puts the versions of a long name on a separate line."""
    return [Update(*update) for update in _UPDATE.findall(output)]


def updates_by_file() -> Iterator[tuple[Path, list[Update]]]:
    """Each file with its outdated packages. Raises Problem."""
    for file in _files("requirements.in", "requirements.txt"):
        if pinned := pins(file.read_text()):
            yield file, find_outdated(pinned, pins(_uv("--no-deps", "-", stdin="\n".join(pinned))))
    for lock in _files("requirements.lock"):
        source = next(path for path in map(lock.with_suffix, (".in", ".txt")) if path.exists())
        newest = _uv("--universal", "--python-version", "3.11", "--upgrade", str(source))
        yield lock, find_outdated(pins(lock.read_text()), pins(newest))
    for pom in _files("pom.xml", "*-pom.xml"):
        yield pom, maven_updates(_maven(pom))


def _files(*names: str) -> list[Path]:
    paths = {path for name in names for path in (*ROOT.glob(name), *ROOT.glob(f"[a-z]*/**/{name}"))}
    return sorted(path for path in paths if ".local" not in path.parts)


def _uv(*options: str, stdin: str | None = None) -> str:
    command = [bootstrap.install_uv(), "pip", "compile", "-q", "--no-header", "--no-annotate", *options]
    return _output([str(part) for part in command], "uv", stdin)


def _maven(pom: Path) -> str:
    maven = shutil.which("mvn")
    if not maven:
        raise Problem("Maven", "mvn is not on the PATH", "Install it (Debian: apt-get install maven).")
    options = ["-DallowMajorUpdates=false", f"-Dmaven.version.ignore={_PREVIEW}"]
    return _output([maven, "-B", "-f", str(pom), MAVEN_GOAL, *options], "Maven")


def _output(command: list[str], what: str, stdin: str | None = None) -> str:
    done = subprocess.run(command, cwd=ROOT, input=stdin, capture_output=True, text=True)
    if done.returncode:
        output = (done.stderr or done.stdout).strip()[-1500:]
        raise Problem(
            what, f"`{' '.join(command)}` failed:\n{output}", "If the network failed, run `make outdated` again."
        )
    return done.stdout


def main() -> int:
    try:
        for file, updates in updates_by_file():
            print(f"{file.relative_to(ROOT)}{'' if updates else ': up to date'}", *updates, sep="\n", flush=True)
    except Problem as problem:
        print(problem, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
