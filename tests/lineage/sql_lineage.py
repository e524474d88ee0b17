"""The lineage of a SELECT or an INSERT … SELECT, as sqlglot parses it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence

import sqlglot
from sqlglot import exp

from tests.lineage.origins import (
    AGGREGATION,
    CONDITIONAL,
    FILTER,
    GROUP_BY,
    IDENTITY,
    JOIN,
    TRANSFORMATION,
    WINDOW,
    Origins,
    Relation,
    apply_step,
    union,
)

Tables = Callable[[str], Relation | None]  # a table by its name; None: its columns are not reported
_BIND = re.compile(r"%\((\w+)\)s")


class NotUnderstood(ValueError):
    """A statement whose lineage this module cannot derive. The message names the part."""


def insert_lineage(statement: str, tables: Tables, dialect: str) -> tuple[str, Relation] | None:
    """The table that the statement inserts into, and what it inserts; None for any other statement."""
    parsed = _parse(statement, dialect)
    if not isinstance(parsed, exp.Insert):
        return None
    target, names = parsed.this.this, [column.name for column in parsed.this.expressions]
    return _name(target), _query_relation(parsed.expression, tables, names)


def view_lineage(statement: str, tables: Tables, dialect: str) -> tuple[str, Relation]:
    """The view that the statement creates, and what it shows."""
    created = _parse(statement, dialect)
    return _name(created.this), _query_relation(created.expression, tables)


def query_lineage(query: str, tables: Tables, dialect: str) -> Relation:
    """What the query returns."""
    return _query_relation(_parse(query, dialect), tables)


def columns_of(definitions: Mapping[str, str], dialect: str) -> dict[str, tuple[str, str, Callable]]:
    """Type, comment and, for a generated column, a function from the table's other columns to the column's origins."""
    result = {}
    for name, definition in definitions.items():
        [column] = _parse(f"CREATE TABLE t ({name} {definition})", dialect).this.expressions
        kinds = {type(constraint.kind): constraint.kind.this for constraint in column.constraints}
        comment = kinds.get(exp.CommentColumnConstraint)
        computed = kinds.get(exp.ComputedColumnConstraint)
        result[name] = (
            column.kind.sql(dialect),
            comment.name if comment else "",
            computed and (lambda own, computed=computed: _origins(computed, {"": Relation(own)})),
        )
    return result


def _parse(statement: str, dialect: str) -> exp.Expression:
    return sqlglot.parse_one(_BIND.sub(r":\1", statement), dialect=dialect)


def _name(table: exp.Table) -> str:
    return ".".join(part.name for part in table.parts)


def _query_relation(query: exp.Expression, tables: Tables, names: Sequence[str] | None = None) -> Relation:
    """The relation that the query returns; `names` are the columns of the INSERT that it feeds, if any."""
    tables = _with_named_queries(query, tables)
    if isinstance(query, exp.Subquery):
        return _query_relation(query.this, tables)
    if isinstance(query, exp.Union):
        return _union_relation(query, tables)
    if not isinstance(query, exp.Select):
        raise NotUnderstood(f"{type(query).__name__} is not a SELECT: {query.sql()[:200]}")
    scope, relation = {}, Relation()
    for source in _sources(query):
        inner = _source_relation(source, tables)
        scope[source.alias_or_name] = inner
        relation.include_rows(inner)
    for number, column in enumerate(query.expressions):
        if names:
            relation.columns[names[number]] = _origins(column, scope)
        elif column.is_star:
            for inner in [scope[column.table]] if isinstance(column, exp.Column) else scope.values():
                relation.columns.update(inner.columns)
        else:
            relation.columns[column.alias_or_name or str(number)] = _origins(column, scope)
    _add_conditions(query, relation, scope)
    return relation


def _with_named_queries(query: exp.Expression, tables: Tables) -> Tables:
    """The tables, with the queries of the WITH clause, each of which may read those before it."""
    clause = query.args.get("with_") or query.args.get("with")
    for named in clause.expressions if clause else ():
        relation = _query_relation(named.this, tables)
        tables = _with_relation(named.alias, relation, tables)
    return tables


def _with_relation(name: str, relation: Relation, others: Tables) -> Tables:
    return lambda table: relation if table == name else others(table)


def _union_relation(query: exp.Union, tables: Tables) -> Relation:
    """Columns are matched by position, and named as in the first query."""
    first, second = _query_relation(query.left, tables), _query_relation(query.right, tables)
    first.include_rows(second)
    pairs = zip(first.columns.items(), second.columns.values(), strict=True)
    return Relation({name: union(left, right) for (name, left), right in pairs}, first.rows)


def _sources(query: exp.Select) -> list[exp.Expression]:
    first = query.args.get("from_") or query.args.get("from")
    return [*([first.this] if first else []), *(join.this for join in query.args.get("joins") or ())]


def _source_relation(source: exp.Expression, tables: Tables) -> Relation:
    if isinstance(source, exp.Table):
        return tables(_name(source)) or Relation()
    return _query_relation(source, tables)


def _add_conditions(query: exp.Select, relation: Relation, scope: Mapping[str, Relation]) -> None:
    for keyword in ("where", "having", "qualify"):
        if clause := query.args.get(keyword):
            relation.add_row_sources(FILTER, _origins(clause.this, scope))
    for join in query.args.get("joins") or ():
        if condition := join.args.get("on"):
            relation.add_row_sources(JOIN, _origins(condition, scope))
    if group := query.args.get("group"):
        for column in group.expressions:
            if isinstance(column, exp.Literal):  # GROUP BY 1
                column = query.expressions[int(column.name) - 1]
            relation.add_row_sources(GROUP_BY, _origins(column, scope))


def _origins(expression: exp.Expression, scope: Mapping[str, Relation]) -> Origins:
    if isinstance(expression, exp.Column):
        return _column_origins(expression, scope)
    if isinstance(expression, (exp.Alias, exp.Paren)):
        return _origins(expression.this, scope)
    if isinstance(expression, exp.Subquery | exp.Exists):
        return {}  # a subquery reads its own tables
    if isinstance(expression, exp.Case | exp.If):
        return _case_origins(expression, scope)
    if isinstance(expression, exp.Filter):  # an aggregate with FILTER (WHERE …)
        condition = apply_step(CONDITIONAL, _origins(expression.expression.this, scope))
        return union(_origins(expression.this, scope), condition)
    if isinstance(expression, exp.Window):
        ordered = [expression.args.get("order"), *(expression.args.get("partition_by") or ())]
        return union(
            _origins(expression.this, scope),
            *(apply_step(WINDOW, _origins(part, scope)) for part in ordered if part is not None),
        )
    step = AGGREGATION if isinstance(expression, exp.AggFunc) else TRANSFORMATION
    return apply_step(step, union(*(_origins(child, scope) for child in expression.iter_expressions())))


def _case_origins(expression: exp.Case | exp.If, scope: Mapping[str, Relation]) -> Origins:
    branches = expression.args.get("ifs") or [expression]
    conditions = [branch.this for branch in branches] + ([expression.this] if expression.args.get("ifs") else [])
    values = [branch.args.get("true") for branch in branches]
    values.append(expression.args.get("default") or expression.args.get("false"))
    return union(
        *(apply_step(CONDITIONAL, _origins(part, scope)) for part in conditions if part is not None),
        *(apply_step(TRANSFORMATION, _origins(part, scope)) for part in values if part is not None),
    )


def _column_origins(column: exp.Column, scope: Mapping[str, Relation]) -> Origins:
    candidates = [scope[column.table]] if column.table else list(scope.values())
    for relation in candidates:
        if column.name in relation.columns:
            return apply_step(IDENTITY, relation.columns[column.name])
    if column.table and not candidates[0].columns:
        return {}  # of a table whose columns are not reported
    raise NotUnderstood(f"No table of the query has the column {column.sql()}.")
