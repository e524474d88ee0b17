"""A broker with ACLs: a topic that the account may not see is not taken for a missing one."""

from __future__ import annotations

import dataclasses

from confluent_kafka.admin import (
    AclBinding,
    AclOperation,
    AclPermissionType,
    NewTopic,
    ResourcePatternType,
    ResourceType,
)

from include.kafka import clients, follow
from include.kafka.clients import BrokerError, translate_errors
from tests.kafka.conftest import until


def test_a_topic_that_the_account_may_not_describe_needs_a_grant(kafka_broker, tmp_path, monkeypatch) -> None:
    from local import connections
    from local.process import free_port
    from local.servers import kafka

    passwords = connections.new_passwords()
    ports = {"port": free_port(), "controller_port": free_port()}
    broker = kafka.Broker(tmp_path / "kafka", passwords=connections.broker_passwords(passwords), **ports)
    lines = [line for line in broker.configuration().splitlines() if line and not line.startswith("#")]
    settings = dict(line.split("=", 1) for line in lines) | {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
    }
    with dataclasses.replace(broker, settings=settings).running():
        for name, value in connections.broker(passwords, broker.port).items():
            monkeypatch.setenv(name, value)
        admin = clients.admin()
        [created] = admin.create_topics([NewTopic("hidden", 1)]).values()
        created.result(timeout=10)
        deny = AclBinding(
            ResourceType.TOPIC,
            "hidden",
            ResourcePatternType.LITERAL,
            f"User:{kafka.ACCOUNT}",
            "*",
            AclOperation.DESCRIBE,
            AclPermissionType.DENY,
        )
        [denied] = admin.create_acls([deny]).values()
        denied.result(timeout=10)

        def describe() -> BrokerError | None:
            """The refusal, once the broker has applied the rule."""
            try:
                with translate_errors():
                    follow.partitions_of(admin, "hidden")
            except BrokerError as error:
                return error
            return None

        refusal = until(describe)
    assert not isinstance(refusal, clients.TopicMissing)
    assert "topic hidden" in str(refusal) and "Grant the connection's account Read on topics" in str(refusal)
