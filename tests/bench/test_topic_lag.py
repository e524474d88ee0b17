"""The lag of bench/topic_lag.py on hand-written samples."""

from __future__ import annotations

from bench.topic_lag import Sample, lags


def test_a_sample_lags_until_all_that_was_sent_before_it_is_committed():
    samples = [
        Sample(0.0, {0: 10, 1: 5}, {0: 10, 1: 5}),  # everything is committed
        Sample(1.0, {0: 12, 1: 6}, {0: 10, 1: 5}),
        Sample(2.0, {0: 12, 1: 6}, {0: 12, 1: 5}),  # one partition is committed
        Sample(3.5, {0: 20, 1: 6}, {0: 12, 1: 6}),  # both are committed, and more was sent
        Sample(4.0, {}, {0: 20, 1: 6}),  # taken only to see the last sample committed
    ]
    assert lags(samples) == [0.0, 2.5, 1.5, 0.5]


def test_a_sample_without_a_later_commit_has_no_lag():
    assert lags([Sample(0.0, {0: 1}, {}), Sample(1.0, {}, {0: 0})]) == []
