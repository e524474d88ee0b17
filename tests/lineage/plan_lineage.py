"""The lineage of a DataFrame, from Spark's analyzed plan, which names the attributes that each output is computed from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pyspark.sql import DataFrame

from tests.lineage.origins import (
    AGGREGATION,
    CONDITIONAL,
    FILTER,
    GROUP_BY,
    TRANSFORMATION,
    Origins,
    Relation,
    apply_step,
    union,
)

Struct = dict[str, Origins]  # the origins of a struct column, by field
Value = Origins | Struct
_AGGREGATES = ".expressions.aggregate"


class NotUnderstood(ValueError):
    """This module cannot derive the lineage of a step of the plan."""


def lineage_of(frame: DataFrame, source: Mapping[str, Origins]) -> Relation:
    """The lineage of the frame; `source` has the origins of each column of the table that its plan reads."""
    nodes = list(_trees(json.loads(frame._jdf.queryExecution().analyzed().toJSON())))
    return _plan_relation(nodes[0], source)[0]


def _trees(nodes: list[dict]) -> Iterator[dict]:
    """Spark writes a tree as the list of its nodes, each before its children."""
    remaining = iter(nodes)

    def tree() -> dict:
        node = next(remaining)
        return {**node, "children": [tree() for _ in range(node["num-children"])]}

    while True:
        try:
            yield tree()
        except StopIteration:
            return


def _plan_relation(node: dict, source: Mapping[str, Origins]) -> tuple[Relation, dict[int, Value]]:
    """The relation, and the values of its attributes by their id."""
    step = node["class"].rpartition(".")[2]
    if not node["children"]:
        [attributes] = [node["output"]]
        result = {_id(attribute): source[attribute["name"]] for attribute, *_ in attributes}
        return Relation({attribute["name"]: source[attribute["name"]] for attribute, *_ in attributes}), result
    relation, values = _plan_relation(node["children"][0], source)
    if step == "Filter":
        relation.add_row_sources(FILTER, _flatten(_value(_tree(node["condition"]), values)))
        return relation, values
    outputs = {"Project": "projectList", "Aggregate": "aggregateExpressions"}
    if step not in outputs:
        raise NotUnderstood(f"{step} is a step that tests/lineage/plan_lineage.py does not know.")
    for grouping in node.get("groupingExpressions", ()):
        relation.add_row_sources(GROUP_BY, _flatten(_value(_tree(grouping), values)))
    expressions = [_tree(expression) for expression in node[outputs[step]]]
    result = {_id(expression): _value(expression, values) for expression in expressions}
    return Relation(
        {expression["name"]: _flatten(result[_id(expression)]) for expression in expressions}, relation.rows
    ), result


def _tree(expression: list[dict]) -> dict:
    return next(_trees(expression))


def _id(attribute: dict) -> int:
    return attribute["exprId"]["id"]


def _value(node: dict, values: Mapping[int, Value]) -> Value:
    package, _, kind = node["class"].rpartition(".")
    if kind == "AttributeReference":
        return values[_id(node)]
    children = [_value(child, values) for child in node["children"]]
    if kind == "Alias":
        return children[0]
    if kind == "CreateNamedStruct":
        names = [child["value"] for child in node["children"][::2]]
        return {name: _flatten(value) for name, value in zip(names, children[1::2], strict=True)}
    if kind == "GetStructField" and _is_struct(children[0]):
        return list(children[0].values())[int(node["ordinal"])]
    if kind in ("ElementAt", "GetMapValue") and node["children"][1]["class"].endswith(".Literal"):
        return _member(_flatten(children[0]), node["children"][1]["value"])
    origins = [_flatten(child) for child in children]
    if kind == "CaseWhen":
        default = [origins.pop()] if len(origins) % 2 else []
        return union(
            *(apply_step(CONDITIONAL, condition) for condition in origins[::2]),
            *(apply_step(TRANSFORMATION, result) for result in [*origins[1::2], *default]),
        )
    if kind == "If":
        return union(
            apply_step(CONDITIONAL, origins[0]), *(apply_step(TRANSFORMATION, result) for result in origins[1:])
        )
    return apply_step(AGGREGATION if package.endswith(_AGGREGATES) else TRANSFORMATION, union(*origins))


def _member(map_origins: Origins, key: str) -> Origins:
    """The origins of a member of the event's JSON. Members of a member are not distinguished."""
    return apply_step(
        TRANSFORMATION,
        {
            (table, f"payload.{key}" if column == "payload" else column): how
            for (table, column), how in map_origins.items()
        },
    )


def _is_struct(value: Value) -> bool:
    return any(isinstance(name, str) for name in value)


def _flatten(value: Value) -> Origins:
    return union(*value.values()) if _is_struct(value) else value
