"""A lakehouse in Cloud Storage, whose hour files BigQuery loads, one in S3, and one with a REST catalog."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec

import pytest

from include.bigquery.due import load_due
from include.lakehouse.export import export, rewrite
from include.lakehouse.settings import location
from include.lakehouse.upkeep import upkeep
from include.verify import verify
from tests.lakehouse.events import SHOP, add_to_lake, count_hours, merge_minutes, shop_event, table_rows
from tests.lakehouse.hours import loaded_rows, view_rows
from tests.warehouse.lab import TEN
from tests.warehouse.shop import Shop, operation


# gcsfs is not imported here, because it reads its settings when it is imported.
@pytest.mark.skipif(not find_spec("gcsfs"), reason="gcsfs is not installed: `make test` installs it.")
def test_events_in_a_bucket_are_counted_loaded_from_urls_and_replaced(
    shop: Shop, lakehouse_in_bucket, bigquery
) -> None:
    add_to_lake(shop_event(TEN, 1))
    merge_minutes(shop, {TEN: [operation()]})
    export(SHOP)
    assert count_hours() == {TEN: (1, 0)}
    with (
        shop.refusing("UPDATE", "etl.lakehouse_hours", of="loaded_change"),
        pytest.raises(Exception, match="UPDATE refused"),
    ):
        load_due(SHOP)
    assert load_due(SHOP).hours == 1
    assert loaded_rows(bigquery) == 1  # the second load found the first one's job
    add_to_lake(shop_event(TEN, 2))
    merge_minutes(shop, {TEN: [operation(), operation()]}, run_id="again")
    export(SHOP)
    assert table_rows() == [(TEN, "view", 7)] * 2
    assert count_hours() == {TEN: (2, 0)}
    load_due(SHOP)
    assert [(hour, visits) for hour, _, visits in view_rows(bigquery)] == [(TEN, 2)]
    assert upkeep(SHOP, kept=timedelta()).files > 0
    assert table_rows() == [(TEN, "view", 7)] * 2


def test_events_are_counted_replaced_and_verified_and_a_lost_file_is_found(shop: Shop, lakehouse_elsewhere) -> None:
    from fsspec.core import url_to_fs

    for number in (1, 2):
        add_to_lake(shop_event(TEN, number))
        merge_minutes(shop, {TEN: [operation()] * number}, run_id=f"run {number}")
        export(SHOP)
        assert (table_rows(), count_hours()) == ([(TEN, "view", 7)] * number, {TEN: (number, 0)})
    assert upkeep(SHOP, kept=timedelta()).files > 0
    assert differences() == {}
    bucket, root = url_to_fs(location())
    [file] = bucket.glob(f"{root}/**/hour=2026-03-01-10/*.parquet")
    bucket.rm(file)
    assert differences() == {"lakehouse_lost_file": 1}
    rewrite(SHOP, TEN, TEN + timedelta(hours=1))
    export(SHOP)
    count_hours()
    assert (differences(), table_rows()) == ({}, [(TEN, "view", 7)] * 2)


def differences() -> dict[str, int]:
    [report] = verify.verify([SHOP], patience=0).pipelines
    return report.differences.counts
