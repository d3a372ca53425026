"""sql/relay.sql: what was made here goes on in log order, between two positions of one cursor."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import asyncpg
import pytest

from tests.postgres import Database

READ = "select * from logic.relay_read($1)"


async def append(connection: asyncpg.Connection, *types: str, size: int = 0) -> list[str]:
    payload = json.dumps({"x": "y" * size})
    return [
        str(await connection.fetchval("select logic.event_append($1, $2, '{}')", name, payload))
        for name in types
    ]


async def queued(connection: asyncpg.Connection, queue: str) -> list[str]:
    rows = await connection.fetch(f"select message from pgmq.q_{queue} order by msg_id")
    return [json.loads(row[0])["event_id"] for row in rows]


async def end(connection: asyncpg.Connection) -> int:
    found: int = await connection.fetchval("select logic.log_floor()")
    return found


async def test_a_batch_is_what_arrived_here_in_log_order(fresh_database: Database) -> None:
    owner = await fresh_database.connect()
    worker = await fresh_database.connect("worker")
    made = await append(owner, "a.b", "c", "a.b")
    await owner.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           values (uuidv7(), 'foreign', now(), '1', '{}', '{}', 'bus')"""
    )
    made += await append(owner, "d")
    batch = await worker.fetchrow(READ, 3)
    assert [str(each) for each in batch["event_ids"]] == made[:3]
    assert batch["event_types"] == ["a.b", "c", "a.b"]
    assert [json.loads(each)["event_id"] for each in batch["envelopes"]] == made[:3]
    assert await worker.fetchval("select logic.relay_move($1, $2, 'me')", batch["after"], batch["upto"])
    batch = await worker.fetchrow(READ, 3)
    assert [str(each) for each in batch["event_ids"]] == made[3:]
    assert batch["upto"] == await end(owner)
    assert await worker.fetchval("select logic.relay_move($1, $2, 'me')", batch["after"], batch["upto"])
    batch = await worker.fetchrow(READ, 3)
    assert batch["event_ids"] is None and batch["after"] == batch["upto"] == await end(owner)
    for connection in (owner, worker):
        await connection.close()


async def test_only_who_read_the_batch_moves_the_cursor(fresh_database: Database) -> None:
    worker = await fresh_database.connect("worker")
    move = "select logic.relay_move($1, $2, $3)"
    assert await worker.fetchval(move, 0, 7, "a") is True
    assert await worker.fetchval(move, 0, 9, "b") is False
    assert await worker.fetchval(move, 7, 9, "b") is True
    owner = await fresh_database.connect()
    assert tuple(await owner.fetchrow("select position, leader from bloodbank.cursors")) == (9, "b")
    await worker.close()
    await owner.close()


async def test_large_events_go_in_several_batches(fresh_database: Database) -> None:
    owner = await fresh_database.connect()
    made = await append(owner, *["big"] * 12, size=900_000)
    sent: list[str] = []
    batches = 0
    while (batch := await owner.fetchrow(READ, 500))["event_ids"]:
        assert sum(len(each) for each in batch["envelopes"]) <= 8 << 20
        sent += map(str, batch["event_ids"])
        batches += 1
        assert await owner.fetchval("select logic.relay_move($1, $2, 'x')", batch["after"], batch["upto"])
    assert (sent, batches) == (made, 2)
    await owner.close()


async def test_an_open_transaction_holds_the_relay_at_its_floor(fresh_database: Database) -> None:
    slow, quick = await fresh_database.connect(), await fresh_database.connect()
    open_transaction = slow.transaction()
    await open_transaction.start()
    first = await append(slow, "slow")
    second = await append(quick, "quick")
    assert (await quick.fetchrow(READ, 10))["event_ids"] is None
    await open_transaction.commit()
    assert [str(each) for each in (await quick.fetchrow(READ, 10))["event_ids"]] == first + second
    await slow.close()
    await quick.close()


async def test_the_embedded_bus_gets_each_event_once(fresh_database: Database) -> None:
    owner = await fresh_database.connect()
    workers = [await fresh_database.connect("worker") for _ in range(4)]
    await owner.execute(
        "select ops.subscribe('all_of_it', array['#']), ops.subscribe('some', array['a.#', 'a.*'])"
    )
    made = await append(owner, *(["a", "a.b", "b.c"] * 100))

    async def deliver(worker: asyncpg.Connection) -> int:
        sent = 0
        while batch := await worker.fetchval("select logic.relay_deliver(16, 'w')"):
            sent += batch
        return sent

    assert sum(await asyncio.gather(*map(deliver, workers))) == len(made)
    assert await queued(owner, "all_of_it") == made
    assert await queued(owner, "some") == [each for n, each in enumerate(made) if n % 3 != 2]
    assert await owner.fetchval("select position from bloodbank.cursors where name = 'relay'") == await end(
        owner
    )
    for connection in (owner, *workers):
        await connection.close()


async def test_without_a_queue_the_cursor_still_moves(fresh_database: Database) -> None:
    owner = await fresh_database.connect()
    await append(owner, "a", "b")
    assert await owner.fetchval("select logic.relay_deliver(500, 'w')") == 2
    assert await owner.fetchval("select logic.relay_deliver(500, 'w')") == 0
    assert await owner.fetchval("select logic.relay_lag()") == 0
    await owner.close()


@pytest.mark.parametrize(
    "door", ["logic.relay_read(1)", "logic.relay_move(0, 1, 'x')", "logic.relay_deliver(1, 'x')"]
)
async def test_only_the_worker_relays(connect: Any, door: str) -> None:
    for who in ("api", "reader"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await (await connect(who)).execute(f"select {door}")
