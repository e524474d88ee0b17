"""One Spark session for these tests, set as include/spark/settings.py sets the job's."""

from __future__ import annotations

import logging
import os
import shutil
import time
from collections.abc import Iterator

import pytest


@pytest.fixture(scope="session")
def spark() -> Iterator:
    """A local session; the machine's time zone is not UTC, so that a conversion through it shows."""
    if not shutil.which("java"):
        pytest.skip("Spark needs Java, and there is none on the PATH: install Java 17.")
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession

    from include.spark import installation, settings

    try:
        installation.spark_jars()
    except installation.SubmissionImpossible as error:
        pytest.skip(str(error))
    logging.getLogger("py4j").setLevel(
        logging.WARNING
    )  # at exit it would log to streams that pytest has closed by then
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/St_Johns"  # 3.5 hours and DST away
    time.tzset()
    settings = settings.session_settings("local[2]")
    builder = SparkSession.builder.master("local[2]").appName("tests")
    session = builder.config(map=settings).getOrCreate()
    yield session
    session.stop()
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()
