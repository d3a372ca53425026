"""The intake: what others publish on RabbitMQ goes into the log in batches, stored before acknowledged."""

from __future__ import annotations

import asyncio
import logging
import time

import aiormq
import orjson
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from imi.bloodbank.bus import BATCH, BusError
from imi.bloodbank.envelope import sort
from imi.bloodbank.follow import forever
from imi.bloodbank.rabbitmq import CONNECTED, FAULTS, said
from imi.database.listen import Follower

QUEUE = "event_store_manager_queue"
DEAD = "event_store_manager_dlq"  # a fanout exchange, and the queue behind it
GATHER = 0.02  # seconds that the first of a batch waits for others
LARGEST = 16 << 20  # bytes of a batch
LOOK = 1.0  # seconds after which a silent broker is asked whether it is still there

logger = logging.getLogger("imi.intake")


async def intake(url: str, rabbitmq_url: str, exchange: str) -> None:
    """Take in for ever. Many may do this: the broker shares the queue out among them."""

    async def take(follower: Follower) -> None:
        try:
            async with asyncio.timeout(CONNECTED):
                connection = await aiormq.connect(rabbitmq_url)
            try:
                await _take(follower, await _bound(await connection.channel(), exchange))
            finally:
                await connection.close()
        except FAULTS as error:
            raise BusError(said(error)) from error

    await forever(url, "the intake", take)


async def _bound(channel: object, exchange: str) -> Channel:
    assert isinstance(channel, Channel)
    await channel.exchange_declare(exchange=exchange, exchange_type="topic", durable=True)
    await channel.exchange_declare(exchange=DEAD, exchange_type="fanout", durable=True)
    await channel.queue_declare(DEAD, durable=True)
    await channel.queue_bind(DEAD, DEAD)
    await channel.queue_declare(QUEUE, durable=True, arguments={"x-dead-letter-exchange": DEAD})
    await channel.queue_bind(QUEUE, exchange, "#")
    await channel.basic_qos(prefetch_count=2 * BATCH)
    return channel


async def _take(follower: Follower, channel: Channel) -> None:
    waiting: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume(QUEUE, waiting.put)
    while True:
        batch = await _gathered(waiting, channel)
        storing = asyncio.ensure_future(_store(follower, channel, batch))
        try:
            await asyncio.shield(storing)
        except asyncio.CancelledError:  # what is begun is stored and acknowledged before this ends
            await asyncio.wait((storing,))
            raise


async def _store(follower: Follower, channel: Channel, batch: list[DeliveredMessage]) -> None:
    began = time.perf_counter()
    ready = sort([each.body for each in batch])
    answer = await follower.connection.fetchval(
        "select logic.intake($1, $2, $3)", ready.messages, ready.rejected, ready.reasons
    )
    tag = batch[-1].delivery_tag
    assert tag is not None
    await channel.basic_ack(tag, multiple=True)
    fields = {**orjson.loads(answer), "ms": round((time.perf_counter() - began) * 1000, 1)}
    logger.info("taken in", extra={"fields": fields})


async def _gathered(waiting: asyncio.Queue[DeliveredMessage], channel: Channel) -> list[DeliveredMessage]:
    """The next messages, one at least."""
    while waiting.empty():
        if channel.is_closed:
            raise BusError("the broker has gone")
        try:
            async with asyncio.timeout(LOOK):
                batch = [await waiting.get()]
                break
        except TimeoutError:
            continue
    else:
        batch = [waiting.get_nowait()]
    size, until = len(batch[0].body), time.monotonic() + GATHER
    while len(batch) < BATCH and size < LARGEST:
        try:
            async with asyncio.timeout(until - time.monotonic()):
                batch.append(await waiting.get())
        except TimeoutError:
            break
        size += len(batch[-1].body)
    return batch
