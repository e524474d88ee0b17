"""The group's member on a real broker."""

from __future__ import annotations

import pytest

from include.kafka.ingest_mode import DAG, group_of
from include.kafka.topics import has_members
from include.stream.member import Member, Rejoined, TakenOver


def test_a_member_that_leaves_is_not_in_the_group_and_one_that_is_closed_is(pipeline):
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


def test_a_member_that_was_out_of_the_group_commits_nothing_before_it_has_read_where_the_group_stands(pipeline):
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
