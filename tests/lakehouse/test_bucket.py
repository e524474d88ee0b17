"""A lakehouse in a bucket of Cloud Storage, and its hours loaded by address; both on emulators."""

from __future__ import annotations

from datetime import timedelta
from importlib.util import find_spec

import pytest

from include.bigquery.due import load_due
from include.lakehouse.export import export
from include.lakehouse.upkeep import upkeep
from tests.lakehouse.events import SHOP, counted, in_lake, in_table, merged, sent
from tests.lakehouse.hours import in_view, loaded_rows
from tests.warehouse.lab import TEN
from tests.warehouse.shop import Shop, operation

# Not imported here: it reads its settings when it is imported.
pytestmark = pytest.mark.skipif(not find_spec("gcsfs"), reason="gcsfs is not installed: `make test` installs it.")


def test_events_in_a_bucket_are_counted_loaded_by_address_and_replaced(
    shop: Shop, lakehouse_in_bucket, bigquery
) -> None:
    in_lake(sent(TEN, 1))
    merged(shop, {TEN: [operation()]})
    export(SHOP)
    assert counted() == {TEN: (1, 0)}
    with (
        shop.refusing("UPDATE", "etl.lakehouse_hours", of="loaded_change"),
        pytest.raises(Exception, match="UPDATE refused"),
    ):
        load_due(SHOP)
    assert load_due(SHOP).hours == 1
    assert loaded_rows(bigquery) == 1  # the second load found the first one's job
    in_lake(sent(TEN, 2))
    merged(shop, {TEN: [operation(), operation()]}, run_id="again")
    export(SHOP)
    assert in_table() == [(TEN, "view", 7)] * 2
    assert counted() == {TEN: (2, 0)}
    load_due(SHOP)
    assert [(hour, visits) for hour, _, visits in in_view(bigquery)] == [(TEN, 2)]
    assert upkeep(SHOP, kept=timedelta()).files > 0
    assert in_table() == [(TEN, "view", 7)] * 2
