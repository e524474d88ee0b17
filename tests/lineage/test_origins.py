"""The origins of a column: SQL and Spark's plans give the same origins for the same expression."""

from __future__ import annotations

import pytest
from pyspark.sql import functions as F

pytest.importorskip("sqlglot", reason="sqlglot is not installed: `make test` installs it.")

from tests.lineage import plan_lineage, sql_lineage  # noqa: E402
from tests.lineage.origins import IDENTITY, Relation  # noqa: E402

COLUMNS = ("a", "b", "k", "payload")
EXPRESSIONS = [
    ("a", {"a": "IDENTITY"}),
    ("a + b", {"a": "TRANSFORMATION", "b": "TRANSFORMATION"}),
    ("1", {}),
    ("CAST(a AS STRING)", {"a": "TRANSFORMATION"}),
    ("COALESCE(a, b)", {"a": "TRANSFORMATION", "b": "TRANSFORMATION"}),
    ("CASE WHEN b > 1 THEN a END", {"a": "TRANSFORMATION", "b": "CONDITIONAL"}),
    ("CASE WHEN k > 1 THEN a ELSE b END", {"a": "TRANSFORMATION", "b": "TRANSFORMATION", "k": "CONDITIONAL"}),
    ("CASE WHEN a > 1 THEN a END", {"a": "TRANSFORMATION"}),  # a value takes precedence over a condition
    ("IF(b > 1, a, 0)", {"a": "TRANSFORMATION", "b": "CONDITIONAL"}),
]
AGGREGATES = [
    ("SUM(a)", {"a": "AGGREGATION"}),
    ("COUNT(*)", {}),
    ("SUM(CASE WHEN b > 1 THEN a END) + MAX(k)", {"a": "AGGREGATION", "b": "CONDITIONAL", "k": "AGGREGATION"}),
]
MEMBER = "from_json(payload, 'map<string,string>')"


@pytest.fixture(scope="module")
def table(spark):
    return spark.createDataFrame([], "a int, b int, k int, payload string")


def as_names(origins) -> dict[str, str]:
    return {column: how for (_, column), how in origins.items()}


def identity(name: str = "t") -> Relation:
    return Relation({column: {(name, column): IDENTITY} for column in COLUMNS})


def frame_relation(frame) -> Relation:
    return plan_lineage.lineage_of(frame, identity().columns)


@pytest.mark.parametrize(("expression", "expected"), EXPRESSIONS)
def test_expressions(table, expression, expected):
    assert as_names(frame_relation(table.selectExpr(f"{expression} AS x")).columns["x"]) == expected
    query_relation = sql_lineage.query_lineage(f"SELECT {expression} AS x FROM t", lambda name: identity(name), "spark")
    assert as_names(query_relation.columns["x"]) == expected


@pytest.mark.parametrize(("expression", "expected"), AGGREGATES)
def test_aggregates_of_groups(table, expression, expected):
    frame = table.where("b = 2").groupBy(F.col("k").alias("g")).agg(F.expr(expression).alias("x"))
    query = f"SELECT k AS g, {expression} AS x FROM t WHERE b = 2 GROUP BY k"
    for relation in (frame_relation(frame), sql_lineage.query_lineage(query, lambda name: identity(name), "spark")):
        assert as_names(relation.columns["x"]) == expected
        assert as_names(relation.columns["g"]) == {"k": "IDENTITY"}
        assert as_names(relation.rows) == {"k": {"GROUP_BY"}, "b": {"FILTER"}}


def test_lineage_passes_through_an_intermediate_step(table):
    frame = table.selectExpr("a + b AS c", "k").where("k > 1").groupBy("k").agg({"c": "sum"})
    assert as_names(frame_relation(frame).columns["sum(c)"]) == {"a": "AGGREGATION", "b": "AGGREGATION"}


@pytest.mark.parametrize("access", [f"{MEMBER}['bid']", f"element_at({MEMBER}, 'bid')"])
def test_a_member_of_the_payload_is_a_column(table, access):
    assert as_names(frame_relation(table.selectExpr(f"{access} AS x")).columns["x"]) == {
        "payload.bid": "TRANSFORMATION"
    }


def test_the_fields_of_a_struct_are_distinguished(table):
    frame = table.selectExpr("named_struct('p', a, 'q', b + 1) AS event").select("event.*")
    columns = frame_relation(frame).columns
    assert as_names(columns["p"]) == {"a": "IDENTITY"}
    assert as_names(columns["q"]) == {"b": "TRANSFORMATION"}


def test_an_unknown_step_of_a_plan_is_refused(table):
    with pytest.raises(plan_lineage.NotUnderstood, match="Join is a step"):
        frame_relation(table.crossJoin(table.toDF("a2", "b2", "k2", "payload2")))


def test_joins_decide_which_rows_exist():
    query = "SELECT l.a, r.b FROM left_one AS l LEFT JOIN right_one AS r ON r.k = l.k"
    relation = sql_lineage.query_lineage(query, lambda name: identity(name), "mysql")
    assert relation.columns == {"a": {("left_one", "a"): "IDENTITY"}, "b": {("right_one", "b"): "IDENTITY"}}
    assert relation.rows == {("left_one", "k"): {"JOIN"}, ("right_one", "k"): {"JOIN"}}


def test_control_tables_are_left_out():
    query = "INSERT INTO f (x, y) SELECT s.a, m.b FROM etl.m AS m STRAIGHT_JOIN s ON s.k = m.k AND s.b = %(attempt)s"
    table, relation = sql_lineage.insert_lineage(
        query, lambda name: None if name.startswith("etl.") else identity(name), "mysql"
    )
    assert (table, relation.columns) == ("f", {"x": {("s", "a"): "IDENTITY"}, "y": {}})
    assert relation.rows == {("s", "k"): {"JOIN"}, ("s", "b"): {"JOIN"}}


def test_conditions_of_an_aggregate_and_windows():
    query = (
        "SELECT date_trunc('hour', a) AS hour, count(*) FILTER (WHERE b = 1) AS n, "
        "row_number() OVER (PARTITION BY k ORDER BY a DESC) AS place FROM t GROUP BY 1"
    )
    relation = sql_lineage.query_lineage(query, lambda name: identity(name), "duckdb")
    assert as_names(relation.columns["hour"]) == {"a": "TRANSFORMATION"}
    assert as_names(relation.columns["n"]) == {"b": "CONDITIONAL"}
    assert as_names(relation.columns["place"]) == {"k": "WINDOW", "a": "WINDOW"}
    assert as_names(relation.rows) == {"a": {"GROUP_BY"}}


def test_lineage_passes_through_named_queries_unions_and_stars():
    query = (
        "WITH first AS (SELECT a, b FROM t), united AS (SELECT f.* FROM first AS f UNION ALL SELECT k, 1 FROM u) "
        "SELECT * FROM united WHERE b > 0"
    )
    relation = sql_lineage.query_lineage(query, lambda name: identity(name), "mysql")
    assert relation.columns == {"a": {("t", "a"): "IDENTITY", ("u", "k"): "IDENTITY"}, "b": {("t", "b"): "IDENTITY"}}
    assert relation.rows == {("t", "b"): {"FILTER"}}


def test_a_column_that_no_table_has_is_refused():
    with pytest.raises(sql_lineage.NotUnderstood, match="has the column z"):
        sql_lineage.query_lineage("SELECT z FROM t", lambda name: identity(name), "mysql")
