"""What the bus must survive; each scenario ends with World.settle: published = stored = handled once."""

from __future__ import annotations

import asyncio
import hashlib
import os
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace

from imi.bloodbank.rabbitmq import DEAD, QUEUE
from imi.database.cluster import PORT
from tests.soak.counts import HANDLED, HANDLERS, IMPATIENT, STORED, Row, Size, envelope
from tests.soak.garbage import worthless
from tests.soak.publisher import Wire
from tests.soak.world import Scenario, World

LOST = 90.0  # seconds in which iMi has to notice that nobody answers, and to go on
SENT = "select (select count(*) from bloodbank.events where event_type = 'soak.own') - logic.relay_lag()"


async def killing(world: World, size: Size, kill: Callable[[], Awaitable[None]]) -> None:
    """Publish, and kill evenly while it is stored."""
    before = await world.value(STORED)
    async with asyncio.TaskGroup() as group:
        group.create_task(world.publish(envelope() for _ in range(size.events)))
        for turn in range(1, size.kills + 1):
            await world.until(STORED, before + size.events * turn // (size.kills + 1))
            await kill()


async def broker_killed(world: World, size: Size) -> Row:
    """kill -9 of the broker under load in both directions, and back."""

    async def kill() -> None:
        await asyncio.to_thread(world.node.kill)
        await world.append(size.events // 10)
        await asyncio.to_thread(world.node.start)

    await world.start()
    await world.append(size.events // 10)
    await killing(world, size, kill)
    return await world.settle("broker killed")


async def postgres_killed(world: World, size: Size) -> Row:
    """kill -9 of PostgreSQL under load, and back; iMi brings it back itself."""

    async def kill() -> None:
        os.kill(world.live.postmaster(), signal.SIGKILL)
        await world.append(size.events // 10)

    await world.start()
    await killing(world, size, kill)
    return await world.settle("PostgreSQL killed")


async def killed_before_ack(world: World, size: Size) -> Row:
    """kill -9 of iMi when a batch is committed and not yet acknowledged."""
    await world.start()
    await world.stop()
    await world.publish(envelope() for _ in range(size.events))
    for turn in range(1, size.kills + 1):
        await world.dies("ack", turn)
        assert await world.value(STORED) > 0 and await world.depth(QUEUE)
    await world.start()
    return await world.settle("iMi killed before ack")


async def killed_before_cursor(world: World, size: Size) -> Row:
    """kill -9 of iMi when a batch is confirmed and the cursor not yet moved."""
    await world.start()
    await world.stop()
    await world.append(size.events)
    for turn in range(1, size.kills + 1):
        await world.dies("cursor", turn)
    await world.start()
    row = await world.settle("iMi killed before cursor")
    assert 0 < row.repeats <= 500 * size.kills, row  # a batch each time, no more
    return row


async def cut_from_broker(world: World, size: Size) -> Row:
    """The network between iMi and the broker is cut, and no end is told."""
    async with Wire(world.node.port).forwarding() as wire:
        world.live.settings["IMI_RABBITMQ_URL"] = world.node.url.replace(str(world.node.port), str(wire.port))
        row = await _cut(world, size, wire)
    return replace(row, scenario="cut from the broker")


async def cut_from_postgres(world: World, size: Size) -> Row:
    """The network between iMi and PostgreSQL is cut, and no end is told."""
    async with Wire(world.cluster.sockets / f".s.PGSQL.{PORT}").forwarding() as wire:
        world.live.settings["IMI_DATABASE_URL"] = (
            f"postgresql://postgres@127.0.0.1:{wire.port}/imi_main?sslmode=disable"
        )
        row = await _cut(world, size, wire)
    return replace(row, scenario="cut from PostgreSQL")


async def _answering(world: World) -> None:
    async with asyncio.timeout(LOST), world.live.client(timeout=LOST) as http:
        for path in ("/health", "/api/v1/projects"):
            while (await http.get(path)).status_code != 200:
                await asyncio.sleep(0.1)


async def _cut(world: World, size: Size, wire: Wire) -> Row:
    await world.start()
    for _ in range(size.kills):
        before, sent = await world.value(STORED), await world.value(SENT)
        own = size.events // 10
        async with asyncio.TaskGroup() as group:
            group.create_task(world.publish(envelope() for _ in range(size.events)))
            await world.append(own)
            await world.until(STORED, before + size.events // 4)
            wire.cut()
            group.create_task(_answering(world))
            await world.append(own)
            await world.until(STORED, before + size.events + 2 * own, LOST)
            await world.until(SENT, sent + 2 * own, LOST)
    return await world.settle("cut")


async def repeated(world: World, size: Size) -> Row:
    """Every message five times, in random order."""
    await world.start()
    messages = [envelope() for _ in range(size.events)] * 5
    random.Random(5).shuffle(messages)
    await world.publish(messages)
    row = await world.settle("every message five times")
    assert row.repeats >= 4 * size.events
    return row


async def garbage(world: World, size: Size) -> Row:
    """As many messages that are no events as there are events, in random order."""
    bad = worthless(size.events)
    await world.start()
    good = [envelope() for _ in range(size.events)]
    async with world.database() as database:
        await database.copy_records_to_table(
            "published", schema_name="soak", columns=["event_id"], records=[(each,) for each, _ in good]
        )
    bodies = bad + [body for _, body in good]
    random.Random(6).shuffle(bodies)
    world.foreign += len(bodies)
    await world.publisher.publish(bodies)
    row = await world.settle("garbage among good", dead=len(bad))
    async with world.database() as database:
        letters = await database.fetch("select encode(sha256(raw), 'hex') from bloodbank.dead_letters")
    assert Counter(each[0] for each in letters) == Counter(hashlib.sha256(each).hexdigest() for each in bad)
    return row


async def bad_handlers(world: World, size: Size) -> Row:
    """Beside the good handler one that always raises, one that hangs, one that is not there."""
    await world.start()
    async with world.database() as database:
        await database.execute(HANDLERS)
        await database.execute(IMPATIENT)
    await world.publish([*(envelope() for _ in range(size.events)), envelope("soak.hang")])
    row = await world.settle("handlers that raise, hang, are missing", dead=size.events + 1)
    async with world.database() as database:
        positions = dict(await database.fetch("select name, position from bloodbank.subscriptions"))
        reasons = await database.fetch("select subscription, count(*) from bloodbank.dead_letters group by 1")
    assert dict(reasons) == {"soak.raises": size.events, "soak.hangs": 1}
    assert positions["soak.lost"] == 0 and positions["soak.raises"] == positions["soak.seen"]
    return row


async def wrong_queue(world: World, size: Size) -> Row:
    """The intake's queue is there with other arguments: it says so, the relay works, and all is well without it."""
    async with world.channel() as channel:
        await channel.queue_declare(QUEUE, durable=True)
    await world.start()
    await world.append(size.events)
    await world.until(SENT, size.events)
    async with asyncio.timeout(60):
        while f"for queue '{QUEUE}'" not in world.said or "empty and delete" not in world.said:
            await asyncio.sleep(0.05)
    async with world.channel() as channel:
        await channel.queue_delete(QUEUE)
    async with asyncio.timeout(60):
        while await world.depth(DEAD) is None or await world.depth(QUEUE) is None:
            await asyncio.sleep(0.05)
    await world.publish(envelope() for _ in range(size.events))
    return await world.settle("a queue with other arguments")


async def backlog(world: World, size: Size) -> Row:
    """So many messages are queued before iMi starts."""
    await world.start()
    await world.stop()
    await world.publish(envelope() for _ in range(size.events))
    await world.start()
    return await world.settle("queued before start")


async def open_transaction(world: World, size: Size) -> Row:
    """One transaction holds a snapshot, another an event that it does not commit: what follows is stored and waits."""
    half = size.events // 2
    await world.start()
    await world.publish(envelope() for _ in range(half))
    await world.until(HANDLED, half)
    async with world.database() as reader, world.database() as writer:
        await reader.execute("begin isolation level repeatable read")
        assert await reader.fetchval(STORED) == half
        await writer.execute("begin")
        await writer.execute("select logic.event_append('soak.own', '{}', '{}')")
        await world.publish(envelope() for _ in range(half))
        await world.append(half)
        await world.until(STORED, 3 * half)
        assert await world.value(HANDLED) == half == await reader.fetchval(STORED)
        await writer.execute("rollback")
        await world.until(HANDLED, 3 * half)
        return await world.settle("a transaction left open")


SCENARIOS: dict[str, tuple[Scenario, Size, Size]] = {  # the second size is make soak's
    "broker": (broker_killed, Size(4000, 3), Size(100_000, 10)),
    "postgres": (postgres_killed, Size(4000, 3), Size(100_000, 10)),
    "ack": (killed_before_ack, Size(4000, 2), Size(100_000, 10)),
    "cursor": (killed_before_cursor, Size(2000, 2), Size(50_000, 10)),
    "cut-broker": (cut_from_broker, Size(2000, 1), Size(20_000, 3)),
    "cut-postgres": (cut_from_postgres, Size(2000, 1), Size(20_000, 3)),
    "repeated": (repeated, Size(4000), Size(100_000)),
    "garbage": (garbage, Size(2000), Size(10_000)),
    "handlers": (bad_handlers, Size(2000), Size(20_000)),
    "queue": (wrong_queue, Size(500), Size(10_000)),
    "backlog": (backlog, Size(20_000), Size(1_000_000)),
    "transaction": (open_transaction, Size(2000), Size(100_000)),
}
