"""The intake from RabbitMQ: stored, then acknowledged; each event once, garbage aside."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import uuid
from collections.abc import AsyncIterator
from typing import Any

import aiormq
import asyncpg

from imi.bloodbank.intake import intake
from imi.bloodbank.rabbitmq import DEAD, QUEUE, RabbitBus
from tests.bloodbank.conftest import EXCHANGE, append, relaying
from tests.postgres import Database
from tests.rabbitmq import Broker

GARBAGE = [b"", b"{", b"null", b"[" * 20_000, b'{"a": 1e131071}', b'{"a": "\\u0000"}', b'"x"', b"\xff", b"{}"]


@contextlib.asynccontextmanager
async def taking(database: Database, node: Broker, count: int = 1) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(intake(database.url, node.url, EXCHANGE)) for _ in range(count)]
    try:
        async with asyncio.timeout(30):
            while await depth(node, QUEUE) is None:
                await asyncio.sleep(0.05)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def depth(node: Broker, queue: str) -> int | None:
    """Messages that wait in a queue, None without one."""
    connection = await aiormq.connect(node.url)
    try:
        channel = await connection.channel()
        return (await channel.queue_declare(queue, passive=True)).message_count
    except aiormq.exceptions.ChannelNotFoundEntity:
        return None
    finally:
        await connection.close()


async def clean(node: Broker) -> None:
    connection = await aiormq.connect(node.url)
    channel = await connection.channel()
    await channel.queue_delete(QUEUE)
    await channel.queue_delete(DEAD)
    await connection.close()


async def publish(node: Broker, bodies: list[bytes]) -> None:
    bus = RabbitBus(node.url, EXCHANGE)
    await bus.publish(("some-id", "some.type", body) for body in bodies)
    await bus.close()


def envelope(**more: Any) -> dict[str, Any]:
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": "test.happened",
        "timestamp": "2026-01-01T00:00:00Z",
        "version": "1.0.0",
        "source": {"host": "h", "type": "service"},
        "correlation_ids": [],
        "payload": {"n": 1},
    } | more


async def until(owner: asyncpg.Connection, query: str, count: int) -> None:
    async with asyncio.timeout(60):
        while (found := await owner.fetchval(query)) < count:
            await asyncio.sleep(0.05)
    assert found == count


STORED = "select count(*) from bloodbank.events where arrived = 'bus'"
LETTERS = "select count(*) from bloodbank.dead_letters"


async def test_good_ones_are_stored_once_and_garbage_is_laid_aside(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    good = [envelope() for _ in range(1000)]
    bodies = [json.dumps(each).encode() for each in good] * 3 + GARBAGE * 20
    random.Random(7).shuffle(bodies)
    async with taking(fresh_database, node, 2):
        await publish(node, bodies)
        await until(owner, STORED, len(good))
        await until(owner, LETTERS, 20 * len(GARBAGE))
    # repeats that were not taken yet are back in the queue; in the end nothing is
    async with asyncio.timeout(60):
        while await depth(node, QUEUE):
            async with taking(fresh_database, node):
                await asyncio.sleep(0.5)
    assert await depth(node, DEAD) == 0 and await owner.fetchval(LETTERS) == 20 * len(GARBAGE)
    stored = {str(row[0]) for row in await owner.fetch("select event_id from bloodbank.events")}
    assert stored == {each["event_id"] for each in good}


async def test_what_we_sent_comes_back_and_is_known(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    async with taking(fresh_database, node), relaying(fresh_database, RabbitBus(node.url, EXCHANGE)):
        made = await append(owner, *["own"] * 100)
        foreign = envelope(correlation_ids=[made[0]])
        async with asyncio.timeout(30):
            while await owner.fetchval("select logic.relay_lag()"):
                await asyncio.sleep(0.05)
        await publish(node, [json.dumps(foreign).encode()])
        await until(owner, STORED, 1)
    assert await owner.fetchval("select count(*) from bloodbank.events where arrived = 'local'") == 100
    assert await owner.fetchval("select count(*) from bloodbank.causes where cause = $1", made[0]) == 1


async def test_the_broker_killed_while_it_delivers_loses_nothing(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    good = [envelope() for _ in range(5000)]
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in good])
        await asyncio.to_thread(node.kill)
        await asyncio.to_thread(node.start)
        await until(owner, STORED, len(good))
    assert await owner.fetchval(LETTERS) == 0


async def test_the_database_s_connection_lost_while_it_takes_loses_nothing(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    good = [envelope() for _ in range(5000)]
    superuser = await fresh_database.connect("superuser")
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in good])
        for _ in range(3):
            await superuser.execute(
                "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
                f"{fresh_database.name}_worker",
            )
            await asyncio.sleep(0.2)
        await until(owner, STORED, len(good))
    await superuser.close()
    assert await owner.fetchval(LETTERS) == 0


async def test_a_queue_with_other_arguments_is_said_and_waited_for(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker, caplog: Any
) -> None:
    await clean(node)
    connection = await aiormq.connect(node.url)
    channel = await connection.channel()
    await channel.queue_declare(QUEUE, durable=True)
    async with taking(fresh_database, node):
        async with asyncio.timeout(30):
            while not [each for each in caplog.records if "PRECONDITION" in str(getattr(each, "fields", ""))]:
                await asyncio.sleep(0.05)
        await channel.queue_delete(QUEUE)
        async with asyncio.timeout(30):
            while await depth(node, DEAD) is None or await depth(node, QUEUE) is None:
                await asyncio.sleep(0.05)
        await publish(node, [json.dumps(envelope()).encode()])
        await until(owner, STORED, 1)
    await connection.close()
