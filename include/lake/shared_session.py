"""One session with the lake for all triggers of a process: a session for each would cost a login at every node each minute.

Polls use the driver's own thread and the event loop, so that one that waits for an answer delays no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Any

from include.connections import Endpoint
from include.lake.errors import LakeError
from include.lake.session import explained, open_session

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, Session


@dataclass(eq=False)
class _Shared:
    conn_id: str
    cluster: Cluster
    session: Session
    users: int = 0
    is_retired: bool = False  # closed when its last user leaves


_sessions: dict[str, asyncio.Future[_Shared]] = {}  # by the connection's fields


@contextlib.asynccontextmanager
async def shared_lake(target: Endpoint) -> AsyncIterator[Session]:
    """The process's session of that connection. Take it for each poll: after an error the next poll gets a new one.

    Raises LakeError, as the driver's errors leave it.
    """
    shared = await _opened(target)
    shared.users += 1
    try:
        with explained(target):
            yield shared.session
    except LakeError:
        shared.is_retired = True
        raise
    finally:
        shared.users -= 1
        if shared.is_retired:
            await _close_unused(shared)


async def rows_of(session: Session, query: str, args: Sequence[Any]) -> list[Any]:
    """All rows of a query, without a thread that waits for them."""
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[Any]] = loop.create_future()
    rows: list[Any] = []

    def add_page(page: Sequence[Any]) -> None:
        rows.extend(page)
        if not response.has_more_pages:
            loop.call_soon_threadsafe(_settle, answer.set_result, answer, rows)
            return
        try:
            response.start_fetching_next_page()
        except Exception as error:  # in the driver's thread no one else would see it
            fail(error)

    def fail(error: BaseException) -> None:
        loop.call_soon_threadsafe(_settle, answer.set_exception, answer, error)

    response = session.execute_async(query, args)
    response.add_callbacks(add_page, fail)
    return await answer


def _settle(setter, answer: asyncio.Future, value: object) -> None:
    if not answer.done():  # its trigger may have been cancelled
        setter(value)


async def _opened(target: Endpoint) -> _Shared:
    """Open it once, however many wait for it; all of them get the error of a try that fails."""
    key = json.dumps(astuple(target), sort_keys=True, default=str)
    opening = _sessions.get(key)
    if opening is None or _is_over(opening):
        opening = _sessions[key] = asyncio.ensure_future(asyncio.to_thread(_open, target))
        await _retire_others(target.conn_id, key)
    return await asyncio.shield(opening)


def _is_over(opening: asyncio.Future[_Shared]) -> bool:
    if not opening.done():
        return False
    return opening.cancelled() or opening.exception() is not None or opening.result().is_retired


def _open(target: Endpoint) -> _Shared:
    with explained(target):
        return _Shared(target.conn_id, *open_session(target))


async def _retire_others(conn_id: str, current: str) -> None:
    """A connection that was edited leaves a session with its former address or password."""
    for key, opening in list(_sessions.items()):
        if key == current or not opening.done():
            continue
        if _is_over(opening):
            _sessions.pop(key, None)
        elif opening.result().conn_id == conn_id:
            _sessions.pop(key, None)
            opening.result().is_retired = True
            await _close_unused(opening.result())


async def _close_unused(shared: _Shared) -> None:
    if not shared.users:
        await asyncio.to_thread(shared.cluster.shutdown)
