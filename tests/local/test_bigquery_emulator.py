"""The emulator of BigQuery lets in nobody without its token."""

import urllib.error

import psutil
import pytest

from local.loopback import answer, json_request
from tests.lakehouse.conftest import bigquery_emulator  # noqa: F401 - a fixture


@pytest.mark.parametrize("token", [None, "another"])
def test_requests_need_the_token(bigquery_emulator, token):  # noqa: F811
    url = f"{bigquery_emulator.url}/bigquery/v2/projects/minutemark-test/datasets"
    with pytest.raises(urllib.error.HTTPError, match="401"):
        answer(json_request("GET", url, token=token), 10)
    assert answer(json_request("GET", url, token=bigquery_emulator.token), 10)["kind"] == "bigquery#datasetList"


def test_it_listens_on_one_port_of_the_loopback_interface(bigquery_emulator):  # noqa: F811
    pid = next(
        connection.pid
        for connection in psutil.net_connections("tcp")
        if connection.status == psutil.CONN_LISTEN and connection.laddr.port == bigquery_emulator.port
    )
    listening = {c.laddr for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}
    assert listening == {("127.0.0.1", bigquery_emulator.port)}
    assert bigquery_emulator.token not in " ".join(psutil.Process(pid).cmdline())
