"""Divides rows into chunks of limited number and size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def slices(items: Sequence[Item], most: int) -> Iterator[list[Item]]:
    """The items in slices of at most `most` items."""
    for start in range(0, len(items), most):
        yield list(items[start : start + most])


def chunks(items: Iterable[Item], size_of: Callable[[Item], int], most: int, most_size: int) -> Iterator[list[Item]]:
    """The items in chunks of at most `most` items, whose sizes add up to at most `most_size`.

    An item that is larger than this is a chunk by itself.
    """
    chunk: list[Item] = []
    size = 0
    for item in items:
        own_size = size_of(item)
        if chunk and size + own_size > most_size:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += own_size
        if len(chunk) == most:  # now, not with the next item, which may be late or unreadable
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
