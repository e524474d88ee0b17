"""Fills the stores with the previous version: record.py runs this module in a work tree of that version.

The stores then have folded hours, published minutes and a held one; an open batch with a complete attempt and one
without an attempt; a minute that a poll has found, and one that was only written.
"""

from __future__ import annotations

import os
import shutil
import sys
from datetime import timedelta

from bench.worlds import World, session
from include.warehouse.folding import fold

from include import pipelines, runs
from include.lake.session import lake
from include.lake.writer import EventWriter
from include.operations.setup import set_up
from include.pipelines import Pipeline
from include.spark import run
from include.warehouse.session import warehouse
from tests.e2e.runs import as_events
from tests.upgrade import events
from tests.upgrade.events import MINUTE, Row, minute_of


def main() -> int:
    if "still_running" not in sys.argv:
        set_up()
    passwords = {name: os.environ[f"MINUTEMARK_PASSWORD_{name.upper()}"] for name in ("warehouse_etl", "warehouse_bi")}
    addresses = {name: value for name, value in os.environ.items() if name.startswith("AIRFLOW_CONN_WAREHOUSE")}
    spark = session({**passwords, "warehouse_admin": ""})
    os.environ.update(addresses)  # `session` has replaced them with placeholders
    phase = _run_once_more if "still_running" in sys.argv else _fill_stores
    for pipeline in pipelines.all_pipelines().values():
        phase(World("former", pipeline, {}), spark)
    spark.stop()
    return 0


def _fill_stores(world: World, spark) -> None:
    pipeline = world.pipeline
    write(pipeline, events.PUBLISHED[pipeline.name] + events.HELD_ROWS[pipeline.name])
    world.run(spark)
    world.settle()
    with warehouse() as conn:
        conn.cursor().execute(
            "UPDATE etl.minute_ledger SET merged_at = merged_at - INTERVAL 2 DAY"
        )  # as if days had passed
        conn.commit()
        fold(conn, pipeline, minute_of(events.TEN), timedelta(hours=1))
    lost = as_events(events.HELD_ROWS[pipeline.name][-1:])[0]
    with lake("lake_admin") as cluster:
        keys = cluster.execute(f"SELECT minute, shard, create_time FROM {pipeline.lake_table}").all()
        [row] = [row for row in keys if row.create_time == lost.create_time]
        where = "minute = %s AND shard = %s AND create_time = %s"
        cluster.execute(f"DELETE FROM {pipeline.lake_table} WHERE {where}", row)
    world.touch([minute_of(events.HELD)])
    write(pipeline, events.READ_WITH_HELD[pipeline.name])
    world.run(spark)
    world.settle()
    write(pipeline, events.IN_FLIGHT[events.STAGED][pipeline.name])
    with lake("lake_reader") as cluster, warehouse() as conn:
        dag = {"tick": None, "options": pipeline.options}
        seen = runs.look(pipeline, cluster, conn)
        batch_id = runs.open_delta(
            pipeline, cluster, conn, look=seen, dag_id=f"{pipeline.name}_minute", run_id="stopped", **dag
        )
        _, submitted = world.submission(batch_id)
        run.attempt(spark, run.Job.read(submitted.job_file))
        shutil.rmtree(submitted.dir)
        write(pipeline, events.IN_FLIGHT[events.OPENED][pipeline.name])
        opened = minute_of(events.OPENED)
        runs.open_range(
            pipeline, cluster, conn, start=opened, end=opened + MINUTE, kind="manual",
            dag_id=f"{pipeline.name}_reconcile", run_id="stopped", **dag,
        )  # fmt: skip
        write(pipeline, events.IN_FLIGHT[events.POLLED][pipeline.name])
        runs.look(pipeline, cluster, conn)
    write(pipeline, events.IN_FLIGHT[events.TOUCHED][pipeline.name])


def _run_once_more(world: World, spark) -> None:
    """Run the former version after the set-up of a newer one."""
    try:
        timing = world.run(spark)
        print(f"{world.pipeline.name}: the former version merged {timing.minutes} minutes.")
    except Exception as error:
        print(f"{world.pipeline.name}: the former version failed: {error}")


def write(pipeline: Pipeline, rows: list[Row]) -> None:
    """Write as a producer of that version does: events, then the touches of their minutes."""
    with lake("lake_writer") as cluster:
        EventWriter(cluster, pipeline).write(as_events(rows))


if __name__ == "__main__":
    sys.exit(main())
