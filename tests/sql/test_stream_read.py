"""sql/stream.sql: pages below the floor for a filter, and the tickets' secret."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.postgres import Database

READ = "select * from logic.stream_read($1, $2, $3, $4)"


async def append(connection: asyncpg.Connection, *types: str, size: int = 0, **payload: Any) -> list[int]:
    text = json.dumps(payload | {"x": "y" * size})
    made = [
        await connection.fetchval("select logic.event_append($1, $2, '{}')", name, text) for name in types
    ]
    rows = await connection.fetch(
        "select position from bloodbank.events where event_id = any ($1) order by 1", made
    )
    return [row[0] for row in rows]


@pytest_asyncio.fixture
async def owner(fresh_database: Database) -> AsyncIterator[asyncpg.Connection]:
    connection = await fresh_database.connect()
    yield connection
    await connection.close()


@pytest_asyncio.fixture
async def reader(fresh_database: Database) -> AsyncIterator[asyncpg.Connection]:
    """The login that the server reads with."""
    connection = await fresh_database.connect("reader")
    yield connection
    await connection.close()


async def test_pages_follow_each_other(owner: asyncpg.Connection, reader: asyncpg.Connection) -> None:
    made = await append(owner, *["a.b", "c"] * 5)
    found, after, pages = [], 0, 0
    while True:
        page = await reader.fetchrow(READ, after, None, None, 3)
        found += page["positions"] or []
        after, pages = page["upto"], pages + 1
        if not page["behind"]:
            break
    assert (found, pages, after) == (made, 4, made[-1])
    page = await reader.fetchrow(READ, 0, "a.#", None, 500)
    assert page["positions"] == made[::2] and set(page["event_types"]) == {"a.b"} and page["upto"] == made[-1]
    ids = [json.loads(each)["event_type"] for each in page["envelopes"]]
    assert ids == ["a.b"] * 5
    now = await reader.fetchrow(READ, None, None, None, 500)
    assert (now["upto"], now["behind"], now["positions"]) == (made[-1], False, None)


async def test_a_page_is_a_mebibyte_or_one_event(
    owner: asyncpg.Connection, reader: asyncpg.Connection
) -> None:
    made = await append(owner, "a", "a", "a", size=450_000) + await append(owner, "a", size=900_000)
    sizes, after = [], 0
    while after < made[-1]:
        page = await reader.fetchrow(READ, after, None, None, 500)
        sizes.append(len(page["positions"]))
        after = page["upto"]
    assert sizes == [2, 1, 1]


async def test_a_stretch_without_a_match_ends(owner: asyncpg.Connection, reader: asyncpg.Connection) -> None:
    await owner.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           select uuidv7(), 'a', now(), '1', '{}', '{}', 'bus' from generate_series(1, 6000)"""
    )
    page = await reader.fetchrow(READ, 0, "b", None, 500)
    assert (page["positions"], page["upto"], page["behind"]) == (None, 5000, True)


async def test_one_workflow_is_found_by_its_index(
    owner: asyncpg.Connection, reader: asyncpg.Connection
) -> None:
    workflow = uuid.uuid4()
    made = await append(owner, "a", "b", workflow_id=str(workflow).upper())
    await append(owner, "a", workflow_id=str(uuid.uuid4()))
    context = json.dumps({"correlation_ids": [str(workflow)]})
    await owner.execute("select logic.event_append('c', '{}', $1)", context)
    page = await reader.fetchrow(READ, 0, None, workflow, 500)
    assert page["event_types"] == ["a", "b", "c"] and not page["behind"]
    assert [each.split() for each in page["concerned"]] == [[str(workflow)]] * 3
    page = await reader.fetchrow(READ, 0, "b", workflow, 500)
    assert page["positions"] == made[1:]


async def test_nothing_above_a_transaction_that_pauses(
    owner: asyncpg.Connection, reader: asyncpg.Connection, fresh_database: Database
) -> None:
    slow = await fresh_database.connect()
    transaction = slow.transaction()
    await transaction.start()
    await slow.execute("select logic.event_append('slow', '{}', '{}')")
    await append(owner, "quick")
    page = await reader.fetchrow(READ, 0, None, None, 500)
    assert (page["positions"], page["upto"]) == (None, 0)
    await transaction.commit()
    page = await reader.fetchrow(READ, 0, None, None, 500)
    assert page["event_types"] == ["slow", "quick"]
    await slow.close()


@pytest.mark.parametrize(("after", "state"), [(10, "IM400"), (1, "IM410"), (2, "IM410")])
async def test_cursors_that_lead_nowhere(
    owner: asyncpg.Connection, reader: asyncpg.Connection, after: int, state: str
) -> None:
    made = await append(owner, "a", "a", "a", "a")
    await owner.execute("delete from bloodbank.events where position <= 3")
    await owner.execute("insert into bloodbank.cursors (name, position) values ('pruned', 3)")
    with pytest.raises(asyncpg.PostgresError) as refused:
        await reader.fetchrow(READ, after, None, None, 500)
    assert refused.value.sqlstate == state
    for kept in (0, 3):
        assert (await reader.fetchrow(READ, kept, None, None, 500))["positions"] == made[3:]


async def pages_of(reader: asyncpg.Connection, pattern: str | None, workflow: uuid.UUID) -> list[list[int]]:
    """All pages of a workflow, of 100 events."""
    after, behind, found = 0, True, []
    while behind:
        page = await reader.fetchrow(READ, after, pattern, workflow, 100)
        assert after < page["upto"] or not page["behind"]
        assert not page["positions"] or (
            after < page["positions"][0] and page["positions"][-1] <= page["upto"]
        )
        after, behind = page["upto"], page["behind"]
        found.append(page["positions"] or [])
    return found


FILL = """
  with made as (
    insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, arrived)
    select uuidv7(), 't' || n % 3, now(), '1', '{}',
      case when n % $3 = 0 then array[$1::text::uuid] else '{}' end,
      case when n % $4 = 0 then jsonb_build_object('workflow_id', upper($1)) else '{"workflow_id": "b"}' end, 'bus'
    from generate_series(1, $2) as n
    returning event_id, correlation_ids)
  insert into bloodbank.causes (cause, effect) select correlation_ids[1], event_id from made where correlation_ids <> '{}'
"""


@pytest.mark.parametrize(
    ("events", "effects", "named"), [(2000, 7, 3), (6000, 1_000_000, 1), (6000, 1, 1_000_000)]
)
async def test_a_workflow_page_by_page(
    owner: asyncpg.Connection, reader: asyncpg.Connection, events: int, effects: int, named: int
) -> None:
    workflow = uuid.uuid4()
    await owner.execute(FILL, str(workflow), events, effects, named)
    for pattern, types in ((None, ["t0", "t1", "t2"]), ("t2.#", ["t2"]), ("none", ["none"])):
        query = """select position from bloodbank.events
                   where position = any (logic.workflow_positions($1)) and event_type = any ($2) order by position"""
        expected = [row[0] for row in await owner.fetch(query, str(workflow), types)]
        pages = await pages_of(reader, pattern, workflow)
        assert [position for page in pages for position in page] == expected
        assert len(pages) <= len(expected) // 100 + 3


async def test_a_page_of_a_large_workflow_looks_at_no_more_than_it_gives(owner: asyncpg.Connection) -> None:
    workflow = uuid.uuid4()
    await owner.execute(FILL, str(workflow), 20_000, 1_000_000, 1)
    looked = """select idx_tup_fetch + seq_tup_read from pg_stat_xact_user_tables where relname = 'events'"""
    for after in (0, 9_000, 0, 9_000, 0, 9_000, 0, 9_000):  # often enough for plans that fit any value
        async with owner.transaction():
            before = await owner.fetchval(looked)
            page = await owner.fetchrow(READ, after, None, workflow, 500)
            assert len(page["positions"]) == 500 and page["behind"]
            assert await owner.fetchval(looked) - before <= 1000  # its positions, then its events


async def test_the_tickets_secret_is_one_for_all(fresh_database: Database) -> None:
    logins = [await fresh_database.connect("api") for _ in range(8)]
    found = await asyncio.gather(*(each.fetchval("select logic.ticket_key()") for each in logins))
    assert len({*found}) == 1 and len(found[0]) == 64
    assert await logins[0].fetchval("select logic.ticket_key()") == found[0]
    for each in logins:
        await each.close()
