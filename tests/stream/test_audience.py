"""Which patterns match, who shares a write, what all clients may hold together, and who waits for whom."""

from __future__ import annotations

import asyncio
import contextlib
import random
from types import SimpleNamespace
from typing import Any, cast

import asyncpg
import pytest
from prometheus_client import CollectorRegistry

from imi.stream import limits, wire
from imi.stream.audience import Audience, Share
from imi.stream.client import Client
from imi.stream.hub import Hub
from imi.stream.patterns import Patterns
from imi.stream.wire import Held, Message, Wire, joined
from tests.conftest import Database
from tests.stream.conftest import SOON, World, served
from tests.stream.test_stream import ids, stuck


async def client_of(
    pattern: str | None = None, workflow: str | None = None, framing: Wire = wire.sse, cursor: int = 0
) -> Client:
    """A client whose connection takes nothing."""
    transport = SimpleNamespace(
        write=lambda _: None, is_closing=lambda: False, close=int, abort=int, get_write_buffer_size=int
    )
    row = {name: [] for name in ("positions", "event_types", "concerned", "envelopes")}
    made = Client(
        cast(asyncio.Transport, transport), framing, lambda: asyncio.sleep(0), pattern, workflow, "",
        cast(asyncpg.Record, {**row, "upto": cursor, "behind": True}),
    )  # fmt: skip
    made.cursor = cursor
    return made


def page_of(*types: str) -> list[Message]:
    return [Message(n, each, "", "{}") for n, each in enumerate(types, 1)]


async def shares(audience: Audience, page: list[Message]) -> list[Share]:
    return [share async for share in audience.shares(page)]


def words(rolls: random.Random, among: str, most: int) -> str:
    return ".".join(rolls.choices(among, k=rolls.randint(1, most)))


@pytest.mark.parametrize("seed", range(5))
async def test_patterns_mean_what_sql_says(database: Database, seed: int) -> None:
    rolls = random.Random(seed)
    asked = sorted({words(rolls, "aab*##", 7) for _ in range(300)})
    topics = sorted({words(rolls, "aabc", 8) for _ in range(200)})
    patterns = Patterns()
    for each in asked:
        patterns.add(each)
    for each in (gone := rolls.sample(asked, 200)):
        patterns.remove(each)
    for each in rolls.sample(gone, 50):
        patterns.add(each)
    wanted = sorted(patterns.wanted)
    owner = await database.connect()
    query = """select topic, array_agg(pattern) from unnest($1::text[]) as pattern, unnest($2::text[]) as topic
               where logic.topic_matches(pattern, topic) group by topic"""
    expected = {topic: set(found) for topic, found in await owner.fetch(query, wanted, topics)}
    await owner.close()
    assert len(expected) > 100
    for topic in topics:
        assert patterns.matching(topic) == expected.get(topic, set()), topic


def test_patterns_that_nobody_wants_are_cleared_away() -> None:
    patterns = Patterns()
    for n in range(100):
        patterns.add(f"a.b{n}.#")
        patterns.add(f"a.b{n}.#")
        patterns.remove(f"a.b{n}.#")
    assert patterns.matching("a.b7") == {"a.b7.#"}
    for n in range(100):
        patterns.remove(f"a.b{n}.#")
    assert not patterns and not patterns.places and patterns.matching("a.b7") == set()


async def test_no_pattern_and_no_type_costs_a_statement(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    fetch = asyncpg.Connection.fetch

    async def recorded(self: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
        said.append(query)
        return await fetch(self, query, *arguments, **options)

    monkeypatch.setattr(asyncpg.Connection, "fetch", recorded)
    async with contextlib.AsyncExitStack() as stack:
        form = f"{world.prefix}.b{{}}.#.*.#.z.#.y.#"
        watchers = [
            await stack.enter_async_context(world.watch(False, event_type=form.format(n))) for n in range(40)
        ]
        types = [f"{world.prefix}.b{n}.a.z.y{end}" for n in range(40) for end in ("", ".x", ".x.x")]
        published = world.publish_all([{"event_type": each, "payload": {}} for each in types])
        for n, watcher in enumerate(watchers):
            assert ids(await watcher.events(3)) == published[3 * n : 3 * n + 3]
    assert {each for each in said if "stream" in each} == {
        "select * from logic.stream_read($1::bigint, $2::text, $3::uuid, $4::integer)"
    }


async def test_who_has_no_pattern_comes_first() -> None:
    audience = Audience()
    patterned, plain = await client_of("a.#"), await client_of()
    audience.join(patterned)
    audience.join(plain)
    found = await shares(audience, page_of("a.b", "c"))
    assert [(clients, len(batch)) for _, batch, clients in found] == [([plain], 2), ([patterned], 1)]


async def test_who_gets_the_same_shares_a_write() -> None:
    audience, expected = Audience(), set()
    for n in range(100):
        client = await client_of("#." * (n // 10) + "big.one" + ".#" * (n % 10))
        audience.join(client)
        expected.add(client)
    late, other = await client_of("big.*", cursor=1), await client_of("big.#", framing=wire.websocket)
    audience.join(late)
    audience.join(other)
    found = await shares(audience, page_of("big.one", "else", "big.one"))
    assert sorted(len(clients) for *_, clients in found) == [1, 1, 100]
    for framing, batch, clients in found:
        if len(clients) == 100:
            assert (framing, len(batch), set(clients)) == (wire.sse, 2, expected)
        else:
            assert clients in ([late], [other]) and len(batch) == (1 if clients == [late] else 2)
    for client in (*expected, late, other):
        audience.leave(client)
    assert not audience.members and await shares(audience, page_of("big.one")) == []


def test_a_write_counts_once_until_the_last_has_let_go() -> None:
    held = Held()
    first = second = joined(page_of("a", "b"), wire.sse, held)
    assert held.total == len(first) > 0
    del first
    assert held.total == len(second)
    del second
    assert held.total == 0


async def test_what_all_hold_together_is_bounded(
    fresh_database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    most = 12_000_000
    monkeypatch.setattr(limits, "HELD", most)
    seen: list[int] = []
    relieve = Hub._relieve

    async def recorded(self: Hub) -> None:
        await relieve(self)
        seen.append(self._held.total)

    monkeypatch.setattr(Hub, "_relieve", recorded)
    async with served(fresh_database.url) as world:
        writers = [await stuck(world, f".b{n}.%23") for n in range(12)]  # each alone too little to be dropped
        async with world.watch(True, event_type=f"{world.prefix}.#") as reader:
            for n in range(7 * 12):
                published = world.publish(f"b{n % 12}", large="x" * 900_000)
                assert ids(await reader.events(1)) == [published]
            lines = world.api.get("/metrics").text.splitlines()
            dropped = float(
                next(line for line in lines if line.startswith("imi_stream_dropped_total")).split()[1]
            )
            assert 0 < dropped < 12
            assert max(seen) <= most
        for writer in writers:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()


async def test_who_joins_waits_for_nobody_who_catches_up() -> None:
    held, order = asyncio.Event(), []

    async def read(_: str, cursor: int | None, *__: object) -> list[dict[str, object]]:
        order.append(cursor)
        if cursor is not None:
            await held.wait()
        return [
            {"upto": cursor, "behind": False, "positions": None}
            | dict.fromkeys(("event_types", "concerned", "envelopes"))
        ]

    async def is_valid(_: str) -> bool:
        return True

    hub = Hub("postgresql://nowhere.invalid", cast(Any, read), is_valid, CollectorRegistry())
    clients = [await client_of(cursor=n) for n in range(1, 9)]
    for client in clients:
        hub.enter(client)
    async with asyncio.timeout(SOON):
        while len(order) < 2:
            await asyncio.sleep(0)
        for _ in range(5):
            await hub.page(None, None, None)
    assert order[2:] == [None] * 5
    held.set()
    await hub.stop()


async def test_others_have_a_turn_while_many_are_written_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("imi.stream.hub.BREATH", 0)
    hub = Hub("postgresql://nowhere.invalid", cast(Any, None), cast(Any, None), CollectorRegistry())
    order: list[str] = []
    for _ in range(3):
        client = await client_of()
        client.transport.write = lambda _: order.append("write")  # type: ignore[method-assign]
        hub._audience.join(client)

    async def other() -> None:
        for _ in range(3):
            order.append("other")
            await asyncio.sleep(0)

    await asyncio.gather(hub._deliver(page_of("a")), other())
    assert order == ["write", "other"] * 3
