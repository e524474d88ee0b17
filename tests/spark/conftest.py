"""One Spark session for these tests, with a job's settings from include/spark/settings.py; events in the lake; warm drivers."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from uuid import UUID

import pytest

from include.connections import endpoint
from tests.spark.rows import EVENT_ID, PIPELINE, click
from tests.warm_drivers import end_warm_drivers


@pytest.fixture(scope="session")
def spark() -> Iterator:
    """A local session on a machine whose time zone is not UTC, so that a conversion through that zone changes a result."""
    if not shutil.which("java"):
        pytest.skip("Spark needs Java 17, which is not on the PATH: install it.")
    pytest.importorskip("pyspark")
    from pyspark.sql import SparkSession

    from include.spark import installation, settings

    try:
        installation.spark_jars()
    except installation.CannotSubmit as error:
        pytest.skip(str(error))
    # At exit, py4j would log to streams that pytest has closed by then.
    logging.getLogger("py4j").setLevel(logging.WARNING)
    before = os.environ.get("TZ")
    os.environ["TZ"] = "America/St_Johns"  # 3.5 hours behind UTC, with daylight saving
    time.tzset()
    builder = SparkSession.builder.master("local[2]").appName("tests")
    session = builder.config(map=settings.session_settings("local[2]")).getOrCreate()
    yield session
    session.stop()
    if before is None:
        del os.environ["TZ"]
    else:
        os.environ["TZ"] = before
    time.tzset()


@pytest.fixture(scope="module")
def four_events(schemas: None) -> None:
    """Four events in MINUTE: a click with a bid, a page view, an event of an ignored kind, and one that is rejected."""
    from include.lake.session import lake as connected
    from include.lake.writer import Event, EventWriter

    rows = [click(bid="1.5"), click(custom_track=None, ev="1"), click(custom_track="alive"), click(bid="-3")]
    ids = [UUID(EVENT_ID[:-1] + str(i)) for i in range(len(rows))]
    for row in rows:
        del row["create_time"]
    with connected("lake_writer") as session:
        EventWriter(session, PIPELINE).write(Event(i, row) for i, row in zip(ids, rows, strict=True))


@pytest.fixture
def lake_session(spark, four_events: None):
    """The tests' session, with the settings for the lake."""
    from include.spark import stores

    settings = stores.lake_settings(endpoint("lake_reader"))
    settings |= {"spark.sql.maxPlanStringLength": "100000", "spark.sql.debug.maxToStringFields": "1000"}
    for key, value in settings.items():
        spark.conf.set(key, value)
    yield spark
    for key in settings:
        spark.conf.unset(key)


@pytest.fixture
def query(warehouse_schema: None) -> Iterator[Callable[[str], list[tuple]]]:
    import MySQLdb

    admin = endpoint("warehouse_admin")
    connection = MySQLdb.connect(
        host=admin.host, port=admin.port, user=admin.login, passwd=admin.password, autocommit=True
    )

    def fetch(sql: str) -> list[tuple]:
        with connection.cursor() as cursor:
            cursor.execute(sql)
            return list(cursor.fetchall())

    yield fetch
    connection.close()


@pytest.fixture(scope="module")
def warm_drivers() -> Iterator[None]:
    """Put the folders of warm drivers into a temporary one, and end the drivers after the module's tests."""
    with tempfile.TemporaryDirectory(prefix="mm-") as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tempfile, "tempdir", folder)
        yield
        end_warm_drivers()
