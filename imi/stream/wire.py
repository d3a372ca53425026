"""What is sent: messages, each encoded once, and how a protocol frames them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import orjson

if TYPE_CHECKING:
    from asyncpg import Record

Wire = Callable[[int, bytes], bytes]
"""Frames a message with its cursor."""


def websocket(cursor: int, body: bytes) -> bytes:
    """A text frame as a server sends it (RFC 6455); the cursor stands in the message."""
    size = len(body)
    if size < 126:
        return b"\x81%c%b" % (size, body)
    if size < 1 << 16:
        return b"\x81\x7e%b%b" % (size.to_bytes(2, "big"), body)
    return b"\x81\x7f%b%b" % (size.to_bytes(8, "big"), body)


def farewell(code: int) -> bytes:
    """The frame that closes a WebSocket."""
    return b"\x88\x02" + code.to_bytes(2, "big")


def sse(cursor: int, body: bytes) -> bytes:
    """A Server-Sent Event, whose id a browser sends back when it connects again."""
    return b"id: %d\ndata: %b\n\n" % (cursor, body)


class Held:
    """Bytes that are still to be sent, each write counted once, however many connections hold it."""

    def __init__(self) -> None:
        self.total = 0


class Write(bytes):
    """What is given to connections as one; counted until the last of them has let go of it."""

    held: Held

    def __del__(self) -> None:
        self.held.total -= len(self)


def joined(batch: list[Message], wire: Wire, held: Held) -> Write:
    """Messages as one write."""
    write = Write(b"".join(message.framed(wire) for message in batch))
    write.held = held
    held.total += len(write)
    return write


class Message:
    """An event of the log."""

    __slots__ = ("_framed", "body", "concerns", "event_type", "position")

    def __init__(self, position: int, event_type: str, concerned: str, envelope: str) -> None:
        self.position = position
        self.event_type = event_type
        # its workflow and its causes, as filters name them; None is whoever filters by no workflow
        self.concerns: set[str | None] = {None, *concerned.split()}
        self.body = b'{"type":"event","cursor":%d,"data":%b}' % (position, envelope.encode())
        self._framed: dict[Wire, bytes] = {}

    def framed(self, wire: Wire) -> bytes:
        """The message as this protocol sends it."""
        if wire not in self._framed:
            self._framed[wire] = wire(self.position, self.body)
        return self._framed[wire]


def messages(row: Record) -> list[Message]:
    """The messages of a row of logic.stream_read."""
    columns = (row["positions"], row["event_types"], row["concerned"], row["envelopes"])
    return [Message(*each) for each in zip(*columns, strict=True)] if row["positions"] else []


def heartbeat(cursor: int) -> bytes:
    """A sign of life; whoever comes back with its cursor has missed nothing."""
    now = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return orjson.dumps({"type": "heartbeat", "timestamp": now, "cursor": cursor})


def error(code: str, message: str, cursor: int) -> bytes:
    """Why the stream ends, and where to go on."""
    return orjson.dumps({"type": "error", "code": code, "message": message, "cursor": cursor})
