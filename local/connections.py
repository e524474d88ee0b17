"""The connections that DAGs and commands use, as Airflow reads them from the environment: AIRFLOW_CONN_<ID> in JSON."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping, Sequence

from include.connections import variable
from local.servers import cassandra, kafka, postgres, warehouse_server

LAKE_LOGINS = {"lake_admin": cassandra.ADMIN, "lake_reader": cassandra.READER, "lake_writer": cassandra.WRITER}
WAREHOUSE_LOGINS = {
    "warehouse_admin": warehouse_server.ADMIN,
    "warehouse_etl": warehouse_server.ETL,
    "warehouse_bi": warehouse_server.BI,
}
# Accounts of PostgreSQL; only the last one belongs to a connection.
POSTGRES_LOGINS = {
    "metadata_admin": postgres.ADMIN,
    "metadata_airflow": postgres.AIRFLOW,
    "lakehouse_catalog": postgres.LAKEHOUSE,
}


def new_passwords() -> dict[str, str]:
    """A fresh password for each account of lake, warehouse, broker and PostgreSQL, of letters, digits, - and _."""
    names = (*LAKE_LOGINS, *WAREHOUSE_LOGINS, "kafka_default", *POSTGRES_LOGINS)
    return {name: secrets.token_urlsafe(24) for name in names}


def lake_passwords(passwords: Mapping[str, str]) -> dict[str, str]:
    """The passwords by the lake's account names."""
    return {login: passwords[conn_id] for conn_id, login in LAKE_LOGINS.items()}


def warehouse_passwords(passwords: Mapping[str, str]) -> dict[str, str]:
    """The passwords by the warehouse's account names."""
    return {login: passwords[conn_id] for conn_id, login in WAREHOUSE_LOGINS.items()}


def postgres_passwords(passwords: Mapping[str, str]) -> dict[str, str]:
    """The passwords by the account names of PostgreSQL."""
    return {login: passwords[name] for name, login in POSTGRES_LOGINS.items()}


def broker_passwords(passwords: Mapping[str, str]) -> dict[str, str]:
    """The password of the broker's one account, by its name."""
    return {kafka.ACCOUNT: passwords["kafka_default"]}


def lake(
    passwords: Mapping[str, str], port: int, *, hosts: Sequence[str] = (cassandra.HOST,), local_dc: str | None = None
) -> dict[str, str]:
    """Variables of the lake's connections."""
    extra = {"local_dc": local_dc} if local_dc else None
    return {
        variable(conn_id): _json("cassandra", ",".join(hosts), port, login, passwords[conn_id], extra)
        for conn_id, login in LAKE_LOGINS.items()
    }


def warehouse(passwords: Mapping[str, str], port: int) -> dict[str, str]:
    """Variables of the warehouse's connections."""
    return {
        variable(conn_id): _json(
            "mysql", warehouse_server.HOST, port, login, passwords[conn_id], {"charset": "utf8mb4"}
        )
        for conn_id, login in WAREHOUSE_LOGINS.items()
    }


def spark(master: str, conf: Mapping[str, str] | None = None, secret: str = "") -> dict[str, str]:
    """Variable of the Spark connection; `master` as spark-submit takes it, `secret` of a standalone cluster."""
    conf = {**(conf or {}), **({"spark.authenticate.secret": secret} if secret else {})}
    extra = {"extra": {"conf": conf}} if conf else {}
    return {variable("spark_default"): json.dumps({"conn_type": "spark", "host": master, **extra})}


def broker(passwords: Mapping[str, str], port: int, *more_ports: int) -> dict[str, str]:
    """Variable of the Kafka connection, whose extra is the client's configuration."""
    extra = kafka.client_settings(port, passwords["kafka_default"], *more_ports)
    return {variable("kafka_default"): json.dumps({"conn_type": "kafka", "extra": extra})}


def lakehouse(passwords: Mapping[str, str], port: int) -> dict[str, str]:
    """Variable of the connection of the lakehouse's catalog."""
    conn_id = "lakehouse_catalog"
    return {variable(conn_id): _json("postgres", postgres.HOST, port, postgres.LAKEHOUSE, passwords[conn_id])}


def _json(kind: str, host: str, port: int, login: str, password: str, extra: Mapping[str, object] | None = None) -> str:
    fields = {"conn_type": kind, "host": host, "port": port, "login": login, "password": password}
    if extra:
        fields["extra"] = extra
    return json.dumps(fields)
