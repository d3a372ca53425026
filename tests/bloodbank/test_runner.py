"""The runner of subscriptions: what psql adds is run, whatever a handler does."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest_asyncio

from imi.bloodbank.subscriptions import subscriptions
from tests.bloodbank.conftest import append
from tests.postgres import Database

README = Path(__file__).parents[2] / "README.md"
MINE = """
create schema mine;
create table mine.seen (subscription text, event_id uuid, event_type text, at bigint generated always as identity);
create function mine.see(p_event bloodbank.events) returns void language plpgsql as $$
begin
  if p_event.event_type = 'hangs' then perform pg_sleep(60); end if;
  if p_event.event_type = 'raises' then raise 'never this one'; end if;
  insert into mine.seen (event_id, event_type) values (p_event.event_id, p_event.event_type);
end $$;
"""


@contextlib.asynccontextmanager
async def running(database: Database, count: int = 1) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(subscriptions(database.url)) for _ in range(count)]
    yield
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def seen(owner: asyncpg.Connection, count: int) -> list[str]:
    """What the handler saw, when it is so many events."""
    async with asyncio.timeout(60):
        while await owner.fetchval("select count(*) from mine.seen") < count:
            await asyncio.sleep(0.02)
    return [str(row[0]) for row in await owner.fetch("select event_id from mine.seen order by at")]


@pytest_asyncio.fixture
async def mine(owner: asyncpg.Connection) -> asyncpg.Connection:
    await owner.execute(MINE)
    return owner


async def add(owner: asyncpg.Connection, name: str = "mine", handler: str = "mine.see") -> None:
    await owner.execute(
        "insert into bloodbank.subscriptions (name, patterns, handler) values ($1, $2, $3)",
        name,
        ["#"],
        handler,
    )


async def test_one_added_while_all_runs_handles_what_was_and_what_comes(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    made = await append(mine, *["before"] * 20)
    async with running(fresh_database):
        await add(mine)
        assert await seen(mine, 20) == made
        made += await append(mine, *["after"] * 20)
        assert await seen(mine, 40) == made


async def test_two_runners_handle_each_event_once_and_in_order(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    await add(mine)
    async with running(fresh_database, 3):
        made = await append(mine, *["a"] * 500)
        assert await seen(mine, 500) == made


async def test_one_that_raises_becomes_a_dead_letter_and_the_rest_goes_on(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    await add(mine)
    async with running(fresh_database):
        made = await append(mine, "a", "raises", "b")
        assert await seen(mine, 2) == [made[0], made[2]]
    (letter,) = await mine.fetch("select * from bloodbank.dead_letters")
    assert (str(letter["event_id"]), letter["attempts"]) == (made[1], 3)
    assert "never this one" in letter["reason"]


async def test_one_that_hangs_becomes_a_dead_letter_and_the_rest_goes_on(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    superuser = await fresh_database.connect("superuser")
    await superuser.execute(f'alter role "{fresh_database.name}_worker" set statement_timeout = 300')
    await superuser.close()
    await add(mine)
    async with running(fresh_database):
        made = await append(mine, "a", "hangs", "b")
        assert await seen(mine, 2) == [made[0], made[2]]
    (letter,) = await mine.fetch("select * from bloodbank.dead_letters")
    assert str(letter["event_id"]) == made[1]


async def test_a_handler_that_is_missing_waits_until_it_is_there(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    await add(mine, handler="mine.later")
    made = await append(mine, "a")
    async with running(fresh_database):
        await asyncio.sleep(0.5)
        assert await mine.fetchval("select position from bloodbank.subscriptions where name = 'mine'") == 0
        await mine.execute("alter function mine.see(bloodbank.events) rename to later")
        assert await seen(mine, 1) == made


async def test_it_goes_on_when_its_connection_is_lost(
    fresh_database: Database, mine: asyncpg.Connection
) -> None:
    await add(mine)
    superuser = await fresh_database.connect("superuser")
    async with running(fresh_database):
        made = await append(mine, *["a"] * 10)
        assert await seen(mine, 10) == made
        await superuser.execute(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
            f"{fresh_database.name}_worker",
        )
        made += await append(mine, *["b"] * 10)
        assert await seen(mine, 20) == made
    await superuser.close()


async def test_the_one_in_the_readme(fresh_database: Database, owner: asyncpg.Connection) -> None:
    (example,) = re.findall(r"```postgresql\n(set role imi_owner;.*?)```", README.read_text(), re.DOTALL)
    superuser = await fresh_database.connect("superuser")
    payload = json.dumps({"branch_name": "feat/cart", "completion_type": "merged"})
    await owner.execute("select logic.event_append('imi.work.completed', $1, '{}')", payload)
    async with running(fresh_database):
        await superuser.execute(example)
        async with asyncio.timeout(30):
            while not (rows := await owner.fetch("select branch from ours.merges")):
                await asyncio.sleep(0.05)
    assert [row[0] for row in rows] == ["feat/cart"]
    await superuser.close()
