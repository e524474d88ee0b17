"""Run by Superset's own Python: for each route, writes the app's answer to a request without a login to a file, as JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import tabs  # from dashboards/superset, which the test puts on the path
from superset.app import create_app

ASSET_ID = "1"  # each kind of asset has one with this id
WRITES = {"POST", "PUT", "PATCH", "DELETE"}


def requests(app) -> Iterator[tuple[str, str]]:
    """Method and path of each route, for an asset that exists."""
    for rule in app.url_map.iter_rules():
        with app.test_request_context():
            _, path = rule.build(dict.fromkeys(rule.arguments, ASSET_ID), append_unknown=False)
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
    wrong_logins = [
        ("analyst", ""),
        ("analyst", "analyst"),
        ("admin", "admin"),
        ("minutemark", ""),
        ("minutemark", "minutemark"),
    ]
    logins = {f"{account}:{password}": login(account, password).status_code for account, password in wrong_logins}
    token = login("analyst", os.environ["MINUTEMARK_SUPERSET_PASSWORD"]).json["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    boards = client.get("/api/v1/dashboard/", headers=headers).json["result"]
    position = json.loads(client.get(f"/api/v1/dashboard/{tabs.SLUG}", headers=headers).json["result"]["position_json"])
    components = [component for component in position.values() if isinstance(component, dict)]
    charts = [component for component in components if component["type"] == "CHART"]
    result = {
        "answers": answers,
        "logins": logins,
        "boards": [board["slug"] for board in boards],
        "tabs": {component["id"]: component["meta"]["text"] for component in components if component["type"] == "TAB"},
        "charts_of_tabs": {
            folder: sum(tabs.tab_id(folder) in chart["parents"] for chart in charts) for folder in tabs.boards()
        },
    }
    Path(file).write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1])
