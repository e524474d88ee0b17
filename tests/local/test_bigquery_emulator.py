"""The BigQuery emulator starts only if the settings name it, and refuses clients without its token."""

import os
import subprocess
import sys
import urllib.error

import psutil
import pytest

from local.layout import ROOT
from local.loopback import answer, json_request
from local.servers import bigquery_emulator as emulator
from tests.lakehouse.conftest import bigquery_emulator  # noqa: F401 - a fixture


@pytest.mark.parametrize("token", [None, "another"])
def test_requests_need_the_token(bigquery_emulator, token):  # noqa: F811
    url = f"{bigquery_emulator.url}/bigquery/v2/projects/minutemark-test/datasets"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        answer(json_request("GET", url, token=token), 10)
    assert answer(json_request("GET", url, token=bigquery_emulator.token), 10)["kind"] == "bigquery#datasetList"


def test_the_bigquery_emulator_listens_on_one_port_of_the_loopback_interface(bigquery_emulator):  # noqa: F811
    pid = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == bigquery_emulator.port
    )
    listening = {c.laddr for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", bigquery_emulator.port)}
    assert bigquery_emulator.token not in " ".join(psutil.Process(pid).cmdline())


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, False),
        ({"MINUTEMARK_LAKEHOUSE": "local"}, False),
        ({"MINUTEMARK_LAKEHOUSE": "local", "MINUTEMARK_BIGQUERY": "project.counts"}, False),
        ({"MINUTEMARK_LAKEHOUSE": "local", "MINUTEMARK_BIGQUERY": "local"}, True),
    ],
)
def test_make_run_starts_the_bigquery_emulator_only_if_the_settings_name_it(settings, expected, tmp_path):
    programs = "from local.start import Stack; print(*(program.name for program in Stack()._programs()))"
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MINUTEMARK_", "BIGQUERY_"))}
    env = {**inherited, **settings, "MINUTEMARK_STATE": str(tmp_path), "PYTHONPATH": str(ROOT)}
    names = subprocess.run([sys.executable, "-c", programs], env=env, capture_output=True, text=True, check=True).stdout
    assert "scheduler" in names.split()
    assert ("bigquery" in names.split()) == expected


def test_an_emulator_that_cannot_be_installed_is_reported(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path))
    assert emulator.main() == 2
    assert "Python: no Python 3.12 or 3.11" in capsys.readouterr().err
