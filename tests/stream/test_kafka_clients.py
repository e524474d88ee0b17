"""Settings of librdkafka, translated for Kafka's Java client."""

from __future__ import annotations

import pytest

from include.spark.installation import CannotSubmit
from include.stream.kafka_clients import CertificateUnreadable, NotTranslatable, java_settings

LOGIN = {
    "bootstrap.servers": "k1:9093",
    "security.protocol": "sasl_ssl",
    "sasl.mechanism": "SCRAM-SHA-512",
    "sasl.username": "minute",
    "sasl.password": 'a"b\\c',
    "socket.keepalive.enable": True,  # Java has no such setting
}


def test_a_login_becomes_jaas_and_settings_that_only_librdkafka_has_are_dropped():
    settings = java_settings(LOGIN)
    assert settings.pop("sasl.jaas.config") == (
        'org.apache.kafka.common.security.scram.ScramLoginModule required username="minute" password="a\\"b\\\\c";'
    )
    assert settings == {
        "bootstrap.servers": "k1:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
    }


def test_settings_for_java_that_are_not_an_object_are_refused():
    with pytest.raises(
        CannotSubmit, match='`kafka` of connection spark_default is not a JSON object. Write {"kafka": '
    ):
        java_settings(LOGIN, "sasl.jaas.config=…")


def test_certificates_are_pem_files_for_librdkafka_and_pem_texts_for_java(tmp_path):
    for name in ("cert", "key"):
        (tmp_path / name).write_text(f"the {name}")
    settings = java_settings(
        {
            "bootstrap.servers": "k1:9093",
            "security.protocol": "ssl",
            "ssl.ca.location": "/etc/ca.pem",
            "ssl.certificate.location": str(tmp_path / "cert"),
            "ssl.key.location": str(tmp_path / "key"),
            "ssl.endpoint.identification.algorithm": "none",
        }
    )
    assert settings == {
        "bootstrap.servers": "k1:9093",
        "security.protocol": "SSL",
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": "/etc/ca.pem",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.certificate.chain": "the cert",
        "ssl.keystore.key": "the key",
        "ssl.endpoint.identification.algorithm": "",
    }


def test_a_login_that_differs_in_java_is_refused_with_the_remedy():
    oauth = LOGIN | {"sasl.mechanism": "OAUTHBEARER"}
    with pytest.raises(NotTranslatable, match="under `kafka` in the extra of connection spark_default"):
        java_settings(oauth)
    own = {"sasl.mechanism": "OAUTHBEARER", "sasl.jaas.config": "… required;"}
    assert java_settings(oauth, own)["sasl.jaas.config"] == "… required;"


def test_a_certificate_that_is_missing_is_named_with_its_setting(tmp_path):
    missing = {"ssl.certificate.location": str(tmp_path / "cert"), "ssl.key.location": str(tmp_path / "key")}
    with pytest.raises(CertificateUnreadable, match=r"ssl\.certificate\.location .*/cert, which cannot be read"):
        java_settings(LOGIN | missing)
