"""Run by Superset's own Python: what its app answers to each route without a login, as JSON in the file that is named."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import tabs  # of dashboards/superset, which the test puts on the path
from superset.app import create_app

BOARD = "1"  # each kind of asset has one of this id or more
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


def requests(app) -> Iterator[tuple[str, str]]:
    """Method and path of each route, of an asset that is there."""
    for rule in app.url_map.iter_rules():
        with app.test_request_context():
            _, path = rule.build(dict.fromkeys(rule.arguments, BOARD), append_unknown=False)
        for method in sorted({"GET", *WRITES} & rule.methods):
            yield method, path


def main(file: str) -> None:
    app = create_app()
    client = app.test_client()

    def login(account: str, password: str):
        body = {"username": account, "password": password, "provider": "db"}
        return client.post("/api/v1/security/login", json=body)

    answers = {}
    for method, path in requests(app):
        answer = app.test_client().open(path, method=method)
        answers[f"{method} {path}"] = (
            answer.status_code,
            answer.headers.get("Location"),
            answer.get_data(as_text=True),
        )
    for board in tabs.boards().values():
        path = f"/superset/dashboard/{board['slug']}/"
        answer = app.test_client().get(path)
        answers[f"GET {path}"] = answer.status_code, answer.headers.get("Location"), answer.get_data(as_text=True)
    wrong = [
        ("analyst", ""),
        ("analyst", "analyst"),
        ("admin", "admin"),
        ("minutemark", ""),
        ("minutemark", "minutemark"),
    ]
    logins = {f"{account}:{password}": login(account, password).status_code for account, password in wrong}
    token = login("analyst", os.environ["MINUTEMARK_SUPERSET_PASSWORD"]).json["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    boards = client.get("/api/v1/dashboard/", headers=headers).json["result"]
    position = json.loads(client.get(f"/api/v1/dashboard/{tabs.SLUG}", headers=headers).json["result"]["position_json"])
    components = [one for one in position.values() if isinstance(one, dict)]
    charts = [one for one in components if one["type"] == "CHART"]
    result = {
        "answers": answers,
        "logins": logins,
        "boards": [board["slug"] for board in boards],
        "tabs": {one["id"]: one["meta"]["text"] for one in components if one["type"] == "TAB"},
        "charts_of_tabs": {
            folder: sum(tabs.tab_id(folder) in one["parents"] for one in charts) for folder in tabs.boards()
        },
    }
    Path(file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
