"""The intake: what others publish on RabbitMQ goes into the log in batches, stored before acknowledged.

A batch that the database refuses for what is in it is stored message by message, and one that is refused
alone is a dead letter; if even that is refused, it goes to the broker's dead-letter queue. After any other
fault the whole batch comes again.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import Counter
from typing import Any

import asyncpg
import orjson
from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel

from imi.bloodbank.bus import BATCH, BusError
from imi.bloodbank.desk import lay_aside
from imi.bloodbank.envelope import sort
from imi.bloodbank.follow import forever
from imi.bloodbank.rabbitmq import DEAD, LOOK, QUEUE, bind, opened, said
from imi.database.listen import Follower
from imi.texts import parse

GATHER = 0.02  # seconds that the first of a batch waits for others
LARGEST = 16 << 20  # bytes of a batch
# Classes of SQLSTATE that speak of what was to be stored, not of the server's state.
REFUSED = ("21", "22", "23", "44", "54", "IM", "P0")

logger = logging.getLogger("imi.intake")


async def intake(url: str, rabbitmq_url: str, exchange: str) -> None:
    """Take in for ever. Many may do this: the broker shares the queue out among them."""

    async def take(follower: Follower) -> None:
        async with opened(rabbitmq_url) as channel:
            await _take(follower, await _bound(channel, exchange))

    await forever(url, "the intake", take)


async def _bound(channel: Channel, exchange: str) -> Channel:
    await bind(channel, exchange, QUEUE, "#")
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
    try:
        counts = Counter(await _taken(follower, batch))
        await channel.basic_ack(_tag(batch[-1]), multiple=True)
    except asyncpg.PostgresError as error:
        if not _refused(error) and not isinstance(error, asyncpg.QueryCanceledError):
            raise
        counts = await _store_singly(follower, channel, batch)  # what was too much at once, too
    fields = {**counts, "ms": round((time.perf_counter() - began) * 1000, 1)}
    logger.info("taken in", extra={"fields": fields})
    if logger.isEnabledFor(logging.DEBUG):
        for each in batch:
            logger.debug("message", extra={"fields": _named(each)})


async def _store_singly(follower: Follower, channel: Channel, batch: list[DeliveredMessage]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for each in batch:
        try:
            counts.update(await _taken(follower, [each]))
        except asyncpg.PostgresError as error:
            if not _refused(error):
                raise
            counts["dead"] += 1
            if not await _laid_aside(follower, each, error):
                await channel.basic_reject(_tag(each), requeue=False)
                continue
        await channel.basic_ack(_tag(each))
    return counts


async def _laid_aside(follower: Follower, message: DeliveredMessage, error: asyncpg.PostgresError) -> bool:
    why = _named(message) | {"sqlstate": error.sqlstate, "error": said(error)}
    try:
        await lay_aside(
            follower.connection, message.body, f"The database refused it: {error}", error.sqlstate
        )
    except asyncpg.PostgresError as second:
        if not _refused(second):
            raise
        logger.warning(f"refused, now in {DEAD}", extra={"fields": why | {"second": said(second)}})
        return False
    logger.warning("refused, now a dead letter", extra={"fields": why})
    return True


async def _taken(follower: Follower, batch: list[DeliveredMessage]) -> dict[str, int]:
    ready = sort([each.body for each in batch])
    answer = await follower.connection.fetchval(
        "select logic.intake($1, $2, $3)", ready.messages, ready.rejected, ready.reasons
    )
    counts: dict[str, int] = orjson.loads(answer)
    return counts


def _refused(error: asyncpg.PostgresError) -> bool:
    return str(error.sqlstate).startswith(REFUSED)


def _tag(message: DeliveredMessage) -> int:
    assert message.delivery_tag is not None
    return message.delivery_tag


def _named(message: DeliveredMessage) -> dict[str, Any]:
    """What a message says it is, in any of the three shapes."""
    value = None
    with contextlib.suppress(ValueError):
        value = parse(message.body)
    if not isinstance(value, dict):
        return {"event_id": None, "event_type": None}
    return {
        "event_id": value.get("event_id", value.get("id")),
        "event_type": value.get("event_type", value.get("type")),
    }


async def _gathered(waiting: asyncio.Queue[DeliveredMessage], channel: Channel) -> list[DeliveredMessage]:
    """The next messages, one at least."""
    while waiting.empty():
        if channel.is_closed or not channel.consumers:  # none: somebody has deleted the queue
            raise BusError("the broker, or the queue, has gone")
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
