"""sql/intake.sql: what a bus delivers gets into the log once, and what is no event onto the desk."""

from __future__ import annotations

import asyncio
import json
import random
import uuid
from typing import Any

import asyncpg
import pytest

from imi.bloodbank.envelope import sort

INTAKE = "select logic.intake($1, $2, $3)"


def event(kind: str = "test.happened", **keys: Any) -> dict[str, Any]:
    return {"event_id": str(uuid.uuid4()), "event_type": kind, "payload": {}} | keys


async def take(db: asyncpg.Connection, *messages: Any) -> tuple[int, int, int]:
    """Through the gate and in: stored, known, dead. Bytes go as they are, all else as JSON."""
    batch = sort([m if isinstance(m, bytes) else json.dumps(m).encode() for m in messages])
    counts = json.loads(await db.fetchval(INTAKE, batch.messages, batch.rejected, batch.reasons))
    return counts["stored"], counts["known"], counts["dead"]


async def stored(db: asyncpg.Connection, event_id: str) -> dict[str, Any]:
    row = await db.fetchval("select body from api.event_get($1)", uuid.UUID(event_id))
    return json.loads(row)


async def log(db: asyncpg.Connection) -> list[str]:
    return [row[0] for row in await db.fetch("select event_id::text from bloodbank.events order by position")]


async def letters(db: asyncpg.Connection) -> list[tuple[bytes, str]]:
    rows = await db.fetch("select * from bloodbank.dead_letters where source = 'intake' order by id")
    return [(row["raw"], row["reason"]) for row in rows]


async def test_our_envelope_is_served_as_it_came(db):
    whole = event(
        timestamp="2026-02-03T04:05:06.000007+00:00",
        version="2.1",
        source={"host": "h", "type": "something new", "extra": 1},
        correlation_ids=[str(uuid.uuid4()), str(uuid.uuid4())],
        agent_context={"type": "odd", "checkpoint_id": "c1"},
        payload={"deep": {"er": [1, None, "é"]}},
        priority=5,
    )
    assert await take(db, whole) == (1, 0, 0)
    assert await stored(db, whole["event_id"]) == whole
    assert await db.fetchval("select arrived from bloodbank.events") == "bus"
    assert await db.fetchval("select count(*) from bloodbank.causes") == 2


async def test_what_is_missing_is_filled_in(db, at):
    await at("2030-01-01T00:00Z")
    bare = event(correlation_ids=None, agent_context=None, source=None, timestamp=None, version=None)
    assert await take(db, bare) == (1, 0, 0)
    got = await stored(db, bare["event_id"])
    assert (got["timestamp"], got["version"], got["correlation_ids"]) == (
        "2030-01-01T00:00:00+00:00",
        "1.0.0",
        [],
    )


async def test_the_older_envelope_means_ours(db):
    old = {
        "id": str(uuid.uuid4()),
        "ts": "2026-02-03T04:05:06Z",
        "event_type": "git.push",
        "source": "hookd/build-7",
        "data": {"repo": "r"},
        "target": "everyone",
        "correlation_id": str(uuid.uuid4()),
        "session_id": "s-1",
    }
    assert await take(db, old, old) == (1, 1, 0)
    assert await stored(db, old["id"]) == {
        "event_id": old["id"],
        "event_type": "git.push",
        "timestamp": "2026-02-03T04:05:06+00:00",
        "version": "1.0.0",
        "source": {"host": "build-7", "type": "service", "app": "hookd"},
        "correlation_ids": [old["correlation_id"]],
        "agent_context": None,
        "payload": {"repo": "r"},
        "target": "everyone",
        "session_id": "s-1",
    }


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({"ts": "2026-02-03T04:05:06.5"}, {"timestamp": "2026-02-03T04:05:06.5+00:00"}),
        ({"ts": "2026-02-03 04:05:06"}, {"timestamp": "2026-02-03T04:05:06+00:00"}),
        ({"ts": "2026-02-03T04:05:06+02:00"}, {"timestamp": "2026-02-03T02:05:06+00:00"}),
        ({"source": "alone"}, {"source": {"host": "alone", "type": "service"}}),
        ({"source": {"host": "h", "type": "hook"}}, {"source": {"host": "h", "type": "hook"}}),
        ({"correlation_id": "trace-9", "": 1}, {"correlation_ids": [], "correlation_id": "trace-9", "": 1}),
        ({"correlation_id": None}, {"correlation_ids": [], "correlation_id": None}),
    ],
)
async def test_the_older_envelopes_ways(db, keys, expected):
    old = {
        "id": str(uuid.uuid4()),
        "ts": "2026-02-03T04:05:06Z",
        "event_type": "a",
        "source": "a/h",
        "data": {},
    }
    assert await take(db, old | keys) == (1, 0, 0)
    assert (await stored(db, old["id"])).items() >= expected.items()


async def test_a_cloudevent_means_ours(db):
    cloud = {
        "specversion": "1.0",
        "id": str(uuid.uuid4()),
        "type": "com.example.build.done",
        "source": "https://ci.example:8443/pipelines/7",
        "time": "2026-02-03T04:05:06.25Z",
        "subject": "main",
        "datacontenttype": "application/json",
        "data": {"ok": True},
    }
    assert await take(db, cloud) == (1, 0, 0)
    assert await stored(db, cloud["id"]) == {
        "event_id": cloud["id"],
        "event_type": "com.example.build.done",
        "timestamp": "2026-02-03T04:05:06.25+00:00",
        "version": "1.0.0",
        "source": {"host": "ci.example:8443", "type": "service", "meta": {"source": cloud["source"]}},
        "correlation_ids": [],
        "agent_context": None,
        "payload": {"ok": True},
        "specversion": "1.0",
        "subject": "main",
        "datacontenttype": "application/json",
    }


async def test_a_cloudevent_is_named_by_source_and_id(db):
    cloud = {"specversion": "1.0", "id": "A-1", "type": "a.b", "source": "/sensors/1"}
    assert await take(db, cloud, cloud | {"source": "/sensors/2"}, cloud) == (2, 1, 0)
    assert await take(db, cloud) == (0, 1, 0)
    assert await db.fetchval("select count(*) from bloodbank.events where extra ->> 'id' = 'A-1'") == 2
    nameless = {key: value for key, value in cloud.items() if key != "id"}
    assert await take(db, nameless) == (0, 0, 1)


@pytest.mark.parametrize(
    ("keys", "payload"),
    [
        ({}, {}),
        ({"data": "text"}, {"data": "text"}),
        ({"data": None}, {"data": None}),
        ({"data": [{"a": None}]}, {"data": [{"a": None}]}),
        ({"data_base64": "AAE="}, {}),
    ],
)
async def test_a_cloudevents_data_may_be_anything(db, keys, payload):
    cloud = {"specversion": "1.0", "id": str(uuid.uuid4()), "type": "a.b", "source": "s"}
    assert await take(db, cloud | keys) == (1, 0, 0)
    got = await stored(db, cloud["id"])
    assert got["payload"] == payload
    assert got.get("data_base64") == keys.get("data_base64")


FAULTS: list[tuple[Any, str]] = [
    (b"[" * 20_000, "JSON"),
    (b'{"event_type": "a", "payload": {"a": 1e131071}}', "JSON"),
    (rb'{"event_type": "a", "payload": {"a": "\u0000"}}', "NUL"),
    (json.dumps(event(payload={"a": "x" * (1 << 20)})).encode(), "1 MiB"),
    (b"\xff\x00", "UTF-8"),
    (b"[]", "object"),
    ({}, "event_type"),
    ({"payload": {}, "event_id": str(uuid.uuid4())}, "event_type"),
    ({"event_type": "a", "payload": {}}, "no event_id"),
    (event(event_id=None), "no event_id"),
    (event("a b"), "words"),
    (event("a..b"), "words"),
    (event("é"), "words"),
    (event("a" * 256), "words"),
    (event(5), "event_type"),  # type: ignore[arg-type]
    (event(payload=[]), "payload"),
    (event(payload=None), "payload"),
    (event(event_id="x"), "event_id"),
    (event(event_id=5), "event_id"),
    (event(event_id="{01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10}"), "event_id"),
    (event(correlation_ids="x"), "correlation_ids"),
    (event(correlation_ids=["x"]), "correlation id"),
    (event(correlation_ids=[None]), "correlation id"),
    (event(correlation_ids=[str(uuid.uuid4()) for _ in range(1001)]), "1,000 correlation_ids"),
    (event(correlation_ids=[[str(uuid.uuid4())]]), "correlation id"),
    (event(source=[]), "source"),
    (event(agent_context="x"), "agent_context"),
    (event(timestamp="soon"), "no time"),
    (event(timestamp="now"), "RFC 3339"),
    (event(timestamp="2026-01-01T00:00:00"), "RFC 3339"),
    (event(timestamp=5), "no time"),
    (event(timestamp="1969-12-31T23:59:59Z"), "1970"),
    (event(timestamp="2200-01-01T00:00:01Z"), "2200"),
    (event(timestamp="infinity"), "2200"),
    (event(version="x" * 21), "version"),
    (event(payload={"workflow_id": random.Random(1).randbytes(9_000).hex()}), "workflow_id"),
    (event(agent_context={"checkpoint_id": random.Random(2).randbytes(9_000).hex()}), "checkpoint_id"),
    ({"id": "5", "ts": "2026-02-03T04:05:06Z", "event_type": "a", "data": {}}, "event_id"),
    ({"id": str(uuid.uuid4()), "ts": "2026-02-03T04:05:06Z", "event_type": "a", "data": []}, "payload"),
    ({"specversion": "1.0", "id": "1", "type": "a/b", "source": "s"}, "words"),
]


@pytest.mark.parametrize(("bad", "reason"), FAULTS, ids=range(len(FAULTS)))
async def test_what_is_no_event_is_laid_aside_as_it_came(db, bad, reason):
    assert await take(db, event(), bad, event()) == (2, 0, 1)
    ((raw, why),) = await letters(db)
    assert raw == (bad if isinstance(bad, bytes) else json.dumps(bad).encode())
    assert why.startswith("The message ") and reason in why


@pytest.mark.parametrize("odd", ["5", '"ts"', '["ts", "data"]', '["payload"]', "null", "true"])
async def test_the_door_itself_survives_what_is_no_object(db, odd):
    counts = json.loads(await db.fetchval("select logic.intake($1)", [odd, json.dumps(event())]))
    assert counts == {"stored": 1, "known": 0, "dead": 1}


async def test_garbage_among_500_spoils_nothing(db):
    chance = random.Random(3)
    good = [event(f"test.{n}") for n in range(300)]
    messages: list[Any] = [*good, *(bad for bad, _ in FAULTS), *(chance.randbytes(99) for _ in range(160))]
    chance.shuffle(messages)
    assert await take(db, *messages) == (300, 0, len(messages) - 300)
    assert len(await letters(db)) == len(messages) - 300
    assert await log(db) == [m["event_id"] for m in messages if isinstance(m, dict) and m in good]


ODD: list[Any] = [None, True, -1, 1.5, 1e308, 10**30, "", "x", "\\", "{}", "[1]", "a.b", "now", "2026-02-03", " ", "é" * 300, "9" * 40, [], [[]], [None], ["x"], {}, {"a": {}}, {"workflow_id": []}, str(uuid.UUID(int=5))]  # fmt: skip
SHAPES = [
    event(timestamp="2026-02-03T04:05:06Z", version="1", source={}, correlation_ids=[], agent_context={}),
    {
        "id": "x",
        "ts": "2026-02-03T04:05:06Z",
        "event_type": "a",
        "source": "a/b",
        "data": {},
        "correlation_id": "c",
    },
    {"specversion": "1.0", "id": "x", "type": "a", "source": "s", "time": "2026-02-03T04:05:06Z", "data": {}},
]


@pytest.mark.parametrize("seed", range(3))
async def test_no_message_spoils_its_batch(db, seed):
    """Every key of every shape with odd values, keys lost, and bytes overwritten: each is counted, none raises."""
    chance = random.Random(seed)
    messages: list[Any] = []
    for _ in range(1500):
        odd = dict(chance.choice(SHAPES))
        odd["id" if "id" in odd else "event_id"] = str(uuid.UUID(int=chance.getrandbits(128)))
        for key in chance.sample(sorted(odd), chance.randint(0, 2)):
            odd[key] = chance.choice(ODD)
        if chance.random() < 0.2:
            del odd[chance.choice(sorted(odd))]
        if chance.random() < 0.1:
            odd[chance.choice(["payload", "event_id", "data", "specversion"])] = chance.choice(ODD)
        text = bytearray(json.dumps(odd).encode())
        if chance.random() < 0.3:
            text[chance.randrange(len(text))] = chance.randrange(256)
        messages.append(bytes(text))
    counts = [await take(db, *messages[at : at + 500]) for at in range(0, 1500, 500)]
    stored, known, dead = (sum(each) for each in zip(*counts, strict=True))
    assert stored + known + dead == 1500
    assert min(stored, dead) > 300
    assert len(await log(db)) == stored
    assert len(await letters(db)) == dead
    assert len(json.loads(await db.fetchval("select body from api.event_list(p_limit => 1000)"))) > 300


async def test_the_same_message_five_times_is_one_event(db):
    chance = random.Random(4)
    good = [event(n=n) for n in range(200)]
    five = good * 5
    chance.shuffle(five)
    counts = [await take(db, *five[at : at + 250]) for at in range(0, 1000, 250)]
    assert [sum(each) for each in zip(*counts, strict=True)] == [200, 800, 0]
    assert sorted(await log(db)) == sorted(each["event_id"] for each in good)


async def test_an_effect_may_come_before_its_cause(db):
    cause = event("test.cause")
    effect = event("test.effect", correlation_ids=[cause["event_id"], cause["event_id"]])
    assert await take(db, effect) == (1, 0, 0)
    assert await take(db, cause) == (1, 0, 0)
    edges = await db.fetch("select cause::text, effect::text from bloodbank.causes")
    assert [tuple(edge) for edge in edges] == [(cause["event_id"], effect["event_id"])]
    assert (await stored(db, effect["event_id"]))["correlation_ids"] == [cause["event_id"]]


async def test_the_log_keeps_the_order_of_the_batch(db):
    batch = [event(f"test.{n}") for n in range(100)]
    assert await take(db, *batch) == (100, 0, 0)
    assert await log(db) == [each["event_id"] for each in batch]


async def test_our_own_events_come_back_and_nothing_happens(db, call):
    body = {"remote_origin": "git@github.com:acme/rocket.git"}
    await call("api.project_register", body=body)
    await call("api.event_publish", body={"event_type": "test.posted", "payload": {"a": 1.5}, "more": []})
    before = await db.fetch("select * from bloodbank.events order by position")
    listed = json.loads(await db.fetchval("select body from api.event_list()"))
    assert len(listed) == len(before) == 2
    assert await take(db, *listed) == (0, 2, 0)
    assert await db.fetch("select * from bloodbank.events order by position") == before


async def test_imis_own_types_may_come_over_the_bus(db):
    assert await take(db, event("imi.cmd.start_work"), event("imi.work.started")) == (2, 0, 0)


async def test_nothing_is_nothing(db):
    assert await take(db) == (0, 0, 0)


async def test_only_the_worker_may(connect):
    worker = await connect("worker")
    assert await take(worker, event("test.worker"), b"garbage") == (1, 0, 1)
    for other in ("api", "reader"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await take(await connect(other), event())
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await worker.fetchval("select logic.event_ingest('{}', 'bus', '{}')")


async def test_what_fails_leaves_nothing_behind(connect):
    worker, owner = await connect("worker"), await connect()
    before = len(await letters(owner))
    lost = event()
    with pytest.raises(asyncpg.PostgresError):
        await worker.fetchval(INTAKE, [json.dumps(lost), '{"a": "\\u0000"}'], [b"x"], ["is bad"])
    assert lost["event_id"] not in await log(owner)
    assert len(await letters(owner)) == before


async def test_intakes_racing_on_the_same_events_store_each_once(connect):
    """In opposite and random orders, with a poster besides: nobody waits in a circle."""
    owner, keeper = await connect(), await connect()
    for turn in range(5):
        chance = random.Random(turn)
        good = [event(f"race.{turn}", correlation_ids=[str(uuid.uuid4())]) for _ in range(300)]
        orders = [good, good[::-1], *(chance.sample(good, len(good)) for _ in range(2))]
        workers = [await connect("worker") for _ in orders]
        poster = await connect("api")
        await keeper.execute("select pg_advisory_lock(77)")

        async def intake(worker: asyncpg.Connection, order: list[dict[str, Any]]) -> tuple[int, int, int]:
            await worker.execute("select pg_advisory_lock_shared(77)")
            return await take(worker, *order)

        async def post(poster: asyncpg.Connection, order: list[dict[str, Any]]) -> tuple[int, int, int]:
            await poster.execute("select pg_advisory_lock_shared(77)")
            query = "select body from api.event_publish($1, $2)"
            answer = json.loads(await poster.fetchval(query, json.dumps(order), '{"scope": "admin"}'))
            assert all(item["cursor"] for item in answer["items"])
            new = sum(item["new"] for item in answer["items"])
            return new, len(order) - new, 0

        runs = [asyncio.create_task(intake(w, order)) for w, order in zip(workers, orders, strict=True)]
        runs.append(asyncio.create_task(post(poster, good[::-1])))
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = 77 and not granted"
        while await keeper.fetchval(waiting) < len(runs):
            await asyncio.sleep(0)
        await keeper.execute("select pg_advisory_unlock(77)")
        counts = await asyncio.gather(*runs)
        assert [sum(each) for each in zip(*counts, strict=True)] == [300, 1200, 0]
        rows = await owner.fetch(
            "select event_id::text from bloodbank.events where event_type = $1", f"race.{turn}"
        )
        assert sorted(row[0] for row in rows) == sorted(each["event_id"] for each in good)
        for each in (*workers, poster):
            await each.close()
