"""How many messages a second the follower writes from a topic to the lake: `python -m bench.follower` (--rows 300000).

On throw-away stores, with nothing else running: shop events of three recent hours, sent before the follower starts.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from bench.rigs import MASTER
from include import pipelines
from include.kafka import clients
from include.kafka.ingest import ingest
from include.kafka.producer import producer
from include.lake.keys import time_uuid
from include.lake.writer import Event
from include.operations.setup import set_up
from include.pipelines import Pipeline
from local import connections, throwaway

_WARM_UP = 20_000  # messages that are written before the measurement
_SPAN = timedelta(hours=3)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.follower", description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=300_000)
    arguments = parser.parse_args()
    pipeline = pipelines.get("ecommerce")
    os.environ["TZ"] = "UTC"
    time.tzset()
    with tempfile.TemporaryDirectory(prefix="mm-bench-") as name:
        folder = Path(name)
        cassandra = throwaway.cassandra_node(folder, heap_mb=1_024, throw_away=False)
        with throwaway.warehouse_server(folder) as server, throwaway.kafka_broker(folder) as broker, cassandra as node:
            os.environ |= {**server, **broker, **node, **connections.spark(MASTER), "MINUTEMARK_INGEST": "dag"}
            set_up()
            for rows in (_WARM_UP, arguments.rows):
                with producer(pipeline) as target:
                    target.write(events(pipeline, rows))
                before = time.process_time()
                summary = ingest(pipeline, lambda: clients.follower(pipeline), seconds=float("inf"), to_the_end=True)
                cpu = time.process_time() - before
            print(summary)
    print(
        f"  follower: {summary.written / summary.seconds:,.0f} messages/s, {cpu / summary.written * 1e6:.0f} µs of CPU each"
    )
    return 0 if summary.written == arguments.rows else 1


def events(pipeline: Pipeline, rows: int) -> Iterator[Event]:
    first = datetime.now(UTC).replace(tzinfo=None) - _SPAN
    for number in range(rows):
        happened, identity = first + _SPAN * number / rows, str(uuid.uuid4())
        yield Event(
            time_uuid(happened, identity),
            {
                "id": identity,
                "event_time": f"{happened:%Y-%m-%d %H:%M:%S} UTC",
                "event_type": "view",
                "product_id": str(1_000_000 + number % 50_000),
                "category_id": "2053013555631882655",
                "category_code": "electronics.smartphone",
                "brand": "acme",
                "price": f"{number % 1_000}.99",
                "user_id": str(500_000_000 + number % 20_000),
                "user_session": str(uuid.UUID(int=number // 7)),
            },
        )


if __name__ == "__main__":
    sys.exit(main())
