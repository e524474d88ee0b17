"""Translates the librdkafka settings of connection kafka_default into those of Spark's Kafka clients in Java."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from include.connections import SPARK
from include.errors import MinutemarkError
from include.spark.stores import settings_in_extra

_SAME_NAMES = (
    "bootstrap.servers",
    "security.protocol",
    "client.dns.lookup",
    "ssl.endpoint.identification.algorithm",
    "ssl.keystore.location",
    "ssl.keystore.password",
    "ssl.key.password",
)
_PLAIN = "org.apache.kafka.common.security.plain.PlainLoginModule"
_SCRAM = "org.apache.kafka.common.security.scram.ScramLoginModule"


class NotTranslatable(MinutemarkError):
    """A login for which Kafka's Java client needs other settings."""


class CertificateUnreadable(MinutemarkError):
    """A file that the connection names is missing or cannot be read."""


def java_settings(librdkafka: Mapping[str, object], own: Mapping[str, object] | None = None) -> dict[str, str]:
    """The same broker and login for Kafka's Java client; Java settings in `own` take precedence.

    Raises NotTranslatable, CertificateUnreadable, and CannotSubmit if `own` is not an object.
    """
    connection = {name: str(value) for name, value in librdkafka.items()}
    settings = {name: connection[name] for name in _SAME_NAMES if name in connection}
    if "security.protocol" in settings:
        settings["security.protocol"] = settings["security.protocol"].upper()
    if settings.get("ssl.endpoint.identification.algorithm") == "none":
        settings["ssl.endpoint.identification.algorithm"] = ""  # Java's word for none
    own = settings_in_extra(SPARK, "kafka", own)
    if "sasl.jaas.config" not in own:
        settings |= _login(connection)
    return settings | _certificates(connection) | own


def _login(connection: Mapping[str, str]) -> dict[str, str]:
    mechanism = (connection.get("sasl.mechanisms") or connection.get("sasl.mechanism") or "").upper()
    if not mechanism or not connection.get("security.protocol", "").upper().startswith("SASL"):
        return {}
    if mechanism != "PLAIN" and not mechanism.startswith("SCRAM-"):
        raise NotTranslatable(
            f"Connection kafka_default has sasl.mechanism {mechanism}, whose settings differ in Java. Put those of Java's "
            'clients, including sasl.jaas.config, under `kafka` in the extra of connection spark_default: {"kafka": {…}}.'
        )
    module = _PLAIN if mechanism == "PLAIN" else _SCRAM
    name, password = (_quoted(connection.get(f"sasl.{what}", "")) for what in ("username", "password"))
    return {"sasl.mechanism": mechanism, "sasl.jaas.config": f"{module} required username={name} password={password};"}


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _certificates(connection: Mapping[str, str]) -> dict[str, str]:
    """librdkafka reads certificates from PEM files. Java accepts such a file as a trust store, and a key as text."""
    settings = {}
    if authority := connection.get("ssl.ca.location"):
        settings |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": authority}
    certificate, key = connection.get("ssl.certificate.location"), connection.get("ssl.key.location")
    if certificate and key:
        settings |= {
            "ssl.keystore.type": "PEM",
            "ssl.keystore.certificate.chain": _text("ssl.certificate.location", certificate),
            "ssl.keystore.key": _text("ssl.key.location", key),
        }
    return settings


def _text(setting: str, file: str) -> str:
    try:
        return Path(file).read_text(encoding="ascii")
    except (OSError, UnicodeError) as error:
        raise CertificateUnreadable(
            f"Connection kafka_default has {setting} {file}, which cannot be read ({error}). Put a PEM file there "
            "that the user of Airflow's tasks can read, or correct the connection."
        ) from error
