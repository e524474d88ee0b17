"""A run of the lakehouse's DAG in Airflow, with lineage switched on: the data sets and columns that it reports."""

from __future__ import annotations

import json
from pathlib import Path

from include.connections import endpoint
from include.lakehouse import table
from tests.e2e.runs import Airflow
from tests.lakehouse.events import SHOP, add_to_lake, merge_minutes, shop_event
from tests.lineage.facets import column_lineage
from tests.warehouse.lab import TEN
from tests.warehouse.shop import Shop, operation


def complete_events(file: Path) -> dict[str, dict]:
    """The COMPLETE event of each task, by task id."""
    events = [json.loads(line) for line in file.read_text().splitlines()]
    return {
        event["job"]["name"].partition(".")[2]: event
        for event in events
        if event["eventType"] == "COMPLETE" and "." in event["job"]["name"]
    }


def origins(output: dict, column: str) -> dict[tuple[str, str, str], str | None]:
    fields = column_lineage(output["facets"]["columnLineage"]).fields[column].inputFields
    return {(field.namespace, field.name, field.field): field.transformations[0].subtype for field in fields}


def columns_of(data_set: dict) -> list[str]:
    return [field["name"] for field in data_set["facets"]["schema"]["fields"]]


def test_lineage_leads_from_the_lake_to_its_hours_in_bigquery(shop: Shop, bigquery, lakehouse, tmp_path) -> None:
    add_to_lake(shop_event(TEN, 1), shop_event(TEN, 2, "cart"))
    merge_minutes(shop, {TEN: [operation(), operation("cart")]})
    file = tmp_path / "openlineage.jsonl"
    transport = {"type": "file", "log_file_path": str(file), "append": True}
    (tmp_path / "airflow").mkdir()
    airflow = Airflow(tmp_path / "airflow", settings={"AIRFLOW__OPENLINEAGE__TRANSPORT": json.dumps(transport)})
    try:
        airflow.run("ecommerce_lakehouse").must_succeed()
    finally:
        airflow.stop()
    events, lake = complete_events(file), endpoint("lake_reader")
    [read], [written] = events["write_events"]["inputs"], events["write_events"]["outputs"]
    assert (read["namespace"], read["name"]) == (f"cassandra://{lake.host}:{lake.port}", SHOP.lake_table)
    assert (written["namespace"], written["name"]) == (f"file:{lakehouse}", "ecommerce.events")
    assert columns_of(written) == list(table.table(SHOP).schema().column_names)
    assert origins(written, "price") == {(read["namespace"], read["name"], "payload.price"): "TRANSFORMATION"}

    [counted], [hours] = events["count_hours"]["inputs"], events["count_hours"]["outputs"]
    assert (counted["namespace"], counted["name"]) == (written["namespace"], written["name"])
    assert (hours["namespace"], hours["name"]) == ("file", f"{lakehouse}/hourly/ecommerce.events")
    assert list(Path(hours["name"]).rglob("*.parquet"))
    assert origins(hours, "visits") == {(counted["namespace"], counted["name"], "event_type"): "CONDITIONAL"}
    row_fields = {field.field for field in column_lineage(hours["facets"]["columnLineage"]).dataset}
    assert {"event_time", "product_id"} <= row_fields

    sources, [loads, view] = events["load_into_bigquery"]["inputs"], events["load_into_bigquery"]["outputs"]
    assert [source["name"] for source in sources] == [hours["name"], loads["name"]]
    stored = bigquery.get_table(loads["name"])
    assert (loads["namespace"], stored.num_rows) == ("bigquery", 1)
    for data_set in (loads, view):
        assert columns_of(data_set) == [field.name for field in bigquery.get_table(data_set["name"]).schema]
    assert origins(loads, "visits") == {("file", hours["name"], "visits"): "IDENTITY"}
    assert origins(view, "visits") == {("bigquery", loads["name"], "visits"): "IDENTITY"}
