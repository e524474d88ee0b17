"""How far the lake is behind its topic: `python -m bench.topic_lag [--pipeline recruitment] [--seconds 180]`.

Four times a second, it samples the topic's end offsets and the committed offsets of its consumer group: messages before
a committed offset are safely stored. The lag of a sample is the time until everything sent before it is committed. Run
this against a running stack; it changes nothing.
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
from include.errors import MinutemarkError
from include.kafka.clients import reader
from include.kafka.ingest_mode import group_of, ingest_mode
from include.kafka.topics import offset_ranges_of
from local import environment

_PAUSE = 0.25
_GRACE = 30.0  # seconds to wait for the messages of the last sample to be committed


@dataclass(frozen=True)
class Sample:
    """Offsets by partition at one time: the topic's ends, and those that its group has committed."""

    at: float
    ends: Mapping[int, int]
    committed: Mapping[int, int]


def lags(samples: Sequence[Sample]) -> list[float]:
    """For each sample, the seconds until everything sent before it was committed; omits it if that never happened."""
    seconds_behind = []
    for number, sample in enumerate(samples):
        if not sample.ends:  # taken after the measurement, to see when the last messages are committed
            continue
        committed_at = (later.at for later in samples[number:] if _has_committed(later, sample))
        if (at := next(committed_at, None)) is not None:
            seconds_behind.append(at - sample.at)
    return seconds_behind


def _has_committed(later: Sample, sample: Sample) -> bool:
    return all(later.committed.get(partition, 0) >= end for partition, end in sample.ends.items())


def _samples(pipeline: pipelines.Pipeline, seconds: float) -> Iterator[Sample]:
    started = time.monotonic()
    with reader(group_of(pipeline.name, ingest_mode())) as client:
        while time.monotonic() - started < seconds + _GRACE:
            at = time.monotonic() - started
            ranges = offset_ranges_of(client, pipeline)
            ends = {number: offsets.end for number, offsets in ranges.items()} if at < seconds else {}
            yield Sample(at, ends, {number: offsets.committed or 0 for number, offsets in ranges.items()})
            if at >= seconds and _is_caught_up(ranges.values()):
                return
            time.sleep(_PAUSE)


def _is_caught_up(ranges) -> bool:
    return all((offsets.committed or 0) >= offsets.end for offsets in ranges)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.topic_lag", description=__doc__.splitlines()[0])
    parser.add_argument("--pipeline", default="recruitment")
    parser.add_argument(
        "--seconds",
        type=float,
        default=180.0,
        help="seconds to measure; with MINUTEMARK_INGEST=dag, a new task takes over each minute",
    )
    args = parser.parse_args()
    os.environ.update(environment.read())
    try:
        if not ingest_mode():
            print(
                "No topic is followed here: MINUTEMARK_INGEST is empty. Set it to dag or spark, and start the stack again.",
                file=sys.stderr,
            )
            return 1
        samples = list(_samples(pipelines.get(args.pipeline), args.seconds))
    except MinutemarkError as error:
        print(error, file=sys.stderr)
        return 1
    measured, seconds = [sample for sample in samples if sample.ends], sorted(lags(samples))
    if not seconds:
        print(
            f"Nothing was committed. Start the stack, or unpause the DAG {args.pipeline}_ingest, and try again.",
            file=sys.stderr,
        )
        return 1
    messages = sum(measured[-1].ends.values()) - sum(measured[0].ends.values())
    print(
        json.dumps(
            {
                "samples": len(measured),
                "messages": messages,
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
