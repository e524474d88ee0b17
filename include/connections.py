"""Where the stores are: one Endpoint per connection id, from Airflow or from the environment.

Inside a task, Airflow resolves a connection (from its UI, a secrets backend, or the environment). Outside Airflow,
commands read AIRFLOW_CONN_<ID> variables that hold JSON directly, because importing Airflow takes seconds.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from urllib.parse import urlsplit

from include.errors import MinutemarkError

LAKE_READER = "lake_reader"
LAKE_WRITER = "lake_writer"
LAKE_ADMIN = "lake_admin"
WAREHOUSE_ETL = "warehouse_etl"
WAREHOUSE_BI = "warehouse_bi"
WAREHOUSE_ADMIN = "warehouse_admin"
SPARK = "spark_default"
KAFKA = "kafka_default"
IDS = (
    LAKE_ADMIN,
    LAKE_READER,
    LAKE_WRITER,
    WAREHOUSE_ADMIN,
    WAREHOUSE_ETL,
    WAREHOUSE_BI,
    SPARK,
    KAFKA,
    "lakehouse_catalog",
)


class ConnectionMissing(MinutemarkError):
    """A connection id that is not defined."""


class ConnectionMalformed(MinutemarkError):
    """A variable AIRFLOW_CONN_… whose JSON is not a connection. The message does not quote it: it may hold a password."""


@dataclass(frozen=True)
class Endpoint:
    """One connection, as Airflow describes connections; its repr omits `password` and `extra`, which may hold secrets."""

    conn_id: str
    conn_type: str
    host: str
    port: int | None
    login: str | None = None
    password: str | None = field(default=None, repr=False)
    schema: str | None = None
    extra: dict = field(default_factory=dict, repr=False)

    def url(self, default_scheme: str) -> str:
        """The URL of an HTTP connection, without `login` and `password`: `host` if that is a URL, with `port` if it has none.

        Otherwise it is built from the scheme in `schema`, host, port and the extra `path`. Raises ValueError if the result is
        not an http or https URL; the message does not quote it.
        """
        url, port = self.host, f":{self.port}" if self.port else ""
        if "://" not in url:
            url = f"{self.schema or default_scheme}://{url}{port}/{str(self.extra.get('path', '')).lstrip('/')}"
        try:
            parts = urlsplit(url)
            has_host, has_port = bool(parts.hostname), parts.port is not None
        except ValueError:  # its message may quote a login in the URL
            has_host = False
        if not has_host or parts.scheme not in ("http", "https"):
            raise ValueError(f"Connection {self.conn_id} has no http or https URL.")
        return parts._replace(netloc=parts.netloc + port).geturl() if port and not has_port else url


def variable(conn_id: str) -> str:
    """The name of the environment variable that holds a connection."""
    return f"AIRFLOW_CONN_{conn_id.upper()}"


def as_variables(endpoints: Iterable[Endpoint]) -> dict[str, str]:
    """The environment variables by which a process without Airflow finds these connections."""
    return {variable(target.conn_id): json.dumps(asdict(target)) for target in endpoints}


def endpoint(conn_id: str | Endpoint) -> Endpoint:
    """The connection of that id; an Endpoint is returned as it is. Raises ConnectionMissing or ConnectionMalformed."""
    if isinstance(conn_id, Endpoint):
        return conn_id
    value = os.environ.get(variable(conn_id))
    if value and value.lstrip().startswith("{") and "airflow" not in sys.modules:
        return _from_json(conn_id, value)
    return _from_airflow(conn_id)


def _from_json(conn_id: str, value: str) -> Endpoint:
    try:
        fields = json.loads(value)
        extra = fields.get("extra") or {}
        extra = json.loads(extra) if isinstance(extra, str) else extra
        port = int(fields["port"]) if fields.get("port") else None
        if not isinstance(extra, dict):
            raise ValueError
    except (TypeError, ValueError, OverflowError):
        raise ConnectionMalformed(
            f"{variable(conn_id)} is not a connection. Write one JSON object, with a whole number as `port` and an object "
            "as `extra`."
        ) from None
    return Endpoint(
        conn_id=conn_id,
        conn_type=fields.get("conn_type", ""),
        host=fields.get("host") or "",
        port=port,
        login=fields.get("login"),
        password=fields.get("password"),
        schema=fields.get("schema"),
        extra=extra,
    )


def _from_airflow(conn_id: str) -> Endpoint:
    try:
        from airflow.sdk import BaseHook
        from airflow.sdk.exceptions import AirflowNotFoundException
    except ModuleNotFoundError as error:  # a separate environment, such as Tableau's, has no Airflow
        raise _missing(conn_id) from error

    try:
        return _to_endpoint(conn_id, BaseHook.get_connection(conn_id))
    except AirflowNotFoundException as error:
        raise _missing(conn_id) from error


async def endpoint_in_trigger(conn_id: str) -> Endpoint:
    """Like endpoint, inside a trigger, whose event loop must not wait for Airflow's answer."""
    from airflow.sdk import BaseHook
    from airflow.sdk.exceptions import AirflowNotFoundException

    try:
        return _to_endpoint(conn_id, await BaseHook.aget_connection(conn_id))
    except AirflowNotFoundException as error:
        raise _missing(conn_id) from error


def _missing(conn_id: str) -> ConnectionMissing:
    return ConnectionMissing(
        f"Connection {conn_id!r} is not defined. Define it in Airflow (Admin, Connections), in a secrets backend, "
        f"or as {variable(conn_id)}; `make services` writes the connections of its stores to .local/env."
    )


def _to_endpoint(conn_id: str, connection) -> Endpoint:
    return Endpoint(
        conn_id=conn_id,
        conn_type=connection.conn_type or "",
        host=connection.host or "",
        port=connection.port,
        login=connection.login,
        password=connection.password,
        schema=connection.schema,
        extra=connection.extra_dejson,
    )
