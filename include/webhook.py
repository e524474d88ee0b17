"""Sends a notice to a webhook: JSON over HTTP, with timeouts, and retries if they can help."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import replace

from include.connections import Endpoint

SECONDS = 3  # timeout for connecting, and for each wait for the receiver
TRIES = 3


class WebhookFailed(RuntimeError):
    """The receiver could not be reached, or refused the notice. The message never contains the URL: it may be a secret."""


def post(target: Endpoint, body: Mapping) -> None:
    """Send `body`; any status 2xx confirms it. Raises WebhookFailed."""
    from tenacity import Retrying, retry_if_exception, stop_after_attempt, wait_exponential

    retrying = Retrying(
        retry=retry_if_exception(_retry_may_help),
        stop=stop_after_attempt(TRIES),
        wait=wait_exponential(multiplier=0.2, max=2),
        reraise=True,
    )
    try:
        retrying(
            _send, urllib.request.Request(_url(target), json.dumps(body).encode(), _headers(target), method="POST")
        )
    except (OSError, ValueError, http.client.HTTPException) as error:
        raise WebhookFailed(f"Connection {target.conn_id} {_reason(error)}. {_remedy(error)}") from None


def _send(request: urllib.request.Request) -> None:
    with urllib.request.build_opener(_NoRedirect).open(request, timeout=SECONDS) as response:
        response.read(1)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Refuses redirects: a redirected POST becomes a GET, whose response would look like a confirmation."""

    def redirect_request(self, *_):  # ty: ignore[incompatible-method-override]  # ignores all arguments
        return None


def _retry_may_help(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code == 429 or error.code >= 500
    return isinstance(error, OSError | http.client.HTTPException) and not isinstance(error, http.client.InvalidURL)


def _reason(error: Exception) -> str:
    """The cause, in words. For errors other than urllib's, only the class is named: their text may contain URL or token."""
    if isinstance(error, urllib.error.HTTPError):
        return f"returned {error.code} {error.reason}"
    if isinstance(error, urllib.error.URLError):
        return f"cannot be reached ({error.reason})"
    return f"cannot be used ({type(error).__name__})"


def _remedy(error: Exception) -> str:
    is_refusal = isinstance(error, urllib.error.HTTPError) and not _retry_may_help(error)
    if is_refusal or isinstance(error, ValueError | http.client.InvalidURL):
        return "Correct its host (the whole URL) or its password (sent as a bearer token)."
    return "Check that its host is right and that the receiver is up; the next notice tries again."


def _url(target: Endpoint) -> str:
    try:
        return (replace(target, port=None) if "://" in target.host else target).url("https")
    except ValueError:
        raise WebhookFailed(
            f"Connection {target.conn_id} has no http or https URL in its host: write the whole URL there."
        ) from None


def _headers(target: Endpoint) -> dict[str, str]:
    token = {"Authorization": f"Bearer {target.password}"} if target.password else {}
    return {"Content-Type": "application/json", "User-Agent": "minutemark", **token}
