"""Checks Java, jars, connections and pools for the DAGs; each problem says what to do.

The lakehouse and BigQuery are not checked.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from include.connections import (
    KAFKA,
    LAKE_READER,
    LAKE_WRITER,
    SPARK,
    WAREHOUSE_BI,
    WAREHOUSE_ETL,
    ConnectionMissing,
    Endpoint,
    endpoint,
)
from include.errors import MinutemarkError
from include.kafka.ingest_mode import SPARK as BY_SPARK
from include.kafka.ingest_mode import ingest_mode


class PreflightFailed(MinutemarkError):
    """A check failed; the message lists all problems."""


def preflight() -> list[str]:
    """One line for each check that passes. Raises PreflightFailed with all problems at once."""
    lines, problems = [], []
    for name, problem_of in (("java", java_problem), ("spark jars", jars_problem)):
        problem = problem_of()
        problems.append(problem) if problem else lines.append(f"{name}: found")
    kafka = (KAFKA,) if ingest_mode() else ()
    for conn_id in (LAKE_READER, LAKE_WRITER, WAREHOUSE_ETL, WAREHOUSE_BI, SPARK, *kafka):
        texts = connection_problems(conn_id)
        problems.extend(texts)
        if not texts:
            lines.append(f"connection {conn_id}: {'is set' if conn_id == SPARK else 'answers'}")
    if problems:
        raise PreflightFailed("\n".join(f"{number}. {problem}" for number, problem in enumerate(problems, 1)))
    return lines


def java_problem() -> str | None:
    """The problem with Java, if any: spark-submit starts `$JAVA_HOME/bin/java`, or `java` from PATH."""
    home = os.environ.get("JAVA_HOME")
    if home and not Path(home, "bin", "java").exists():
        return (
            f"JAVA_HOME is {home}, which has no bin/java. Point it at a Java 17 installation, or unset it to use PATH."
        )
    if not home and shutil.which("java") is None:
        return "Java was not found. Install Java 17 where Airflow's tasks run, and set JAVA_HOME or PATH."
    return None


def jars_problem() -> str | None:
    """The problem with Spark's jars, and those of streams, if any: they come from Maven, not from requirements.txt."""
    from include.spark import installation
    from include.stream import submission

    try:
        installation.spark_jars()
        if ingest_mode() == BY_SPARK:
            submission.stream_jars()
    except installation.CannotSubmit as error:
        return str(error)
    return None


def connection_problems(conn_id: str) -> list[str]:
    """Problems of a connection: it is not defined, its store does not answer this account, or a required setting is missing."""
    try:
        target = endpoint(conn_id)
        if conn_id == SPARK:
            problem = _spark_problem(target)
            return [problem] if problem else []
        return [*_password_problem(target), *_store_problems(target)]
    except ConnectionMissing as missing:
        return [str(missing)]
    except Exception as error:
        return [f"Connection {conn_id}: {error}"]


def _password_problem(target: Endpoint) -> Iterator[str]:
    """The problem with an empty password, unless a client certificate replaces the password."""
    options = [target.extra.get(name) for name in ("ssl", "ssl_options")]
    # `ssl` may also be true.
    certificate = any(name in names for names in options if isinstance(names, dict) for name in ("cert", "certfile"))
    if target.login and not target.password and target.conn_id != KAFKA and not certificate:
        yield (
            f"Connection {target.conn_id}: the account {target.login} has no password: anyone who reaches the server can use "
            "it. Set one on the server and in the connection."
        )


def _spark_problem(target: Endpoint) -> str | None:
    if not target.host:
        return (
            "Connection spark_default has no host: set it to a Spark master, such as local[*] or spark://spark-master."
        )
    from include.spark import settings

    master = f"{target.host}:{target.port}" if target.port else target.host
    return settings.authentication_problem(master, target.extra.get("conf"))


def _store_problems(target: Endpoint) -> list[str]:
    """Problems of a store that answers; raises the error if it does not."""
    if target.conn_type == "cassandra":
        from include.lake import cluster
        from include.lake.session import lake

        with lake(target) as session:
            return list(cluster.problems(session, target))
    if target.conn_id == KAFKA:
        from include.kafka import clients

        clients.check_broker()
        return []
    from include.warehouse import server
    from include.warehouse.session import warehouse

    with warehouse(target) as conn:
        return server.problems(conn, target)


def wait_for_pools(
    ti, pool_of_task: Mapping[str, str], users: Mapping[str, Collection[tuple[str, str]]], patience: float = 60
) -> None:
    """Within a run, raise PreflightFailed if no task has got a slot of a pool after `patience` seconds.

    `pool_of_task` has a task of this run for each pool. `users` are other tasks in each pool, as (dag_id, task_id): if
    one of them has a slot, the pool exists.
    """
    deadline = time.monotonic() + patience
    while True:
        states = ti.get_task_states(dag_id=ti.dag_id, run_ids=[ti.run_id], task_ids=list(pool_of_task))
        waiting = {pool for task_id, pool in pool_of_task.items() if _waits_for_slot(states, ti.run_id, task_id)}
        waiting = {pool for pool in waiting if not any(_has_slot(ti, *user) for user in users[pool])}
        if not waiting:
            return
        if time.monotonic() > deadline:
            commands = "; ".join(f"airflow pools set {pool} 1 minutemark" for pool in sorted(waiting))
            raise PreflightFailed(
                f"No task got a slot of pool {' or '.join(sorted(waiting))} within {patience:.0f} s. If a "
                f"pool is missing under Admin, Pools, create it there, or run: {commands}. If it exists, tasks of other "
                "DAGs hold all its slots, or it has none."
            )
        time.sleep(1)


def _waits_for_slot(states: Mapping, run_id: str, task_id: str) -> bool:
    return states.get(run_id, {}).get(task_id) in (None, "none", "scheduled")


def _has_slot(ti, dag_id: str, task_id: str) -> bool:
    return ti.get_ti_count(dag_id=dag_id, task_ids=[task_id], states=["queued", "running"]) > 0
