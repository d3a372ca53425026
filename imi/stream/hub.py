"""The clients of the stream, and the one reader that serves them all.

The tail reads the log from the lowest cursor of those who follow it, and every client takes what lies
beyond its own: so a client may join at any cursor near the end and neither loses nor repeats anything. Who is
farther behind reads pages of its own first. What a client has not taken yet lies in its connection's buffer
and is counted there, in bytes: each client's own, and what the process holds for all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge

from imi.bloodbank.follow import FAULTS, forever
from imi.server.errors import translate
from imi.stream import limits, wire
from imi.stream.audience import Audience
from imi.stream.client import Client
from imi.stream.wire import Held, Message, joined, messages

if TYPE_CHECKING:
    from asyncpg import Record

    from imi.database.listen import Follower

READ = "select * from logic.stream_read($1::bigint, $2::text, $3::uuid, $4::integer)"
PAGE = 500  # events
TICK = 0.02  # seconds between two writes to a client, at least
BREATH = 8 << 20  # bytes that are written to clients before everybody else has a turn
PATIENCE = 30.0  # seconds for a client that is behind to take a page
READERS = 2  # pages that are read at a time for those who are behind, and as many for those who join

logger = logging.getLogger("imi.stream")
Read = Callable[..., Awaitable[Any]]


class Hub:
    """Everybody who watches the log through this process."""

    def __init__(
        self, url: str, read: Read, is_valid: Callable[[str], Awaitable[bool]], registry: CollectorRegistry
    ) -> None:
        self.url = url
        self.clients: set[Client] = set()
        self.stopping = False
        self._read = read  # the rows of a statement, from the pool of those who only read
        self._is_valid = is_valid  # whether a key still opens anything
        self._audience = Audience()
        self._joining: set[Client] = set()
        self._ending: set[Client] = set()  # dropped, and given a while to read what they have
        self._held = Held()
        self._anyone = asyncio.Event()
        self._behind = asyncio.Semaphore(READERS)
        self._entrance = asyncio.Semaphore(READERS)
        self._tasks: list[asyncio.Task[None]] = []
        Gauge("imi_stream_clients", "Clients of the stream", registry=registry).set_function(
            lambda: len(self.clients)
        )
        self._dropped = Counter("imi_stream_dropped", "Clients that could not keep up", registry=registry)

    async def page(self, cursor: int | None, pattern: str | None, workflow: str | None) -> Record:
        """What lies beyond a cursor; without one, where now is. Raises what asyncpg raises."""
        async with self._entrance:  # nobody who joins waits for those who catch up
            return await self._page(cursor, pattern, workflow)

    async def _page(self, cursor: int | None, pattern: str | None, workflow: str | None) -> Record:
        row: Record = (await self._read(READ, cursor, pattern, workflow, PAGE))[0]
        return row

    def enter(self, client: Client) -> None:
        """Send the client its page, all that has come since, and all that comes."""
        self.clients.add(client)
        if self.stopping:
            self._dismiss(client)
            return
        client.catching_up = asyncio.create_task(self._catch_up(client))
        if not self._tasks:
            work = (forever(self.url, "the stream", self._follow, "reader"), self._pulse(), self._check())
            self._tasks = [asyncio.create_task(each) for each in work]

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)
        self._joining.discard(client)
        if client.catching_up:
            client.catching_up.cancel()
        self._audience.leave(client)

    async def stop(self) -> None:
        """Tell everybody where to go on, and close."""
        self.stopping = True
        for client in self.clients:
            self._dismiss(client)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _dismiss(self, client: Client) -> None:
        client.end("STOPPING", "the server stops; connect again with the cursor", client.cursor, 1012)

    async def _catch_up(self, client: Client) -> None:
        try:
            while not client.ended and self._write_page(client):
                await self._relieve()
                try:
                    async with asyncio.timeout(PATIENCE):
                        await client.drain()
                except TimeoutError:
                    return self._overflow(client)
                async with self._behind:
                    client.page = await self._page(client.cursor, client.pattern, client.workflow)
        except Exception as error:
            self.refuse(client, error)
        else:
            client.catching_up = None
            self._joining.add(client)
            self._anyone.set()

    def _write_page(self, client: Client) -> bool:
        """Write the client's page; whether it is behind even then."""
        page, client.page = client.page, None
        assert page and not isinstance(page, Exception)
        if batch := messages(page):
            client.transport.write(joined(batch, client.wire, self._held))
        client.cursor = page["upto"]
        return bool(page["behind"])

    def _overflow(self, client: Client) -> None:
        self._dropped.inc()
        client.end("OVERFLOW", "events come faster than they are read; go on from the cursor", client.cursor)
        self._ending.add(client)
        asyncio.get_running_loop().call_later(limits.LINGER, self._ending.discard, client)

    async def _relieve(self) -> None:
        """Drop the fullest while all together hold too much, and until half of it is free."""
        if self._held.total <= limits.HELD:
            return
        await asyncio.sleep(0)  # what can be sent is sent
        if self._held.total <= limits.HELD:
            return
        for client in sorted(self.clients | self._ending, key=Client.unsent, reverse=True):
            if self._held.total <= limits.HELD // 2 or not client.unsent():
                break
            if not client.ended:
                self._overflow(client)
            client.transport.abort()
            await asyncio.sleep(0)  # which lets go of what it holds

    def refuse(self, client: Client, error: Exception) -> None:
        """End a client as the database says: what it asks for is gone, or the database is away."""
        if not isinstance(error, FAULTS):
            logger.exception("a client's page has a fault", exc_info=error)
        said = translate(error, "").detail
        oldest = said["params"].get("oldest", client.cursor)
        client.end(said["code"], said["message"], oldest, 4410 if said["code"] == "GONE" else 1013)

    async def _follow(self, follower: Follower) -> None:
        while True:
            await self._anyone.wait()
            for client in self._joining:
                self._audience.join(client)
            self._joining.clear()
            members = [*self._audience.members]
            if not members:
                self._anyone.clear()
                continue
            after = min(client.cursor for client in members)
            try:
                row = (await follower.connection.fetch(READ, after, None, None, PAGE))[0]
            except asyncpg.PostgresError as error:
                if not (error.sqlstate or "").startswith("IM"):
                    raise
                for client in members:
                    if client.cursor == after:
                        self.refuse(client, error)
                        self.leave(client)
                continue
            page = messages(row)
            await self._deliver(page)
            for client in members:
                client.cursor = max(client.cursor, row["upto"])
            if not row["behind"]:
                if page:
                    await asyncio.sleep(TICK)
                await follower.rest(bool(page))

    async def _deliver(self, page: list[Message]) -> None:
        """Give every client what it has not had yet in one write, made once for all who get the same."""
        given = 0
        async for framing, batch, clients in self._audience.shares(page):
            write = joined(batch, framing, self._held)
            for client in clients:
                if client.ended:
                    continue
                if client.unsent() > limits.UNSENT:
                    self._overflow(client)
                    continue
                client.transport.write(write)
                client.cursor = batch[-1].position
                given += len(write)
                if given > BREATH:
                    given = 0
                    await asyncio.sleep(0)
            del write
            await self._relieve()

    async def _pulse(self) -> None:
        """Heartbeats, and an end to those who have gone."""
        while True:
            await asyncio.sleep(1)
            now = time.monotonic()
            for client in [*self.clients]:
                if client.ended:
                    client.leave()
                elif now >= client.beat:
                    client.beat = now + limits.BEAT
                    client.say(client.cursor, wire.heartbeat(client.cursor))

    async def _check(self) -> None:
        """End the streams of keys that have been revoked or have expired."""
        while True:
            await asyncio.sleep(limits.BEAT)
            for digest in {client.digest for client in self.clients}:
                with contextlib.suppress(*FAULTS):  # who cannot be asked about stays
                    if not await self._is_valid(digest):
                        for client in [each for each in self.clients if each.digest == digest]:
                            client.end(
                                "UNAUTHENTICATED", "the key is revoked or has expired", client.cursor, 4401
                            )
