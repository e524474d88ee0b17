"""The lineage of a DataFrame, as Spark's analyzed plan has it: the plan names the attributes that each output is made of."""

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
    by,
    union,
)

Struct = dict[str, Origins]  # origins by field, of a column that is a struct
Value = Origins | Struct
_AGGREGATES = ".expressions.aggregate"


class NotUnderstood(ValueError):
    """This module cannot derive the lineage of a step of the plan."""


def lineage_of(frame: DataFrame, source: Mapping[str, Origins]) -> Relation:
    """What the frame is made of; `source` has the origins of each column of the table at the end of its plan."""
    nodes = list(_trees(json.loads(frame._jdf.queryExecution().analyzed().toJSON())))
    return _of_plan(nodes[0], source)[0]


def _trees(nodes: list[dict]) -> Iterator[dict]:
    """Spark writes a tree as the list of its nodes, each before its children."""
    left = iter(nodes)

    def tree() -> dict:
        node = next(left)
        return {**node, "children": [tree() for _ in range(node["num-children"])]}

    while True:
        try:
            yield tree()
        except StopIteration:
            return


def _of_plan(node: dict, source: Mapping[str, Origins]) -> tuple[Relation, dict[int, Value]]:
    """The relation, and the values of its attributes by their id."""
    step = node["class"].rpartition(".")[2]
    if not node["children"]:
        [attributes] = [node["output"]]
        result = {_id(one[0]): source[one[0]["name"]] for one in attributes}
        return Relation({one[0]["name"]: source[one[0]["name"]] for one in attributes}), result
    relation, values = _of_plan(node["children"][0], source)
    if step == "Filter":
        relation.depends(FILTER, _flat(_value(_tree(node["condition"]), values)))
        return relation, values
    outputs = {"Project": "projectList", "Aggregate": "aggregateExpressions"}
    if step not in outputs:
        raise NotUnderstood(f"{step} is a step that tests/lineage/of_plan.py does not know.")
    for grouping in node.get("groupingExpressions", ()):
        relation.depends(GROUP_BY, _flat(_value(_tree(grouping), values)))
    made = [_tree(one) for one in node[outputs[step]]]
    result = {_id(one): _value(one, values) for one in made}
    return Relation({one["name"]: _flat(result[_id(one)]) for one in made}, relation.rows), result


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
        return {name: _flat(value) for name, value in zip(names, children[1::2], strict=True)}
    if kind == "GetStructField" and _is_struct(children[0]):
        return list(children[0].values())[int(node["ordinal"])]
    if kind in ("ElementAt", "GetMapValue") and node["children"][1]["class"].endswith(".Literal"):
        return _member(_flat(children[0]), node["children"][1]["value"])
    origins = [_flat(child) for child in children]
    if kind == "CaseWhen":
        last = [origins.pop()] if len(origins) % 2 else []
        return union(
            *(by(CONDITIONAL, one) for one in origins[::2]),
            *(by(TRANSFORMATION, one) for one in [*origins[1::2], *last]),
        )
    if kind == "If":
        return union(by(CONDITIONAL, origins[0]), *(by(TRANSFORMATION, one) for one in origins[1:]))
    return by(AGGREGATION if package.endswith(_AGGREGATES) else TRANSFORMATION, union(*origins))


def _member(of_map: Origins, key: str) -> Origins:
    """An access to the event's JSON: the payload's member of that name. Members of a member are not distinguished."""
    return by(
        TRANSFORMATION,
        {(table, f"payload.{key}" if column == "payload" else column): how for (table, column), how in of_map.items()},
    )


def _is_struct(value: Value) -> bool:
    return any(isinstance(name, str) for name in value)


def _flat(value: Value) -> Origins:
    return union(*value.values()) if _is_struct(value) else value
