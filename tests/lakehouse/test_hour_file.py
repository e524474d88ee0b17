"""Hour files are identified by their address, so that the Cloud Function loads only those of its own lakehouse."""

from __future__ import annotations

import pytest

from include.lakehouse.hour_file import HourFile
from include.lakehouse.settings import LakehouseError
from tests.lakehouse.events import SHOP
from tests.warehouse.lab import TEN


@pytest.fixture(autouse=True)
def lakehouse(monkeypatch) -> None:
    monkeypatch.setenv("MINUTEMARK_LAKEHOUSE", "gs://bucket/shop")


def test_a_file_is_identified_by_its_address() -> None:
    file = HourFile.at("gs://bucket/shop/hourly/ecommerce.events/2026-03-01T10/7.parquet")
    assert file == HourFile.of(SHOP, TEN, 7)


@pytest.mark.parametrize(
    "url",
    [
        "gs://bucket/other/hourly/ecommerce.events/2026-03-01T10/7.parquet",  # another lakehouse in the same bucket
        "gs://bucket/shop/copy/hourly/ecommerce.events/2026-03-01T10/7.parquet",
        "gs://bucket/shop2/hourly/ecommerce.events/2026-03-01T10/7.parquet",
        "gs://bucket/shop/hourly/other.events/2026-03-01T10/7.parquet",  # no pipeline declares it
        "gs://bucket/shop/ecommerce.db/events/data/7.parquet",
        "gs://bucket/shop/hourly/ecommerce.events/2026-02-30T10/7.parquet",  # no such day
    ],
)
def test_other_files_are_not_hour_files(url: str) -> None:
    assert HourFile.at(url) is None


def test_without_the_location_of_the_lakehouse_a_file_is_refused(monkeypatch) -> None:
    monkeypatch.delenv("MINUTEMARK_LAKEHOUSE")
    with pytest.raises(LakehouseError, match="MINUTEMARK_LAKEHOUSE is ''"):
        HourFile.at("gs://bucket/shop/hourly/ecommerce.events/2026-03-01T10/7.parquet")
