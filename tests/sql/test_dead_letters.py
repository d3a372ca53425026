"""sql/dead_letters.sql: what failed is laid aside with its reason, found again, and tried once more."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from imi.bloodbank.envelope import sort
from tests.sql.conftest import CONTEXT, Call, refused

Connect = Callable[..., Awaitable[asyncpg.Connection]]

HANDLER = """
create schema if not exists mine;
create table if not exists mine.seen (event_id uuid, by text);
create or replace function mine.note(p_event bloodbank.events) returns void language plpgsql as $$
begin
  insert into mine.seen values (p_event.event_id, current_user);
  perform logic.event_append('mine.noted', '{}', '{}');
  case p_event.payload ->> 'fails'
    when 'loudly' then raise exception '%', repeat('no ', 1 << 19);
    when 'assert' then assert false, 'never true';
    when 'deadlock' then raise exception using errcode = '40P01';
    when 'yes' then perform logic.fail(404, 'NOT_FOUND', 'no such project');
    when 'waiting' then perform pg_advisory_xact_lock(7); raise exception 'gone';
    else null;
  end case;
end $$;
delete from bloodbank.subscriptions;
insert into bloodbank.subscriptions (name, handler, patterns) values ('notes', 'mine.note', '{a.#}');
"""


async def lay(db: asyncpg.Connection, **payload: Any) -> tuple[uuid.UUID, uuid.UUID]:
    """An event and the letter of the subscription that failed on it: their ids."""
    event = await db.fetchval("select logic.event_append('a.b', $1, '{}')", json.dumps(payload))
    letter = "select logic.dead_letter('subscription', $1, null, 'at first', 'P0001', 3, 'notes')"
    return event, await db.fetchval(letter, event)


async def intake(db: asyncpg.Connection, *messages: bytes) -> list[uuid.UUID]:
    """The letters that messages from the bus became."""
    batch = sort(messages)
    await db.execute("select logic.intake($1, $2, $3)", batch.messages, batch.rejected, batch.reasons)
    return [row["id"] for row in await db.fetch("select id from bloodbank.dead_letters order by id")]


async def letter_of(db: asyncpg.Connection, letter: uuid.UUID) -> asyncpg.Record:
    return await db.fetchrow("select * from bloodbank.dead_letters where id = $1", letter)


async def told(db: asyncpg.Connection) -> list[tuple[dict[str, Any], list[uuid.UUID]]]:
    """The events of replays so far: payload and causes."""
    query = "select * from bloodbank.events where event_type = 'imi.dead_letter.replayed' order by position"
    return [(json.loads(row["payload"]), row["correlation_ids"]) for row in await db.fetch(query)]


async def seen(db: asyncpg.Connection) -> list[uuid.UUID]:
    return [row["event_id"] for row in await db.fetch("select event_id from mine.seen")]


async def test_it_keeps_what_came_and_why(db: asyncpg.Connection) -> None:
    made = await db.fetchval(
        "select logic.dead_letter('intake', null, $1, 'is not JSON', 'IM422', 3)", b"\x00{"
    )
    letter = await letter_of(db, made)
    assert (letter["raw"], letter["reason"], letter["sqlstate"]) == (b"\x00{", "is not JSON", "IM422")
    assert letter["attempts"] == 3 and letter["replayed_at"] is None
    assert letter["first_failed_at"] == letter["last_failed_at"]
    shown = await db.fetchrow("select * from ops.dead_letters where dead_letter_id = $1", made)
    assert shown["source"] == "intake" and shown["event_type"] is None


async def test_the_handler_gets_its_event_once_more(db: asyncpg.Connection) -> None:
    await db.execute(HANDLER)
    event, letter = await lay(db)
    assert await db.fetchval("select ops.replay($1)", letter) == "replayed"
    assert await db.fetchrow("select event_id, by from mine.seen") == (event, "imi_owner")
    now = await letter_of(db, letter)
    assert now["replayed_at"] > now["last_failed_at"]
    assert (now["attempts"], now["reason"], now["sqlstate"]) == (3, "at first", "P0001")
    payload = {
        "dead_letter_id": str(letter),
        "source": "subscription",
        "event_id": str(event),
        "subscription": "notes",
        "reason": "at first",
        "outcome": "replayed",
    }
    assert await told(db) == [(payload, [event])]
    with refused(409, "CONFLICT") as error:
        async with db.transaction():
            await db.execute("select ops.replay($1)", letter)
    assert error["params"].keys() == {"dead_letter_id", "replayed_at"}
    assert await seen(db) == [event]


@pytest.mark.parametrize(
    ("fails", "reason", "state"),
    [("yes", "no such project", "IM404"), ("assert", "never true", "P0004"), ("loudly", "no no", "P0001")],
)
async def test_a_fault_renews_the_letter_and_undoes_the_handler(
    db: asyncpg.Connection, call: Call, fails: str, reason: str, state: str
) -> None:
    await db.execute(HANDLER)
    event, letter = await lay(db, fails=fails)
    cause = uuid.uuid4()
    context = CONTEXT | {"correlation_ids": [str(cause)]}
    answer = await call("api.dead_letter_replay", dead_letter_id=letter, context=context)
    now = await letter_of(db, letter)
    assert answer["status"] == 409
    detail = answer["body"]["detail"]
    assert detail["code"] == "REPLAY_FAILED"
    assert detail["params"] == {
        "dead_letter_id": str(letter),
        "reason": now["reason"],
        "sqlstate": state,
        "attempts": 4,
    }
    assert now["reason"].startswith(reason) and now["sqlstate"] == state and now["replayed_at"] is None
    assert now["last_failed_at"] > now["first_failed_at"]
    ((payload, causes),) = await told(db)
    assert payload["outcome"] == "failed" and payload["reason"] == now["reason"][:1024]
    assert set(causes) == {cause, event}
    assert await seen(db) == []
    assert await db.fetchval("select count(*) from bloodbank.events where event_type = 'mine.noted'") == 0
    assert await db.fetchval("select count(*) from bloodbank.dead_letters") == 1
    assert (await db.fetchval("select ops.replay($1)", letter)).startswith(f"failed, try 5: {reason}")


async def test_a_deadlock_says_nothing_about_the_letter(db: asyncpg.Connection) -> None:
    await db.execute(HANDLER)
    _, letter = await lay(db, fails="deadlock")
    before = await letter_of(db, letter)
    with pytest.raises(asyncpg.DeadlockDetectedError):
        async with db.transaction():
            await db.execute("select ops.replay($1)", letter)
    assert await letter_of(db, letter) == before and await told(db) == []


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("delete from bloodbank.subscriptions", "subscription is gone"),
        ("drop function mine.note", "handler is missing"),
        ("delete from bloodbank.events", "no longer in the log"),
        ("update bloodbank.dead_letters set source = 'relay', subscription = null", "relay"),
    ],
)
async def test_what_cannot_be_replayed_says_why(db: asyncpg.Connection, change: str, message: str) -> None:
    await db.execute(HANDLER)
    _, letter = await lay(db)
    await db.execute(change)
    before = await letter_of(db, letter)
    with refused(409, "CONFLICT") as error:
        async with db.transaction():
            await db.execute("select ops.replay($1)", letter)
    assert message in error["message"] and error["hint"]
    assert error["params"]["dead_letter_id"] == str(letter)
    assert await letter_of(db, letter) == before and await told(db) == []


async def test_one_that_is_not_there(db: asyncpg.Connection) -> None:
    with refused(404, "NOT_FOUND"):
        await db.execute("select ops.replay($1)", uuid.uuid4())


async def test_what_the_gate_refused_never_comes_near_a_cast(db: asyncpg.Connection) -> None:
    letters = await intake(
        db, b"{", b"\xff", b"[" * 20_000, rb'{"event_type": "a", "payload": {"a": "\u0000"}}', b"[]"
    )
    states = await db.fetch("select distinct sqlstate from bloodbank.dead_letters")
    assert [row[0] for row in states] == ["IM422"]
    for letter in letters:
        with refused(409, "CONFLICT") as error:
            async with db.transaction():
                await db.execute("select ops.replay($1)", letter)
        assert "POST /api/v1/events" in error["hint"]


async def test_bytes_are_judged_again(db: asyncpg.Connection) -> None:
    message = {"event_id": str(uuid.uuid4()), "event_type": "a.b", "payload": None}
    (letter,) = await intake(db, json.dumps(message).encode())
    assert (await letter_of(db, letter))["sqlstate"] == "IM400"
    said = await db.fetchval("select ops.replay($1)", letter)
    assert said == "failed, try 2: The message has no payload object"
    now = await letter_of(db, letter)
    assert (now["attempts"], now["sqlstate"], now["replayed_at"]) == (2, "IM400", None)
    assert now["last_failed_at"] > now["first_failed_at"]
    assert await db.fetchval("select count(*) from bloodbank.dead_letters") == 1
    ((payload, causes),) = await told(db)
    assert (payload["outcome"], payload["event_id"], causes) == ("failed", None, [])


async def test_bytes_that_became_an_envelope_are_stored(db: asyncpg.Connection, call: Call) -> None:
    """A later release understands what an earlier one did not: here the message was laid aside by hand."""
    message = {"id": str(uuid.uuid4()), "ts": "2026-02-03T04:05:06Z", "event_type": "git.push", "data": {}}
    lay_bytes = "select logic.dead_letter('intake', null, $1, 'The message has no payload', 'IM400', 1)"
    letters = [await db.fetchval(lay_bytes, json.dumps(message).encode()) for _ in range(2)]
    context = CONTEXT | {"correlation_ids": [str(uuid.uuid4())]}
    for letter in letters:  # of the second the event is known
        answer = await call("api.dead_letter_replay", dead_letter_id=letter, context=context)
        assert answer["status"] == 200
        shown = answer["body"]
        assert (shown["event_id"], shown["event_type"]) == (message["id"], "git.push")
        assert shown["replayed_at"] and json.loads(shown["raw"]) == message
    (stored,) = await db.fetch("select * from bloodbank.events where event_type = 'git.push'")
    assert stored["arrived"] == "bus" and stored["correlation_ids"] == []
    assert [payload["outcome"] for payload, _ in await told(db)] == ["replayed", "replayed"]
    assert all(stored["event_id"] in causes for _, causes in await told(db))


@pytest.fixture
async def committed(connect: Connect) -> tuple[uuid.UUID, uuid.UUID]:
    """An event and its letter that other connections see."""
    owner = await connect()
    await owner.execute("truncate bloodbank.events, bloodbank.causes, bloodbank.dead_letters")
    await owner.execute(HANDLER)
    await owner.execute("truncate mine.seen")
    return await lay(owner)


async def until_waiting(watcher: asyncpg.Connection, pid: int) -> None:
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    async with asyncio.timeout(20):
        while not await watcher.fetchval(query, pid):
            await asyncio.sleep(0.01)


async def test_of_two_at_once_the_second_finds_it_replayed(
    connect: Connect, committed: tuple[uuid.UUID, uuid.UUID]
) -> None:
    event, letter = committed
    first, second, watcher = await connect(), await connect(), await connect("superuser")
    transaction = first.transaction()
    await transaction.start()
    assert await first.fetchval("select ops.replay($1)", letter) == "replayed"
    waiting = asyncio.create_task(second.fetchval("select ops.replay($1)", letter))
    await until_waiting(watcher, second.get_server_pid())
    await transaction.commit()
    with refused(409, "CONFLICT"):
        await waiting
    assert await seen(first) == [event] and len(await told(first)) == 1


async def test_a_subscription_is_not_run_while_it_is_replayed(
    connect: Connect, committed: tuple[uuid.UUID, uuid.UUID]
) -> None:
    _, letter = committed
    replayer, worker = await connect(), await connect("worker")
    run = "select logic.subscription_run('notes')"
    async with replayer.transaction():
        await replayer.execute("select ops.replay($1)", letter)
        assert json.loads(await worker.fetchval(run))["state"] == "busy"
    assert json.loads(await worker.fetchval(run))["state"] == "ran"


async def test_nor_does_a_handler_that_is_dropped_meanwhile(
    connect: Connect, committed: tuple[uuid.UUID, uuid.UUID]
) -> None:
    owner, replayer, watcher = await connect(), await connect(), await connect("superuser")
    _, letter = await lay(owner, fails="waiting")
    before = await letter_of(owner, letter)
    await owner.execute("select pg_advisory_lock(7)")
    waiting = asyncio.create_task(replayer.fetchval("select ops.replay($1)", letter))
    await until_waiting(watcher, replayer.get_server_pid())
    await owner.execute("drop function mine.note")
    await owner.execute("select pg_advisory_unlock(7)")
    with pytest.raises(asyncpg.RaiseError, match="gone"):
        await waiting
    assert await letter_of(owner, letter) == before and await told(owner) == []


async def test_an_operator_may_replay_and_nobody_else(
    connect: Connect, committed: tuple[uuid.UUID, uuid.UUID]
) -> None:
    _, letter = committed
    superuser = await connect("superuser")
    for role in ("imi_analyst", "imi_subscriber", "imi_worker", "imi_reader"):
        await superuser.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await superuser.execute("select ops.replay($1)", letter)
    await superuser.execute("set role imi_operator")
    assert await superuser.fetchval("select ops.replay($1)", letter) == "replayed"


LETTERS = """
insert into bloodbank.dead_letters (source, event_id, raw, reason, subscription, first_failed_at, last_failed_at, replayed_at) values
  ('subscription', $1, null, 'no such project', 'notes', '2026-01-01Z', '2026-01-03Z', null),
  ('subscription', null, null, '100% of it', 'other', '2026-01-01Z', '2026-01-02Z', null),
  ('intake', null, '{"a": "é"}', 'The message is short', null, '2026-01-01Z', '2026-01-01Z', null),
  ('intake', null, '\\xff00', 'The message is odd', null, '2026-01-01Z', '2026-01-04Z', '2026-01-05Z')
"""


@pytest.fixture
async def letters(db: asyncpg.Connection) -> None:
    event = await db.fetchval("select logic.event_append('a.b.c', '{}', '{}')")
    await db.execute("delete from bloodbank.dead_letters")
    await db.execute(LETTERS.replace("$1", f"'{event}'"))


@pytest.mark.parametrize(
    ("filters", "reasons"),
    [
        ({}, ["no such", "100%", "short"]),
        ({"replayed": "true"}, ["odd"]),
        ({"replayed": "all"}, ["odd", "no such", "100%", "short"]),
        ({"source": "intake"}, ["short"]),
        ({"source": "intake", "replayed": "all"}, ["odd", "short"]),
        ({"event_type": "a.#"}, ["no such"]),
        ({"event_type": "a.b.c"}, ["no such"]),
        ({"event_type": "a.*"}, []),
        ({"reason": "THE MESSAGE"}, ["short"]),
        ({"reason": "0% of"}, ["100%"]),
        ({"reason": "%of"}, []),
        ({"reason": "n_ such"}, []),
        ({"subscription": "notes"}, ["no such"]),
        ({"before": datetime(2026, 1, 3, tzinfo=UTC)}, ["100%", "short"]),
        ({"offset": 1, "limit": 1}, ["100%"]),
    ],
)
async def test_the_list_is_filtered_newest_first(
    letters: None, call: Call, filters: dict[str, Any], reasons: list[str]
) -> None:
    page = await call("api.dead_letter_list", **filters)
    found = [each["reason"] for each in page["items"]]
    assert len(found) == len(reasons) and all(part in each for part, each in zip(reasons, found, strict=True))
    assert page["total"] == (3 if "limit" in filters else len(reasons))


async def test_one_is_shown_with_its_bytes_and_the_list_has_their_number(letters: None, call: Call) -> None:
    listed = (await call("api.dead_letter_list", replayed="all"))["items"]
    assert [each["raw_bytes"] for each in listed] == [2, None, None, 11]
    assert listed[1]["event_type"] == "a.b.c" and "raw" not in listed[1]
    whole = [(await call("api.dead_letter_get", dead_letter_id=each["id"]))["body"] for each in listed]
    assert [(each["raw"], each["raw_base64"]) for each in whole] == [
        (None, "/wA="),
        (None, None),
        (None, None),
        ('{"a": "é"}', None),
    ]
    assert all(each.items() <= more.items() for each, more in zip(listed, whole, strict=True))


async def test_long_bytes_are_one_line_of_base64(db: asyncpg.Connection, call: Call) -> None:
    letter = await db.fetchval("select logic.dead_letter('intake', null, $1, 'x', 'IM422', 1)", b"\xff" * 300)
    shown = (await call("api.dead_letter_get", dead_letter_id=letter))["body"]
    assert shown["raw_base64"] == "/" * 400
    unknown = await call("api.dead_letter_get", dead_letter_id=uuid.uuid4())
    assert (unknown["status"], unknown["body"]["detail"]["code"]) == (404, "NOT_FOUND")
