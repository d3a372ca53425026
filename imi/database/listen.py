"""A follower's connection: its login's own, which hears when the log has grown."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from imi.database.pool import connect_as

if TYPE_CHECKING:
    from asyncpg import Connection

CHANNEL = "bloodbank"
BUSY, LIVELY, IDLE = 0.05, 2.0, 0.5  # seconds: polls, how long after the last event, polls after that


class Follower:
    """Polling finds everything; a NOTIFY, which may be missing, only finds it sooner."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._woken = asyncio.Event()
        self._found = time.monotonic()

    async def listen(self) -> None:
        """Hear NOTIFY from now on."""
        await self.connection.add_listener(CHANNEL, lambda *_: self._woken.set())

    async def rest(self, found: bool) -> None:
        """Return when it is time to look again: at once after something was found."""
        now = time.monotonic()
        if found:
            self._found = now
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(BUSY if now - self._found < LIVELY else IDLE):
                await self._woken.wait()
        self._woken.clear()


@contextlib.asynccontextmanager
async def following(url: str, kind: str = "worker") -> AsyncIterator[Follower]:
    """A follower with a connection of its own, for as long as this is entered. Raises DatabaseError."""
    connection = await connect_as(url, kind)
    try:
        follower = Follower(connection)
        await follower.listen()
        yield follower
    finally:
        connection.terminate()
