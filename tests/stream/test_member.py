"""A member of a consumer group, on a real broker."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait

import pytest

from include.kafka.clients import TopicMissing
from include.kafka.ingest_mode import DAG, group_of
from include.kafka.topics import has_members, make_topics
from include.stream.member import Member, Rejoined, TakenOver
from tests.kafka.conftest import until
from tests.kafka.test_holes import remove_topic


def test_a_member_that_leaves_is_gone_and_a_closed_member_stays_in_the_group(pipeline):
    group = group_of(pipeline.name, DAG)
    with Member(pipeline) as member:
        member.join()
        start = member.starts(lambda _: None)
        member.commit(start.offsets, start.topic_id)
        assert has_members(group)
        member.leave()
    assert not has_members(group)
    with Member(pipeline) as member:
        member.join()
    assert has_members(group)


def test_a_member_that_is_fenced_does_not_make_its_successor_leave(pipeline):
    with Member(pipeline) as first, Member(pipeline) as second:
        first.join()
        first.starts(lambda _: None)
        second.join()
        start = second.starts(lambda _: None)
        with pytest.raises(TakenOver):
            first.commit(start.offsets, start.topic_id)
        with pytest.raises(TakenOver):
            first.leave()
        second.commit(start.offsets, start.topic_id)
        assert has_members(group_of(pipeline.name, DAG))


def test_a_member_that_was_out_of_the_group_commits_nothing_before_it_has_read_the_groups_offsets(pipeline):
    with Member(pipeline) as member:
        member.join()
        start = member.starts(lambda _: None)
        member.leave()
        member._client.subscribe([pipeline.topic], on_assign=member._on_assign)
        while member._joins == 1:
            member.poll(0.1)
        with pytest.raises(Rejoined):
            member.commit(start.offsets, start.topic_id)
        start = member.starts(lambda _: None)
        member.commit(start.offsets, start.topic_id)


def test_a_topic_that_is_being_created_again_is_awaited(pipeline):
    with Member(pipeline) as member, ThreadPoolExecutor(1) as other:
        member.join()
        before = member.starts(lambda _: None)
        remove_topic(pipeline)
        start = other.submit(member.starts, lambda _: None)
        assert not wait([start], timeout=1).done
        until(lambda: make_topics([pipeline]) is None)
        assert start.result().topic_id not in (None, before.topic_id)


def test_a_topic_that_stays_deleted_is_missing(pipeline, monkeypatch):
    monkeypatch.setattr("include.kafka.clients.TIMEOUT", 1.0)
    with Member(pipeline) as member:
        member.join()
        remove_topic(pipeline)
        with pytest.raises(TopicMissing, match="Create it"):
            member.starts(lambda _: None)
