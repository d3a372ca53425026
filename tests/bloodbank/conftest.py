"""Both buses, and what a test sees of them from outside."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiormq
import asyncpg
import pytest
import pytest_asyncio

from imi.bloodbank.bus import Bus, EmbeddedBus
from imi.bloodbank.rabbitmq import RabbitBus
from imi.bloodbank.relay import relay
from tests.postgres import Database
from tests.rabbitmq import Broker, broker

EXCHANGE = "bloodbank.events.v1"
QUEUE = "outside"


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    """A RabbitMQ node for the module."""
    with broker() as running:
        yield running


class Outside:
    """A subscriber with one queue, whichever bus it is on; what it reads is acknowledged."""

    async def bind(self, *patterns: str) -> None:
        """Have the queue, and these events in it from now on."""
        raise NotImplementedError

    async def read(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        """All that there is, waiting until it is at least `count` messages."""
        raise NotImplementedError


class RabbitOutside(Outside):
    def __init__(self, url: str) -> None:
        self._url = url

    @contextlib.asynccontextmanager
    async def _channel(self) -> AsyncIterator[Any]:
        connection = await aiormq.connect(self._url)
        yield await connection.channel()
        await connection.close()

    async def bind(self, *patterns: str) -> None:
        async with self._channel() as channel:
            await channel.exchange_declare(exchange=EXCHANGE, exchange_type="topic", durable=True)
            await channel.queue_delete(QUEUE)
            await channel.queue_declare(QUEUE, durable=True)
            for pattern in patterns:
                await channel.queue_bind(QUEUE, EXCHANGE, pattern)

    async def read(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds), self._channel() as channel:
            while True:
                message = await channel.basic_get(QUEUE, no_ack=True)
                if message.delivery_tag is None:
                    if len(found) >= count:
                        return found
                    await asyncio.sleep(0.02)
                    continue
                event = json.loads(message.body)
                assert message.header.properties.message_id == event["event_id"]
                assert message.header.properties.delivery_mode == 2
                assert message.routing_key == event["event_type"]
                found.append(event)


class EmbeddedOutside(Outside):
    def __init__(self, owner: asyncpg.Connection) -> None:
        self._owner = owner

    async def bind(self, *patterns: str) -> None:
        await self._owner.execute("select ops.subscribe($1, $2)", QUEUE, patterns)

    async def read(self, count: int, seconds: float = 30) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        async with asyncio.timeout(seconds):
            while len(found) < count:
                rows = await self._owner.fetch("select msg_id, message from pgmq.read($1, 60, 1000)", QUEUE)
                await self._owner.execute("select pgmq.delete($1, $2::bigint[])", QUEUE, [r[0] for r in rows])
                found += [json.loads(row[1]) for row in rows]
                await asyncio.sleep(0.02)
        return found


@pytest_asyncio.fixture
async def owner(fresh_database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The owner's connection to the test's own database."""
    connection = await fresh_database.connect()
    yield connection
    connection.terminate()


@pytest.fixture(params=["embedded", "rabbitmq"])
def kind(request: pytest.FixtureRequest) -> str:
    """Which bus; a test that asks for it runs on both."""
    return str(request.param)


@pytest.fixture
def outside(kind: str, owner: asyncpg.Connection, request: pytest.FixtureRequest) -> Outside:
    """A subscriber on the bus."""
    if kind == "embedded":
        return EmbeddedOutside(owner)
    return RabbitOutside(request.getfixturevalue("node").url)


@pytest.fixture
def bus(kind: str, request: pytest.FixtureRequest) -> Bus:
    """Ours of the same bus."""
    return EmbeddedBus() if kind == "embedded" else RabbitBus(request.getfixturevalue("node").url, EXCHANGE)


@contextlib.asynccontextmanager
async def relaying(database: Database, *buses: Bus) -> AsyncIterator[list[asyncio.Task[None]]]:
    """A relay for each bus, at work while this is entered."""
    tasks = [asyncio.create_task(relay(database.url, each, f"relay-{n}")) for n, each in enumerate(buses)]
    yield tasks
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def append(connection: asyncpg.Connection, *types: str) -> list[str]:
    """Events of our own, one transaction each; their ids."""
    made = [await connection.fetchval("select logic.event_append($1, '{}', '{}')", each) for each in types]
    return [str(each) for each in made]
