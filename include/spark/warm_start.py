"""The class archives that halve the start-up time of a Spark job: `python -m include.spark.warm_start`.

A job without stores runs the same code as a real one, and loads every class of the connector and of the JDBC driver by
name; the JVM then writes the loaded classes to the archive. A job that finds no archive runs without one. Creating an archive
takes most of a minute of CPU, so it is kept until Java or a jar changes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from include.spark import installation, jvm, settings


def make_archives() -> Iterator[tuple[Path, float]]:
    """Create both archives, and yield each with the seconds that it took; each replaces the old one at the end, in one step."""
    archive, launcher = installation.archive(), installation.launcher_archive()
    archive.parent.mkdir(parents=True, exist_ok=True)
    current_source = source()
    yield launcher, _replace_archive(launcher, _launcher_run)
    yield archive, _replace_archive(archive, _spark_run)
    _source_file().write_text(current_source, encoding="utf-8")


def are_current() -> bool:
    """Whether both archives exist and were made by this Java from these jars: a JVM ignores others."""
    files = (installation.archive(), installation.launcher_archive(), _source_file())
    return all(file.is_file() for file in files) and _source_file().read_text(encoding="utf-8") == source()


def _source_file() -> Path:
    return installation.archive().with_suffix(".json")


def source() -> str:
    """Java and every jar of the class path, each with its size and time."""
    home = os.environ.get("JAVA_HOME")
    java = shutil.which("java", path=f"{home}/bin") if home else shutil.which("java")
    jars = [*map(Path, installation.spark_jars()), *sorted((installation.spark_home() / "jars").glob("*.jar"))]
    files = [*([Path(java).resolve()] if java else []), *jars]
    return json.dumps([[str(file), file.stat().st_size, file.stat().st_mtime_ns] for file in files], indent=1)


def _replace_archive(archive: Path, run) -> float:
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=archive.parent) as folder:
        new = Path(folder) / archive.name
        run(new, Path(folder))
        if not new.is_file():
            raise installation.CannotSubmit(
                f"The JVM wrote no archive to {new}. It needs its base archive: create that with `java -Xshare:dump`."
            )
        new.replace(archive)
    return time.monotonic() - started


def _spark_run(archive: Path, folder: Path) -> None:
    jars = installation.spark_jars()
    conf = settings.session_settings("local[1]")
    conf |= jvm.jvm_properties(jars, short_lived=True, archive_option=f"-XX:ArchiveClassesAtExit={archive}")
    properties = folder / "spark.properties"
    properties.write_text(settings.properties_text(conf), encoding="utf-8")
    command = [_spark_submit(), "--master", "local[1]", "--properties-file", str(properties)]
    _run([*command, str(Path(__file__).resolve()), "--load", *jars])


def _launcher_run(archive: Path, folder: Path) -> None:
    """The JVM that spark-submit starts first, to build the command line of the second one."""
    flags = " ".join([*jvm.LAUNCHER_FLAGS, f"-XX:ArchiveClassesAtExit={archive}"])
    _run([_spark_submit(), "--version"], SPARK_LAUNCHER_OPTS=flags)


def _run(command: Sequence[str], **variables: str) -> None:
    environment = {**os.environ, **jvm.environment("local[1]"), "PYTHONPATH": str(installation.ROOT), **variables}
    environment["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{environment['PATH']}"
    process = subprocess.run(command, env=environment, capture_output=True, text=True, errors="replace", check=False)
    if process.returncode:
        last_lines = "\n".join((process.stdout + process.stderr).splitlines()[-15:])
        raise installation.CannotSubmit(f"{command[0]} ended with code {process.returncode}:\n{last_lines}")


def _spark_submit() -> str:
    return str(installation.spark_home() / "bin" / "spark-submit")


def load(jars: Sequence[str]) -> None:
    """Inside Spark: transform a few rows of every pipeline, stage nothing, and load the jars' classes by name."""
    from pyspark.sql import SparkSession
    from pyspark.sql import functions as F

    from include import pipelines
    from include.spark import contract, run, staging
    from include.spark.fate import COUNTED, REJECTED

    spark = SparkSession.builder.getOrCreate()
    for pipeline in pipelines.all_pipelines().values():
        transform = run.transform_of(pipeline)
        rows = run.materialized(_few_rows(spark, pipeline), transform, pipeline, {})
        staging.count_minutes(rows, pipeline)
        contract.unknown_by_minute(rows)
        for contributions in transform.OUTPUTS.values():
            contributions(rows.where(F.col("fate") == COUNTED)).collect()
        staging.rejects(rows.where(F.col("fate") == REJECTED)).collect()
    _load_classes(spark, jars)
    spark.stop()


def _few_rows(spark, pipeline):
    """Rows with an empty payload, as the lake would return them; made in the JVM, without a Python worker."""
    from include.spark import lake

    values = {
        "minute": "TIMESTAMP '2026-01-01 00:00:00Z'", "shard": "0", "create_time": "'0e207ccf-156b-11f1-8000-0a0b0c0d0e0f'",
    }  # fmt: skip
    columns = ", ".join(f"{values.get(name, repr(name))} AS {name}" for name in lake.key_of(pipeline))
    return spark.sql(f"SELECT {columns}, '{{}}' AS payload FROM range(2)")


def _load_classes(spark, jars: Sequence[str]) -> None:
    loader = spark._jvm.java.lang.ClassLoader.getSystemClassLoader()
    for name in _class_names(jars):
        try:
            loader.loadClass(name)
        except Exception:  # a class of an optional dependency that is not here
            continue


def _class_names(jars: Sequence[str]) -> Iterator[str]:
    for jar in jars:
        with zipfile.ZipFile(jar) as classes:
            for name in classes.namelist():
                if name.endswith(".class") and not name.startswith("META-INF/") and "module-info" not in name:
                    yield name.removesuffix(".class").replace("/", ".")


def main() -> int:
    """Create both archives unless both are current, and print their paths. If that fails, print the reason and return 1."""
    if sys.argv[1:2] == ["--load"]:
        load(sys.argv[2:])
        return 0
    try:
        if are_current():
            print(f"The class archives in {installation.archive().parent} are up to date.")
            return 0
        for archive, seconds in make_archives():
            print(f"{archive}: {archive.stat().st_size / 1e6:.0f} MB in {seconds:.1f} s", flush=True)
    except (installation.CannotSubmit, OSError) as error:
        print(f"No class archive, so every Spark job starts more slowly: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
