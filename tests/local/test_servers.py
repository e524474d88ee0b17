"""What servers share: the Java that runs them, and the binaries in their jars."""

from __future__ import annotations

from pathlib import Path

import pytest

from local.problems import Problem
from local.servers.java import java
from local.servers.server import BinaryJar


@pytest.mark.parametrize(
    ("java_home", "message"),
    [
        ("/nowhere", r"JAVA_HOME=/nowhere has no bin/java\n.*or unset it"),
        ("", r"java is not on the PATH\n.*Install Java 17"),
    ],
)
def test_a_missing_java_is_reported_with_a_remedy_that_fits_its_cause(monkeypatch, tmp_path, java_home, message):
    monkeypatch.setenv("JAVA_HOME", java_home)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Problem, match=message):
        java()


def unpack(jar: Path, target: Path) -> None:
    """The jar's text names the file that it contains; "full disk" fails after a part was written."""
    target.mkdir()
    (target / jar.read_text()).touch()
    if jar.read_text() == "full disk":
        raise OSError(28, "No space left on device")


@pytest.fixture
def binaries(tmp_path: Path) -> BinaryJar:
    """Binaries whose jar is in `tmp_path`."""
    return BinaryJar("Store", "store-jar-", "store-", unpack)


def test_binaries_are_unpacked_once(binaries: BinaryJar, tmp_path: Path) -> None:
    (tmp_path / "store-jar-1.0.jar").write_text("server")
    folder = binaries.unpacked(tmp_path)
    (folder / "server").unlink()
    assert binaries.unpacked(tmp_path) == folder == tmp_path / "store-1.0"
    assert not list(folder.iterdir())


def test_binaries_that_cannot_be_unpacked_leave_nothing(binaries: BinaryJar, tmp_path: Path) -> None:
    jar = tmp_path / "store-jar-1.0.jar"
    jar.write_text("full disk")
    with pytest.raises(OSError, match="No space left"):
        binaries.unpacked(tmp_path)
    assert list(tmp_path.iterdir()) == [jar]


def test_binaries_that_another_process_unpacked_in_the_meantime_are_used(tmp_path: Path) -> None:
    (tmp_path / "store-jar-1.0.jar").write_text("server")

    def unpack_twice(jar: Path, target: Path) -> None:
        unpack(jar, target)
        unpack(jar, tmp_path / "store-1.0")

    binaries = BinaryJar("Store", "store-jar-", "store-", unpack_twice)
    assert [path.name for path in binaries.unpacked(tmp_path).iterdir()] == ["server"]
    assert {path.name for path in tmp_path.iterdir()} == {"store-jar-1.0.jar", "store-1.0"}
