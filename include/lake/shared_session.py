"""One session with the lake for all triggers of a process: a session for each would cost a login at every node each minute.

Polls use the driver's own thread and the event loop, so that a poll that waits for an answer does not delay the others.
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
from include.lake.session import open_session, translate_errors

if TYPE_CHECKING:
    from cassandra.cluster import Cluster, Session


@dataclass(eq=False)
class _SharedSession:
    conn_id: str
    opening: asyncio.Future[tuple[Cluster, Session]]
    users: int = 0  # including those that wait until it is open
    is_retired: bool = False  # closed when its last user leaves

    @property
    def is_over(self) -> bool:
        """Whether the next poll needs a new session."""
        return self.is_retired or (self.opening.done() and self.has_failed)

    @property
    def has_failed(self) -> bool:
        """Whether the session could not be opened."""
        return self.opening.cancelled() or self.opening.exception() is not None


_sessions: dict[str, _SharedSession] = {}  # by the connection's fields


@contextlib.asynccontextmanager
async def shared_lake(target: Endpoint) -> AsyncIterator[Session]:
    """The process's session of that connection. Enter it once per poll: after an error, the next poll gets a new session.

    Raises errors of the driver as LakeError.
    """
    shared, is_new = _shared_session(target)
    shared.users += 1  # before anything is awaited: a session without users may be closed during an await
    try:
        if is_new:
            await _retire_others(shared)
        _, session = await asyncio.shield(shared.opening)
        with translate_errors(target):
            yield session
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
        except Exception as error:  # raised in the driver's thread, it would go unnoticed
            fail(error)

    def fail(error: BaseException) -> None:
        loop.call_soon_threadsafe(_settle, answer.set_exception, answer, error)

    response = session.execute_async(query, args)
    response.add_callbacks(add_page, fail)
    return await answer


def _settle(setter, answer: asyncio.Future, value: object) -> None:
    if not answer.done():  # its trigger may have been cancelled
        setter(value)


def _shared_session(target: Endpoint) -> tuple[_SharedSession, bool]:
    """The connection's session, and whether it is new. It is opened once; every user that waits for it gets its error."""
    key = json.dumps(astuple(target), sort_keys=True, default=str)
    shared = _sessions.get(key)
    if shared is not None and not shared.is_over:
        return shared, False
    opening = asyncio.ensure_future(asyncio.to_thread(_open, target))
    shared = _sessions[key] = _SharedSession(target.conn_id, opening)
    return shared, True


def _open(target: Endpoint) -> tuple[Cluster, Session]:
    with translate_errors(target):
        return open_session(target)


async def _retire_others(current: _SharedSession) -> None:
    """Retire sessions with a former address or password of an edited connection, and failed ones."""
    for key, shared in list(_sessions.items()):
        if shared is current or not shared.opening.done():
            continue
        if (shared.is_over or shared.conn_id == current.conn_id) and _sessions.get(key) is shared:
            del _sessions[key]
            if not shared.is_retired:
                shared.is_retired = True
                await _close_unused(shared)


async def _close_unused(shared: _SharedSession) -> None:
    if not shared.users and shared.opening.done() and not shared.has_failed:
        cluster, _ = shared.opening.result()
        await asyncio.to_thread(cluster.shutdown)
