"""Hand-written hour files, and their rows in BigQuery."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from include.bigquery import tables
from include.lakehouse import hourly
from include.lakehouse.hour_file import HourFile
from tests.lakehouse.events import SHOP
from tests.warehouse.lab import TEN


def write_hour(version: int, visits: int, *, hour: datetime = TEN) -> HourFile:
    """The file of an hour with these visits."""
    hourly.write_file(SHOP, hourly.HourlyCount(hour, version, {"visits": visits, "cart_additions": 0}))
    return HourFile.of(SHOP, hour, version)


def copy_to_bucket(bucket: Path, file: HourFile) -> HourFile:
    """The same file in the bucket."""
    path = Path(file.url.removeprefix("file://"))
    name = path.relative_to(path.parents[3])
    (bucket / name).parent.mkdir(parents=True, exist_ok=True)
    (bucket / name).write_bytes(path.read_bytes())
    return replace(file, url=f"gs://{bucket.name}/{name}")


def view_rows(bigquery) -> list[tuple]:
    """Hour, version and visits of each row."""
    rows = tables.query(bigquery, f"SELECT hour, attempt, visits FROM `{tables.view(SHOP)}` ORDER BY hour")
    return [(row["hour"].astimezone(UTC).replace(tzinfo=None), row["attempt"], row["visits"]) for row in rows]


def loaded_rows(bigquery) -> int:
    return next(iter(tables.query(bigquery, f"SELECT count(*) FROM `{tables.loads_table(SHOP)}`")))[0]
