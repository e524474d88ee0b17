"""The driver's JVM gives nothing to a client without its secrets."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import psutil
import pytest

SECONDS = 5.0


def ports_of(spark) -> set[int]:
    pid = spark._jvm.java.lang.ProcessHandle.current().pid()
    return {
        net_connection.laddr.port
        for net_connection in psutil.Process(pid).net_connections("tcp")
        if net_connection.status == psutil.CONN_LISTEN
    }


@pytest.fixture(scope="module")
def cached_block(spark) -> Iterator[str]:
    """The id of a block in the block manager, with rows that a job has read."""
    known = set(spark.sparkContext._jsc.getPersistentRDDs())
    frame = spark.range(10).localCheckpoint()
    [rdd] = set(spark.sparkContext._jsc.getPersistentRDDs()) - known
    assert frame.count() == 10
    yield f"rdd_{rdd}_0"


def fetch_block(spark, port: int, block: str) -> str:
    """Request a block as an executor does, but without the secret; returns the handle of its stream, or the failure."""
    jvm = spark._jvm
    network, shuffle = jvm.org.apache.spark.network, jvm.org.apache.spark.network.shuffle.protocol
    conf = network.util.TransportConf("shuffle", network.util.MapConfigProvider.EMPTY)
    clients = network.TransportContext(conf, network.server.NoOpRpcHandler()).createClientFactory()
    blocks = spark._sc._gateway.new_array(jvm.java.lang.String, 1)
    blocks[0] = block
    try:
        client = clients.createClient("127.0.0.1", port)
        request = shuffle.OpenBlocks(spark.sparkContext.applicationId, "driver", blocks).toByteBuffer()
        answer = client.sendRpcSync(request, int(SECONDS * 1000))
        return f"{shuffle.BlockTransferMessage.Decoder.fromByteBuffer(answer)}"
    except Exception as error:
        return f"refused: {error}"
    finally:
        clients.close()


def request_endpoint(spark, port: int) -> str:
    """Request an endpoint of Spark's RPC as an executor does to get the driver's configuration, but without the secret;
    returns the endpoint's name, or the failure.
    """
    jvm = spark._jvm
    conf = jvm.org.apache.spark.SparkConf(False).set("spark.rpc.askTimeout", "5s").set("spark.rpc.lookupTimeout", "5s")
    manager = companion(spark, "org.apache.spark.SecurityManager")
    security = jvm.org.apache.spark.SecurityManager(
        conf, getattr(manager, "$lessinit$greater$default$2")(), getattr(manager, "$lessinit$greater$default$3")()
    )
    rpc = jvm.org.apache.spark.rpc
    environment = companion(spark, "org.apache.spark.rpc.RpcEnv").create(
        "outsider", "127.0.0.1", 0, conf, security, True
    )
    try:
        return str(environment.setupEndpointRef(rpc.RpcAddress("127.0.0.1", port), "HeartbeatReceiver").name())
    except Exception as error:
        return f"refused: {error}"
    finally:
        environment.shutdown()


def companion(spark, name: str):
    loader = spark._jvm.java.lang.Thread.currentThread().getContextClassLoader()
    return loader.loadClass(f"{name}$").getField("MODULE$").get(None)


def response_of(port: int, request: bytes) -> bytes:
    """The port's response to these bytes; empty if there is none."""
    with socket.create_connection(("127.0.0.1", port), SECONDS) as connection:
        connection.sendall(request)
        connection.settimeout(SECONDS)
        try:
            return connection.recv(4096)
        except (TimeoutError, ConnectionError):
            return b""


def test_no_port_gives_access_to_a_block_an_endpoint_or_the_jvm(spark, cached_block: str) -> None:
    ports = ports_of(spark)
    assert len(ports) >= 3, "Spark's RPC, its block manager, and py4j."
    for port in ports:
        assert fetch_block(spark, port, cached_block).startswith("refused")
        assert request_endpoint(spark, port).startswith("refused")
        # A request of py4j for a property of the JVM, and a request for a page of the UI.
        py4j = response_of(port, b"c\nz:java.lang.System\ngetProperty\nsjava.home\ne\n")
        assert not py4j.startswith(b"!y")
        assert not response_of(port, b"GET /environment HTTP/1.1\r\nHost: localhost\r\n\r\n").startswith(b"HTTP")


def test_the_driver_serves_no_password_of_a_store(spark) -> None:
    served = dict(spark.sparkContext.getConf().getAll())
    assert served["spark.authenticate"] == "true" and served["spark.ui.enabled"] == "false"
    assert not [name for name in served if "password" in name.lower()]
