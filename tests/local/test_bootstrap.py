"""Set-up on machines that lack something: it reports what is missing and how to get it, and repeats no step."""

import os
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from local import bootstrap
from local.problems import Problem


def test_without_a_supported_python_the_supported_versions_are_named(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    with pytest.raises(Problem, match=r"no Python 3\.12 or 3\.11"):
        bootstrap.find_python()


def test_a_shim_that_does_not_run_is_skipped(monkeypatch, tmp_path):
    shim = tmp_path / "python3.12"
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.12: command not found' >&2\nexit 127\n")
    shim.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/bin:/usr/bin")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "none"))
    monkeypatch.setattr(bootstrap, "PYTHONS", ("3.12",))
    with pytest.raises(Problem):
        bootstrap.find_python()


def test_missing_packages_are_installed_as_root_and_other_users_get_the_command(monkeypatch):
    commands = []
    monkeypatch.setattr(bootstrap, "missing_packages", lambda: ["maven", "gcc"])
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(bootstrap, "_run", lambda command, *_: commands.append(command))

    monkeypatch.setattr(os, "getuid", lambda: 1000)
    with pytest.raises(Problem, match="sudo apt-get install -y --no-install-recommends maven gcc"):
        bootstrap.install_packages()
    assert commands == []

    monkeypatch.setattr(os, "getuid", lambda: 0)
    bootstrap.install_packages()
    assert commands[-1][-2:] == ["maven", "gcc"]


def test_a_java_of_another_version_does_not_count(monkeypatch, tmp_path):
    java = tmp_path / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"21.0.2\" 2024-01-16' >&2\n")
    java.chmod(0o755)
    assert bootstrap._java_version(java) == 21
    monkeypatch.setenv("JAVA_HOME", str(tmp_path))
    assert bootstrap.find_java_home() != str(tmp_path)


def test_a_missing_maven_is_reported(monkeypatch, tmp_path):
    pom = tmp_path / "pom.xml"
    pom.write_text("<project/>")
    monkeypatch.setattr(bootstrap.shutil, "which", lambda name: None)
    with pytest.raises(Problem, match="mvn is not on the PATH"):
        bootstrap.install_jars(pom, tmp_path / "jars", "jars")


def test_a_stamp_fits_until_its_source_changes(tmp_path):
    source = tmp_path / "lock"
    source.write_text("a==1")
    bootstrap.Stamp(tmp_path / "stamp", source).write()
    assert bootstrap.Stamp(tmp_path / "stamp", source).fits()
    source.write_text("a==2")
    assert not bootstrap.Stamp(tmp_path / "stamp", source).fits()


@pytest.mark.parametrize("installed", [None, "uv 0.1.0"])
def test_set_up_replaces_a_missing_or_former_uv_even_if_the_environment_fits(monkeypatch, tmp_path, installed):
    uv = tmp_path / "uv" / "bin" / "uv"
    if installed:
        uv.parent.mkdir(parents=True)
        uv.write_text(f"#!/bin/sh\necho {installed}\n")
        uv.chmod(0o755)
    monkeypatch.setattr(bootstrap, "TOOLS", tmp_path)
    monkeypatch.setattr(bootstrap.Stamp, "fits", lambda stamp: True)
    monkeypatch.setattr(bootstrap, "_is_in_place", lambda venv: True)
    bootstrap.install_environment()
    assert f"uv {bootstrap.UV_VERSION}" in subprocess.run([uv, "--version"], capture_output=True, text=True).stdout


@pytest.mark.parametrize("part", ["main", "separate"])
def test_the_environment_of_a_moved_checkout_is_installed_again_for_its_new_folder(monkeypatch, tmp_path, part):
    """Scripts such as supervisord start with the path of the Python that they were installed for."""
    lock = tmp_path / "requirements.lock"
    lock.write_text("# no package\n")
    monkeypatch.setattr(bootstrap, "LOCK", lock)

    def install(folder):
        if part == "separate":
            return bootstrap.install_separately(folder, lock, "a tool", "no package")
        monkeypatch.setattr(bootstrap, "VENV", folder / "venv")
        return bootstrap.install_environment()

    def folder_of_scripts(folder):
        command = ["sh", "-c", '. "$1" && printf %s "$VIRTUAL_ENV"', "sh", folder / "venv" / "bin" / "activate"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    before, after = tmp_path / "be fore", tmp_path / "it's after"
    install(before)
    (before / "venv" / "kept").touch()
    install(before)  # nothing changed
    assert (before / "venv" / "kept").exists()
    before.rename(after)
    install(after)
    assert folder_of_scripts(after) == str(after / "venv")


def test_two_commands_at_once_install_a_separate_environment_once(monkeypatch, tmp_path):
    lock = tmp_path / "requirements.lock"
    lock.write_text("# no package\n")
    installs, both, find_python, install_uv = [], threading.Barrier(2), bootstrap.find_python, bootstrap.install_uv
    monkeypatch.setattr(bootstrap, "find_python", lambda: both.wait(30) is not None and find_python())
    monkeypatch.setattr(bootstrap, "install_uv", lambda: installs.append("uv") or install_uv())
    with ThreadPoolExecutor() as pool:
        commands = [pool.submit(bootstrap.install_separately, tmp_path / "tool", lock, "a tool", "") for _ in range(2)]
        for command in commands:
            command.result()
    assert installs == ["uv"]


def test_the_environment_behind_a_link_to_another_disk_is_in_place(tmp_path):
    disk, link = tmp_path / "disk", tmp_path / "link"
    link.symlink_to(disk)
    subprocess.run([bootstrap.install_uv(), "venv", "-q", disk / "venv"], check=True)
    assert bootstrap._is_in_place(link / "venv")


def test_jars_that_are_no_longer_in_the_pom_are_removed(tmp_path):
    fresh, folder = tmp_path / "fresh", tmp_path / "folder"
    for path in (fresh / "new.jar", folder / "old.jar", folder / "mariadb" / "bin"):
        path.parent.mkdir(exist_ok=True)
        path.write_text("")
    bootstrap._replace_jars(fresh, folder)
    assert sorted(path.name for path in folder.iterdir()) == ["mariadb", "new.jar"]


def test_every_package_names_something_that_shows_that_it_is_installed():
    for line in bootstrap.PACKAGES.read_text().splitlines():
        words = line.partition("#")[0].split()
        if words:
            kind, _, name = words[1].partition(":")
            assert kind in ("command", "pkg-config") or (kind, name) in (("python", "headers"), ("python", "venv"))


@pytest.mark.parametrize(("mode", "installed"), [("", []), ("dag", []), (" Spark ", ["jars of Spark's Kafka source"])])
def test_jars_for_streams_are_installed_only_if_spark_is_the_ingest_mode(monkeypatch, mode, installed):
    result = []
    monkeypatch.setattr(bootstrap, "install_jars", lambda *args: result.append(args[-1]))
    monkeypatch.setattr(bootstrap.env_file, "read_dot_env", lambda _: {})
    for name in ("MINUTEMARK_LAKEHOUSE", "MINUTEMARK_BIGQUERY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MINUTEMARK_INGEST", mode)
    bootstrap.install_optional()
    assert result == installed


def test_dot_env_selects_what_is_installed_even_if_the_terminal_sourced_another_mode(monkeypatch, tmp_path):
    result = []
    monkeypatch.setattr(bootstrap, "install_jars", lambda *args: result.append(args[-1]))
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("MINUTEMARK_INGEST=spark\n")
    sourced = {"MINUTEMARK_INGEST": "dag"}
    for name, value in (sourced | {"MINUTEMARK_SOURCED": bootstrap.env_file.mark(sourced)}).items():
        monkeypatch.setenv(name, value)
    for name in ("MINUTEMARK_LAKEHOUSE", "MINUTEMARK_BIGQUERY"):
        monkeypatch.delenv(name, raising=False)
    bootstrap.install_optional()
    assert result == ["jars of Spark's Kafka source"]


def test_set_up_names_the_line_of_dot_env_that_it_cannot_read(monkeypatch, tmp_path, capsys):
    (tmp_path / ".env").write_text("AIRFLOW__SMTP__SMTP_PASSWORD='its\n")
    monkeypatch.setattr(bootstrap, "ROOT", tmp_path)
    monkeypatch.setattr(bootstrap, "set_up", bootstrap.install_optional)
    assert bootstrap.main() == 2
    assert ".env, line 1: the value of AIRFLOW__SMTP__SMTP_PASSWORD" in capsys.readouterr().err


def test_set_up_reports_a_full_disk_as_such_and_not_as_a_network_problem(monkeypatch, capsys):
    monkeypatch.setattr(bootstrap, "set_up", lambda: Path("/dev/full").write_text("x"))
    assert bootstrap.main() == 2
    problem = capsys.readouterr().err
    assert "No space left on device" in problem and "network" not in problem
