"""Compares rows with the contract: the declared fields that they have, unreadable values, and undeclared fields.

A row carries bits and names until its minute is counted. SQL strings replace hundreds of Column objects, which would cost
round trips to the JVM in every job.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence

from pyspark.sql import Column, DataFrame, Row
from pyspark.sql import functions as F

from include.pipelines import Pipeline
from include.pipelines.declaration import RESERVED
from include.spark.values import FIRST_NUMBER, TIME, literal, unreadable_sql

NAMES_PER_MINUTE = 100  # undeclared fields that are counted by name: the most frequent ones
OTHER_NAMES = "_other"  # stands for the rest
_NAME_LENGTH = 64
_BITS = 60  # used in each BIGINT


def presence_fields(pipeline: Pipeline, key: Collection[str]) -> list[str]:
    """The fields whose presence is counted: all but those in the lake's key, which every row has."""
    return [name for name in pipeline.fields if name not in key]


def typed_fields(pipeline: Pipeline, key: Collection[str]) -> list[str]:
    """The fields whose unreadable values are counted."""
    return [name for name in (*pipeline.numbers, *pipeline.times) if name not in key]


def columns(pipeline: Pipeline, key: Collection[str]) -> list[str]:
    """The columns that with_contract adds."""
    return [*bit_columns(pipeline, key), "_unknown"]


def bit_columns(pipeline: Pipeline, key: Collection[str]) -> list[str]:
    """The BIGINT columns with a bit for each field."""
    return [*_words("_present", presence_fields(pipeline, key)), *_words("_unreadable", typed_fields(pipeline, key))]


def with_contract(rows: DataFrame, pipeline: Pipeline, key: Sequence[str]) -> DataFrame:
    """Add bits for the fields of presence_fields and typed_fields, and `_unknown`: the undeclared names in `_names`, or null.

    The declared fields of `rows` are strings.
    """
    known = ", ".join(literal(name) for name in sorted({*pipeline.fields, *key, *RESERVED}))
    patterns = {name: TIME if name in pipeline.times else FIRST_NUMBER for name in typed_fields(pipeline, key)}
    unreadable = _bits("_unreadable", [unreadable_sql(f"`{name}`", pattern) for name, pattern in patterns.items()])
    present = _bits("_present", [f"`{name}` IS NOT NULL" for name in presence_fields(pipeline, key)])
    rows = rows.withColumn("_names", F.expr(f"filter(_names, name -> name NOT IN ({known}))"))
    unknown = F.expr("IF(size(_names) > 0, _names, NULL)").alias("_unknown")
    return rows.select("*", *present, *unreadable, unknown).drop("_names")


def sums_of_bits(pipeline: Pipeline, key: Collection[str]) -> dict[str, Column]:
    """For each bit, the number of rows of a group that have it, as arrays.

    The input has one row for each combination of the bit columns, with its number of rows in `rows`.
    """
    return {
        kind: F.expr(_array(f"sum(getbit(_{kind}_{i // _BITS}, {i % _BITS}) * rows)" for i in range(len(fields))))
        for kind, fields in _counted_fields(pipeline, key).items()
    }


def sums_of_sums(pipeline: Pipeline, key: Collection[str]) -> dict[str, Column]:
    """Like sums_of_bits, for groups that it has already summed."""
    return {
        kind: F.expr(_array(f"sum({kind}[{i}])" for i in range(len(fields))))
        for kind, fields in _counted_fields(pipeline, key).items()
    }


def unknown_by_minute(rows: DataFrame) -> dict[int, dict[str, int]]:
    """Rows with each undeclared field, by minute (in seconds since 1970)."""
    names = rows.where("_unknown IS NOT NULL").select(
        F.unix_seconds("minute").alias("minute_s"),
        F.explode(F.array_distinct(F.expr(f"transform(_unknown, name -> substr(name, 1, {_NAME_LENGTH}))"))).alias(
            "name"
        ),
    )
    by_name = names.groupBy("minute_s", "name").agg(F.count(F.lit(1)).alias("rows"))
    by_minute = by_name.groupBy("minute_s").agg(
        F.sum("rows").alias("rows"),
        F.slice(F.sort_array(F.collect_list(F.struct("rows", "name")), asc=False), 1, NAMES_PER_MINUTE).alias("names"),
    )
    counts = {}
    for row in by_minute.collect():
        by_field = {field.name: field.rows for field in row.names}
        if rest := row.rows - sum(by_field.values()):
            by_field[OTHER_NAMES] = by_field.get(OTHER_NAMES, 0) + rest
        counts[row.minute_s] = by_field
    return counts


def as_json(row: Row, unknown: Mapping[str, int], pipeline: Pipeline, key: Collection[str]) -> str:
    """The counts of a minute for etl.minute_fields: rows by field, without zeros."""
    present = dict(zip(presence_fields(pipeline, key), row.present, strict=True))
    unreadable = dict(zip(typed_fields(pipeline, key), row.unreadable, strict=True))
    counts = {"present": present, "unreadable": unreadable, "unknown": unknown}
    return json.dumps(
        {kind: {name: rows for name, rows in by_name.items() if rows} for kind, by_name in counts.items()},
        ensure_ascii=False,
    )


def _counted_fields(pipeline: Pipeline, key: Collection[str]) -> dict[str, list[str]]:
    return {"present": presence_fields(pipeline, key), "unreadable": typed_fields(pipeline, key)}


def _words(kind: str, fields: Sequence[str]) -> list[str]:
    """The names of the columns with a bit for each of these fields."""
    return [f"{kind}_{word}" for word in range(-(-len(fields) // _BITS))]


def _bits(kind: str, conditions: Sequence[str]) -> list[Column]:
    """BIGINTs with a bit for each condition in SQL; a condition that is null counts as false."""
    numbers = []
    for word, name in enumerate(_words(kind, conditions)):
        part = conditions[word * _BITS : (word + 1) * _BITS]
        numbers.append(
            F.expr(" + ".join(f"IF({condition}, {1 << bit}L, 0L)" for bit, condition in enumerate(part))).alias(name)
        )
    return numbers


def _array(texts) -> str:
    return f"CAST(array({', '.join(texts)}) AS ARRAY<BIGINT>)"
