"""A second pipeline is a declaration, a transform, SQL, demo events and boards: nothing else knows that it exists."""

from __future__ import annotations

import re

import pytest

from include import pipelines
from include.warehouse.sql import files
from local.layout import ROOT

SHARED_FOLDERS = ("include", "plugins", "dags", "local", "docker", "dashboards")
OWN_FILES = re.compile(
    r"include/(pipelines|spark|demo)/ecommerce\.py|include/sql/ecommerce/.*|include/lineage/ecommerce\.json"
    r"|dashboards/\w+/ecommerce/.*"
)


def shared_sources() -> dict[str, str]:
    """Every source file that pipelines share, by its path."""
    files = (path for folder in SHARED_FOLDERS for path in sorted((ROOT / folder).rglob("*")))
    sources = [path for path in files if path.suffix in (".py", ".sql", ".cql", ".yaml", ".yml", ".json")]
    named = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in sources}
    return {name: text for name, text in named.items() if not OWN_FILES.fullmatch(name)}


def test_no_shared_module_knows_the_second_pipeline() -> None:
    mentions = {
        name: match[0]
        for name, text in shared_sources().items()
        if (match := re.search("ecommerce", text, re.IGNORECASE))
    }
    assert not mentions, f"Move this to the declaration, and read it from there: {mentions}"


def test_all_shared_folders_are_searched() -> None:
    names = set(shared_sources())
    assert {
        "include/warehouse/merge.py",
        "include/lake/admission.py",
        "plugins/gate.py",
        "local/start.py",
        "dashboards/superset/health/dashboards/health.yaml",
        "dashboards/grafana/health/health.json",
    } <= names
    assert len(names) > 100


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_a_pipeline_has_all_that_the_shared_code_looks_for(pipeline: pipelines.Pipeline) -> None:
    for pattern in (
        "warehouse.sql", "merge.sql", "fold.sql", "checks/staging_*.sql", "checks/warehouse_*.sql", "verify/minutes_*.sql",
        "verify/facts_*.sql", "verify/total_facts.sql",
    ):  # fmt: skip
        assert files(pipeline, pattern), f"{pipeline.name} has no {pattern}."


@pytest.mark.parametrize("pipeline", pipelines.all_pipelines().values(), ids=lambda pipeline: pipeline.name)
def test_event_id_times_and_kind_are_declared_fields(pipeline: pipelines.Pipeline) -> None:
    assert pipeline.event_id in ("create_time", *pipeline.fields)
    declared = (pipeline.event_time, pipeline.fact_time, pipeline.kind_column)
    assert {name for name in declared if name} <= set(pipeline.fields)
