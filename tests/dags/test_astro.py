"""What the Astro CLI reads: the integrity test, airflow_settings.yaml, .env, Dockerfile."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
import yaml

from include import connections
from tests.airflow_home import PROJECT, bare_environment

SETTINGS = yaml.safe_load((PROJECT / "airflow_settings.yaml").read_text())["airflow"]
IMAGE = re.compile(r"^FROM astrocrpublic\.azurecr\.io/runtime:3\.3-\d+-python-3\.12$")


def test_integrity_test_passes_without_stores_java_or_connections():
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", ".astro/test_dag_integrity_default.py"],
        cwd=PROJECT, env=bare_environment(), capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-3000:]


def test_settings_define_every_connection_that_the_project_reads():
    named = {value for name, value in vars(connections).items() if name.isupper() and isinstance(value, str)}
    assert {connection["conn_id"] for connection in SETTINGS["connections"]} == named


@pytest.mark.parametrize("connection", SETTINGS["connections"], ids=lambda connection: connection["conn_id"])
def test_extra_is_a_json_string(connection):
    assert isinstance(connection.get("conn_extra", ""), str), "The CLI would lower-case the keys of a YAML map."


def env_file() -> dict[str, str]:
    lines = (PROJECT / ".env").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def test_env_file_sets_only_options_that_this_airflow_has():
    from airflow.configuration import conf

    known = {
        f"AIRFLOW__{section}__{option}".upper()
        for section, content in conf.configuration_description.items()
        for option in content["options"]
    }
    assert set(env_file()) - known == set()


def test_env_file_needs_no_interpolation_and_defines_no_connection():
    values = env_file()
    assert not [name for name, value in values.items() if "$" in value], "standalone mode takes ${…} literally"
    assert not [name for name in values if name.startswith("AIRFLOW_CONN_")], (
        "it would override the connection in the UI"
    )


def test_every_setting_in_the_env_file_has_its_reason_above():
    lines = (PROJECT / ".env").read_text().splitlines()
    blocks = "\n".join(lines).split("\n\n")
    assert all(block.startswith("#") for block in blocks)


def test_dockerfile_has_one_literal_from_line():
    lines = [line for line in (PROJECT / "Dockerfile").read_text().splitlines() if line.startswith(("FROM", "ARG"))]
    assert len(lines) == 1, lines
    assert IMAGE.match(lines[0]), lines


def test_local_files_stay_out_of_the_image():
    ignored = (PROJECT / ".dockerignore").read_text().splitlines()
    assert {".local/", "local/", "bench/", ".env", "airflow_settings.yaml", ".git"} <= set(ignored)
