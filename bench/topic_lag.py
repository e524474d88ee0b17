"""How far the lake is behind its topic: `python -m bench.topic_lag [--pipeline recruitment] [--seconds 180]`.

Looks four times a second at the topic's ends and at what its group has committed, which is what is safe in the lake. The lag
of a look is the time until all that was sent before it is committed. Run it beside a running stack; it changes nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from bench.minutes import percentile
from include import pipelines
from include.kafka.clients import BrokerError, reader
from include.kafka.ingest_mode import group_of, ingest_mode
from include.kafka.topics import reach_of
from local import environment

_PAUSE = 0.25
_GRACE = 30.0  # seconds that the last look is waited for


@dataclass(frozen=True)
class Sample:
    """Offsets by partition at one time: the topic's ends, and what is committed."""

    at: float
    ends: Mapping[int, int]
    committed: Mapping[int, int]


def lags(samples: Sequence[Sample]) -> list[float]:
    """For each look, the seconds until all that was sent before it was committed; looks without such a time are left out."""
    seconds_behind = []
    for number, look in enumerate(samples):
        if not look.ends:  # one after the last look, to see it committed
            continue
        later = (sample.at for sample in samples[number:] if _has(sample, look))
        if (at := next(later, None)) is not None:
            seconds_behind.append(at - look.at)
    return seconds_behind


def _has(later: Sample, look: Sample) -> bool:
    return all(later.committed.get(partition, 0) >= end for partition, end in look.ends.items())


def _samples(pipeline: pipelines.Pipeline, seconds: float) -> Iterator[Sample]:
    started = time.monotonic()
    with reader(group_of(pipeline.name, ingest_mode())) as client:
        while time.monotonic() - started < seconds + _GRACE:
            at = time.monotonic() - started
            reaches = reach_of(client, pipeline)
            ends = {number: reach.end for number, reach in reaches.items()} if at < seconds else {}
            yield Sample(at, ends, {number: reach.committed or 0 for number, reach in reaches.items()})
            if at >= seconds and _has_all(reaches.values()):
                return
            time.sleep(_PAUSE)


def _has_all(reaches) -> bool:
    return all((reach.committed or 0) >= reach.end for reach in reaches)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.topic_lag", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="recruitment")
    parser.add_argument("--seconds", type=float, default=180.0, help="to look; three minutes see three tasks take over")
    args = parser.parse_args()
    os.environ.update(environment.read())
    if not ingest_mode():
        print(
            "No topic is followed here: MINUTEMARK_INGEST is empty. Set it to dag or connect, and start the stack again.",
            file=sys.stderr,
        )
        return 1
    try:
        samples = list(_samples(pipelines.get(args.pipeline), args.seconds))
    except (BrokerError, pipelines.UnknownPipeline) as error:
        print(error.args[0], file=sys.stderr)
        return 1
    looks, seconds = [sample for sample in samples if sample.ends], sorted(lags(samples))
    if not seconds:
        print(
            "Nothing was committed. Start the stack, or unpause the DAG <pipeline>_ingest, and try again.",
            file=sys.stderr,
        )
        return 1
    moved = sum(looks[-1].ends.values()) - sum(looks[0].ends.values())
    print(
        json.dumps(
            {
                "looks": len(looks),
                "messages": moved,
                "median_seconds": round(statistics.median(seconds), 2),
                "p95_seconds": round(percentile(seconds, 0.95), 2),
                "slowest_seconds": round(seconds[-1], 2),
            },
            indent=1,
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
