"""A client of its own that publishes at a steady pace; each message says when it went out, by the machine's clock.

    python -m tests.bench.bus.publisher URL EXCHANGE A_SECOND SECONDS

It ends with 1 if it could not keep the pace.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
import uuid

import aiormq
import orjson
import uvloop

from tests.bench.bus.events import envelope

TYPE = "tool.mutation.edit"


async def publish(url: str, exchange: str, pace: int, seconds: int) -> bool:
    """Whether it took no longer than it should."""
    connection = await aiormq.connect(url)
    channel = await connection.channel(publisher_confirms=True)
    properties = aiormq.spec.Basic.Properties(content_type="application/json", delivery_mode=2)
    chance = random.Random()
    sending: list[asyncio.Future[object]] = []
    began = time.monotonic()
    for number in range(pace * seconds):
        ahead = began + number / pace - time.monotonic()
        if ahead > 0:
            await asyncio.sleep(ahead)
        message = envelope(str(uuid.uuid4()), TYPE, [], chance)
        message["payload"]["sent"] = time.monotonic()
        sending.append(
            asyncio.ensure_future(
                channel.basic_publish(
                    orjson.dumps(message),
                    exchange=exchange,
                    routing_key=TYPE,
                    properties=properties,
                    wait=False,
                )
            )
        )
    took = time.monotonic() - began
    await asyncio.gather(*sending)
    await connection.close()
    return took < seconds * 1.02


if __name__ == "__main__":
    url, exchange, pace, seconds = sys.argv[1:]
    sys.exit(not uvloop.run(publish(url, exchange, int(pace), int(seconds))))
