"""Set-up of the lake by a role with limited rights: those that docs/deploy.md lists are enough.

Each right on all keyspaces and on `minutemark` is needed.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from include.lake import schema
from include.lake.errors import LakePermissionMissing
from include.lake.session import lake
from tests.airflow_home import PROJECT

GRANTS = list(schema.administrator_grants("limited"))
_numbers = itertools.count(1)


@pytest.fixture
def limited(lake_schema, monkeypatch) -> Iterator[Limited]:
    """A new role without rights, as the account of connection lake_admin; one for each test, because a node caches rights."""
    variable, role = "AIRFLOW_CONN_LAKE_ADMIN", f"limited_{next(_numbers)}"
    with lake("lake_admin") as session:
        session.execute(f"CREATE ROLE {role} WITH PASSWORD = 'its-secret' AND LOGIN = true")
        account = json.loads(os.environ[variable]) | {"login": role, "password": "its-secret"}
        monkeypatch.setenv(variable, json.dumps(account))
        yield Limited(session, role)
        session.execute(f"DROP ROLE {role}")


@dataclass
class Limited:
    session: Any  # a superuser's
    role: str

    def grant(self, grants: Iterable[str]) -> None:
        for grant in grants:
            self.session.execute(grant.replace("limited", self.role))


def test_the_documented_rights_are_enough(limited):
    limited.grant(GRANTS)
    schema.apply_schema()
    schema.apply_schema()


@pytest.mark.parametrize("right", [grant for grant in GRANTS if "ALL KEYSPACES" in grant or "minutemark" in grant])
def test_each_right_on_all_keyspaces_and_on_minutemark_is_needed(limited, right):
    limited.grant(grant for grant in GRANTS if grant != right)
    with pytest.raises(LakePermissionMissing, match="connection lake_admin .*denied permission") as raised:
        schema.apply_schema()
    assert all(grant.replace("limited", f'"{limited.role}"') in str(raised.value) for grant in GRANTS)


def test_in_an_empty_lake_the_right_to_create_is_enough(limited):
    for keyspace in sorted({grant.split()[4] for grant in GRANTS[1:]}):
        limited.session.execute(f"DROP KEYSPACE {keyspace}", timeout=60)
    limited.grant(GRANTS[:1])
    schema.apply_schema()
    with lake("lake_reader") as session:
        session.execute("SELECT * FROM minutemark.minute_changes LIMIT 1")


def test_without_an_administrator_the_message_names_its_connection_and_its_rights(lake_schema, monkeypatch):
    monkeypatch.delenv("AIRFLOW_CONN_LAKE_ADMIN")
    with pytest.raises(LakePermissionMissing, match="connection lake_writer .*denied permission") as raised:
        schema.apply_schema()
    assert "define connection lake_admin (AIRFLOW_CONN_LAKE_ADMIN" in str(raised.value)
    assert "GRANT CREATE ON ALL KEYSPACES TO minutemark_admin;" in str(raised.value)


def test_the_documentation_lists_exactly_these_rights():
    section = (PROJECT / "docs" / "deploy.md").read_text().partition("\n## Cassandra")[2].partition("\n## ")[0]
    granted = [line for line in section.splitlines() if line.startswith("GRANT")]
    assert granted == list(schema.administrator_grants("minutemark_admin"))
