"""The intake and what it cannot store: refused events become dead letters, the others are stored."""

from __future__ import annotations

import asyncio
import json
import logging

import aiormq
import asyncpg
import pytest

from imi.bloodbank.desk import desk
from imi.bloodbank.rabbitmq import DEAD, QUEUE
from tests.bloodbank.test_bus_intake import LETTERS, STORED, clean, depth, envelope, publish, taking, until
from tests.postgres import Database
from tests.rabbitmq import Broker

CHECK = "alter table bloodbank.events add constraint never check (event_type <> 'refused')"
RAISE = """
create function bloodbank.never() returns trigger language plpgsql as $$
begin
  if new.event_type = 'refused' then raise 'never this one'; end if;
  return new;
end $$;
create trigger never before insert on bloodbank.events for each row execute function bloodbank.never();
"""
SLOW = """
create function bloodbank.never() returns trigger language plpgsql as $$
begin
  if (select count(*) from fresh) > 1 then raise 'canceling statement due to statement timeout' using errcode = '57014'; end if;
  return null;
end $$;
create trigger never after insert on bloodbank.events referencing new table as fresh for each statement
execute function bloodbank.never();
"""
BUSY = RAISE.replace("'never this one'", "'later' using errcode = '53200'")


async def waiting(node: Broker, queue: str, count: int) -> None:
    async with asyncio.timeout(30):
        while await depth(node, queue) != count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("obstacle", "sqlstate"), [(CHECK, "23514"), (RAISE, "P0001")])
async def test_what_the_database_refuses_becomes_a_dead_letter_and_the_others_are_stored(
    fresh_database: Database,
    owner: asyncpg.Connection,
    node: Broker,
    caplog: pytest.LogCaptureFixture,
    obstacle: str,
    sqlstate: str,
) -> None:
    caplog.set_level(logging.DEBUG, "imi.intake")
    await clean(node)
    await owner.execute(obstacle)
    good = [envelope() for _ in range(200)]
    refused = [envelope(event_type="refused") for _ in range(3)]
    mixed = [*good[:50], refused[0], *good[50:], *refused[1:]]
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in mixed])
        await until(owner, STORED, len(good))
        await until(owner, LETTERS, len(refused))
    assert await depth(node, QUEUE) == 0 and await depth(node, DEAD) == 0
    letters = await owner.fetch("select * from bloodbank.dead_letters")
    assert {json.loads(each["raw"])["event_id"] for each in letters} == {each["event_id"] for each in refused}
    assert {each["sqlstate"] for each in letters} == {sqlstate}
    assert all("The database refused it: " in each["reason"] for each in letters)
    replay = "select ops.replay($1)"
    assert (await owner.fetchval(replay, letters[0]["id"])).startswith(
        "failed, try 2: The database refused it"
    )
    await owner.execute("alter table bloodbank.events drop constraint if exists never")
    await owner.execute("drop trigger if exists never on bloodbank.events")
    assert await owner.fetchval(replay, letters[0]["id"]) == "replayed"
    assert await owner.fetchval(STORED) == len(good) + 1
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    said = [each.fields for each in warnings if "refused" in each.message]  # type: ignore[attr-defined]
    assert {each["event_id"] for each in said} == {each["event_id"] for each in refused}
    assert {each["sqlstate"] for each in said} == {sqlstate} and all(
        "never" in each["error"] for each in said
    )
    told = [each.fields for each in caplog.records if each.levelno == logging.DEBUG]  # type: ignore[attr-defined]
    assert {each["event_id"] for each in told} >= {each["event_id"] for each in mixed}


async def test_what_cannot_even_be_a_dead_letter_waits_at_the_broker_and_is_moved_later(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    await owner.execute(CHECK)
    await owner.execute("alter table bloodbank.dead_letters add constraint never check (source <> 'intake')")
    refused = [envelope(event_type="refused") for _ in range(3)]
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in refused])
        await waiting(node, DEAD, len(refused))
        await publish(node, [json.dumps(envelope()).encode()])
        await until(owner, STORED, 1)
    mover = asyncio.create_task(desk(fresh_database.url, node.url))
    try:
        await owner.execute("alter table bloodbank.dead_letters drop constraint never")
        await until(owner, LETTERS, len(refused))
        await waiting(node, DEAD, 0)
    finally:
        mover.cancel()
    letters = await owner.fetch("select * from bloodbank.dead_letters")
    assert {json.loads(each["raw"])["event_id"] for each in letters} == {each["event_id"] for each in refused}
    assert {each["reason"] for each in letters} == {f"The broker gave it up: rejected from {QUEUE}"}


async def test_garbage_in_the_brokers_dead_letter_queue_is_moved_too_and_never_replayed(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    async with taking(fresh_database, node):
        pass
    connection = await aiormq.connect(node.url)
    channel = await connection.channel()
    for headers in ({}, {"x-death": "me"}, {"x-death": [{}]}):
        properties = aiormq.spec.Basic.Properties(headers=headers)
        await channel.basic_publish(b"\xff{", exchange=DEAD, routing_key="any", properties=properties)
    await connection.close()
    mover = asyncio.create_task(desk(fresh_database.url, node.url))
    try:
        await until(owner, LETTERS, 3)
    finally:
        mover.cancel()
    letter = await owner.fetchrow("select * from bloodbank.dead_letters")
    assert (letter["raw"], letter["sqlstate"]) == (b"\xff{", "IM422")
    with pytest.raises(asyncpg.PostgresError, match="can never become an event"):
        await owner.fetchval("select ops.replay($1)", letter["id"])


async def test_what_may_go_through_later_is_not_given_up(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    await clean(node)
    await owner.execute(BUSY)
    events = [envelope(event_type="refused") for _ in range(3)]
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in events])
        async with asyncio.timeout(30):
            while "the intake waits" not in caplog.text:
                await asyncio.sleep(0.05)
        await owner.execute("drop trigger never on bloodbank.events")
        await until(owner, STORED, len(events))
    assert await depth(node, DEAD) == 0 and await depth(node, QUEUE) == 0


async def test_what_is_too_much_at_once_is_stored_one_by_one(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    await owner.execute(SLOW)
    events = [envelope() for _ in range(20)]
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(each).encode() for each in events])
        await until(owner, STORED, len(events))
    assert await depth(node, DEAD) == 0 and await depth(node, QUEUE) == 0


async def test_a_queue_deleted_under_the_intake_is_made_anew(
    fresh_database: Database, owner: asyncpg.Connection, node: Broker
) -> None:
    await clean(node)
    async with taking(fresh_database, node):
        await publish(node, [json.dumps(envelope()).encode()])
        await until(owner, STORED, 1)
        await clean(node)
        await waiting(node, QUEUE, 0)
        await publish(node, [json.dumps(envelope()).encode()])
        await until(owner, STORED, 2)
