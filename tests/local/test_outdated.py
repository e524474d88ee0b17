"""`make outdated` reads pins and Maven's output, and lists what is outdated."""

from __future__ import annotations

import pytest

from local import outdated
from local.outdated import Update


def test_pins_are_exact_versions_by_name():
    text = """\
# A comment with left-pad==1.0 in it.
-r ../requirements.txt
apache-airflow==3.3.2
uvicorn[standard]==0.40.0
Backports.Zstd==1.8.0 ; python_version < "3.14"
    # via something==2
setuptools<81
tqdm
"""
    assert outdated.pins(text) == {"apache-airflow": "3.3.2", "uvicorn": "0.40.0", "backports.zstd": "1.8.0"}


def test_a_package_is_outdated_if_its_version_is_not_the_newest():
    pinned = {"b": "1.0", "a": "2.0", "current": "3.0", "unknown": "1"}
    newest = {"a": "2.1", "b": "1.1", "current": "3.0", "new": "9"}
    assert outdated.find_outdated(pinned, newest) == [Update("a", "2.0", "2.1"), Update("b", "1.0", "1.1")]


def test_updates_of_maven_are_on_one_line_or_on_two():
    output = """\
[INFO] --- versions:2.19.1:display-dependency-updates (default-cli) @ stores ---
[INFO] The following dependencies in Dependencies have newer versions:
[INFO]   a.long.group.of.servers:binaries-of-a-server-for-linux-amd64 ...
[INFO]                                                        1.6.0 -> 1.15.0
[INFO]   org.example:lake .................................... 5.0.8 -> 5.0.9
[INFO]
[INFO] BUILD SUCCESS
"""
    assert outdated.maven_updates(output) == [
        Update("a.long.group.of.servers:binaries-of-a-server-for-linux-amd64", "1.6.0", "1.15.0"),
        Update("org.example:lake", "5.0.8", "5.0.9"),
    ]


def test_nothing_is_outdated_if_maven_lists_nothing():
    output = "[INFO] No dependencies in Dependencies have newer versions.\n[INFO]\n[INFO] BUILD SUCCESS\n"
    assert outdated.maven_updates(output) == []


@pytest.mark.parametrize(
    "name", ["requirements.txt", "local/requirements.lock", "local/pom.xml", "docs/requirements.in"]
)
def test_files_with_pins_are_found(name):
    files = outdated._files("requirements.in", "requirements.txt", "requirements.lock", "pom.xml")
    assert outdated.ROOT / name in files
