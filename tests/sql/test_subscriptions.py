"""sql/subscriptions.sql: handlers follow the log in order, each event once, and nothing stops them for good."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

from tests.postgres import Database
from tests.sql.conftest import refused

Connect = Callable[..., Awaitable[asyncpg.Connection]]

HANDLERS = """
create schema mine;
create table mine.seen (n bigint generated always as identity, handler text, position bigint, event_type text, payload jsonb);
create sequence mine.calls;
grant usage on schema mine to imi_worker;
grant select on mine.seen to imi_worker;
create function mine.see(p_event bloodbank.events) returns void language sql as $$
  insert into mine.seen (handler, position, event_type, payload)
  values ('see', p_event.position, p_event.event_type, p_event.payload) $$;
create function mine.raise_some(p_event bloodbank.events) returns void language plpgsql as $$
begin
  perform mine.see(p_event);
  if p_event.payload ->> 'fails' = 'once' and nextval('mine.calls') % 2 = 1 then
    raise exception 'not now';
  elsif p_event.payload ->> 'fails' = 'always' then
    perform logic.fail(404, 'NOT_FOUND', 'no such project');
  elsif p_event.payload ->> 'fails' = 'assert' then
    assert false, 'never true';
  elsif p_event.payload ->> 'fails' = 'deadlock' then
    raise exception using errcode = '40P01';
  end if;
end $$;
create function mine.hang_on_some(p_event bloodbank.events) returns void language plpgsql as $$
begin
  perform mine.see(p_event), nextval('mine.calls');
  if p_event.payload ? 'hangs' then
    perform pg_sleep(60);
  end if;
end $$;
create function mine.echo(p_event bloodbank.events) returns void language plpgsql as $$
begin
  if (p_event.payload ->> 'n')::integer < 3 then
    perform logic.event_append('echo', json_build_object('n', (p_event.payload ->> 'n')::integer + 1), '{}');
  end if;
  perform mine.see(p_event);
end $$;
"""


class Follower:
    """What follows the log with SQL's three doors, as the worker's login; the rule is that of the file's head."""

    def __init__(self, connection: asyncpg.Connection) -> None:
        self.connection = connection
        self.singly: dict[str, int] = {}
        self.errors: list[str] = []

    async def run(self, name: str, *limit: int) -> dict[str, Any]:
        arguments = "$1, $2" if limit else "$1"
        return json.loads(
            await self.connection.fetchval(f"select logic.subscription_run({arguments})", name, *limit)
        )

    async def step(self, name: str, attempts: int) -> dict[str, Any]:
        one = self.singly.setdefault(name, 500) if attempts else self.singly.get(name, 0)
        try:
            if not one:
                return await self.run(name)
            await self.connection.execute("select logic.subscription_try($1)", name)
            answer = await self.run(name, 1)
        except asyncpg.PostgresError as error:
            self.errors.append(error.sqlstate)
            self.singly[name] = 500
            return {}
        self.singly[name] = 0 if answer["dead"] else one - 1
        return answer

    async def drain(self) -> dict[str, int]:
        """Run everything until nothing waits; answer the sums."""
        sums = {"handled": 0, "skipped": 0, "dead": 0}
        while waiting := json.loads(await self.connection.fetchval("select logic.subscriptions_waiting()")):
            for each in waiting:
                answer = await self.step(each["name"], each["attempts"])
                for key in sums:
                    sums[key] += answer.get(key, 0)
        return sums


@pytest.fixture(autouse=True)
async def handlers(database: Database) -> None:
    owner = await database.connect()
    await owner.execute("drop schema if exists mine cascade; delete from bloodbank.subscriptions")
    await owner.execute("truncate bloodbank.events, bloodbank.causes, bloodbank.dead_letters")
    await owner.execute(HANDLERS)
    await owner.close()


@pytest.fixture
async def owner(connect: Connect) -> asyncpg.Connection:
    return await connect()


@pytest.fixture
async def follower(connect: Connect) -> Follower:
    return Follower(await connect("worker"))


async def append(owner: asyncpg.Connection, *types: str, **payload: Any) -> list[int]:
    for event_type in types:
        await owner.execute("select logic.event_append($1, $2, '{}')", event_type, json.dumps(payload))
    rows = await owner.fetch(
        "select position from bloodbank.events order by position desc limit $1", len(types)
    )
    return [row["position"] for row in reversed(rows)]


async def subscribe(owner: asyncpg.Connection, name: str, handler: str, *patterns: str) -> None:
    await owner.execute(
        "insert into bloodbank.subscriptions (name, handler, patterns) values ($1, $2, $3)",
        name,
        handler,
        patterns,
    )


async def seen(owner: asyncpg.Connection) -> list[int]:
    """The positions that a handler has seen, in the order in which it has."""
    return [row["position"] for row in await owner.fetch("select position from mine.seen order by n")]


async def letters(owner: asyncpg.Connection) -> list[tuple[str, str, int]]:
    rows = await owner.fetch(
        "select subscription || ': ' || reason, sqlstate, attempts from bloodbank.dead_letters where source = 'subscription' order by id"
    )
    return [tuple(row) for row in rows]


async def test_one_made_live_sees_old_and_new_events_in_order(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    old = await append(owner, "a", "a.b", "a.b.c", "b.a", "ab")
    assert await follower.drain() == {"handled": 0, "skipped": 0, "dead": 0}
    await subscribe(owner, "mine", "mine.see", "a.#")
    assert await follower.drain() == {"handled": 3, "skipped": 2, "dead": 0}
    new = await append(owner, "a.x", "b", "a")
    answer = await follower.run("mine")
    assert answer == {
        "state": "ran",
        "handled": 2,
        "passed": 0,
        "skipped": 1,
        "dead": 0,
        "position": new[-1],
        "behind": False,
    }
    assert await seen(owner) == [*old[:3], new[0], new[2]]
    assert (await follower.run("mine"))["handled"] == 0


async def test_one_pattern_suffices_and_none_matches_nothing(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    at = await append(owner, "git.push", "git.pr.opened", "git.pr.opened.again", "git")
    await subscribe(owner, "mine", "mine.see", "git.push", "git.pr.*", "git.*")
    await subscribe(owner, "none", "mine.see")
    await follower.drain()
    assert await seen(owner) == at[:2]
    await subscribe(owner, "bad", "mine.see", "a..b")
    with refused(400, "INVALID_PATTERN"):
        await follower.run("bad")


async def test_a_batch_is_bounded_by_events_and_by_the_stretch_it_looks_at(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    await owner.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           select uuidv7(), case when n > 11000 then 'mine' else 'other' end, now(), '1.0.0', '{}', '{}', 'bus'
           from generate_series(1, 12200) as n"""
    )
    await subscribe(owner, "mine", "mine.see", "mine")
    for skipped in (5000, 5000):
        answer = await follower.run("mine")
        assert (answer["handled"], answer["skipped"], answer["behind"]) == (0, skipped, True)
    answer = await follower.run("mine")
    assert answer["skipped"] == 1000 and 0 < answer["handled"] <= 500 and answer["behind"]
    assert (await follower.drain())["handled"] == 1200 - answer["handled"]
    assert await owner.fetchval("select count(distinct position) = 1200 and count(*) = 1200 from mine.seen")


async def test_two_runners_that_begin_together_handle_everything_once(
    owner: asyncpg.Connection, connect: Connect
) -> None:
    await append(owner, *["a"] * 1200)
    await subscribe(owner, "mine", "mine.see", "#")
    followers = [Follower(await connect("worker")) for _ in range(2)]
    together = asyncio.Barrier(2)

    async def run(follower: Follower) -> dict[str, int]:
        await together.wait()
        return await follower.drain()

    answers = await asyncio.gather(*map(run, followers))
    assert sum(answer["handled"] for answer in answers) == 1200
    positions = await seen(owner)
    assert positions == sorted(set(positions)) and len(positions) == 1200


async def test_one_in_somebody_elses_hands_is_passed_over(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    await append(owner, "a")
    await subscribe(owner, "mine", "mine.see", "#")
    async with owner.transaction():
        await owner.execute("select from bloodbank.subscriptions for update")
        assert (await follower.run("mine"))["state"] == "busy"
        assert await follower.connection.fetchval("select logic.subscription_try('mine')") is None
    with refused(404, "NOT_FOUND"):
        await follower.run("nobody's")


async def test_a_handler_that_raises_once_is_tried_again_and_one_that_always_does_is_laid_aside(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    await subscribe(owner, "mine", "mine.raise_some", "#")
    at = await append(owner, "a")
    at += await append(owner, "a", fails="once")
    at += await append(owner, "a", fails="always")
    at += await append(owner, "a", fails="assert")
    at += await append(owner, "a")
    assert await follower.drain() == {"handled": 3, "skipped": 0, "dead": 2}
    assert await seen(owner) == [at[0], at[1], at[4]]
    assert await letters(owner) == [
        ("mine: no such project", "IM404", 3),
        ("mine: never true", "P0004", 3),
    ]
    assert follower.errors == []


async def test_a_deadlock_ends_the_batch_and_is_tried_thrice_alone(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    await subscribe(owner, "mine", "mine.raise_some", "#")
    at = await append(owner, "a")
    await append(owner, "a", fails="deadlock")
    at += await append(owner, "a")
    assert await follower.drain() == {"handled": 2, "skipped": 0, "dead": 1}
    assert await seen(owner) == at
    assert follower.errors == ["40P01"] * 4


async def test_one_that_hangs_is_tried_thrice_alone_and_laid_aside(
    owner: asyncpg.Connection, follower: Follower, connect: Connect
) -> None:
    await subscribe(owner, "mine", "mine.hang_on_some", "a")
    at = await append(owner, "a", "a", "b")
    await append(owner, "a", hangs=True)
    at += await append(owner, "a", "a")
    await follower.connection.execute("set statement_timeout = '500ms'")
    assert (await follower.step("mine", 0)) == {}
    assert await seen(owner) == []  # the batch has left nothing
    while len(follower.errors) < 3:
        await follower.step("mine", 0)
    assert await owner.fetchval("select attempts from bloodbank.subscriptions") == 2
    # another worker, started anew, goes on where this one stands
    other = Follower(await connect("worker"))
    await other.connection.execute("set statement_timeout = '500ms'")
    assert (await other.drain())["dead"] == 1
    assert (follower.errors, other.errors) == (["57014"] * 3, ["57014"])
    assert await seen(owner) == [at[0], at[1], at[3], at[4]]
    assert await letters(owner) == [("mine: The handler did not come back from three tries", "57014", 3)]
    assert await owner.fetchval("select attempts from bloodbank.subscriptions") == 0
    assert (
        await owner.fetchval("select last_value from mine.calls") == 3 + 4 + 3
    )  # the batch, each alone, the hanging one
    assert (
        await follower.connection.fetchval("select logic.subscription_try('mine')") is None
    )  # nothing to try


async def test_a_batch_after_a_counted_try_is_one_event(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    at = await append(owner, "a", "a", "a")
    await subscribe(owner, "mine", "mine.see", "#")
    assert await follower.connection.fetchval("select logic.subscription_try('mine')") == 1
    assert (await follower.run("mine"))["handled"] == 1
    assert await seen(owner) == at[:1]
    assert (await follower.run("mine"))["handled"] == 2


@pytest.mark.parametrize("handler", ["mine.no_such", "nowhere.handle", "mine.seen", "logic.now", 'no name "'])
async def test_one_whose_handler_does_not_resolve_waits(
    owner: asyncpg.Connection, follower: Follower, handler: str
) -> None:
    at = await append(owner, "a", "a")
    await subscribe(owner, "mine", handler, "#")
    assert await follower.connection.fetchval("select logic.subscriptions_waiting()") == "[]"
    assert (await follower.run("mine"))["state"] == "no_handler"
    assert await follower.connection.fetchval("select logic.subscription_try('mine')") is None
    assert not await owner.fetchval("select handler_resolves from ops.lag where follower = 'mine'")
    await owner.execute("update bloodbank.subscriptions set handler = 'mine.see'")
    assert await owner.fetchval("select handler_resolves from ops.lag where follower = 'mine'")
    await follower.drain()
    assert await seen(owner) == at
    assert await letters(owner) == []


async def test_a_handler_dropped_on_the_way_makes_no_dead_letters(
    owner: asyncpg.Connection, follower: Follower
) -> None:
    await owner.execute(
        """create function mine.drop_it(p_event bloodbank.events) returns void language plpgsql as $$
           begin
             execute 'drop function if exists mine.drop_it(bloodbank.events)';
           end $$"""
    )
    await append(owner, "a", "a", "a")
    await subscribe(owner, "mine", "mine.drop_it", "#")
    with pytest.raises(asyncpg.UndefinedFunctionError):
        await follower.run("mine")
    assert await letters(owner) == []
    assert await owner.fetchval("select position from bloodbank.subscriptions") == 0


async def test_a_paused_one_stands_still(owner: asyncpg.Connection, follower: Follower) -> None:
    at = await append(owner, "a")
    await subscribe(owner, "mine", "mine.see", "#")
    await owner.execute("update bloodbank.subscriptions set paused = true")
    assert (await follower.run("mine"))["state"] == "paused"
    await follower.drain()
    assert await seen(owner) == []
    await owner.execute("update bloodbank.subscriptions set paused = false")
    await follower.drain()
    assert await seen(owner) == at


async def test_a_batch_ends_below_a_transaction_that_is_open(
    owner: asyncpg.Connection, follower: Follower, connect: Connect
) -> None:
    await subscribe(owner, "mine", "mine.see", "#")
    first = await append(owner, "a")
    late = await connect()
    async with late.transaction():
        await late.execute("select logic.event_append('late', '{}', '{}')")
        after = await append(owner, "a", "a")
        await follower.drain()
        assert await seen(owner) == first
        assert not (await follower.run("mine"))["behind"]
    await follower.drain()
    assert await seen(owner) == [first[0], after[0] - 1, *after]


async def test_nothing_is_missed_of_writers_that_dawdle(owner: asyncpg.Connection, connect: Connect) -> None:
    await subscribe(owner, "mine", "mine.see", "#")
    followers = [Follower(await connect("worker")) for _ in range(2)]
    writers = [await connect() for _ in range(8)]
    done = asyncio.Event()

    async def write(writer: asyncpg.Connection, n: int) -> None:
        for i in range(60):
            async with writer.transaction():
                await writer.execute("select logic.event_append('a', '{}', '{}')")
                await writer.execute("select pg_sleep($1)", ((i * 7 + n * 3) % 10) / 2000)

    async def follow(follower: Follower) -> None:
        while not done.is_set():
            await follower.drain()
            await asyncio.sleep(0)

    following = [asyncio.create_task(follow(each)) for each in followers]
    await asyncio.gather(*(write(writer, n) for n, writer in enumerate(writers)))
    done.set()
    await asyncio.gather(*following)
    await followers[0].drain()
    positions = await seen(owner)
    assert len(positions) == 480
    assert positions == sorted(set(positions))


async def test_a_handlers_own_events_are_handled(owner: asyncpg.Connection, follower: Follower) -> None:
    await subscribe(owner, "echo", "mine.echo", "echo")
    await subscribe(owner, "other", "mine.see", "echo")
    await append(owner, "echo", n=1)
    assert (await follower.run("echo")) | {"position": 0} == {
        "state": "ran",
        "handled": 1,
        "passed": 0,
        "skipped": 0,
        "dead": 0,
        "position": 0,
        "behind": False,
    }
    assert {
        each["name"] for each in json.loads(await owner.fetchval("select logic.subscriptions_waiting()"))
    } == {
        "echo",
        "other",
    }
    await follower.drain()
    numbers = await owner.fetch("select payload ->> 'n' as n from mine.seen where handler = 'see' order by n")
    assert sorted(row["n"] for row in numbers) == ["1", "1", "2", "2", "3", "3"]


async def test_only_the_worker_may(connect: Connect) -> None:
    for who in ("api", "reader"):
        stranger = await connect(who)
        for call in ("subscriptions_waiting()", "subscription_run('mine')", "subscription_try('mine')"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await stranger.fetch(f"select logic.{call}")
