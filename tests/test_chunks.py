"""Limits of chunks and slices."""

from operator import itemgetter

import pytest

from include.chunks import chunks, slices


def test_chunks_are_bounded_by_rows_and_by_size() -> None:
    rows = [(1, 4), (2, 4), (3, 4), (4, 50), (5, 1), (6, 1), (7, 1), (8, 1)]
    ids = [[number for number, _ in chunk] for chunk in chunks(rows, itemgetter(1), 3, 10)]
    assert ids == [[1, 2], [3], [4], [5, 6, 7], [8]]
    assert list(chunks([], len, 3, 10)) == []


def test_slices_have_a_bounded_length_and_keep_the_order() -> None:
    assert list(slices((1, 2, 3, 4, 5), 2)) == [[1, 2], [3, 4], [5]]
    assert list(slices([], 2)) == []


def test_a_full_chunk_does_not_wait_for_the_next_row_which_may_be_unreadable() -> None:
    def rows():
        yield from "abc"
        raise OSError("the fourth row")

    result = chunks(rows(), len, 3, 10)
    assert next(result) == ["a", "b", "c"]
    with pytest.raises(OSError, match="fourth"):
        next(result)
