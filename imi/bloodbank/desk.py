"""From the broker's dead-letter queue to the desk: the dead letters, with reasons and replay."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import Any

import asyncpg
from aiormq.abc import DeliveredMessage

from imi.bloodbank.bus import BusError
from imi.bloodbank.envelope import fault
from imi.bloodbank.follow import forever
from imi.bloodbank.rabbitmq import DEAD, LOOK, opened
from imi.database.listen import Follower

AT_ONCE = 50  # messages that wait here; each may have megabytes

logger = logging.getLogger("imi.intake")


async def lay_aside(
    connection: asyncpg.Connection, message: bytes, reason: str, sqlstate: str | None = None
) -> None:
    """Make a dead letter of a message; what PostgreSQL cannot hold as JSON is never to be replayed."""
    if unfit := fault(message):
        reason, sqlstate = f"The message {unfit}", "IM422"
    await connection.execute("select logic.intake_refuse($1, $2, $3)", message, reason, sqlstate)


async def desk(url: str, rabbitmq_url: str) -> None:
    """Move messages for ever. Nothing is declared here: the queue is the intake's."""

    async def move(follower: Follower) -> None:
        async with opened(rabbitmq_url) as channel:
            await channel.basic_qos(prefetch_count=AT_ONCE)
            waiting: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
            await channel.basic_consume(DEAD, waiting.put)
            while not channel.is_closed and channel.consumers:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOOK):
                        message = await waiting.get()
                    await lay_aside(follower.connection, message.body, _why(message))
                    assert message.delivery_tag is not None
                    await channel.basic_ack(message.delivery_tag)
                    logger.warning("moved from the broker's dead-letter queue to the dead letters")
        raise BusError("the broker, or its dead-letter queue, has gone")

    await forever(url, "the mover of dead letters", move)


def _why(message: DeliveredMessage) -> str:
    deaths: Any = (message.header.properties.headers or {}).get("x-death")  # anybody may have written it
    last: dict[str, Any] = (
        deaths[0] if isinstance(deaths, list) and deaths and isinstance(deaths[0], dict) else {}
    )
    why = f"The broker gave it up: {last.get('reason', '?')} from {last.get('queue', '?')}"
    return why.replace("\0", "")
