"""How many events a second go in, out and through the subscriptions."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
from aiormq.abc import DeliveredMessage

from imi.bloodbank.intake import QUEUE, _gathered, intake
from imi.bloodbank.rabbitmq import RabbitBus
from imi.bloodbank.subscriptions import subscriptions
from tests.bench.bus.events import SEED, events
from tests.bench.bus.stage import EXCHANGE, Stage, chunks, emptied, fill, stored, while_running
from tests.bench.load import BenchError
from tests.bench.rows import Figure, ratios

QUEUED, BATCHED, SENT, FOLLOWED = 40_000, 50_000, 20_000, 100_000

# Handlers that ask one thing each, instead of iMi's own: what is left is the cost of following.
ASKING = """
create schema bench;
create function bench.see(event bloodbank.events) returns void language plpgsql as $$
begin
  perform from imi.project_remotes where remote_key = event.payload #>> '{repo,remote_url}';
end $$;
update bloodbank.subscriptions set handler = 'bench.see' where name like 'imi.%';
"""


async def taken_in(stage: Stage) -> list[Figure]:
    """The intake beside its own client without a database."""
    given = events(QUEUED)

    async def bare() -> float:
        async with stage.queue() as channel:
            await stage.publish(given)
            waiting: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
            began, taken = time.perf_counter(), 0
            await channel.basic_consume(QUEUE, waiting.put)
            while taken < QUEUED:
                batch = await _gathered(waiting, channel)
                tag = batch[-1].delivery_tag
                assert tag is not None
                await channel.basic_ack(tag, multiple=True)
                taken += len(batch)
            return QUEUED / (time.perf_counter() - began)

    with stage.database() as database:
        owner = await database.connect("superuser")

        async def ours() -> float:
            await emptied(owner)
            async with stage.queue():
                await stage.publish(given)
            work = intake(database.url, stage.node.url, EXCHANGE)
            return QUEUED / await while_running(work, stored(owner, QUEUED))

        turns = await stage.alternate(ours, bare)
        await owner.close()
    return [
        Figure("bus → committed rows, × the client alone", "≥", 0.6, ratios(turns)),
        Figure("bus → committed rows, events/s", "≥", 10_000, [ours for ours, _ in turns], form=",.0f"),
    ]


async def ingested(stage: Stage) -> list[Figure]:
    """logic.intake beside COPY of the rows that it makes."""
    batches = [[each.body.decode() for each in some] for some in chunks(events(BATCHED))]
    with stage.database() as database:
        worker, owner = await database.connect("worker"), await database.connect("superuser")

        async def ours() -> float:
            await emptied(owner)
            began = time.perf_counter()
            for batch in batches:
                await worker.fetchval("select logic.intake($1)", batch)
            return BATCHED / (time.perf_counter() - began)

        await ours()
        rows = [await copied(owner, each) for each in batches]

        async def copying() -> float:
            await emptied(owner)
            began = time.perf_counter()
            for into_events, into_causes in rows:
                async with owner.transaction():
                    await owner.copy_to_table("events", schema_name="bloodbank", source=sent(into_events))
                    await owner.copy_to_table("causes", schema_name="bloodbank", source=sent(into_causes))
            return BATCHED / (time.perf_counter() - began)

        turns = await stage.alternate(ours, copying)
        await worker.close()
        await owner.close()
    return [Figure("SQL ingest in batches of 500, × COPY", "≥", 0.4, ratios(turns))]


async def copied(owner: asyncpg.Connection, batch: list[str]) -> tuple[bytes, bytes]:
    """The rows of these envelopes in events and causes, as COPY reads them."""
    ids = "select (body::jsonb ->> 'event_id')::uuid from unnest($1::text[]) as body"
    parts: list[bytes] = []
    for table, key in (("events", "event_id"), ("causes", "effect")):
        part = bytearray()

        async def keep(data: bytes, part: bytearray = part) -> None:
            part.extend(data)

        await owner.copy_from_query(
            f"select * from bloodbank.{table} where {key} in ({ids})", batch, output=keep
        )
        parts.append(bytes(part))
    return parts[0], parts[1]


async def sent(data: bytes) -> AsyncIterator[bytes]:
    yield data


async def relayed(stage: Stage) -> list[Figure]:
    """The relay beside its own client without a database; the intake's queue takes what is sent."""
    bus = RabbitBus(stage.node.url, EXCHANGE)
    with stage.database() as database:
        worker, owner = await database.connect("worker"), await database.connect("superuser")
        await fill(owner, events(SENT), "local")
        messages = [
            (event_id, event_type, envelope.encode())
            for event_id, event_type, envelope in await owner.fetch(
                "select event_id::text, event_type, logic.event_envelope(events)::text from bloodbank.events order by position"
            )
        ]

        async def ours() -> float:
            await owner.execute("update bloodbank.cursors set position = 0 where name = 'relay'")
            async with stage.queue():
                began, count = time.perf_counter(), 0
                while some := await bus.relay(worker, "bench"):
                    count += some
                assert count == SENT
                return SENT / (time.perf_counter() - began)

        async def bare() -> float:
            async with stage.queue():
                began = time.perf_counter()
                for at in range(0, SENT, 500):
                    await bus.publish(messages[at : at + 500])
                return SENT / (time.perf_counter() - began)

        turns = await stage.alternate(ours, bare)
        await bus.close()
        await worker.close()
        await owner.close()
    return [Figure("log → broker, confirmed, × the client alone", "≥", 0.7, ratios(turns))]


async def followed(stage: Stage) -> list[Figure]:
    """The five subscriptions over a log that half concerns them; each turn has its own copy of the log."""
    with stage.database() as log:
        owner = await log.connect("superuser")
        await owner.execute(SEED)
        await fill(owner, events(FOLLOWED), "bus")
        await owner.execute("vacuum (analyze)")
        end = await owner.fetchval("select max(position) from bloodbank.events")
        await owner.execute(
            "update bloodbank.subscriptions set position = $1 where name like 'imi.%'", end - FOLLOWED
        )
        await owner.close()

        async def following(prepared: str) -> float:
            with stage.database(log.name) as database:
                owner = await database.connect("superuser")
                await owner.execute(prepared)
                seconds = await while_running(subscriptions(database.url), arrived(owner, end))
                await owner.close()
            return FOLLOWED / seconds

        turns = await stage.alternate(
            lambda: following(f"set role imi_owner; {ASKING}; reset role"), lambda: following("select")
        )
    return [
        Figure(
            "five subscriptions that ask one thing, events/s",
            "≥",
            30_000,
            [asking for asking, _ in turns],
            form=",.0f",
        ),
        Figure(
            "five subscriptions with iMi's handlers, events/s",
            "≥",
            30_000,
            [own for _, own in turns],
            form=",.0f",
        ),
    ]


async def arrived(owner: asyncpg.Connection, end: int) -> None:
    """Return when all five stand there. Raises BenchError if a handler could not do with an event."""
    query = "select min(position) from bloodbank.subscriptions where name like 'imi.%'"
    while await owner.fetchval(query) < end:
        await asyncio.sleep(0.01)
    if reason := await owner.fetchval(
        "select subscription || ': ' || reason from bloodbank.dead_letters limit 1"
    ):
        raise BenchError(f"A handler failed at one of the events: {reason}")
