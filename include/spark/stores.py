"""Settings of the Cassandra connector and of the JDBC driver, from the stores' connections."""

from __future__ import annotations

from collections.abc import Mapping

from include.connections import Endpoint
from include.spark.installation import CannotSubmit

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def lake_settings(lake: Endpoint) -> dict[str, str]:
    """The connector's settings; extra `spark` of the connection adds others (spark.cassandra.…). Raises CannotSubmit."""
    extra = lake.extra
    settings = {
        "spark.cassandra.connection.host": lake.host,
        "spark.cassandra.connection.port": str(lake.port or 9042),
    }
    if lake.login:
        settings |= {"spark.cassandra.auth.username": lake.login, "spark.cassandra.auth.password": lake.password or ""}
    if extra.get("local_dc"):
        settings["spark.cassandra.connection.localDC"] = str(extra["local_dc"])
    if extra.get("ssl_options"):
        settings["spark.cassandra.connection.ssl.enabled"] = "true"
    return settings | settings_in_extra(lake.conn_id, "spark", extra.get("spark"))


def jdbc_properties(warehouse: Endpoint) -> dict[str, str]:
    """The JDBC driver's properties; extra `jdbc` of the connection adds others, such as a trust store. Raises CannotSubmit."""
    extra = settings_in_extra(warehouse.conn_id, "jdbc", warehouse.extra.get("jdbc"))
    properties = {
        "driver": "com.mysql.cj.jdbc.Driver",
        "user": warehouse.login or "",
        "password": warehouse.password or "",
        "sslMode": _ssl_mode(warehouse),
    }
    if warehouse.host in _LOOPBACK:
        properties["allowPublicKeyRetrieval"] = "true"
    return properties | extra


def settings_in_extra(conn_id: str, name: str, value: object) -> dict[str, str]:
    """The settings in that extra of a connection, as strings; none if the extra is absent. Raises CannotSubmit for another type.

    The message does not quote the value, which may contain secrets.
    """
    if not isinstance(value or {}, Mapping):
        raise CannotSubmit(
            f"Extra `{name}` of connection {conn_id} is not a JSON object. "
            f'Write {{"{name}": {{…}}}}; in a connection in the form of a URI, as JSON in `__extra__`.'
        )
    return {key: str(text) for key, text in (value or {}).items()}


def _ssl_mode(warehouse: Endpoint) -> str:
    """The connection's mode; on loopback no TLS by default, because a handshake in a cold JVM takes a third of a second."""
    text = warehouse.extra.get("ssl_mode") or warehouse.extra.get("ssl-mode")
    if text:
        return str(text).upper()
    if warehouse.extra.get("ssl"):
        return "REQUIRED"
    return "DISABLED" if warehouse.host in _LOOPBACK else "PREFERRED"


def jdbc_url(warehouse: Endpoint) -> str:
    """The URL of the warehouse for the job's JDBC driver, without account and password."""
    host = f"[{warehouse.host}]" if ":" in warehouse.host else warehouse.host
    options = {
        "rewriteBatchedStatements": "true",
        "connectionTimeZone": "UTC",
        "forceConnectionTimeZoneToSession": "true",
        "sessionVariables": "time_zone='+00:00'",
        "characterEncoding": "UTF-8",
        "connectTimeout": "10000",
        "socketTimeout": "300000",
        "cacheServerConfiguration": "true",
        "useLocalSessionState": "true",
    }
    encoded = "&".join(f"{key}={value.replace('+', '%2B')}" for key, value in options.items())
    return f"jdbc:mysql://{host}:{warehouse.port or 3306}/etl?{encoded}"
