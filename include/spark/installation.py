"""Where Spark, its jars and its class archives are on this machine."""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from pathlib import Path

from include.errors import MinutemarkError

ROOT = Path(__file__).resolve().parents[2]


class CannotSubmit(MinutemarkError):
    """Something that spark-submit needs is missing; the message says what, and how to get it."""


def spark_jars() -> list[str]:
    """The connector, the JDBC driver and their dependencies, from MINUTEMARK_SPARK_JARS or .local/jars."""
    return jars_of("include/spark/pom.xml", "MINUTEMARK_SPARK_JARS", ".local/jars", what="jars for Spark")


def jars_of(pom: str, variable: str, folder: str, *, what: str, condition: str = "") -> list[str]:
    """The jars of `pom`, from the folder in environment variable `variable`, or else from `folder` in the project.

    Raises CannotSubmit if there are none; `condition` says when set-up fetches them.
    """
    place = Path(os.environ.get(variable) or ROOT / folder)
    jars = sorted(str(jar) for jar in place.glob("*.jar"))
    if not jars:
        raise CannotSubmit(
            f"There are no {what} in {place}. `make setup` puts them into {folder}{condition}. In other deployments, run "
            f"`mvn -f {pom} dependency:copy-dependencies -DoutputDirectory={place}`, "
            f"or set {variable} to the folder that has them."
        )
    return jars


def spark_home() -> Path:
    """SPARK_HOME, or the folder where pip installed Spark."""
    if os.environ.get("SPARK_HOME"):
        return Path(os.environ["SPARK_HOME"])
    spec = importlib.util.find_spec("pyspark")
    if spec is None or spec.origin is None:
        raise CannotSubmit("Spark was not found. Install pyspark 3.5, or set SPARK_HOME.")
    return Path(spec.origin).parent


def own_spark_submit() -> str | None:
    """The spark-submit of the running interpreter's environment, whatever PATH says; None if it is not installed there."""
    installed = Path(sys.executable).parent / "spark-submit"
    return str(installed) if installed.exists() else None


def archive() -> Path:
    """The path of the class archive, whether it exists or not: MINUTEMARK_SPARK_ARCHIVE or .local/spark/spark.jsa."""
    return Path(os.environ.get("MINUTEMARK_SPARK_ARCHIVE") or ROOT / ".local" / "spark" / "spark.jsa")


def launcher_archive() -> Path:
    """The archive of spark-submit's own first JVM, which only builds a command line."""
    return archive().with_name("launcher.jsa")


def spark_defaults() -> dict[str, str]:
    """The machine's own spark-defaults.conf, which --properties-file would hide."""
    folder = Path(os.environ.get("SPARK_CONF_DIR") or spark_home() / "conf")
    file = folder / "spark-defaults.conf"
    if not file.is_file():
        return {}
    result = {}
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.strip() and not line.lstrip().startswith(("#", "!")):
            key, value = (*re.split(r"\s*[=:\s]\s*", line.strip(), maxsplit=1), "")[:2]
            result[key] = value
    return result
