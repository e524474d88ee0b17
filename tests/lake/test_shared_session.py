"""The session that all triggers of a process share: it logs in once, no poll waits for another, and an error replaces it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Iterator
from dataclasses import replace
from datetime import date, datetime, timedelta

import pytest

from include.connections import LAKE_READER, Endpoint, endpoint
from include.lake import change_log, shared_session
from include.lake.errors import LakeError
from include.lake.shared_session import shared_lake
from tests.kafka.conftest import until

MINUTE = datetime(2026, 3, 1, 10, 5)
POLLS = 60


@pytest.fixture
def account(admin) -> Iterator[Endpoint]:
    """An endpoint with its own role, so that its connections can be counted."""
    admin.execute("CREATE ROLE IF NOT EXISTS triggers WITH PASSWORD = 'its-secret' AND LOGIN = true")
    admin.execute("GRANT SELECT ON KEYSPACE minutemark TO triggers")
    yield replace(endpoint(LAKE_READER), login="triggers", password="its-secret")
    admin.execute("DROP ROLE triggers")


def connections(admin) -> int:
    return sum(row.username == "triggers" for row in admin.execute("SELECT username FROM system_views.clients"))


async def poll(target: Endpoint, lake_table: str) -> dict[date, object]:
    async with shared_lake(target) as session:
        return await change_log.changed_days_in_trigger(session, lake_table)


def test_many_polls_of_many_tables_share_one_session(account, writer, admin):
    for number in range(POLLS):
        change_log.touch(writer, f"test.shared_{number}", [MINUTE + timedelta(days=number)])

    async def polls():
        polled = await asyncio.gather(*(poll(account, f"test.shared_{number}") for number in range(POLLS)))
        return polled, connections(admin)

    polled, open_connections = asyncio.run(polls())
    assert [list(days) for days in polled] == [[(MINUTE + timedelta(days=number)).date()] for number in range(POLLS)]
    assert open_connections == 2  # the session's, and the one through which the driver learns about nodes


def test_more_changed_days_than_fit_on_a_page_are_all_read(account, writer):
    days = [MINUTE + timedelta(days=number) for number in range(6_000)]
    change_log.touch(writer, "test.pages", days)
    assert list(asyncio.run(poll(account, "test.pages"))) == [day.date() for day in days]


def test_polls_of_a_lake_that_does_not_answer_delay_no_other_poll(account, writer):
    change_log.touch(writer, "test.beside", [MINUTE])
    with silent_server() as port:
        silent = replace(account, conn_id="silent", port=port)

        async def polls():
            waiting = [asyncio.create_task(poll(silent, "test.beside")) for _ in range(POLLS)]
            days = await poll(account, "test.beside")
            was_waiting = not any(task.done() for task in waiting)
            return days, was_waiting, await asyncio.gather(*waiting, return_exceptions=True)

        days, was_waiting, errors = asyncio.run(polls())
    assert list(days) == [MINUTE.date()] and was_waiting
    assert {type(error) for error in errors} == {LakeError}


def test_after_an_error_the_next_poll_has_a_new_session(account, writer, admin):
    change_log.touch(writer, "test.again", [MINUTE])

    async def polls():
        async with shared_lake(account) as former:
            await poll(account, "test.again")
        with pytest.raises(LakeError, match="no such table"):
            async with shared_lake(account) as session:
                session.execute("SELECT * FROM minutemark.nothing")
        async with shared_lake(account) as session:
            return former, session, await change_log.changed_days_in_trigger(session, "test.again")

    former, session, days = asyncio.run(polls())
    assert former.is_shutdown and not session.is_shutdown
    assert list(days) == [MINUTE.date()]


def test_a_lake_that_comes_back_is_polled_again(account, writer):
    change_log.touch(writer, "test.back", [MINUTE])

    async def polls():
        relay = Relay(account.port)
        through = replace(account, conn_id="relayed", port=await relay.start())
        assert await poll(through, "test.back")
        await relay.stop()
        with pytest.raises(LakeError, match="connection relayed"):
            await poll(through, "test.back")
        with pytest.raises(LakeError, match="connection relayed"):  # a new session, which finds no node
            await poll(through, "test.back")
        await relay.start(through.port)
        result = await poll(through, "test.back")
        await relay.stop()
        return result

    assert list(asyncio.run(polls())) == [MINUTE.date()]


def test_an_edited_connection_ends_the_session_of_the_former_one(account, admin):
    async def polls():
        await poll(account, "test.edited")
        await poll(replace(account, extra={"local_dc": "datacenter1"}), "test.edited")

    asyncio.run(polls())
    until(lambda: connections(admin) == 2)


def test_a_session_that_is_retired_while_it_opens_still_serves_its_first_poll(account, writer):
    change_log.touch(writer, "test.retired", [MINUTE])
    known = set(shared_session._sessions)

    async def polls():
        others_done = asyncio.Event()

        async def first():
            async with shared_lake(account) as session:
                await others_done.wait()
                return await change_log.changed_days_in_trigger(session, "test.retired")

        polling = asyncio.create_task(first())
        while not any(entry.opening.done() for key, entry in shared_session._sessions.items() if key not in known):
            await asyncio.sleep(0)  # exactly one step: the first poll does not have its session yet
        assert await poll(replace(account, extra={"local_dc": "datacenter1"}), "test.retired")
        others_done.set()
        return await polling

    assert list(asyncio.run(polls())) == [MINUTE.date()]


@contextlib.contextmanager
def silent_server() -> Iterator[int]:
    """Accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class Relay:
    """A port in front of the node; it can be closed together with all its connections."""

    def __init__(self, port: int) -> None:
        self._port, self._server, self._writers = port, None, []

    async def start(self, port: int = 0) -> int:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", port)
        return self._server.sockets[0].getsockname()[1]

    async def stop(self) -> None:
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        self._writers.clear()
        await asyncio.sleep(0)

    async def _connected(self, reader, writer) -> None:
        node_reader, node_writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writers += [writer, node_writer]
        await asyncio.gather(_copy(reader, node_writer), _copy(node_reader, writer))


async def _copy(reader, writer) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    writer.close()
