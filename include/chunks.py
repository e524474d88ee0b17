"""Divides rows into chunks that are limited in number and in size."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Item = TypeVar("Item")


def chunks(items: Iterable[Item], size_of: Callable[[Item], int], most: int, largest: int) -> Iterator[list[Item]]:
    """The items in chunks of at most `most` items and the size `largest`; a larger item is a chunk by itself."""
    chunk: list[Item] = []
    size = 0
    for item in items:
        own_size = size_of(item)
        if chunk and size + own_size > largest:
            yield chunk
            chunk, size = [], 0
        chunk.append(item)
        size += own_size
        if len(chunk) == most:  # now, not with the next item, which may be late or unreadable
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk
