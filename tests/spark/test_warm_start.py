"""The class archives are outdated if one is missing, or if the JVM would refuse them."""

from __future__ import annotations

from pathlib import Path

import pytest

from include.spark import installation, warm_start


@pytest.fixture
def archive_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Path]:
    """Current archives; returns the files that they depend on: Java, a jar of the connector and a jar of Spark."""
    files = {
        "java": tmp_path / "bin" / "java",
        "connector": tmp_path / "own" / "a.jar",
        "spark": tmp_path / "jars" / "b.jar",
    }
    for file in files.values():
        file.parent.mkdir()
        file.write_bytes(b"1")
    files["java"].chmod(0o755)
    for name, folder in (("JAVA_HOME", ""), ("SPARK_HOME", ""), ("MINUTEMARK_SPARK_JARS", "own")):
        monkeypatch.setenv(name, str(tmp_path / folder))
    monkeypatch.setenv("MINUTEMARK_SPARK_ARCHIVE", str(tmp_path / "spark.jsa"))
    assert not warm_start.are_current()
    for archive in (installation.archive(), installation.launcher_archive()):
        archive.write_bytes(b"classes")
    installation.archive().with_suffix(".json").write_text(warm_start.source())
    assert warm_start.are_current()
    return files


@pytest.mark.parametrize("changed", ["java", "connector", "spark"])
def test_the_archives_are_outdated_once_java_or_a_jar_changes(archive_sources: dict[str, Path], changed: str) -> None:
    archive_sources[changed].write_bytes(b"12")
    assert not warm_start.are_current()


def test_the_archives_are_outdated_if_one_of_the_two_is_missing(archive_sources: dict[str, Path]) -> None:
    installation.launcher_archive().unlink()
    assert not warm_start.are_current()
