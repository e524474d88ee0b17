"""The local broker, started for real: where it listens, and that it comes back with its data after a kill."""

import dataclasses
import signal
import stat

import psutil
import pytest

from local import connections
from local.layout import KAFKA_JARS, STORE_JARS
from local.problems import Problem
from local.process import Child, free_port
from local.servers import kafka

PASSWORD = connections.new_passwords()["kafka_default"]


@pytest.fixture
def broker(tmp_path):
    if not list(KAFKA_JARS.glob("kafka_*.jar")):
        pytest.skip(f"Kafka's jars are not in {KAFKA_JARS}: `make setup` fetches them.")
    return kafka.Broker(
        tmp_path / "it's" / "kafka", free_port(), {kafka.ACCOUNT: PASSWORD}, controller_port=free_port()
    )


def start(broker, log):
    child = Child(broker.prepare(), log)
    broker.wait_until_ready(alive=child.alive, log=str(log))
    return child


def topics(broker):
    from confluent_kafka.admin import AdminClient

    return set(AdminClient(kafka.client_settings(broker.port, broker.password)).list_topics(timeout=10).topics)


def test_a_broker_comes_back_with_its_data_after_a_kill_and_listens_on_loopback_only(broker, tmp_path):
    from confluent_kafka.admin import AdminClient, NewTopic

    log = tmp_path / "log"
    child = start(broker, log)
    try:
        listening = [socket.laddr for socket in psutil.net_connections("tcp") if socket.status == psutil.CONN_LISTEN]
        ours = [address.ip for address in listening if address.port in (broker.port, broker.controller_port)]
        assert len(ours) == 2 and all(ip.removeprefix("::ffff:") == "127.0.0.1" for ip in ours), ours
        client = AdminClient(kafka.client_settings(broker.port, broker.password))
        client.create_topics([NewTopic("kept", num_partitions=2)])["kept"].result()
        psutil.Process(child.pid).send_signal(signal.SIGKILL)
    finally:
        child.stop()
    child = start(broker, log)
    try:
        assert "kept" in topics(broker)
    finally:
        child.stop()
    assert not child.alive()


def test_only_the_owner_can_read_the_brokers_password(broker):
    command = broker.prepare()
    [file] = [path for path in broker.home.iterdir() if path.is_file() and PASSWORD in path.read_text()]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert PASSWORD not in " ".join(command) and PASSWORD not in repr(broker)


def test_a_broker_that_ends_while_it_starts_is_reported_with_its_log(tmp_path):
    broker = kafka.Broker(tmp_path / "kafka", free_port(), {kafka.ACCOUNT: PASSWORD})
    child = Child(["false"], tmp_path / "log")
    with pytest.raises(Problem, match="its process ended during start-up"):
        broker.wait_until_ready(seconds=20, alive=child.alive, log="kafka.log")


def test_missing_jars_of_kafka_are_reported(tmp_path):
    with pytest.raises(Problem, match="make setup"):
        kafka.Broker(tmp_path / "kafka", jars=tmp_path / "empty").prepare()


def test_kafkas_refusal_is_reported_verbatim(broker):
    clashing = dataclasses.replace(broker, controller_port=broker.port)
    with pytest.raises(Problem, match="two listeners on the same port"):
        clashing.prepare()


def test_kafkas_jars_are_not_on_the_class_path_of_cassandra():
    assert not list(STORE_JARS.glob("kafka*.jar"))
