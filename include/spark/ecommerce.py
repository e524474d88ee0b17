"""E-commerce: interprets raw shop events. Each counted event becomes one row of the warehouse; hours are summed there."""

from __future__ import annotations

from collections.abc import Mapping

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as F

from include.spark import fate
from include.spark.values import amount, in_range, instant, key, time_of_uuid

VIEW, CART, REMOVAL, PURCHASE = "view", "cart", "remove_from_cart", "purchase"
KINDS = (VIEW, CART, REMOVAL, PURCHASE)
OTHER = "other"  # a department, product or brand that the event does not name
LONGEST_NAME = 64  # characters of a department, product or brand in the warehouse
PRICE_LIMIT = 10**10  # DECIMAL(12, 2) has ten digits before the point


class Rejection(fate.Rejection):
    """Reasons, in the order in which they are checked."""

    CREATE_TIME = "create_time is not a time-UUID between 1970 and 2100"
    EVENT_TIME = "event_time is not a timestamp between 1970 and 2100"
    PRODUCT_ID = "product_id is not a positive whole number"
    CATEGORY_CODE = f"category_code has a first or last part of more than {LONGEST_NAME} characters"
    BRAND = f"brand has more than {LONGEST_NAME} characters"
    PRICE = "price of a purchase is not a number"
    PRICE_NEGATIVE = "price of a purchase is negative"
    PRICE_TOO_LARGE = f"price of a purchase is not below {PRICE_LIMIT}"


def classify(raw: DataFrame, options: Mapping[str, object]) -> DataFrame:
    """Adds created_at, fate, kind, reason (null unless rejected) and `event`, a struct of the row's typed values."""
    typed = raw.withColumns(_times()).withColumns(_typed())
    is_counted = F.col("counted_kind").isNotNull()
    return typed.withColumns(
        {"reason": _reason(), "fate": fate.decide(_reason(), is_counted), "kind": _kind(), "event": _event()}
    )


def operations(counted: DataFrame) -> DataFrame:
    """One row per event, numbered within the read; only the lake has the event's id."""
    return counted.select("minute", F.monotonically_increasing_id().alias("event_number"), "event.*")


OUTPUTS = {"operations": operations}


def _times() -> dict[str, Column]:
    """Columns that later expressions use more than once."""
    return {"raw_created_at": time_of_uuid(F.col("create_time")), "raw_time": instant(F.col("event_time"))}


def _typed() -> dict[str, Column]:
    """created_at, the kind, and `typed_…`: the values that facts are made of, null if the text has none."""
    kind = F.lower("event_type")
    return {
        "created_at": in_range(F.col("raw_created_at")),
        "raw_kind": kind,
        "counted_kind": F.when(kind.isin(*KINDS), kind),
        "typed_time": in_range(F.col("raw_time")),
        "typed_product_id": key(F.col("product_id")),
        "typed_price": amount(F.col("price")),
        # electronics.audio.headphone is a headphone of the department electronics.
        "typed_department": _name_or_other(F.trim(F.substring_index("category_code", ".", 1))),
        "typed_product": _name_or_other(F.trim(F.substring_index("category_code", ".", -1))),
        "typed_brand": _name_or_other(F.col("brand")),
    }


def _name_or_other(name: Column) -> Column:
    return F.coalesce(F.nullif(name, F.lit("")), F.lit(OTHER))


def _event() -> Column:
    """The row's values for the columns of ecommerce.operations, which generates hour and revenue from them."""
    return F.struct(
        F.col("typed_time").alias("event_time"),
        F.col("counted_kind").alias("event_type"),
        F.col("typed_department").alias("department"),
        F.col("typed_product").alias("product"),
        F.col("typed_brand").alias("brand"),
        _price().alias("price"),
    )


def _price() -> Column:
    """The price to the cent; null if there is none, or if it cannot be stored."""
    return F.when(F.col("typed_price") >= 0, F.col("typed_price")).cast("decimal(12,2)")


def _reason() -> Column:
    """The first rule that the row breaks, in the order of the design (§9); null if it breaks none."""
    price, price_text = F.col("typed_price"), F.col("price")
    price_is_acceptable = (F.col("counted_kind") != PURCHASE) | _price().isNotNull()
    longest_part = F.greatest(F.length("typed_department"), F.length("typed_product"))
    return (
        F.when(F.col("created_at").isNull(), Rejection.CREATE_TIME.with_value(F.col("create_time")))
        .when(F.col("counted_kind").isNull(), F.lit(None))
        .when(F.col("typed_time").isNull(), Rejection.EVENT_TIME.with_value(F.col("event_time")))
        .when(F.col("typed_product_id") == 0, Rejection.PRODUCT_ID.with_value(F.col("product_id")))
        .when(longest_part > LONGEST_NAME, Rejection.CATEGORY_CODE.with_value(F.col("category_code")))
        .when(F.length("typed_brand") > LONGEST_NAME, Rejection.BRAND.with_value(F.col("typed_brand")))
        .when(price_is_acceptable, F.lit(None))
        .when(price.isNull(), Rejection.PRICE.with_value(price_text))
        .when(price < 0, Rejection.PRICE_NEGATIVE.with_value(price_text))
        .otherwise(Rejection.PRICE_TOO_LARGE.with_value(price_text))
    )


def _kind() -> Column:
    return F.coalesce("counted_kind", "raw_kind", F.lit(fate.NO_KIND))
