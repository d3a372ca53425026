"""The bus over RabbitMQ: one durable topic exchange, every message persistent and confirmed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import aiormq
from aiormq.abc import AbstractConnection
from aiormq.channel import Channel
from aiormq.exceptions import AMQPException, ChannelPreconditionFailed, PublishError

from imi.bloodbank.bus import BATCH, BusError

if TYPE_CHECKING:
    from asyncpg import Connection

CONFIRMED = 30.0  # seconds in which the broker must have taken a batch
CONNECTED = 5.0  # seconds in which it must answer at all
REACHED = 1.0  # and to one who asks for its health
HEARTBEAT = 10  # seconds; a silent broker is given up after three of them
LOOK = 1.0  # seconds after which a silent broker is asked whether it is still there
PERSISTENT = 2
logging.getLogger("aiormq").setLevel(logging.CRITICAL)  # what it reports is raised too, and said once by us

FAULTS = (AMQPException, OSError, TimeoutError)

QUEUE = "event_store_manager_queue"  # what the intake reads
DEAD = "event_store_manager_dlq"  # a fanout exchange, and its queue: what the intake could not store

Message = tuple[str, str, bytes]  # id, event type, body


class RabbitBus:
    """One connection, made when it is needed and anew after it broke."""

    def __init__(self, url: str, exchange: str) -> None:
        self._url = url
        self._exchange = exchange
        self._connection: AbstractConnection | None = None
        self._channel: Channel | None = None
        self._opening = asyncio.Lock()

    async def reach(self) -> str:
        """Bus.reach"""
        try:
            async with asyncio.timeout(REACHED):
                await self._open()
        except (BusError, TimeoutError):
            return "disconnected"
        return "connected"

    async def figures(self) -> dict[str, dict[str, int]]:
        """Bus.figures"""
        messages, consumers = {}, {}
        with contextlib.suppress(BusError, *FAULTS):
            async with asyncio.timeout(REACHED):
                await self._open()
                assert self._connection
                channel = await self._connection.channel()
                try:
                    for queue in (QUEUE, DEAD):
                        found = await channel.queue_declare(queue, passive=True)
                        messages[queue] = found.message_count or 0
                        consumers[queue] = found.consumer_count or 0
                finally:
                    await channel.close()
        return {"messages_by_queue": messages, "consumers_by_queue": consumers}

    async def relay(self, connection: Connection, leader: str) -> int:
        """Bus.relay; after a crash between the confirms and the cursor the batch goes out once more."""
        (batch,) = await connection.fetch("select * from logic.relay_read($1)", BATCH)
        ids = batch["event_ids"] or ()
        await self.publish(
            (str(event_id), event_type, envelope.encode())
            for event_id, event_type, envelope in zip(
                ids, batch["event_types"] or (), batch["envelopes"] or (), strict=True
            )
        )
        if batch["upto"] > batch["after"]:
            await connection.fetchval(
                "select logic.relay_move($1, $2, $3)", batch["after"], batch["upto"], leader
            )
        return len(ids)

    async def publish(self, messages: Iterable[Message], mandatory: bool = False) -> None:
        """Publish in order and return when the broker has confirmed every one; with `mandatory` each must
        have come into a queue. Raises BusError."""
        channel = await self._open()
        try:
            async with asyncio.timeout(CONFIRMED):
                outcomes = await asyncio.gather(
                    *(self._send(channel, *message, mandatory) for message in messages),
                    return_exceptions=True,
                )
        except TimeoutError:
            await self.close()
            raise BusError(f"the broker did not confirm within {CONFIRMED:g} s") from None
        faults = [each for each in outcomes if isinstance(each, BaseException)]
        if faults:
            await self.close()
            raise BusError(said(faults[0])) from faults[0]

    async def _send(
        self, channel: Channel, event_id: str, event_type: str, body: bytes, mandatory: bool
    ) -> Any:
        properties = aiormq.spec.Basic.Properties(
            message_id=event_id, content_type="application/json", delivery_mode=PERSISTENT
        )
        return await channel.basic_publish(
            body,
            exchange=self._exchange,
            routing_key=event_type,
            properties=properties,
            mandatory=mandatory,
            wait=False,
        )

    async def _open(self) -> Channel:
        async with self._opening:
            if self._channel and not self._channel.is_closed:
                return self._channel
            await self.close()
            try:
                async with asyncio.timeout(CONNECTED):
                    self._connection = await connected(self._url)
                    channel = await self._connection.channel(publisher_confirms=True)
                    assert isinstance(channel, Channel)
                    await channel.exchange_declare(
                        exchange=self._exchange, exchange_type="topic", durable=True
                    )
            except FAULTS as error:
                await self.close()
                raise BusError(said(error)) from error
            self._channel = channel
            return channel

    async def close(self) -> None:
        """Bus.close"""
        connection, self._connection, self._channel = self._connection, None, None
        if connection:
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(CONNECTED):
                    await connection.close()


async def connected(url: str) -> AbstractConnection:
    """Connect, with our heartbeat unless the URL has its own. Raises what FAULTS names."""
    query = urlsplit(url).query
    if "heartbeat=" not in query:
        url += f"{'&' if query else '?'}heartbeat={HEARTBEAT}"
    try:
        async with asyncio.timeout(CONNECTED):
            return await aiormq.connect(url)
    except ValueError:  # it may quote a password
        raise OSError("IMI_RABBITMQ_URL is no URL of a broker") from None


@contextlib.asynccontextmanager
async def opened(url: str) -> AsyncIterator[Channel]:
    """A channel of a connection of its own; whatever the broker does while this is entered is a BusError."""
    try:
        connection = await connected(url)
        try:
            channel = await connection.channel()
            assert isinstance(channel, Channel)
            yield channel
        finally:
            with contextlib.suppress(*FAULTS):
                async with asyncio.timeout(CONNECTED):
                    await connection.close()
    except ChannelPreconditionFailed as error:
        raise BusError(
            f"{said(error)}: empty and delete what is there with other arguments; it is then made anew"
        ) from error
    except FAULTS as error:
        raise BusError(said(error)) from error


async def bind(channel: Channel, exchange: str, queue: str, pattern: str) -> None:
    """Have a queue for what the pattern matches, and for what is rejected the dead-letter queue."""
    await channel.exchange_declare(exchange=exchange, exchange_type="topic", durable=True)
    await channel.exchange_declare(exchange=DEAD, exchange_type="fanout", durable=True)
    await channel.queue_declare(DEAD, durable=True)
    await channel.queue_bind(DEAD, DEAD)
    await channel.queue_declare(queue, durable=True, arguments={"x-dead-letter-exchange": DEAD})
    await channel.queue_bind(queue, exchange, pattern)


def said(error: BaseException) -> str:
    """What an error says, without an URL's password."""
    if isinstance(error, PublishError):
        return "no queue takes such an event"
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
