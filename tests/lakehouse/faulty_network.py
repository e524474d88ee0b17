"""A proxy in front of a real server; the proxy refuses some requests, drops others, and reports jobs as running."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

REFUSED, MISSING, DROPPED, RUNNING = "refused", "missing", "dropped", "running"
Fault = Callable[[str, str, bytes], str | None]  # from a request's method, path and body to a fault, or None
_ERRORS = {REFUSED: (403, "accessDenied", "Access denied"), MISSING: (404, "notFound", "Not found")}


@contextlib.contextmanager
def proxy(server_url: str, fault: Fault) -> Iterator[str]:
    """The URL of the proxy."""
    server = urlsplit(server_url)

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            kind = fault(self.command, self.path, body)
            if kind == DROPPED:
                self.close_connection = True
                return
            if kind in _ERRORS:
                status, reason, message = _ERRORS[kind]
                error = {"errors": [{"reason": reason, "message": message}], "message": message}
                self.send(status, {}, json.dumps({"error": error}).encode())
                return
            connection = http.client.HTTPConnection(server.hostname, server.port, timeout=60)
            with contextlib.closing(connection):
                connection.request(self.command, self.path, body, dict(self.headers))
                response = connection.getresponse()
                content = response.read()
                if kind == RUNNING:
                    content = content.replace(b'"DONE"', b'"RUNNING"')
                self.send(response.status, dict(response.getheaders()), content)

        def send(self, status: int, headers: dict[str, str], body: bytes) -> None:
            self.send_response(status)
            for name, value in headers.items():
                if name.lower() not in ("content-length", "transfer-encoding", "connection", "date", "server"):
                    self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - the names of BaseHTTPRequestHandler

        def log_message(self, *_: object) -> None:
            pass

    with served(Handler) as address:
        yield f"http://{address}"


@contextlib.contextmanager
def served(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """The address, host and port, of an HTTP server on loopback that answers with this handler."""
    httpd = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{httpd.server_port}"
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()
