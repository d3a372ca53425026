"""sql/log.sql: appending, the floor, the wake-up."""

import asyncio
import json
import uuid

import asyncpg
import pytest

from tests.sql.conftest import CONTEXT, refused

APPEND = "select logic.event_append('test.happened', '{}', '{}')"


async def test_an_event_of_ours_says_who_where_and_why(db):
    cause = str(uuid.uuid4())
    made = await db.fetchval(
        "select logic.event_append('imi.test', $1, $2)",
        json.dumps({"a": 1}),
        json.dumps(CONTEXT | {"correlation_ids": [cause, cause], "agent_id": "ada"}),
    )
    row = await db.fetchrow("select * from bloodbank.events where event_id = $1", made)
    assert json.loads(row["source"]) == {
        "host": "testhost",
        "type": "system",
        "app": "imi",
        "meta": {"actor": "tester"},
    }
    assert (row["arrived"], row["version"], json.loads(row["payload"])) == ("local", "1.0.0", {"a": 1})
    assert await db.fetchval("select count(*) from bloodbank.causes where effect = $1", made) == 1
    assert await db.fetchval("select last_seen is not null from imi.agents where id = 'ada'")


async def test_an_entity_too_large_for_an_event_is_refused(db):
    with refused(413, "TOO_LARGE"):
        await db.fetchval(
            "select logic.event_append('imi.test', $1, '{}')", json.dumps("x" * ((1 << 20) - (64 << 10)))
        )


async def test_the_log_takes_no_update(db):
    await db.execute(APPEND)
    with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
        await db.execute("update bloodbank.events set version = '9'")


async def test_an_open_writer_holds_the_floor_whatever_it_does_with_savepoints(connect):
    reader, writer, other = [await connect() for _ in range(3)]
    await other.execute(APPEND)
    start = await reader.fetchval("select logic.log_floor()")
    async with writer.transaction():
        savepoint = writer.transaction()
        await savepoint.start()
        await writer.execute(APPEND)
        await savepoint.rollback()
        await writer.execute(APPEND)
        await writer.execute(APPEND)
        await other.execute(APPEND)
        last = await reader.fetchval("select max(position) from bloodbank.events")
        held = await reader.fetchval("select logic.log_floor()")
        assert start <= held < last
        locks = "select count(*) from pg_locks where locktype = 'advisory' and classid::bigint >> 16 = 4242 and pid = $1"
        assert await reader.fetchval(locks, writer.get_server_pid()) == 1
    assert await reader.fetchval("select logic.log_floor()") == last


async def test_a_transaction_that_appends_nothing_holds_nothing(connect):
    reader, idle, other = [await connect() for _ in range(3)]
    async with idle.transaction():
        await idle.fetchval("select txid_current()")
        await other.execute(APPEND)
        last = await reader.fetchval("select max(position) from bloodbank.events")
        assert await reader.fetchval("select logic.log_floor()") == last


async def test_listeners_are_woken_but_not_by_every_event(connect):
    listener, writer = [await connect() for _ in range(2)]
    woken = asyncio.Queue()
    await listener.add_listener("bloodbank", lambda *notice: woken.put_nowait(notice))
    await writer.execute("select setval('bloodbank.wake', 1)")
    for _ in range(5):
        await writer.execute(APPEND)
    await asyncio.wait_for(woken.get(), 5)
    # a window far in the future is taken already: nobody is told
    await writer.execute("select setval('bloodbank.wake', 9000000000000000)")
    await listener.execute("select 1")
    while not woken.empty():
        woken.get_nowait()
    await writer.execute(APPEND)
    await writer.execute("notify bloodbank, 'after'")
    assert (await asyncio.wait_for(woken.get(), 5))[3] == "after"
    await writer.execute("select setval('bloodbank.wake', 1)")


async def test_a_lock_of_somebody_who_does_not_append_holds_nothing(connect):
    writer = await connect()
    await writer.execute(APPEND)
    last = await writer.fetchval("select max(position) from bloodbank.events")
    stranger = await connect("reader")
    await stranger.execute("select pg_advisory_lock_shared(4242::bigint << 48)")
    assert await writer.fetchval("select logic.log_floor()") == last
    appender = await connect("api")
    await appender.execute("select pg_advisory_lock_shared(4242::bigint << 48)")
    assert await writer.fetchval("select logic.log_floor()") == 0
