"""The stream: what comes, from where on, for which filter, and how it ends."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Callable
from typing import Any

import pytest

from imi.stream import limits
from tests.conftest import Database
from tests.serving import ADMIN
from tests.stream.conftest import PATH, SOON, Watcher, World, served


def ids(envelopes: list[dict[str, Any]]) -> list[str]:
    return [each["event_id"] for each in envelopes]


async def end(watcher: Watcher) -> dict[str, Any]:
    """The error that a stream ends with, and nothing after it."""
    while message := await watcher.next():
        if message["type"] == "error":
            assert await watcher.next() is None
            return message
    raise AssertionError("the stream ended without a word")


async def test_from_now_on(world: World, websocket: bool) -> None:
    world.publish()
    async with world.watch(websocket) as watcher:
        published = [world.publish(n=n) for n in range(3)]
        assert ids(await watcher.events(3)) == published


async def test_where_it_begins_comes_first(world: World, websocket: bool) -> None:
    async with world.watch(websocket) as watcher:
        message = await watcher.next()
        assert message and message["type"] == "heartbeat"
    published = world.publish()  # nobody watches, and yet nothing is lost
    async with world.watch(websocket, after=message["cursor"]) as watcher:
        assert (await watcher.next() or {})["cursor"] == message["cursor"]
        assert ids(await watcher.events(1)) == [published]


async def test_from_the_beginning_and_on(world: World, websocket: bool) -> None:
    some = [{"event_type": f"{world.prefix}.old", "payload": {}}] * 700
    before = world.publish_all(some) + world.publish_all(some)
    async with world.watch(websocket, after=0) as watcher:
        after = [world.publish()]
        assert ids(await watcher.events(1401)) == before + after


async def test_an_envelope_comes_as_the_api_shows_it(world: World, websocket: bool) -> None:
    async with world.watch(websocket) as watcher:
        (event_id,) = world.publish_all(
            [{"event_type": f"{world.prefix}.odd", "payload": {"text": "ä\n\r\u2028 \x85"}, "unknown": [1]}]
        )
        (envelope,) = await watcher.events(1)
        assert envelope == world.api.get(f"/api/v1/events/{event_id}").json()
        assert envelope["unknown"] == [1]


async def test_the_cursor_is_the_one_of_the_list(world: World, websocket: bool) -> None:
    published = [world.publish(n=n) for n in range(4)]
    async with world.watch(websocket, after=0) as watcher:
        await watcher.events(2)
        listed = world.api.get(f"/api/v1/events?after={watcher.cursor}&event_type={world.prefix}.%23")
        assert ids(listed.json()) == published[2:]
    async with world.watch(websocket, after=listed.headers["X-Next-Cursor"]) as watcher:
        last = world.publish()
        assert ids(await watcher.events(1)) == [last]


async def test_a_browser_goes_on_from_its_last_event_id(world: World) -> None:
    published = [world.publish(n=n) for n in range(3)]
    async with world.watch(False, after=0) as first:
        await first.events(1)
    second = Watcher(world.session, False)
    headers = {"Authorization": f"Bearer {ADMIN}", "Last-Event-ID": str(first.cursor)}
    await second.open(headers, after=0, event_type=f"{world.prefix}.#")
    assert await second.answer.content.readline() == b"retry: 1000\n"
    assert ids(await second.events(2)) == published[1:]
    second.answer.close()


PATTERNS = ["{}.#", "{}.*", "{}.a.*", "#.b", "*.a.#", "{}.#.c", "{}.a", "#", "*.*.*", "#.a.#.b.#", "{}", "*"]
TYPES = ["a", "b", "a.b", "a.c", "a.b.c", "b.a.x.b", "c"]


async def test_patterns_mean_what_the_matcher_says(world: World, websocket: bool, connect: Any) -> None:
    database = await connect()
    types = [world.prefix, *(f"{world.prefix}.{each}" for each in TYPES)]
    patterns = [each.format(world.prefix) for each in PATTERNS]
    watchers = [Watcher(world.session, websocket) for _ in patterns]
    for watcher, pattern in zip(watchers, patterns, strict=True):
        await watcher.open(event_type=pattern)
    world.publish_all([{"event_type": each, "payload": {}} for each in [*types, f"{world.prefix}.end"]])
    for watcher, pattern in zip(watchers, patterns, strict=True):
        expected = [
            each
            for each in types
            if await database.fetchval("select logic.topic_matches($1, $2)", pattern, each)
        ]
        assert [each["event_type"] for each in await watcher.events(len(expected))] == expected, pattern
        watcher.answer.close() if not websocket else await watcher.answer.close()


async def test_one_workflow(world: World, websocket: bool) -> None:
    workflow, other = str(uuid.uuid4()), str(uuid.uuid4())

    def some() -> list[str]:
        kind = f"{world.prefix}.step"
        published = world.publish_all(
            [
                {"event_type": kind, "payload": {"workflow_id": workflow}},
                {"event_type": kind, "payload": {"workflow_id": other}},
                {"event_type": kind, "payload": {}, "correlation_ids": [other, workflow]},
                {"event_type": kind, "payload": {"workflow_id": workflow}, "correlation_ids": [workflow]},
                {"event_type": kind, "payload": {"workflow_id": f"{workflow} {other}"}},
                {"event_type": kind, "payload": {"workflow_id": 7}},
                {"event_type": "else.where", "payload": {"workflow_id": workflow}},
            ]
        )
        return [published[0], published[2], published[3]]

    before = some()
    async with world.watch(websocket, after=0, workflow_id=workflow.upper()) as watcher:
        assert ids(await watcher.events(3)) == before
        expected = some()
        assert ids(await watcher.events(3)) == expected


async def test_a_low_position_that_commits_late_is_not_stepped_over(
    world: World, websocket: bool, connect: Any
) -> None:
    publish = 'select api.event_publish($1::json, \'{"scope": "admin"}\')'
    slow = await connect()
    async with world.watch(websocket) as live_one, world.watch(websocket, after=0) as from_zero:
        first = world.publish()
        transaction = slow.transaction()
        await transaction.start()
        held = str(uuid.uuid4())
        body = {"event_id": held, "event_type": f"{world.prefix}.held", "payload": {}}
        await slow.execute(publish, json.dumps(body))
        second = world.publish()  # a higher position, committed before
        assert ids(await live_one.events(1)) == [first]
        async with world.watch(websocket) as late:  # it begins below both
            await transaction.commit()
            assert ids(await live_one.events(2)) == [held, second]
            assert ids(await from_zero.events(3)) == [first, held, second]
            assert ids(await late.events(2)) == [held, second]


async def test_heartbeats_carry_the_cursor(
    world: World, websocket: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BEAT", 0.0)
    async with world.watch(websocket) as watcher:
        elsewhere = world.publish_all([{"event_type": "else.where", "payload": {}}])
        end = world.api.post(
            "/api/v1/events", json={"event_id": elsewhere[0], "event_type": "x", "payload": {}}
        )
        while (message := await watcher.next()) and message["cursor"] < end.json()["cursor"]:
            assert message["type"] == "heartbeat" and message["timestamp"].endswith("Z")
        assert message


async def test_older_than_what_is_kept(fresh_database: Database, websocket: bool) -> None:
    async with served(fresh_database.url) as world:
        published = [world.publish(n=n) for n in range(5)]
        owner = await fresh_database.connect()
        positions = [row[0] for row in await owner.fetch("select position from bloodbank.events order by 1")]
        await owner.execute(
            """with gone as (delete from bloodbank.events where position <= $1)
                   insert into bloodbank.cursors (name, position) values ('pruned', $1)""",
            positions[2],
        )
        await owner.close()
        async with world.watch(websocket, after=positions[1]) as watcher:
            said = await end(watcher)
            assert (said["code"], said["cursor"]) == ("GONE", positions[2])
        for kept in (positions[2], 0):
            async with world.watch(websocket, after=kept) as watcher:
                assert ids(await watcher.events(2)) == published[3:]


async def test_who_is_overtaken_by_retention_is_told(fresh_database: Database, websocket: bool) -> None:
    async with served(fresh_database.url) as world:
        world.publish()
        async with world.watch(websocket) as watcher:
            owner = await fresh_database.connect()
            async with owner.transaction():  # as if it had been away while both happened
                await owner.execute("select logic.event_append('a.b', '{}', '{}')")
                gone = await owner.fetchval("select max(position) + 5 from bloodbank.events")
                await owner.execute(
                    "insert into bloodbank.cursors (name, position) values ('pruned', $1)", gone
                )
                await owner.execute("select setval('bloodbank.events_position_seq', $1)", gone)
            await owner.close()
            said = await end(watcher)
            assert (said["code"], said["cursor"]) == ("GONE", gone)


async def stuck(world: World, pattern: str = ".%23") -> asyncio.StreamWriter:
    """A client that asks for everything and then reads no more."""
    url = world.api.base_url
    reader, writer = await asyncio.open_connection(url.host, url.port, limit=1 << 10)
    key = "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
    writer.write(
        f"GET {PATH}?event_type={world.prefix}{pattern} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ADMIN}\r\n"
        f"Connection: Upgrade\r\nUpgrade: websocket\r\n{key}\r\n".encode()
    )
    assert b"101" in await reader.readline()
    return writer


async def test_who_never_reads_is_dropped_and_slows_nobody(
    world: World, metric: Callable[[str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "LINGER", 0.2)
    dropped = metric("imi_stream_dropped_total")
    writer = await stuck(world)
    async with world.watch(True) as websocket, world.watch(False) as sse:
        published: list[str] = []
        large = "x" * 900_000
        for n in range(100):
            published.append(world.publish(n=n, large=large))
            for watcher in (websocket, sse):
                assert ids(await watcher.events(1)) == published[-1:]
            if metric("imi_stream_dropped_total") > dropped:
                break
        assert metric("imi_stream_dropped_total") == dropped + 1
        async with asyncio.timeout(SOON):
            while metric("imi_stream_clients") > 2:
                await asyncio.sleep(0.05)
        published.append(world.publish())
        assert ids(await websocket.events(1)) == ids(await sse.events(1)) == published[-1:]
    writer.close()


async def test_who_reads_too_slowly_is_told_where_to_go_on(
    world: World, websocket: bool, metric: Callable[[str], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "UNSENT", 100_000)
    dropped = metric("imi_stream_dropped_total")
    async with world.watch(websocket) as watcher:
        published = []
        while metric("imi_stream_dropped_total") == dropped:
            published.append(world.publish(large="x" * 900_000))
            assert len(published) < 100
        found = []
        while (message := await watcher.next()) and message["type"] != "error":
            found += [message["data"]["event_id"]] if message["type"] == "event" else []
        assert message and message["code"] == "OVERFLOW"
    async with world.watch(websocket, after=message["cursor"]) as watcher:
        assert found + ids(await watcher.events(len(published) - len(found))) == published


async def test_a_megabyte_is_streamed(world: World, websocket: bool) -> None:
    async with world.watch(websocket) as watcher:
        published = [world.publish(n=n, large="ö" * 500_000) for n in range(4)]
        assert ids(await watcher.events(4)) == published
    async with world.watch(websocket, after=0) as watcher:
        assert ids(await watcher.events(4)) == published


async def test_a_server_that_stops_says_so(world: World, database: Database, websocket: bool) -> None:
    async with served(database.url) as other, other.watch(websocket):  # and one that has just left
        watcher = Watcher(world.session, websocket)
        await watcher.open(server=str(other.api.base_url).rstrip("/"))
        ending = asyncio.create_task(end(watcher))
    assert (await ending)["code"] == "STOPPING"
    if websocket:
        assert watcher.answer.close_code == 1012


async def test_who_leaves_is_forgotten(world: World, websocket: bool, metric: Callable[[str], float]) -> None:
    async with asyncio.timeout(SOON):
        while metric("imi_stream_clients") > 0:
            await asyncio.sleep(0.05)
        async with world.watch(websocket), world.watch(websocket, after=0):
            assert metric("imi_stream_clients") == 2
        while metric("imi_stream_clients") > 0:
            await asyncio.sleep(0.05)


async def test_streams_outlive_the_database(world: World, websocket: bool, database: Database) -> None:
    async with world.watch(websocket) as watcher:
        first = world.publish()
        await watcher.events(1)
        database.server.run(
            f"select pg_terminate_backend(pid) from pg_stat_activity where usename = '{database.name}_reader'"
        )
        second = world.publish()
        assert first != second and ids(await watcher.events(1)) == [second]


async def test_a_revoked_key_ends_its_streams(
    database: Database, websocket: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imi.server.auth.KEPT", 0.0)
    monkeypatch.setattr(limits, "BEAT", 0.1)
    async with served(database.url) as world:
        made = world.api.post("/api/v1/api-keys", json={"name": "gone", "scope": "read"}).json()
        watcher = Watcher(world.session, websocket)
        await watcher.open({"Authorization": f"Bearer {made['key']}"}, event_type="no.such")
        assert world.api.delete(f"/api/v1/api-keys/{made['id']}").status_code == 204
        assert (await end(watcher))["code"] == "UNAUTHENTICATED"
