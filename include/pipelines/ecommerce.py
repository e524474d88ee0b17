"""E-commerce: what visitors of a shop view, put into their carts and buy, event by event and per hour."""

from include.pipelines.declaration import Output, Pipeline

PIPELINE = Pipeline(
    name="ecommerce",
    owner="ecommerce",
    description="Raw shop events to operations, and to hourly sales and visits.",
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
            contributions="ecommerce.operations",
            by_day=True,
        ),
    ),
    readable=(
        "ecommerce.operations", "ecommerce.sales_hourly", "ecommerce.visits_hourly", "ecommerce.board_sales",
        "ecommerce.board_funnel",
    ),
    facts=("ecommerce.sales_hourly", "ecommerce.visits_hourly"),
    tags=("ecommerce",),
    event_id="id",
    event_time="event_time",  # the public data set has no create_time
    kind_column="event_type",
    max_rows=250_000,  # every operation is a row of the warehouse too, and hours are summed up whole
)  # fmt: skip
