"""A tour of Superset without a login: no board, no row, no password, and nothing changes. Its app answers in process."""

from __future__ import annotations

import json
import re
import subprocess

import pytest

from dashboards.superset import tabs
from local import connections, dashboards, environment
from local.layout import ROOT, SUPERSET

pytestmark = pytest.mark.optional_install
# The login page, the probes, the version, and a picture that no account has.
PUBLIC = {"/login/", "/register/", "/ping", "/healthcheck", "/health", "/version", "/api/v1/user/1/avatar.png"}
# These fail for all users: an unknown language, and an OAuth2 callback that no server has sent.
FAILS = {"GET /lang/1", "GET /api/v1/database/oauth2/"}
HOME = re.compile(r"/|/login/.*|/superset/welcome/")  # leads to the login
BOARDS = tabs.boards()
BI = json.dumps({"conn_type": "mysql", "host": "127.0.0.1", "port": 1, "login": "bi", "password": "bi-secret"})


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """Superset's answers, with its boards loaded as by `make dashboards`."""
    if not (SUPERSET / "venv" / "bin" / "python").exists():
        pytest.skip(f"Superset is not in {SUPERSET}: `make dashboards` installs it.")
    folder = tmp_path_factory.mktemp("superset")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(dashboards, "HOME", folder)
        patched.setattr(dashboards, "SECRETS", folder / "secrets.json")
        patched.setattr(environment, "read", lambda: {connections.variable("warehouse_bi"): BI})
        environ = dashboards.superset_environment()
        secrets = [*dashboards.own_secrets().values(), "bi-secret"]
    environ["PYTHONPATH"] = str(dashboards.FOLDER)  # for the tour, which names the tabs
    file = folder / "result.json"
    tour = [
        str(SUPERSET / "venv" / "bin" / "python"),
        str(ROOT / "tests" / "local" / "answers_of_superset.py"),
        str(file),
    ]
    for command in (dashboards.load_command(), tour):
        done = subprocess.run(command, env=environ, cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-2000:]
    return {**json.loads(file.read_text()), "secrets": secrets}


def test_every_route_needs_a_login(result):
    answers = {
        request: answer for request, answer in result["answers"].items() if request.removeprefix("GET ") not in PUBLIC
    }
    assert len(answers) > 300
    open_routes = {
        request: (status, location)
        for request, (status, location, _) in answers.items()
        if status not in (400, 401, 403, 404)
        and not (
            status in (302, 308)
            and (HOME.fullmatch(location) or location.startswith(f"/superset/dashboard/{tabs.SLUG}/#"))
        )
    }
    assert set(open_routes) <= FAILS, open_routes


def test_no_answer_without_a_login_shows_a_secret_or_a_board(result):
    texts = {request: text for request, (_, _, text) in result["answers"].items()}
    words = [*result["secrets"], *(title for title, _ in dashboards.addresses())]
    assert {request: word for request, text in texts.items() for word in words if word in text} == {}


def test_accounts_have_no_default_password(result):
    assert set(result["logins"].values()) <= {400, 401}, result["logins"]


def test_with_a_login_superset_shows_its_boards(result):
    """Otherwise the tour would pass a Superset without boards."""
    assert result["boards"] == [tabs.SLUG]
    assert result["tabs"] == {tabs.tab_id(folder): board["dashboard_title"] for folder, board in BOARDS.items()}
    assert set(result["charts_of_tabs"]) == set(BOARDS) and min(result["charts_of_tabs"].values()) > 5


def test_the_address_of_a_former_board_opens_its_tab(result):
    for folder, board in BOARDS.items():
        status, location, _ = result["answers"][f"GET /superset/dashboard/{board['slug']}/"]
        assert (status, location) == (302, f"/superset/dashboard/{tabs.SLUG}/#{tabs.tab_id(folder)}")
