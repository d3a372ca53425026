"""The clients of the stream, and the one reader that serves them all.

The tail reads the log from the lowest cursor of those who follow it, and every client takes what lies
beyond its own: so a client may join at any cursor near the end and neither loses nor repeats anything. Who is
farther behind reads pages of its own first. What a client has not taken yet lies in its connection's buffer
and is counted there, in bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from bisect import bisect_right
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import asyncpg
from prometheus_client import CollectorRegistry, Counter, Gauge

from imi.bloodbank.follow import FAULTS, forever
from imi.server.errors import translate
from imi.stream import client as limits
from imi.stream import wire
from imi.stream.client import Client, Group
from imi.stream.wire import Message, Wire, messages

if TYPE_CHECKING:
    from asyncpg import Connection, Record

    from imi.database.listen import Follower

READ = "select * from logic.stream_read($1::bigint, $2::text, $3::uuid, $4::integer)"
MATCHES = "select pattern, event_type from logic.stream_matches($1::text[], $2::text[])"
PAGE = 500  # events
TICK = 0.02  # seconds between two writes to a client, at least
PATIENCE = 30.0  # seconds for a client that is behind to take a page
KNOWN = 100_000  # pairs of pattern and type that are remembered
READERS = 2  # pages that are read at a time for those who are behind

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
        self._members: set[Client] = set()
        self._joining: set[Client] = set()
        self._groups: dict[str | None, dict[str | None, Group]] = {}  # by workflow, then pattern
        self._known: dict[tuple[str, str], bool] = {}
        self._anyone = asyncio.Event()
        self._turn = asyncio.Semaphore(READERS)
        self._tasks: list[asyncio.Task[None]] = []
        Gauge("imi_stream_clients", "Clients of the stream", registry=registry).set_function(
            lambda: len(self.clients)
        )
        self._dropped = Counter("imi_stream_dropped", "Clients that could not keep up", registry=registry)

    async def page(self, cursor: int | None, pattern: str | None, workflow: str | None) -> Record:
        """What lies beyond a cursor; without one, where now is. Raises what asyncpg raises."""
        async with self._turn:
            row: Record = (await self._read(READ, cursor, pattern, workflow, PAGE))[0]
            return row

    def enter(self, client: Client, row: Record) -> None:
        """Send the client this page, all that has come since, and all that comes."""
        self.clients.add(client)
        if self.stopping:
            self._dismiss(client)
            return
        client.catching_up = asyncio.create_task(self._catch_up(client, row))
        if not self._tasks:
            work = (forever(self.url, "the stream", self._follow, "reader"), self._pulse(), self._check())
            self._tasks = [asyncio.create_task(each) for each in work]

    def leave(self, client: Client) -> None:
        """Forget a client."""
        self.clients.discard(client)
        self._joining.discard(client)
        if client.catching_up:
            client.catching_up.cancel()
        if client in self._members:
            self._members.discard(client)
            groups = self._groups[client.workflow]
            groups[client.pattern].clients.discard(client)
            if not groups[client.pattern].clients:
                del groups[client.pattern]
            if not groups:
                del self._groups[client.workflow]

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

    async def _catch_up(self, client: Client, row: Record) -> None:
        try:
            while not client.ended:
                page = messages(row)
                client.transport.write(b"".join(each.framed(client.wire) for each in page))
                client.cursor = row["upto"]
                if not row["behind"]:
                    break
                try:
                    async with asyncio.timeout(PATIENCE):
                        await client.drain()
                except TimeoutError:
                    return self._overflow(client)
                row = await self.page(client.cursor, client.pattern, client.workflow)
        except Exception as error:
            self.refuse(client, error)
        else:
            client.catching_up = None
            self._joining.add(client)
            self._anyone.set()

    def _overflow(self, client: Client) -> None:
        self._dropped.inc()
        client.end("OVERFLOW", "events come faster than they are read; go on from the cursor", client.cursor)

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
                self._members.add(client)
                groups = self._groups.setdefault(client.workflow, {})
                groups.setdefault(client.pattern, Group()).clients.add(client)
            self._joining.clear()
            if not self._members:
                self._anyone.clear()
                continue
            members = [*self._members]
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
            if page:
                await self._learn(follower.connection, {each.event_type for each in page})
                self._deliver(page)
            for client in members:
                client.cursor = max(client.cursor, row["upto"])
            if not row["behind"]:
                if page:
                    await asyncio.sleep(TICK)
                await follower.rest(bool(page))

    async def _learn(self, connection: Connection, types: set[str]) -> None:
        """Ask for each pattern and type that are new to each other."""
        if len(self._known) > KNOWN:
            self._known.clear()
        patterns = {pattern for groups in self._groups.values() for pattern in groups if pattern}
        new = [
            (pattern, each) for pattern in patterns for each in types if (pattern, each) not in self._known
        ]
        if new:
            asked = [{*column} for column in zip(*new, strict=True)]
            matching = {tuple(row) for row in await connection.fetch(MATCHES, *asked)}
            self._known.update((pair, pair in matching) for pair in new)

    def _deliver(self, page: list[Message]) -> None:
        """Give every client what it has not had yet in one write, made once for all who get the same."""
        filled = set()
        for message in page:
            for name in message.concerns:
                for pattern, group in self._groups.get(name, {}).items():
                    if pattern is None or self._known[pattern, message.event_type]:
                        group.batch.append(message)
                        filled.add(group)
        for group in filled:
            batch, group.batch = group.batch, []
            positions = [message.position for message in batch]
            writes: dict[tuple[Wire, int], bytes] = {}
            for client in [*group.clients]:
                first = bisect_right(positions, client.cursor)
                if first == len(batch) or client.ended:
                    continue
                if client.transport.get_write_buffer_size() > limits.UNSENT:
                    self._overflow(client)
                    continue
                key = client.wire, first
                if key not in writes:
                    writes[key] = b"".join(message.framed(client.wire) for message in batch[first:])
                client.transport.write(writes[key])

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
