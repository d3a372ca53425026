"""One connection of the stream, and those who have asked for the same."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from imi.stream import wire
from imi.stream.wire import Message, Wire

BEAT = 30.0  # seconds between two heartbeats
UNSENT = 4 << 20  # bytes a client may leave unread; one page more may come on top
LINGER = 5.0  # seconds for the last words of a connection


class Client:
    """One connection: its filter, and the position up to which it has been sent everything."""

    __slots__ = (
        "beat",
        "catching_up",
        "cursor",
        "digest",
        "drain",
        "gone",
        "pattern",
        "transport",
        "wire",
        "workflow",
    )

    def __init__(
        self, transport: asyncio.Transport, framing: Wire, drain: Callable[[], Awaitable[None]],
        pattern: str | None, workflow: str | None, digest: str,
    ) -> None:  # fmt: skip
        self.transport = transport
        self.wire = framing
        self.drain = drain
        self.pattern = pattern
        self.workflow = workflow
        self.digest = digest  # of the key that opened it
        self.cursor = 0
        self.beat = time.monotonic() + BEAT
        self.catching_up: asyncio.Task[None] | None = None
        self.gone: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def ended(self) -> bool:
        """Whether nothing more is to be written."""
        return self.gone.done() or self.transport.is_closing()

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
            asyncio.get_running_loop().call_later(LINGER, self.transport.abort)
        self.leave()

    def leave(self) -> None:
        """Say that this has ended."""
        if not self.gone.done():
            self.gone.set_result(None)


class Group:
    """The clients of one filter."""

    __slots__ = ("batch", "clients")

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.batch: list[Message] = []
