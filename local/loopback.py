"""JSON over HTTP with servers on this machine: Airflow, Superset, Spark, the BigQuery emulator."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping


def json_request(
    method: str, url: str, body: Mapping | None = None, token: str | None = None
) -> urllib.request.Request:
    """A request that sends and accepts JSON, as the token's user."""
    headers = {"Content-Type": "application/json", "Accept": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    return urllib.request.Request(url, None if body is None else json.dumps(body).encode(), headers, method=method)


def answer(request: urllib.request.Request, seconds: float) -> dict:
    """The JSON of the response. Raises OSError, such as HTTPError, and ValueError if it is not JSON."""
    return json.loads(fetch(request, seconds))


def fetch(request: urllib.request.Request | str, seconds: float) -> bytes:
    """The bytes of the response. Raises OSError."""
    # No proxy stands between us and the loopback interface.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=seconds) as response:
        return response.read()
