"""One connection of the stream."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from imi.stream import limits, wire
from imi.stream.wire import Wire

if TYPE_CHECKING:
    from asyncpg import PostgresError, Record


class Client:
    """One connection: its filter, and the position up to which it has been sent everything."""

    __slots__ = (
        "beat",
        "catching_up",
        "cursor",
        "digest",
        "drain",
        "gone",
        "page",
        "pattern",
        "transport",
        "wire",
        "workflow",
    )

    def __init__(
        self, transport: asyncio.Transport, framing: Wire, drain: Callable[[], Awaitable[None]],
        pattern: str | None, workflow: str | None, digest: str, page: Record | PostgresError,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.wire = framing
        self.drain = drain
        self.pattern = pattern
        self.workflow = workflow
        self.digest = digest  # of the key that opened it
        # what it is to be sent next, while it is behind; kept nowhere else, so that it goes when it is sent
        self.page: Record | PostgresError | None = page
        self.cursor = 0
        self.beat = time.monotonic() + limits.BEAT
        self.catching_up: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be written."""
        return self.gone.done() or self.transport.is_closing()

    def unsent(self) -> int:
        """Bytes that it has not taken yet."""
        return self.transport.get_write_buffer_size()

    def say(self, cursor: int, body: bytes) -> None:
        """Write one message."""
        self.transport.write(self.wire(cursor, body))

    def end(self, code: str, message: str, cursor: int, status: int = 1013) -> None:
        """Say why, then close; drop the connection if even that is not taken."""
        if not self.ended:
            self.say(cursor, wire.error(code, message, cursor))
            if self.wire is wire.websocket:  # whose other side says so too, and then it is closed
                self.transport.write(wire.farewell(status))
            else:
                self.transport.close()
            asyncio.get_running_loop().call_later(limits.LINGER, self.transport.abort)
        self.leave()

    def leave(self) -> None:
        """Say that this has ended."""
        if not self.gone.done():
            self.gone.set_result(None)
