"""Where requests come from: `letta_handoff_queue`, on either bus.

A request stays in the queue until it is served, and comes again after a crash; so many are served at a time.
What cannot be served becomes a dead letter.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from aiormq.abc import DeliveredMessage
from aiormq.channel import Channel
from aiormq.exceptions import ChannelInvalidStateError

from imi.bloodbank.bus import BusError
from imi.bloodbank.follow import LONGEST, again, forever
from imi.bloodbank.rabbitmq import FAULTS, LOOK, bind, opened
from imi.database.listen import Follower
from imi.letta.handoff import REQUESTED

QUEUE = "letta_handoff_queue"
AT_ONCE = 20  # requests that are served side by side
HIDDEN, RENEWED = 15, 5.0  # seconds that the embedded bus hides a request in hands; and until it is told anew

logger = logging.getLogger("imi.letta")
Take = Callable[[bytes], Awaitable[str | None]]
"""Serves a message to its end; answers None, or why it is a dead letter."""


async def embedded(url: str, take: Take, bound: asyncio.Event) -> None:
    """Serve what the embedded bus has for ever, with the login that is a subscriber; `bound` is set when
    nothing that is published is missed any more."""

    async def serve(follower: Follower) -> None:
        hands: dict[int, asyncio.Task[str | None]] = {}
        await follower.connection.execute("select ops.subscribe($1, $2)", QUEUE, [REQUESTED])
        bound.set()
        try:
            renewed = time.monotonic()
            while True:
                rows = await follower.connection.fetch(
                    "select * from pgmq.read($1, $2, $3)", QUEUE, HIDDEN, AT_ONCE - len(hands)
                )
                for row in rows:
                    if row["msg_id"] not in hands:
                        hands[row["msg_id"]] = asyncio.ensure_future(take(row["message"].encode()))
                ended = [msg_id for msg_id, task in hands.items() if task.done()]
                for msg_id in ended:
                    await _settle(follower, msg_id, hands.pop(msg_id))
                if time.monotonic() - renewed > RENEWED:
                    renewed = time.monotonic()
                    await _hide(follower, list(hands), HIDDEN)
                await follower.rest(found=bool(rows or ended))
        finally:
            await _drop(list(hands.values()))
            with contextlib.suppress(Exception):  # else they come by themselves, a little later
                await _hide(follower, list(hands), 0)

    await forever(url, "the hand-off", serve, "subscriber")


async def _settle(follower: Follower, msg_id: int, task: asyncio.Task[str | None]) -> None:
    if error := task.exception():
        logger.error("a request comes again", exc_info=error)
    elif reason := task.result():
        await follower.connection.execute("select ops.reject($1, $2, $3)", QUEUE, msg_id, reason)
    else:
        await follower.connection.execute("select pgmq.delete($1, $2::bigint)", QUEUE, msg_id)


async def _hide(follower: Follower, msg_ids: list[int], seconds: int) -> None:
    await follower.connection.execute(
        "select pgmq.set_vt($1, $2::bigint[], $3::integer)", QUEUE, msg_ids, seconds
    )


async def rabbitmq(url: str, exchange: str, take: Take, bound: asyncio.Event) -> None:
    """The same on RabbitMQ; the desk of `imi worker` makes dead letters of what is rejected."""
    await again("the hand-off", lambda: _consume(url, exchange, take, bound))


async def _consume(url: str, exchange: str, take: Take, bound: asyncio.Event) -> None:
    hands: set[asyncio.Task[None]] = set()
    async with opened(url) as channel:
        await bind(channel, exchange, QUEUE, REQUESTED)
        bound.set()
        await channel.basic_qos(prefetch_count=AT_ONCE)
        waiting: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
        await channel.basic_consume(QUEUE, waiting.put)
        try:
            while not channel.is_closed and channel.consumers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        task = asyncio.create_task(_serve(channel, await waiting.get(), take))
                        hands.add(task)
                        task.add_done_callback(hands.discard)
        finally:
            await _drop(list(hands))
    raise BusError("the broker, or the queue, has gone")


async def _serve(channel: Channel, message: DeliveredMessage, take: Take) -> None:
    tag = message.delivery_tag
    assert tag is not None
    with contextlib.suppress(ChannelInvalidStateError, *FAULTS):  # it comes again by itself
        try:
            reason = await take(message.body)
        except Exception:
            logger.exception("a request comes again")
            await asyncio.sleep(LONGEST)
            await channel.basic_nack(tag, requeue=True)
            return
        await (channel.basic_reject(tag, requeue=False) if reason else channel.basic_ack(tag))


async def _drop(tasks: list[asyncio.Task[str | None]] | list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
