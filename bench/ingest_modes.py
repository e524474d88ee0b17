"""How fast each ingest mode writes the same events: `python -m bench.ingest_modes` (--rows 100000).

On throw-away stores, with nothing else running: shop events of three recent hours, and poison, sent before the mode starts.
Lake rows and rejected events must be the same in each mode. Kafka Connect needs a sink: `--sink FOLDER` names its jars, and
`--connector CLASS` its class, if it is not the DataStax sink.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import secrets
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from bench.follower import events
from bench.rigs import MASTER
from include import pipelines
from include.connections import LAKE_ADMIN, LAKE_READER, LAKE_WRITER, endpoint
from include.kafka import clients, connect, topics
from include.kafka.ingest import ingest, ingest_dead_letters
from include.kafka.ingest_mode import CONNECT, DAG, SETTING, SPARK, group_of
from include.kafka.producer import producer
from include.lake.session import lake
from include.operations.setup import set_up
from include.pipelines import Pipeline
from include.stream.catch_up import run_stream
from include.warehouse.session import rows, warehouse
from local import connections, throwaway
from local.connect import IMAGE, Worker, wait_until_ready
from local.files import write_private
from local.process import Child, free_port

POISON = (b"{not json", b"[]", b'{"create_time": "yesterday", "id": "e-1"}', b"\xff\xfe\x00")
_PAUSE = 0.2  # seconds between two reads of the group's offsets


@dataclass
class Progress:
    """The sum of the group's committed offsets over time."""

    started: float
    commits: list[tuple[float, int]]

    @property
    def seconds(self) -> float:
        """The seconds from the start of the mode to its last commit."""
        return self.commits[-1][0] - self.started

    @property
    def rate(self) -> float:
        """Messages a second from the first commit to the last, or of the whole mode if there was only one commit."""
        (first_at, first), (last_at, last) = self.commits[0], self.commits[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else last / self.seconds


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.ingest_modes", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument(
        "--sink", type=Path, help="folder of a sink for Kafka Connect; without one, that mode is skipped"
    )
    parser.add_argument("--connector", help="class of that sink")
    args = parser.parse_args()
    modes = [DAG, SPARK, *([CONNECT] if args.sink else [])]
    os.environ["TZ"] = "UTC"
    time.tzset()
    with _stores():
        set_up()
        pipeline = pipelines.get("ecommerce")
        sent = list(events(pipeline, args.rows))
        results = {}
        for mode in modes:
            progress, results[mode] = _run_mode(mode, pipeline, sent, args)
            print(
                f"{mode}: {progress.seconds:,.1f} s from its start to its last commit; {progress.rate:,.0f} messages/s from its "
                f"first commit on; digest of lake rows and rejected events {results[mode][:12]}",
                flush=True,
            )
    return 0 if len(set(results.values())) == 1 else 1


@contextlib.contextmanager
def _stores() -> Iterator[None]:
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        cassandra = throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False)
        with throwaway.warehouse_server(folder) as server, throwaway.kafka_broker(folder) as broker, cassandra as node:
            os.environ |= {**server, **broker, **node, **connections.spark(MASTER), SETTING: DAG}
            yield


def _run_mode(mode: str, declaration: Pipeline, sent: list, args) -> tuple[Progress, str]:
    with lake(LAKE_ADMIN) as session:
        session.execute(f"TRUNCATE {declaration.lake_table}")
    name = f"{declaration.name}_by_{mode}"
    pipeline = replace(declaration, name=name, topic=f"{name}.events")
    topics.make_topics([pipeline])
    with producer(pipeline) as target:
        target.write(sent)
        for number, value in enumerate(POISON):
            target.send(value, partition=number % pipeline.shards)
        target.flush()
    with _mode_starter(mode, pipeline, args) as run:
        running = threading.Thread(target=run, daemon=True)
        progress = Progress(time.monotonic(), [])
        running.start()
        _record_commits(
            pipeline, mode, progress, len(sent) + len(POISON), running.is_alive if mode != CONNECT else lambda: True
        )
        running.join()
    if mode == CONNECT:
        ingest_dead_letters(pipeline)
    return progress, _digest(pipeline)


def _record_commits(
    pipeline: Pipeline, mode: str, progress: Progress, total: int, is_alive: Callable[[], bool]
) -> None:
    """Record the group's committed offsets until they cover all messages."""
    with clients.reader(group_of(pipeline.name, mode)) as client:
        while not progress.commits or progress.commits[-1][1] < total:
            alive = is_alive()
            committed = sum(offsets.committed or 0 for offsets in topics.offset_ranges_of(client, pipeline).values())
            if committed > (progress.commits[-1][1] if progress.commits else 0):
                progress.commits.append((time.monotonic(), committed))
            elif not alive:
                raise SystemExit(f"{mode} ended before it had committed {total} messages.")
            time.sleep(_PAUSE)


@contextlib.contextmanager
def _mode_starter(mode: str, pipeline: Pipeline, args) -> Iterator[Callable[[], object]]:
    """Yield a function that runs the mode to the end of the topic.

    For Kafka Connect it only registers the connector: the worker is already running, as in any deployment.
    """
    if mode == DAG:
        yield lambda: ingest(pipeline, lambda: clients.follower(pipeline), seconds=float("inf"), to_the_end=True)
    elif mode == SPARK:
        yield lambda: run_stream(pipeline)
    else:
        with _worker(args.sink) as rest:
            target = endpoint(LAKE_WRITER)
            config = json.loads((IMAGE / "lake-sink.json").read_text())
            config |= {"contactPoints": target.host, "port": str(target.port)}
            if args.connector:
                config["connector.class"] = args.connector
            template = json.dumps(config)
            yield lambda: connect.register_all(rest, [pipeline], template, patience=120, pause=0.2)


@contextlib.contextmanager
def _worker(sink: Path) -> Iterator[connect.Connect]:
    broker, password = clients.settings(), secrets.token_urlsafe(24)
    with tempfile.TemporaryDirectory(prefix="mm-bench-connect-") as name:
        folder = Path(name)
        write_private(folder / "logins.properties", f"minutemark={password}\n")
        logins, log = folder / "logins.properties", folder / "connect.log"
        worker = Worker(folder / "connect", broker["bootstrap.servers"], logins, port=free_port(), plugins=(sink,))
        passwords = {
            "LAKE_WRITER_PASSWORD": endpoint(LAKE_WRITER).password or "",
            "KAFKA_PASSWORD": broker["sasl.password"],
        }
        child = Child(worker.prepare(), log, os.environ | passwords)
        try:
            wait_until_ready(worker, f"minutemark:{password}", alive=child.alive, log=str(log))
            yield connect.Connect(worker.url, f"minutemark:{password}")
        finally:
            child.stop()


def _digest(pipeline: Pipeline) -> str:
    with lake(LAKE_READER) as session:
        lake_rows = sorted(repr(tuple(row)) for row in session.execute(f"SELECT * FROM {pipeline.lake_table}"))
    with warehouse() as conn:
        rejected = rows(
            conn.cursor(),
            "SELECT SUBSTRING_INDEX(origin_key, '/', -2) AS place, minute, reason, payload FROM etl.rejected_events "
            "WHERE pipeline = %(name)s ORDER BY place",
            {"name": pipeline.name},
        )
    print(f"  {len(lake_rows):,} rows, {len(rejected)} rejected events", flush=True)
    return hashlib.sha256("\n".join([*lake_rows, *map(repr, rejected)]).encode()).hexdigest()


if __name__ == "__main__":
    sys.exit(main())
