"""The relay on both buses: every event of ours goes out, in order, whatever dies."""

from __future__ import annotations

import asyncio

import asyncpg

from imi.bloodbank.bus import Bus
from imi.bloodbank.rabbitmq import RabbitBus
from imi.bloodbank.relay import LEADER
from tests.bloodbank.conftest import EXCHANGE, Outside, RabbitOutside, append, relaying
from tests.postgres import Database
from tests.rabbitmq import Broker, free_ports


def ids(events: list[dict[str, object]]) -> list[object]:
    return [each["event_id"] for each in events]


async def read_up_to(outside: Outside, last: str) -> list[dict[str, object]]:
    found = await outside.read(1, seconds=60)
    while found[-1]["event_id"] != last:
        found += await outside.read(1, seconds=60)
    return found


async def test_each_event_goes_out_once_in_log_order(
    fresh_database: Database, owner: asyncpg.Connection, bus: Bus, outside: Outside
) -> None:
    await outside.bind("#")
    made = await append(owner, *["a.b", "c"] * 20)
    async with relaying(fresh_database, bus):
        found = await outside.read(len(made))
        made += await append(owner, *["a.b", "c"] * 300)
        found += await outside.read(len(made) - len(found))
    assert ids(found) == made
    assert await owner.fetchval("select logic.relay_lag()") == 0


async def test_patterns_mean_the_same_on_both(
    fresh_database: Database, owner: asyncpg.Connection, bus: Bus, outside: Outside
) -> None:
    types = ["a", "a.b", "a.b.c", "b", "b.c", "x.a", "last"]
    await outside.bind("a.#", "*.c", "last")
    await append(owner, *types)
    async with relaying(fresh_database, bus):
        found = await outside.read(5)
    assert [each["event_type"] for each in found] == ["a", "a.b", "a.b.c", "b.c", "last"]


async def test_what_came_from_the_bus_is_not_sent_again(
    fresh_database: Database, owner: asyncpg.Connection, bus: Bus, outside: Outside
) -> None:
    await outside.bind("#")
    await owner.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           values (uuidv7(), 'foreign', now(), '1', '{}', '{}', 'bus')"""
    )
    made = await append(owner, "own")
    async with relaying(fresh_database, bus):
        assert ids(await outside.read(1)) == made


async def test_one_leads_and_another_takes_over(
    fresh_database: Database, owner: asyncpg.Connection, bus: Bus, outside: Outside
) -> None:
    await outside.bind("#")
    holders = """select pid from pg_locks where locktype = 'advisory' and granted and objsubid = 1
                 and (classid::bigint << 32 | objid::bigint) = $1"""
    async with relaying(fresh_database, bus, bus):
        made = await append(owner, *["a"] * 50)
        found = await outside.read(50)
        (leader,) = await owner.fetch(holders, LEADER)
        superuser = await fresh_database.connect("superuser")
        await superuser.execute("select pg_terminate_backend($1)", leader["pid"])
        await superuser.close()
        made += await append(owner, *["b"] * 50)
        found += await outside.read(50)
        (other,) = await owner.fetch(holders, LEADER)
        assert other["pid"] != leader["pid"]
    assert ids(found) == made


async def test_an_open_transaction_holds_back_only_what_is_above_it(
    fresh_database: Database, owner: asyncpg.Connection, bus: Bus, outside: Outside
) -> None:
    await outside.bind("#")
    slow = await fresh_database.connect()
    before = await append(owner, "before")
    transaction = slow.transaction()
    await transaction.start()
    held = await append(slow, "held")
    after = await append(owner, "after")
    async with relaying(fresh_database, bus):
        assert ids(await outside.read(1)) == before
        await asyncio.sleep(0.3)
        await transaction.commit()
        assert ids(await outside.read(2)) == held + after
    await slow.close()


async def test_with_the_broker_dead_a_thousand_mutations_succeed_and_arrive_in_order(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    outside = RabbitOutside(node.url)
    await outside.bind("#")
    bus = RabbitBus(node.url, EXCHANGE)
    async with relaying(fresh_database, bus):
        made = await append(owner, *["before"] * 50)
        found = await outside.read(50)
        await asyncio.to_thread(node.kill)
        made += await append(owner, *["meanwhile"] * 1000)
        assert await owner.fetchval("select logic.relay_lag()") == 1000
        assert await bus.reach() == "disconnected"
        await asyncio.to_thread(node.start)
        found += await read_up_to(outside, made[-1])
        assert await bus.reach() == "connected"
    # killed, a broker may forget that a message was acknowledged and deliver it again
    assert list(dict.fromkeys(ids(found))) == made


async def test_the_broker_killed_under_load_loses_nothing_and_keeps_the_order(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    outside = RabbitOutside(node.url)
    await outside.bind("#")
    made: list[str] = []

    async def load() -> None:
        while len(made) < 4000:
            made.extend(await append(owner, *["load"] * 50))

    async with relaying(fresh_database, RabbitBus(node.url, EXCHANGE)):
        writing = asyncio.create_task(load())
        for after in (500, 1500):
            while len(made) < after:
                await asyncio.sleep(0.01)
            await asyncio.to_thread(node.kill)
            await asyncio.to_thread(node.start)
        await writing
        while await owner.fetchval("select logic.relay_lag()"):
            await asyncio.sleep(0.05)
    # a batch that was cut off goes out again as a whole; without its repeats the order is the log's
    assert list(dict.fromkeys(ids(await read_up_to(outside, made[-1])))) == made


async def test_a_broker_that_is_not_there_stops_nothing(
    fresh_database: Database, owner: asyncpg.Connection
) -> None:
    bus = RabbitBus(f"amqp://guest:secret@127.0.0.1:{free_ports(1)[0]}/", EXCHANGE)
    async with relaying(fresh_database, bus) as (task,):
        await append(owner, "a")
        await asyncio.sleep(0.5)
        assert not task.done() and await bus.reach() == "disconnected"
    assert await owner.fetchval("select logic.relay_lag()") == 1
