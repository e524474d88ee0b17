"""The pipelines whose DAGs a parse needs: for the DAG processor all of them, for a task only its own.

Every start of a task parses the file of its DAG. If that made the DAGs of all pipelines, the cost of a minute would grow
with the square of their number.
"""

from __future__ import annotations

from airflow.sdk import get_parsing_context

from include.pipelines import Pipeline, all_pipelines


def parsed_pipelines() -> list[Pipeline]:
    """The pipelines whose DAGs `<pipeline>_…` the parsing process needs, in the order of the registry."""
    dag_id = get_parsing_context().dag_id
    return [pipeline for pipeline in all_pipelines().values() if not dag_id or dag_id.startswith(f"{pipeline.name}_")]
