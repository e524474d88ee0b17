"""The topics themselves: created once, as their pipelines declare them. Only dead-letter topics are changed later."""

import json
import secrets
from dataclasses import replace

import pytest
from confluent_kafka.admin import ConfigResource, NewTopic

from include import pipelines
from include.kafka import clients, topics
from include.kafka.clients import BrokerError
from include.kafka.ingest_mode import CONNECT, DAG, SETTING, UnknownIngestMode, dead_letters_of, group_of, ingest_mode
from include.kafka.topics import OffsetRange
from include.operations import preflight, setup
from tests.kafka.conftest import committed, consume, until
from tests.lake.conftest import event

RECRUITMENT = pipelines.get("recruitment")


def partitions(topic):
    return len(clients.admin().list_topics(timeout=10).topics[topic].partitions)


def test_a_topic_is_named_after_its_pipeline_unless_declared():
    assert RECRUITMENT.topic == "recruitment.events"
    assert replace(RECRUITMENT, topic="clicks").topic == "clicks"


def test_set_up_makes_a_topic_for_each_pipeline_and_changes_nothing_the_second_time(schemas, kafka_broker, by_dag):
    setup.set_up()
    assert {pipeline.topic: partitions(pipeline.topic) for pipeline in pipelines.all_pipelines().values()} == {
        pipeline.topic: pipeline.shards for pipeline in pipelines.all_pipelines().values()
    }
    before = topics.offset_ranges(RECRUITMENT, group_of("recruitment", DAG))
    setup.set_up()
    assert topics.offset_ranges(RECRUITMENT, group_of("recruitment", DAG)) == before


def test_without_an_ingest_mode_set_up_contacts_no_broker(schemas, monkeypatch):
    monkeypatch.delenv(SETTING, raising=False)
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": {}}')
    setup.set_up()


def test_a_different_number_of_partitions_is_reported_and_changes_nothing(pipeline, caplog):
    wider = replace(pipeline, shards=8)
    topics.make_topics([wider])
    assert f"Topic {pipeline.topic} has 4 partitions and bedan.tracking has 8 shards" in caplog.text
    assert partitions(pipeline.topic) == 4


def test_each_topic_has_a_dead_letter_topic_with_arrival_times(pipeline):
    topics.make_topics([pipeline])
    assert partitions(dead_letters_of(pipeline.topic)) == 1
    resource = ConfigResource(ConfigResource.Type.TOPIC, dead_letters_of(pipeline.topic))
    admin = clients.admin()
    (answer,) = admin.describe_configs([resource]).values()
    assert answer.result(timeout=10)["message.timestamp.type"].value == "LogAppendTime"


def test_a_dead_letter_topic_that_connect_has_created_gets_its_settings(kafka_broker):
    name = f"recruitment_{secrets.token_hex(6)}"
    early = replace(RECRUITMENT, name=name, topic=f"{name}.events")
    letters, admin = dead_letters_of(early.topic), clients.admin()
    admin.create_topics([NewTopic(letters, num_partitions=1, config={"retention.ms": "86400000"})])[letters].result()
    topics.make_topics([early])

    def settings() -> list[str]:
        (answer,) = admin.describe_configs([ConfigResource(ConfigResource.Type.TOPIC, letters)]).values()
        result = answer.result(timeout=10)
        return [result[name].value for name in ("message.timestamp.type", "max.message.bytes", "retention.ms")]

    # The broker learns of the change from its controller.
    until(lambda: settings() == ["LogAppendTime", "16777216", "86400000"])


def test_the_position_of_a_group_is_known(pipeline, send):
    group = group_of(pipeline.name, DAG)
    assert set(topics.offset_ranges(pipeline, group).values()) == {OffsetRange(0, None, 0)}
    send.write([event("2026-08-20 10:00:00") for _ in range(10)])
    ranges = topics.offset_ranges(pipeline, group)
    assert sorted(ranges) == [0, 1, 2, 3]
    assert sum(offsets.waiting for offsets in ranges.values()) == 10
    consume(pipeline)
    assert sum(offsets.waiting for offsets in topics.offset_ranges(pipeline, group).values()) == 0
    assert committed(pipeline) == 10


def test_messages_removed_before_the_group_read_them_are_expired():
    assert OffsetRange(begin=7, committed=5, end=9).expired == 2
    assert OffsetRange(begin=7, committed=5, end=9).waiting == 2
    assert OffsetRange(begin=7, committed=None, end=9).expired == 0


@pytest.mark.parametrize(("setting", "mode"), [("", None), (" DAG ", DAG), ("connect", CONNECT)])
def test_the_ingest_mode_is_a_setting(setting, mode):
    assert ingest_mode({SETTING: setting}) == mode
    assert ingest_mode({}) is None


def test_an_unknown_ingest_mode_is_refused():
    with pytest.raises(
        UnknownIngestMode, match="MINUTEMARK_INGEST=magic is not an ingest mode: set it to dag, connect or spark"
    ):
        ingest_mode({SETTING: "magic"})


def test_a_broker_that_does_not_answer_is_reported_with_its_connection(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}'
    )
    monkeypatch.setattr(clients, "TIMEOUT", 1.0)
    with pytest.raises(BrokerError, match=r"The broker of connection kafka_default \(127\.0\.0\.1:1\)"):
        clients.check_broker()
    assert "kafka_default (127.0.0.1:1)" in preflight.connection_problems("kafka_default")[0]


@pytest.mark.parametrize(
    ("login", "message"),
    [
        (
            {"sasl.password": "not-the-password"},
            "Invalid username or password .* Correct sasl.username and sasl.password",
        ),
        ({"security.protocol": "PLAINTEXT"}, r"security.protocol and sasl\.\* where the broker requires a login"),
    ],
)
def test_a_wrong_or_missing_login_is_explained(kafka_broker, monkeypatch, login, message):
    connection = json.loads(kafka_broker["AIRFLOW_CONN_KAFKA_DEFAULT"])
    connection["extra"] |= login
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", json.dumps(connection))
    monkeypatch.setattr(clients, "TIMEOUT", 2.0)
    with pytest.raises(BrokerError, match=message) as error:
        clients.check_broker()
    assert "not-the-password" not in str(error.value)


def test_a_broker_that_does_not_return_a_topics_settings_in_time_sets_no_limits_and_fails_set_up(monkeypatch, caplog):
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1"}}'
    )
    monkeypatch.setattr(clients, "TIMEOUT", 1.0)
    assert topics.limits_of(RECRUITMENT) == topics.Limits()
    assert "Cannot read the limits of topic recruitment.events" in caplog.text
    with pytest.raises(BrokerError, match="kafka_default"), clients.translate_errors():
        topics._configure_dead_letters(clients.admin(), ["recruitment.events.dead"])


def test_a_setting_that_the_client_refuses_is_reported_with_the_connection(monkeypatch):
    monkeypatch.setenv(
        "AIRFLOW_CONN_KAFKA_DEFAULT",
        '{"conn_type": "kafka", "extra": {"bootstrap.servers": "127.0.0.1:1", "security.protocol": "magic"}}',
    )
    for use in (clients.check_broker, lambda: topics.has_members("any"), lambda: topics.topic_id("any")):
        with pytest.raises(
            BrokerError, match=r'"magic" for configuration property .*extra of connection kafka_default'
        ):
            use()


def test_a_connection_without_a_broker_is_reported(monkeypatch):
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", '{"conn_type": "kafka", "extra": "{}"}')
    with pytest.raises(BrokerError, match=r"names no broker: put .*bootstrap\.servers.* into its extra"):
        clients.settings()


def test_tls_and_sasl_of_the_connection_reach_the_client(monkeypatch):
    secure = (
        '{"conn_type": "kafka", "extra": {"bootstrap.servers": "b:9093", "security.protocol": "SASL_SSL", '
        '"sasl.mechanism": "SCRAM-SHA-512", "sasl.username": "etl", "sasl.password": "s3cret"}}'
    )
    monkeypatch.setenv("AIRFLOW_CONN_KAFKA_DEFAULT", secure)
    result = clients.settings()
    assert (result["security.protocol"], result["sasl.password"]) == ("SASL_SSL", "s3cret")
    clients.follower(RECRUITMENT).close()  # the client accepts them


def test_the_broker_of_the_session_answers(kafka_broker):
    assert preflight.connection_problems("kafka_default") == []


def test_repeated_errors_of_a_client_are_logged_at_intervals(caplog):
    from confluent_kafka import KafkaError

    refused = KafkaError(KafkaError._TRANSPORT, "Connection refused")
    all_down = KafkaError(KafkaError._ALL_BROKERS_DOWN, "1/1 brokers are down")
    log_client_error = clients.ThrottledErrorLog()
    for error in (refused, all_down, refused, refused):
        log_client_error(error)
    assert caplog.messages == ["Kafka: Connection refused", "Kafka: 1/1 brokers are down"]

    log_client_error = clients.ThrottledErrorLog(pause=0)
    log_client_error(refused)
    log_client_error(refused)
    assert caplog.messages[2:] == ["Kafka: Connection refused"] * 2
