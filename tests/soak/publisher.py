"""Somebody else who publishes, with confirms, and sends again what was not confirmed; and a wire to cut."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection
from aiormq.exceptions import AMQPException

EXCHANGE = "bloodbank.events.v1"
WINDOW = 500
PATIENCE = 20.0  # seconds for a window's confirms
FAULTS = (AMQPException, OSError, TimeoutError)


class Publisher:
    """An AMQP client with confirms; `sent` counts every sending, the repeated ones too."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._channel: AbstractChannel | None = None
        self.sent = 0

    async def publish(self, bodies: Sequence[bytes]) -> None:
        """Return when the broker has every message safe."""
        for first in range(0, len(bodies), WINDOW):
            waiting = list(bodies[first : first + WINDOW])
            while waiting := await self._unconfirmed(waiting):
                await self._close()
                await asyncio.sleep(0.1)
        await self._close()

    async def _unconfirmed(self, bodies: list[bytes]) -> list[bytes]:
        try:
            async with asyncio.timeout(PATIENCE):
                channel = await self._open()
        except FAULTS:
            return bodies
        self.sent += len(bodies)
        sending = [asyncio.ensure_future(self._send(channel, body)) for body in bodies]
        _, late = await asyncio.wait(sending, timeout=PATIENCE)
        for each in late:
            each.cancel()
        outcomes = await asyncio.gather(*sending, return_exceptions=True)
        return [
            body for body, outcome in zip(bodies, outcomes, strict=True) if isinstance(outcome, BaseException)
        ]

    async def _send(self, channel: AbstractChannel, body: bytes) -> None:
        properties = aiormq.spec.Basic.Properties(delivery_mode=2)
        await channel.basic_publish(
            body, exchange=EXCHANGE, routing_key="soak.happened", properties=properties, mandatory=True
        )

    async def _open(self) -> AbstractChannel:
        if self._channel is None:
            self._connection = await aiormq.connect(self._url)
            self._channel = await self._connection.channel(publisher_confirms=True, on_return_raises=True)
        return self._channel

    async def _close(self) -> None:
        connection, self._connection, self._channel = self._connection, None, None
        if connection:
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(5):
                    await connection.close()


class Wire:
    """A TCP proxy on `port`; a connection that is cut stays open and says nothing more, new ones pass."""

    def __init__(self, target: int | Path) -> None:
        self._target = target
        self._cuts = 0
        self._pumps: set[asyncio.Task[None]] = set()
        self.port = 0

    @contextlib.asynccontextmanager
    async def forwarding(self) -> AsyncIterator[Wire]:
        """At work while this is entered."""
        server = await asyncio.start_server(self._join, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        try:
            yield self
        finally:
            server.close()
            for pump in self._pumps:
                pump.cancel()
            await asyncio.gather(*self._pumps, return_exceptions=True)

    def cut(self) -> None:
        """Nothing goes through the connections that there are, and neither end is told."""
        self._cuts += 1

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if isinstance(self._target, Path):
                far_reader, far_writer = await asyncio.open_unix_connection(self._target)
            else:
                far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        except OSError:
            writer.close()
            return
        for one, other in ((reader, far_writer), (far_reader, writer)):
            pump = asyncio.create_task(self._pump(one, other, self._cuts))
            self._pumps.add(pump)
            pump.add_done_callback(self._pumps.discard)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, born: int) -> None:
        try:
            while data := await reader.read(1 << 16):
                if born == self._cuts:
                    writer.write(data)
                    await writer.drain()
            while born != self._cuts:  # an end that goes is not heard at the other either
                await asyncio.sleep(3600)
        except OSError:
            pass
        finally:
            writer.close()
