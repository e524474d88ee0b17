"""Divides rows into chunks with a limited number of rows and a limited size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def slices(items: Sequence[Item], max_items: int) -> Iterator[list[Item]]:
    """The items in slices of at most `max_items` items."""
    for start in range(0, len(items), max_items):
        yield list(items[start : start + max_items])


def chunks(
    items: Iterable[Item], size_of: Callable[[Item], int], max_items: int, max_size: int
) -> Iterator[list[Item]]:
    """The items in chunks of at most `max_items` items, whose sizes add up to at most `max_size`.

    An item larger than `max_size` is a chunk by itself.
    """
    chunk: list[Item] = []
    size = 0
    for item in items:
        own_size = size_of(item)
        if chunk and size + own_size > max_size:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += own_size
        if len(chunk) == max_items:  # now, not with the next item, which may be late or unreadable
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
