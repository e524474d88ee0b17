"""Every statement behind a board, run by the read-only account on a warehouse with data.

Superset generates SQL from the YAML of its charts; these tests combine the same columns, metrics and filters. Grafana's
panels contain their SQL, with Grafana's macros.
"""

from __future__ import annotations

import json
import re
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import NormalDist

import pytest
import yaml

from dashboards.superset import tabs
from include import pipelines
from include.warehouse import merge
from include.warehouse.session import rows, warehouse
from local.layout import ROOT
from tests.warehouse.lab import SECOND, Lab, contribution
from tests.warehouse.shop import Shop, operation
from tests.warehouse.test_board_decisions import RULE, VIEWS

MINUTE, HOUR = timedelta(minutes=1), timedelta(hours=1)
SUPERSET, GRAFANA = ROOT / "dashboards" / "superset", ROOT / "dashboards" / "grafana"


def documents(kind: str) -> dict[Path, dict]:
    return {path: yaml.safe_load(path.read_text()) for path in sorted(SUPERSET.glob(f"*/{kind}/*.yaml"))}


CHARTS, DATASETS, BOARDS = documents("charts"), documents("datasets"), documents("dashboards")
DATASET_OF = {dataset["uuid"]: dataset for dataset in DATASETS.values()}
GRAFANA_BOARDS = {path: json.loads(path.read_text()) for path in sorted(GRAFANA.glob("*/*.json"))}
PANELS = [(board, panel) for board in GRAFANA_BOARDS.values() for panel in board["panels"] if panel["type"] != "text"]
DECIDE = SUPERSET / "decide" / "dashboards" / "decide.yaml"
asset_name = lambda path: f"{path.parts[-3]}/{path.stem}"  # noqa: E731


@pytest.fixture(scope="module")
def now(fill_warehouse: datetime) -> datetime:
    return fill_warehouse


@pytest.fixture(scope="module")
def fill_warehouse(warehouse_schema: None) -> datetime:
    """Publish minutes of both pipelines, hold one, and keep rejected rows; return the server's time."""
    with warehouse() as conn:
        lab, shop = Lab(conn), Shop(conn)
        server = lab.one("SELECT UTC_TIMESTAMP(6)")
        newest = server.replace(second=0, microsecond=0) - 2 * MINUTE
        lab.query("INSERT INTO recruitment.job (id, title, company_id) VALUES (7, 'Baker', 3)")
        for number in range(3):
            at = newest - number * MINUTE
            when = {"dates": at.date(), "hours": at.hour}
            facts = [
                contribution(**when, clicks=4, event_count=4, bid_sum=Decimal(2), bid_count=4, publisher_id=1),
                contribution(
                    8, **when, conversions=1, qualified=1, unqualified=2, event_count=5, campaign_id=5, group_id=2
                ),
            ]
            if number == 0:  # for decisions, which leave out the running hour
                for ago in (24 * HOUR, 200 * HOUR):
                    past = {"dates": (at - ago).date(), "hours": (at - ago).hour, "publisher_id": 1, "campaign_id": 5}
                    facts.append(contribution(**past, qualified=1, event_count=2))
            lab.see(at, at=server - 60 * SECOND, clock=server)
            lab.publish(
                {at: facts}, run_id=f"run-{number}", clock=server, ignored=30, rejects=[(at, "bid is negative")]
            )
            seen = {"event_time": at, "price": Decimal("20.50")}
            shop.publish(
                {at: [operation(kind, **seen) for kind in ("view", "view", "view", "cart", "purchase")]},
                run_id=f"shop-{number}", clock=server, ignored=1,
            )  # fmt: skip
        bad, good = newest - 5 * MINUTE, newest - 6 * MINUTE
        lab.see(bad, good, at=server - 60 * SECOND, clock=server)
        rows_of = {bad: [contribution(bid_sum=-1)], good: [contribution(dates=good.date(), hours=good.hour)]}
        batch_id = lab.open(*rows_of, run_id="held", clock=server)
        lab.stage(batch_id, rows_of)
        assert bad in lab.check(batch_id).held
        merge.merge(batch_id)
        lab.query(
            "INSERT INTO etl.rejected_events (pipeline, origin, origin_key, reason, payload)"
            " VALUES ('recruitment', 'kafka', 'recruitment.events/0/7', 'no JSON object', '{')"
        )
        return server


@pytest.fixture
def query_bi(fill_warehouse: datetime):
    with warehouse("warehouse_bi") as conn:
        yield lambda query, binds=None: rows(conn.cursor(), query, binds)


# --- Superset


def superset_sql(chart: dict, start: datetime, end: datetime) -> tuple[str, dict]:
    """The statement that Superset makes of a chart, with its time range replaced."""
    params, dataset = chart["params"], DATASET_OF[chart["dataset_uuid"]]
    metrics = {metric["metric_name"]: metric["expression"] for metric in dataset["metrics"]}
    columns = {column["column_name"] for column in dataset["columns"]}
    groups = [*([params["x_axis"]] if "x_axis" in params else []), *_as_list(params.get("groupby"))]
    metric_names = [*_as_list(params.get("metrics")), *_as_list(params.get("metric"))]
    groups += params["all_columns"] if params.get("query_mode") == "raw" else []
    unknown = {*groups} - columns | {*metric_names, *_as_list(params.get("timeseries_limit_metric"))} - metrics.keys()
    assert not unknown, f"{chart['slice_name']} uses what its dataset lacks: {unknown}"
    where, binds = ["1 = 1"], {"start": start, "end": end}
    for number, condition in enumerate(params["adhoc_filters"]):
        assert condition["subject"] in columns
        if condition["operator"] == "TEMPORAL_RANGE":
            where.append(f"{condition['subject']} >= %(start)s AND {condition['subject']} < %(end)s")
        else:
            where.append(f"{condition['subject']} {condition['operator'].replace('==', '=')} %(value{number})s")
            binds[f"value{number}"] = condition["comparator"]
    selected = [*(f"`{group}`" for group in groups), *(f"{metrics[metric]} AS `{metric}`" for metric in metric_names)]
    group_by = (
        f" GROUP BY {', '.join(f'`{group}`' for group in groups)}"
        if groups and params.get("query_mode") != "raw"
        else ""
    )
    return (
        f"SELECT {', '.join(selected)} FROM {dataset['schema']}.{dataset['table_name']} WHERE {' AND '.join(where)}{group_by}",
        binds,
    )


def _as_list(value: object) -> list:
    return value if isinstance(value, list) else [] if value is None else [value]


@pytest.mark.parametrize("path", CHARTS, ids=asset_name)
def test_a_chart_of_superset_finds_rows(path: Path, query_bi, now: datetime) -> None:
    result = query_bi(*superset_sql(CHARTS[path], now - 2 * HOUR, now + HOUR))
    assert result, path
    assert any(value is not None for row in result for value in row.values())


@pytest.mark.parametrize("path", CHARTS, ids=asset_name)
def test_a_chart_of_superset_filters_by_one_utc_column(path: Path) -> None:
    ranges = [
        condition for condition in CHARTS[path]["params"]["adhoc_filters"] if condition["operator"] == "TEMPORAL_RANGE"
    ]
    is_timeless = DATASET_OF[CHARTS[path]["dataset_uuid"]]["main_dttm_col"] is None
    assert is_timeless or [condition["subject"].endswith("_utc") for condition in ranges] == [True]


@pytest.mark.parametrize("path", DATASETS, ids=asset_name)
def test_a_dataset_declares_exactly_the_columns_of_its_view(path: Path, query_bi) -> None:
    dataset = DATASETS[path]
    result = query_bi(
        "SELECT column_name AS name, data_type AS type FROM information_schema.columns"
        " WHERE table_schema = %(schema)s AND table_name = %(table_name)s",
        dataset,
    )
    declared = {column["column_name"]: column["type"] == "DATETIME" for column in dataset["columns"]}
    assert declared == {row["name"]: row["type"] == "datetime" for row in result}


@pytest.mark.parametrize("path", BOARDS, ids=asset_name)
def test_a_board_of_superset_shows_every_chart_of_its_folder(path: Path) -> None:
    board = BOARDS[path]
    shown = {component["meta"]["uuid"] for key, component in board["position"].items() if key.startswith("CHART-")}
    assert shown == {chart["uuid"] for other, chart in CHARTS.items() if other.parts[-3] == path.parts[-3]}
    for native_filter in board["metadata"]["native_filter_configuration"]:
        for target in filter(None, native_filter["targets"]):
            columns = {column["column_name"] for column in DATASET_OF[target["datasetUuid"]]["columns"]}
            assert target["column"]["name"] in columns
    for row in (component for key, component in board["position"].items() if key.startswith("ROW-")):
        assert sum(board["position"][child]["meta"]["width"] for child in row["children"]) == 12


def test_the_tabs_have_every_chart_and_filter_of_their_board() -> None:
    board = tabs.dashboard(tabs.boards())
    components = {key: part for key, part in board["position"].items() if isinstance(part, dict)}
    titles = [components[tab]["meta"]["text"] for tab in components[tabs.TABS]["children"]]
    assert titles == ["Decide", "Recruitment", "E-commerce", "Data health"]
    assert all(
        key == component["id"] and set(component["children"]) <= components.keys()
        for key, component in components.items()
        if key != "HEADER_ID"
    )
    charts = {part["meta"]["uuid"]: part for part in components.values() if part["type"] == "CHART"}
    numbers = [chart["meta"]["chartId"] for chart in charts.values()]
    assert sorted(numbers) == list(range(1, len(CHARTS) + 1))
    filters = board["metadata"]["native_filter_configuration"]
    for folder, single in tabs.boards().items():
        own = {key for key, component in components.items() if tabs.tab_id(folder) in component.get("parents", ())}
        exported = [chart for path, chart in CHARTS.items() if path.parts[-3] == folder]
        assert {components[key]["meta"].get("uuid") for key in own} - {None} == {chart["uuid"] for chart in exported}
        names = [entry["name"] for entry in single["metadata"]["native_filter_configuration"]]
        assert [entry["name"] for entry in filters if entry["scope"]["rootPath"] == [tabs.tab_id(folder)]] == names
    [pipeline] = [entry for entry in filters if entry["name"] == "Pipeline"]
    assert {
        chart["meta"]["sliceName"]
        for chart in charts.values()
        if chart["meta"]["chartId"] in pipeline["scope"]["excluded"]
    } == {
        "Pipelines now",
        "Time zone of this board",
    }
    assert board["metadata"]["refresh_frequency"] == 15
    scopes = {
        int(number): entry["crossFilters"]["scope"]["rootPath"]
        for number, entry in board["metadata"]["chart_configuration"].items()
    }
    assert scopes == {chart["meta"]["chartId"]: [chart["parents"][2]] for chart in charts.values()}


def test_boards_of_two_exports_with_the_same_numbers_keep_their_charts_apart() -> None:
    board = tabs.boards()["decide"]
    position = tabs.dashboard({"first": board, "second": board})["position"]
    numbers = [
        part["meta"]["chartId"] for part in position.values() if isinstance(part, dict) and part["type"] == "CHART"
    ]
    assert len(numbers) == len(set(numbers)) == 20


def test_decisions_are_not_read_every_15_seconds() -> None:
    board = tabs.dashboard(tabs.boards())
    immune = set(board["metadata"]["timed_refresh_immune_slices"])
    shown = {
        part["meta"]["chartId"]
        for part in board["position"].values()
        if isinstance(part, dict) and part["type"] == "CHART" and tabs.tab_id("decide") in part["parents"]
    }
    assert immune == shown


def test_the_rule_has_the_same_words_wherever_it_is_shown() -> None:
    """The view defines the rule; its comment, Superset, Grafana, docs/dashboards.md and ADR 34 repeat the numbers."""
    cases = round(1 / NormalDist().cdf(-float(RULE["deviations"])))
    significant = f"the change is significant (chance would explain it in at most 1 of {cases} cases)"
    words = (
        f"more than {RULE['most_unnamed'] * 100:.0f} % of the qualified applications",
        f"have fewer than {RULE['enough']} qualified applications",
        f"even with one more qualified application, the cost would be {RULE['averages']} times the average or more",
        f"fewer than {RULE['enough']} qualified applications in both weeks together",
        f"fell by at least {RULE['raise_from'] * 100:.0f} %, {significant}",
        f"rose by at least {RULE['stop_from'] * 100:.0f} %, {significant}",
    )
    [superset] = [
        part["meta"]["code"]
        for part in BOARDS[DECIDE]["position"].values()
        if isinstance(part, dict) and part["type"] == "MARKDOWN"
    ]
    [grafana] = [
        panel["options"]["content"]
        for board in GRAFANA_BOARDS.values()
        for panel in board["panels"]
        if panel["type"] == "text"
    ]
    comment = VIEWS.replace("\n--", "")
    page = (ROOT / "docs" / "dashboards.md").read_text()
    adr = (ROOT / "docs" / "adr" / "0034-a-rule-for-where-to-spend-next.md").read_text()
    for text in (comment, superset, grafana, page, adr):
        assert not [phrase for phrase in words if phrase not in " ".join(text.split())]


def test_a_decision_is_shown_beside_every_number_that_it_comes_from() -> None:
    """All columns that the view's CASE reads, and the inputs of costs, enough_data and beyond_chance."""
    case = re.search(r"decided AS \((.*?)\n\)\n", VIEWS, re.DOTALL)[1]
    final = re.search(r"\nSELECT\n((?:(?!SELECT).)*?)\nFROM decided;", VIEWS, re.DOTALL)[1]
    names = dict(re.findall(r"(\w+) AS (\w+)", final)) | {"id": "name"}
    read = set(re.findall(r"\bc\.(\w+)", case)) - RULE.keys() - {"kind"}
    assert {"id", "spend", "average", "unnamed", "beyond_chance", "cost_change"} <= read
    read |= {"cost_before", "spend_before", "qualified", "qualified_before"}
    numbers = {names.get(column, column) for column in read} | {"decision", "reason"}
    tables = {
        path: chart["params"]["all_columns"]
        for path, chart in CHARTS.items()
        if path.parts[-3] == "decide" and chart["viz_type"] == "table"
    } | {
        panel["title"]: re.search(r"SELECT (.*) FROM", panel["targets"][0]["rawSql"])[1].split(", ")
        for board, panel in PANELS
        if board["uid"] == "minutemark-decide" and panel["type"] == "table"
    }
    assert len(tables) == 4
    assert not {table: numbers - set(shown) for table, shown in tables.items() if numbers - set(shown)}


def test_identifiers_of_supersets_assets_are_unique() -> None:
    result = [document["uuid"] for kind in (CHARTS, DATASETS, BOARDS) for document in kind.values()]
    assert len(result) == len(set(result)) > 40


def test_no_asset_holds_a_password_or_a_host() -> None:
    for path, database in documents("databases").items():
        assert database["sqlalchemy_uri"] == "mysql+pymysql://bi@warehouse/etl", path
        assert not (database["allow_dml"] or database["allow_ctas"] or database["allow_cvas"])


# --- Grafana


def grafana_sql(text: str, start: datetime, end: datetime) -> str:
    """The statement with its time filter expanded as Grafana's MySQL data source expands it."""
    seconds = [int((time - datetime(1970, 1, 1)).total_seconds()) for time in (start, end)]
    return re.sub(
        r"\$__timeFilter\((\w+)\)", rf"\1 BETWEEN FROM_UNIXTIME({seconds[0]}) AND FROM_UNIXTIME({seconds[1]})", text
    )


def with_variables(text: str, board: dict, query_bi, start: datetime, end: datetime) -> str:
    """The statement with all values of each variable, as Grafana inserts them for `All`."""
    for variable in board["templating"]["list"]:
        values = [next(iter(row.values())) for row in query_bi(grafana_sql(variable["query"], start, end))]
        assert values and variable["multi"]
        quoted = ", ".join("'" + str(value).replace("'", "''") + "'" for value in values)
        text = text.replace(f"${variable['name']}", quoted)
    return text


@pytest.mark.parametrize(
    ("board", "panel"), PANELS, ids=[f"{board['uid']}/{panel['title']}" for board, panel in PANELS]
)
def test_a_panel_of_grafana_finds_rows(board: dict, panel: dict, query_bi, now: datetime) -> None:
    start, end = now - 2 * HOUR, now + HOUR
    for target in panel["targets"]:
        query = with_variables(grafana_sql(target["rawSql"], start, end), board, query_bi, start, end)
        assert "$" not in query, f"a macro or variable that is not known here: {query}"
        result = query_bi(query)
        assert result and any(value is not None for value in result[0].values())
        if target["format"] == "time_series":
            assert isinstance(result[0]["time"], datetime)
            assert [row["time"] for row in result] == sorted(row["time"] for row in result)


@pytest.mark.parametrize("board", GRAFANA_BOARDS.values(), ids=lambda board: board["uid"])
def test_a_board_of_grafana_fits_its_grid_and_refreshes(board: dict) -> None:
    assert board["refresh"] == ("5m" if board["uid"] == "minutemark-decide" else "15s")
    assert board["timezone"] == ""  # the server's default, which is the reporting zone
    taken = set()
    for panel in board["panels"]:
        assert panel["type"] == "text" or panel["datasource"] == {"type": "mysql", "uid": "warehouse"}
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken and at["x"] + at["w"] <= 24, panel["title"]
        taken |= cells


def test_superset_and_grafana_have_the_same_boards() -> None:
    assert {board["slug"]: board["dashboard_title"] for board in BOARDS.values()} == {
        board["uid"]: board["title"] for board in GRAFANA_BOARDS.values()
    }
    assert {path.parts[-3] for path in BOARDS} == {"decide", "health", *pipelines.all_pipelines()}


# --- Views


def test_the_views_neither_lose_nor_duplicate_rows(query_bi) -> None:
    [facts] = query_bi(
        "SELECT SUM(clicks) AS clicks, SUM(conversion) AS conversions, SUM(spend_hour) AS spend FROM recruitment.events"
    )
    [board] = query_bi(
        "SELECT SUM(clicks) AS clicks, SUM(conversions) AS conversions, SUM(spend) AS spend FROM recruitment.board_events"
    )
    assert facts == board and facts["clicks"] == 18
    [minutes] = query_bi("SELECT SUM(clicks) AS clicks, SUM(spend) AS spend FROM recruitment.board_contributions")
    assert minutes == {name: facts[name] for name in ("clicks", "spend")}
    [sales] = query_bi("SELECT SUM(views) AS views, SUM(revenue) AS revenue FROM ecommerce.sales_hourly")
    [board] = query_bi("SELECT SUM(views) AS views, SUM(revenue) AS revenue FROM ecommerce.board_sales")
    assert sales == board == {"views": 9, "revenue": Decimal("61.50")}
    steps = query_bi(
        "SELECT step, SUM(events) AS events FROM ecommerce.board_funnel GROUP BY step_number, step ORDER BY step_number"
    )
    assert [tuple(row.values()) for row in steps] == [("view", 9), ("cart", 3), ("purchase", 3)]
    [ledger] = query_bi("SELECT COUNT(*) AS minutes, SUM(raw_rows) AS raw_rows FROM etl.minute_ledger")
    assert [ledger] == query_bi("SELECT COUNT(*) AS minutes, SUM(raw_rows) AS raw_rows FROM etl.board_minutes")


def test_held_minutes_are_listed_without_those_that_only_wait_for_their_hour(query_bi, now: datetime) -> None:
    start, end = now - 2 * HOUR, now + HOUR
    chart = CHARTS[SUPERSET / "health" / "charts" / "held_minutes.yaml"]
    [(board, panel)] = [(board, panel) for board, panel in PANELS if panel["title"] == "Held minutes"]

    def listed() -> list[int]:
        [target] = panel["targets"]
        query = with_variables(grafana_sql(target["rawSql"], start, end), board, query_bi, start, end)
        return [len(query_bi(*superset_sql(chart, start, end))), len(query_bi(query))]

    def set_waiting(waiting: int) -> None:
        with warehouse() as conn:
            conn.cursor().execute(f"UPDATE etl.minute_ledger SET waiting = {waiting} WHERE state = 'held'")
            conn.commit()

    assert listed() == [1, 1]
    set_waiting(1)
    try:
        assert listed() == [0, 0]
    finally:
        set_waiting(0)


def test_known_and_unknown_keys_have_names(query_bi) -> None:
    result = query_bi("SELECT DISTINCT job, company, campaign, publisher FROM recruitment.board_events")
    assert sorted(tuple(row.values()) for row in result) == [
        ("Baker", "company 3", "campaign 5", "publisher 1"),
        ("Baker", "company 3", "none", "none"),
        ("Baker", "company 3", "none", "publisher 1"),
        ("job 8", "unknown", "campaign 5", "none"),
    ]


def test_health_shows_the_state_of_each_pipeline(query_bi, now: datetime) -> None:
    result = {row["pipeline"]: row for row in query_bi("SELECT * FROM etl.board_now")}
    assert result["recruitment"]["held_minutes"] == 1
    assert result["recruitment"]["problems"] == "none"
    assert 60 < result["recruitment"]["newest_event_age"] < 600
    assert result["ecommerce"]["looked_age"] is None  # this lake was never polled
    lag = query_bi(
        "SELECT lag_before, lag_after FROM etl.board_lag WHERE pipeline = 'recruitment' ORDER BY published_utc"
    )
    assert lag[0]["lag_before"] is None and lag[0]["lag_after"] > 60
    origins = query_bi("SELECT origin, COUNT(*) AS events FROM etl.board_rejected GROUP BY origin ORDER BY origin")
    assert [tuple(row.values()) for row in origins] == [("kafka", 1), ("lake", 3)]


@pytest.mark.parametrize(
    ("query", "key"),
    [
        ("SELECT SUM(clicks) FROM recruitment.board_events WHERE hour_utc >= %(start)s", "by_time"),
        ("SELECT SUM(clicks) FROM recruitment.board_contributions WHERE minute_utc >= %(start)s", "PRIMARY"),
        ("SELECT SUM(revenue) FROM ecommerce.board_sales WHERE hour_utc >= %(start)s", "PRIMARY"),
        ("SELECT SUM(events) FROM ecommerce.board_funnel WHERE hour_utc >= %(start)s", "PRIMARY"),
        (
            "SELECT SUM(raw_rows) FROM etl.board_minutes WHERE pipeline IN ('recruitment') AND minute_utc >= %(start)s",
            "PRIMARY",
        ),
        (
            "SELECT COUNT(*) FROM etl.board_rejected WHERE pipeline IN ('recruitment') AND minute_utc >= %(start)s",
            "by_minute",
        ),
    ],
)
def test_a_filter_on_utc_reaches_the_index(query_bi, warehouse_server, now: datetime, query: str, key: str) -> None:
    """Compares possible keys: the chosen one depends on the number of rows. EXPLAIN of a view needs privileges on its tables."""
    with warehouse("warehouse_admin") as conn:
        plan = rows(conn.cursor(), f"EXPLAIN FORMAT=TRADITIONAL {query}", {"start": now - HOUR})
    assert any(key in (step["possible_keys"] or "").split(",") for step in plan), plan
