"""The intake and what it cannot store: refused events go to the broker's dead-letter queue, the others in."""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any

import aiormq
import asyncpg
import pytest

from imi.bloodbank.intake import DEAD, QUEUE
from tests.bloodbank.test_bus_intake import STORED, clean, depth, envelope, publish, taking, until
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
BUSY = RAISE.replace("'never this one'", "'later' using errcode = '53200'")


async def bodies(node: Broker, queue: str) -> list[dict[str, Any]]:
    connection = await aiormq.connect(node.url)
    channel = await connection.channel()
    found = []
    while (message := await channel.basic_get(queue, no_ack=True)).delivery_tag is not None:
        found.append(json.loads(message.body))
    await connection.close()
    return found


async def waiting(node: Broker, queue: str, count: int) -> None:
    async with asyncio.timeout(30):
        while await depth(node, queue) != count:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize(("obstacle", "sqlstate"), [(CHECK, "23514"), (RAISE, "P0001")])
async def test_what_the_database_refuses_is_left_to_the_broker_and_the_others_are_stored(
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
        await waiting(node, DEAD, len(refused))
    assert await depth(node, QUEUE) == 0
    assert {each["event_id"] for each in await bodies(node, DEAD)} == {each["event_id"] for each in refused}
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    said = [each.fields for each in warnings if "refused" in each.message]  # type: ignore[attr-defined]
    assert {each["event_id"] for each in said} == {each["event_id"] for each in refused}
    assert {each["sqlstate"] for each in said} == {sqlstate} and all(
        "never" in each["error"] for each in said
    )
    told = [each.fields for each in caplog.records if each.levelno == logging.DEBUG]  # type: ignore[attr-defined]
    assert {each["event_id"] for each in told} >= {each["event_id"] for each in mixed}


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
