"""E-commerce: what visitors of a shop view, put into their carts and buy, event by event and per hour."""

from include.pipelines.declaration import Output, Pipeline
from include.pipelines.lakehouse import Lakehouse
from include.pipelines.summed_fact import Key, Measure, SummedFact

_HOUR = Key("hour", "DATETIME", "of event_time, UTC")

PIPELINE = Pipeline(
    name="ecommerce",
    owner="ecommerce",
    description="Turns raw shop events into operations, hourly sales and hourly visits.",
    keyspace="ecommerce_ks",
    table="operations",
    fields=(
        "brand", "category_code", "category_id", "event_time", "event_type", "id", "price", "product_id",
        "user_id", "user_session",
    ),
    required=("event_time", "product_id"),
    numbers=("price", "product_id"),
    times=("event_time",),
    database="ecommerce",
    outputs=(
        Output(
            name="operations",
            staging="ecommerce.operations_staged",
            published="ecommerce.operations",
            by_day=True,
        ),
    ),
    readable=(
        "ecommerce.operations", "ecommerce.sales_hourly", "ecommerce.visits_hourly", "ecommerce.board_sales",
        "ecommerce.board_funnel", "ecommerce.bi_sales", "ecommerce.bi_visits",
    ),
    facts=(
        SummedFact(
            name="sales",
            table="ecommerce.sales_hourly",
            output="operations",
            key=(
                _HOUR,
                Key("department", "VARCHAR(64)"), Key("product", "VARCHAR(64)"), Key("brand", "VARCHAR(64)"),
            ),
            measures=(
                Measure("views", of="s.event_type = 'view'"),
                Measure("carts", of="s.event_type = 'cart'"),
                Measure("removals", of="s.event_type = 'remove_from_cart'"),
                Measure("purchases", of="s.event_type = 'purchase'"),
                Measure(
                    "revenue", "DECIMAL(24, 2)", "sum of the prices of purchases",
                    of="CASE WHEN s.event_type = 'purchase' THEN s.price ELSE 0 END",
                ),
            ),
        ),
        SummedFact(
            name="visits",
            table="ecommerce.visits_hourly",
            output="operations",
            key=(_HOUR,),
            measures=(
                Measure("visits", comment="views", of="s.event_type = 'view'"),
                Measure("cart_additions", of="s.event_type = 'cart'"),
                Measure("removals", comment="from carts", of="s.event_type = 'remove_from_cart'", added=True),
            ),
        ),
    ),
    lakehouse=Lakehouse(table="ecommerce.events", fact="visits", measures=("visits", "cart_additions")),
    tags=("ecommerce",),
    event_id="id",
    event_time="event_time",  # the public data set has no create_time
    kind_column="event_type",
    max_rows=250_000,  # every operation is a row of the warehouse too
)  # fmt: skip
