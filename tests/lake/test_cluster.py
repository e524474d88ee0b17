"""What set-up and preflight check in a cluster: replicas, data centers, clocks."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest

from include.connections import LAKE_ADMIN, LAKE_READER, endpoint
from include.lake import cluster, schema
from include.lake.cluster import clock_problem, data_center_problem, refusal, replicas_of

ONE, THREE = {"minutemark": 1}, {"minutemark": 3}


@pytest.mark.parametrize(
    ("nodes", "factor", "replicas", "match"),
    [
        (1, "", ONE, None),
        (2, "", {"minutemark": None}, None),
        (3, "", {"minutemark": None, "bedan": 3}, r"3 nodes.*not exist yet: minutemark\. Set MINUTEMARK_REPLICATION_FACTOR=3"),
        (3, "", ONE, r"two replicas there: minutemark\. Add replicas with ALTER KEYSPACE.*nodetool repair"),
        (3, "", THREE, None),
        (3, "1", ONE | {"bedan": None}, None),  # declared on purpose
        (5, "3", {"minutemark": None}, None),
        (5, "3", ONE, "two replicas there: minutemark"),  # the setting changes no existing keyspace
        (3, "", {"minutemark": 0}, "two replicas there: minutemark"),  # none in this data center
    ],
)  # fmt: skip
def test_one_replica_on_three_nodes_is_refused_unless_declared(nodes, factor, replicas, match):
    result = refusal(nodes, factor, replicas)
    assert result is None if match is None else re.search(match, result)
    assert result is None or "MINUTEMARK_REPLICATION_FACTOR=1 accepts one" in result


def test_replicas_are_those_of_the_data_center():
    assert replicas_of({"class": "org.apache.cassandra.locator.SimpleStrategy", "replication_factor": "3"}, "dc1") == 3
    assert replicas_of({"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc1": "3/1"}, "dc1") == 3
    assert replicas_of({"class": "org.apache.cassandra.locator.NetworkTopologyStrategy", "dc2": "3"}, "dc1") == 0


def test_a_declared_factor_becomes_that_of_the_data_center(admin, monkeypatch):
    target = endpoint(LAKE_ADMIN)
    assert cluster.replication(admin, target, ["new"]) == cluster.SINGLE
    monkeypatch.setenv(cluster.SETTING, "2")
    options = cluster.replication(admin, target, ["new"])
    admin.execute(f"CREATE KEYSPACE new WITH replication = {options}")
    try:
        assert cluster.replicas(admin, "datacenter1", ["new", "newer"]) == {"new": 2, "newer": None}
    finally:
        admin.execute("DROP KEYSPACE new")


def test_set_up_refuses_single_replicas_before_it_creates_anything(lake_schema, admin, monkeypatch):
    monkeypatch.setattr(cluster, "MIN_NODES_FOR_REPLICATION", 1)  # this lake has one node
    with pytest.raises(
        cluster.ReplicationRefused,
        match="Keyspaces with fewer than two replicas there: bedan, ecommerce_ks, minutemark",
    ):
        schema.apply_schema()
    monkeypatch.setenv(cluster.SETTING, "1")
    schema.apply_schema()
    monkeypatch.setenv(cluster.SETTING, "many")
    with pytest.raises(cluster.ReplicationRefused, match="MINUTEMARK_REPLICATION_FACTOR=many is not a number"):
        schema.apply_schema()


def test_every_coordinators_clock_is_read(reader):
    (difference,) = cluster.clock_differences(reader).values()
    assert abs(difference) < timedelta(seconds=5)
    assert list(cluster.problems(reader, endpoint(LAKE_READER))) == []


def test_clocks_that_are_apart_are_named():
    near = {"10.0.0.1": timedelta(seconds=-60), "10.0.0.2": timedelta(seconds=-56)}
    assert clock_problem(near) is None, "This machine's own clock does not matter."
    assert clock_problem({}) is None
    result = clock_problem(near | {"10.0.0.3": timedelta(seconds=-50.5)})
    assert "10.0.0.1 and 10.0.0.3 are 9.5 s apart" in result and "NTP" in result


def test_several_data_centers_need_a_name_in_the_connection():
    problem = data_center_problem({"west": 3, "east": 3}, None)
    assert "east, west" in problem and '{"local_dc": "east"}' in problem
    assert data_center_problem({"west": 3, "east": 3}, "west") is None
    assert data_center_problem({"east": 3}, None) is None
