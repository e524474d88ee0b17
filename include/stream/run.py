"""The application that spark-submit runs for `<pipeline>_ingest` with MINUTEMARK_INGEST=spark: one stream.

1. start Spark and its Python workers, and plan a query, while the predecessor still writes
2. join the consumer group, which fences the predecessor; messages that retention has removed are recorded as lost
3. for each micro-batch: read the lake's clock, and check that no successor has joined; write events to the lake and touch
   their minutes; keep messages that are not events; commit the group's offsets

A query that fails because the topic has changed (retention, new partitions, a topic that was created again), or because
the stream had to rejoin the group, is restarted at the group's offsets.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    # spark-submit puts this file's folder on the path; the project is two levels up.
    sys.path[0] = str(Path(__file__).resolve().parents[2])
    os.environ["TZ"] = "UTC"
    time.tzset()

from pyspark.sql import SparkSession  # noqa: E402

from include.errors import MinutemarkError  # noqa: E402
from include.spark.listener import end_with_parent  # noqa: E402
from include.spark.problems import FAILED  # noqa: E402
from include.spark.run import LOG_FORMAT, LOG_TIME, step  # noqa: E402
from include.stream.job import Job  # noqa: E402
from include.stream.stream import Stream, reason_of  # noqa: E402

log = logging.getLogger("minutemark")


def main() -> int:
    """Run the job that the command line names; returns 0 once the stream has ended or a successor has taken over."""
    parser = argparse.ArgumentParser(description="Streams a topic into the lake.")
    parser.add_argument("--job", type=Path, required=True, help="written by include/stream/submission.py")
    arguments = parser.parse_args()
    logging.basicConfig(format=LOG_FORMAT, datefmt=LOG_TIME, level=logging.WARNING)
    log.setLevel(logging.INFO)
    end_with_parent()  # the parent is the JVM, which this process needs
    job = Job.read(arguments.job)
    job.use_connections()
    with step("start"):
        spark = SparkSession.builder.getOrCreate()
    try:
        summary = Stream(spark, job).run()
    except Exception as error:
        if not isinstance(error, MinutemarkError):
            log.exception("The stream failed.")
        log.error("%s stream%s%s", job.pipeline.name, FAILED, reason_of(error))
        return 1
    finally:
        spark.stop()
    for line in str(summary).splitlines():
        log.info("%s", line)
    result = {"written": summary.written, "refused": summary.refused, "taken_over": summary.taken_over}
    job.result.write_text(json.dumps(result), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
