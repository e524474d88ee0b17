"""A tour of JupyterLab without its token: no notebook, no file, no kernel, and no kernel's output."""

from __future__ import annotations

import json
import re
import socket
import struct
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

import psutil
import pytest

from local import connections, notebook, waiting
from local.layout import JUPYTER
from local.process import Child, free_port
from tests.local.test_supervisor import until

pytestmark = pytest.mark.optional_install
PASSWORDS = connections.new_passwords()
CHANNELS = 5  # that a kernel listens on
FILE = "hours.py"  # a file that exists
# The login, the version, and the static files. The licenses need the token too, but a refused request never ends.
NOT_TOURED = re.compile(r"/(login|logout|api|robots\.txt|favicon\.ico|(static|lab/extensions|lab/api/licenses)/.*)")
_GROUP = re.compile(r"\((?:\?P<\w+>|\?:)?([^()]*)\)\??")


class Jupyter:
    """A running server."""

    def __init__(self, child: Child, port: int, token: str) -> None:
        self.child, self.port, self.token = child, port, token

    def request(self, method: str, path: str, token: str | None = None, body: object = None) -> tuple[int, str, str]:
        """Status, location of a redirect, and text of the response."""
        headers = {"Authorization": f"token {token}"} if token is not None else {}
        data = None if body is None else json.dumps(body).encode()
        http_request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data, headers, method=method)
        try:
            with urllib.request.build_opener(_Stay).open(http_request, timeout=30) as answer:
                return answer.status, "", answer.read().decode(errors="replace")
        except urllib.error.HTTPError as error:
            return error.code, error.headers.get("Location") or "", error.read().decode(errors="replace")


class _Stay(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        """Return a redirect as the response, and do not follow it."""


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """The environment that `make notebook` gives Jupyter, with a separate home."""
    if not (JUPYTER / "venv" / "bin" / "jupyter-lab").exists():
        pytest.skip(f"JupyterLab is not in {JUPYTER}: `make notebook` installs it.")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(notebook, "HOME", tmp_path_factory.mktemp("jupyter"))
        yield notebook.jupyter_environment(
            {**connections.lake(PASSWORDS, 9042), **connections.warehouse(PASSWORDS, 3306)}
        )


@pytest.fixture(scope="module")
def jupyter(environ, tmp_path_factory):
    """The server that `make notebook` starts."""
    port = free_port()
    child = Child(notebook.command(port), tmp_path_factory.mktemp("log") / "log", environ, notebook.FOLDER)
    try:
        runtime = notebook.runtime()
        file = waiting.until(
            lambda: next(runtime.glob("jpserver-*.json")),
            what="JupyterLab",
            seconds=60,
            errors=(StopIteration,),
            alive=child.alive,
            log=str(child.log),
        )
        server = Jupyter(child, port, json.loads(file.read_text())["token"])
        waiting.until(
            lambda: server.request("GET", "/api"),
            what="JupyterLab",
            seconds=60,
            errors=(OSError,),
            alive=child.alive,
            log=str(child.log),
        )
        yield server
    finally:
        child.stop()


@pytest.fixture(scope="module")
def paths(environ):
    """A path for each route; those of files name a file that exists."""
    options = notebook.command(free_port())[1:]
    command = [str(JUPYTER / "venv" / "bin" / "python"), "-m", "tests.local.routes_of_jupyter", *options]
    done = subprocess.run(command, env=environ, cwd=notebook.FOLDER, capture_output=True, text=True, check=True)
    return sorted({matching_path(pattern) for pattern in json.loads(done.stdout)})


def matching_path(pattern: str) -> str:
    """A path that the pattern matches."""

    def sample_of(group: re.Match) -> str:
        inner = group[1]
        return str(uuid.UUID(int=0)) if inner.count(r"\w+") == 5 else inner.partition("|")[0]

    text = pattern.removesuffix("$").replace("(?:(?:/[^/]+)+|/?)", f"/{FILE}")
    while _GROUP.search(text):
        text = _GROUP.sub(sample_of, text)
    for regex, sample in ((".*", FILE), (".+", FILE), (r"[\w\.\-%]+", "python3"), ("[a-zA-Z0-9\\-\\_]+", "x"),
                          (r"[\w-]+", "x"), (r"\w+", "x"), ("/?", "/"), ("\\.", ".")):  # fmt: skip
        text = text.replace(regex, sample)
    return text if text.startswith("/") else f"/{text}"


@pytest.mark.parametrize("token", [None, "", "not-the-token"])
def test_every_route_needs_the_token(jupyter, paths, token):
    toured = [path for path in paths if not NOT_TOURED.fullmatch(path)]
    assert len(toured) > 40 and f"/files/{FILE}" in toured and f"/api/contents/{FILE}" in toured
    answered = {}
    for path in toured:
        for method in ("GET", "POST", "PUT", "PATCH", "DELETE") if token is None else ("GET",):
            status, location, text = jupyter.request(method, path, token)
            refused = status in (401, 403, 404, 405) or (status in (301, 302) and leads_to_login(location, toured))
            shown = [word for word in (*PASSWORDS.values(), jupyter.token, "import ") if word in text]
            if not refused or shown:
                answered[method, path] = (status, location, shown)
    assert answered == {}


def leads_to_login(location: str, toured: list[str]) -> bool:
    """Whether a redirect leads to the login, or to a path that is part of this tour."""
    return location.startswith("/login") or location.partition("?")[0] in (*toured, "/lab", "/lab/")


def test_with_the_token_jupyter_serves_its_files(jupyter):
    """Otherwise the tour would pass a server that refuses everything."""
    status, _, text = jupyter.request("GET", f"/files/{FILE}", jupyter.token)
    assert status == 200 and text == (notebook.FOLDER / FILE).read_text()


def test_no_port_of_a_kernel_sends_anything(jupyter):
    """Otherwise all users of the machine could read a cell's output: Jupyter signs its messages, but encrypts none."""
    status, _, text = jupyter.request("POST", "/api/kernels", jupyter.token, {"name": "python3"})
    assert status == 201, text
    try:
        expected = CHANNELS + 1  # and one for the output of the kernel's children
        until(lambda: len(open_channels(jupyter)) >= expected, 60)
        channels = open_channels(jupyter)
        sockets = [location for location in channels if isinstance(location, str)]
        assert len(sockets) >= CHANNELS
        assert {str(Path(location).parent) for location in sockets} == {str(notebook.runtime())}
        assert notebook.runtime().stat().st_mode & 0o077 == 0
        assert {kind_of(location) for location in channels if isinstance(location, int)} <= {
            b"PULL"
        }  # receives, and never sends
    finally:
        jupyter.request("DELETE", f"/api/kernels/{json.loads(text)['id']}", jupyter.token)


def open_channels(jupyter: Jupyter) -> list[int | str]:
    """What the server's kernels listen on: ports, and sockets in the file system."""
    result: list[int | str] = []
    for kernel in psutil.Process(jupyter.child.pid).children(recursive=True):
        result += [
            net_connection.laddr.port
            for net_connection in kernel.net_connections("tcp")
            if net_connection.status == psutil.CONN_LISTEN
        ]
        result += [net_connection.laddr for net_connection in kernel.net_connections("unix") if net_connection.laddr]
    return result


def kind_of(port: int) -> bytes:
    """The type that a ZeroMQ socket declares to its peers."""
    greeting = b"\xff" + bytes(8) + b"\x7f\x03\x00" + b"NULL".ljust(20, b"\0") + bytes(32)
    ready = b"\x05READY\x0bSocket-Type" + struct.pack(">I", 4) + b"PUSH"
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(greeting + b"\x04" + bytes([len(ready)]) + ready)
        answer = b""
        while b"Socket-Type" not in answer or len(answer.partition(b"Socket-Type")[2]) < 8:
            answer += connection.recv(256)
    [size] = struct.unpack(">I", answer.partition(b"Socket-Type")[2][:4])
    return answer.partition(b"Socket-Type")[2][4 : 4 + size]
