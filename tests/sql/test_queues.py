"""sql/queues.sql: queues of the embedded bus, and whose they are."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest
import pytest_asyncio
from psycopg.conninfo import make_conninfo

from tests.postgres import Database
from tests.sql.conftest import refused

Login = asyncpg.Connection
README = Path(__file__).parents[2] / "README.md"


@pytest_asyncio.fixture
async def subscribers(database: Database) -> AsyncIterator[tuple[Login, Login]]:
    """Two logins that are members of imi_subscriber and of nothing else."""
    owner = await database.connect("superuser")
    names = [f"{database.name}_ada", f"{database.name}_bob"]
    for name in names:
        await owner.execute(f"create role \"{name}\" login password 'p' in role imi_subscriber")
    both = [await asyncpg.connect(database.url, user=name, password="p") for name in names]
    yield both[0], both[1]
    for name, login in zip(names, both, strict=True):
        await login.close()
        await owner.execute(f'drop owned by "{name}"; drop role "{name}"')
    await owner.close()


async def bindings(connection: asyncpg.Connection, queue: str) -> list[str]:
    rows = await connection.fetch(
        "select pattern from bloodbank.bindings where queue = $1 order by pattern", queue
    )
    return [row[0] for row in rows]


async def test_a_queue_is_its_subscriber_s_alone(subscribers, connect) -> None:
    ada, bob = subscribers
    await ada.execute("select ops.subscribe('ada_queue', array['a.#', 'b.*', 'a.#'])")
    owner = await connect()
    assert await bindings(owner, "ada_queue") == ["a.#", "b.*"]
    await owner.execute("select pgmq.send('ada_queue', '{\"a\": 1}')")
    read = await ada.fetch("select msg_id, message from pgmq.read('ada_queue', 30, 10)")
    assert [row["message"] for row in read] == ['{"a": 1}']
    assert await ada.fetchval("select pgmq.archive('ada_queue', $1::bigint)", read[0]["msg_id"])
    for statement in (
        "select * from pgmq.read('ada_queue', 30, 10)",
        "select pgmq.delete('ada_queue', 1::bigint)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await bob.execute(statement)
    for statement in ("select ops.subscribe('ada_queue', array['#'])", "select ops.unsubscribe('ada_queue')"):
        with refused(403, "FORBIDDEN"):
            await bob.execute(statement)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await ada.execute("select pgmq.send('ada_queue', '{}')")
    assert await bindings(owner, "ada_queue") == ["a.#", "b.*"]


async def test_the_one_in_the_readme(subscribers, connect, database: Database, capsys) -> None:
    (example,) = re.findall(r"```python\n(import os\nfrom pgmq.*?)```", README.read_text(), re.DOTALL)
    url = make_conninfo(database.url, user=f"{database.name}_ada", password="p")
    example, changed = re.subn(r"(?m)^URL = .*$", f"URL = {url!r}", example)
    ada, _ = subscribers
    owner = await connect()
    await ada.execute("select ops.subscribe('ada', array['imi.work.#'])")
    await owner.execute(
        """select pgmq.send('ada', '{"event_type": "imi.work.started", "payload": {"branch_name": "feat/a"}}')"""
    )
    await asyncio.to_thread(exec, example, {})
    assert (changed, capsys.readouterr().out) == (1, "imi.work.started feat/a\n")
    assert await owner.fetchval("select count(*) from pgmq.q_ada") == 0


async def test_binding_anew_keeps_what_the_queue_holds(subscribers, connect) -> None:
    ada, _ = subscribers
    owner = await connect()
    await ada.execute("select ops.subscribe('again', array['a', 'b'])")
    await owner.execute("select pgmq.send('again', '{}')")
    await ada.execute("select ops.subscribe('again', array['b', 'c'])")
    assert await bindings(owner, "again") == ["b", "c"]
    assert len(await ada.fetch("select * from pgmq.read('again', 30, 10)")) == 1


async def test_giving_a_queue_up(subscribers, connect) -> None:
    ada, _ = subscribers
    await ada.execute("select ops.subscribe('gone', array['#'])")
    assert await ada.fetchval("select ops.unsubscribe('gone')") is True
    assert await ada.fetchval("select ops.unsubscribe('gone')") is False
    owner = await connect()
    assert await bindings(owner, "gone") == []
    assert await owner.fetchval("select to_regclass('pgmq.q_gone')") is None


@pytest.mark.parametrize("queue", ["", "Upper", "1st", "a b", "a-b", "x" * 48, "a;drop", "é"])
async def test_a_name_that_no_queue_can_have(db, queue: str) -> None:
    with refused(400, "VALIDATION_ERROR"):
        await db.execute("select ops.subscribe($1, array['#'])", queue)


async def test_patterns_must_be_patterns(db) -> None:
    for patterns in ([], [None], None):
        with refused(400, "VALIDATION_ERROR"):
            async with db.transaction():
                await db.execute("select ops.subscribe('some', $1)", patterns)
    with refused(400, "INVALID_PATTERN"):
        await db.execute("select ops.subscribe('some', array['a..b'])")


async def test_what_a_subscriber_lays_aside_is_a_dead_letter_and_comes_again_when_replayed(
    subscribers, connect
) -> None:
    ada, bob = subscribers
    owner = await connect()
    await ada.execute("select ops.subscribe('aside', array['a.#'])")
    event = str(await owner.fetchval("select logic.event_append('a.b', '{\"n\": 1}', '{}')"))
    await owner.execute("select logic.relay_deliver(500, 'test')")
    read = "select msg_id, message from pgmq.read('aside', 0, 10)"
    (message,) = await ada.fetch(read)
    reject = "select ops.reject($1, $2, $3)"
    with refused(403, "FORBIDDEN"):
        await bob.execute(reject, "aside", message["msg_id"], "mine")
    with refused(404, "NOT_FOUND"):
        await ada.execute(reject, "nowhere", 1, "no such queue")
    letter = await ada.fetchval(reject, "aside", message["msg_id"], "too hard")
    assert await ada.fetchval(reject, "aside", message["msg_id"], "once more") is None
    assert await ada.fetch(read) == []
    row = await owner.fetchrow("select * from bloodbank.dead_letters where id = $1", letter)
    assert (row["source"], row["subscription"], str(row["event_id"])) == ("subscription", "aside", event)
    assert (row["reason"], row["attempts"], row["replayed_at"]) == ("too hard", 1, None)
    assert await owner.fetchval("select ops.replay($1)", letter) == "replayed"
    (again,) = await ada.fetch(read)
    assert again["message"] == message["message"]
    await ada.execute("select ops.unsubscribe('aside')")
