"""Latencies and memory of a whole `imi up` in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import random
import re
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path

import aiormq
import asyncpg
import orjson
from aiormq.abc import DeliveredMessage

from tests.bench.bus.events import events
from tests.bench.bus.stage import EXCHANGE, Stage, stored
from tests.bench.load import HERE, BenchError
from tests.bench.rows import Figure
from tests.live import Live, running
from tests.postgres import Database

PACE, SECONDS = 1000, 10
MUTATIONS = 200
LOOK = 0.002  # seconds between two looks for new rows; they are in what is measured


@contextlib.asynccontextmanager
async def up(stage: Stage) -> AsyncIterator[tuple[Live, Database]]:
    """`imi up` on both servers, as one starts it, with nothing in the queue; its log goes to a file."""
    async with stage.queue():
        pass
    with (
        stage.database() as database,
        running(IMI_DATABASE_URL=database.url, IMI_RABBITMQ_URL=stage.node.url) as live,
    ):
        yield live, database


async def published(stage: Stage) -> list[Figure]:
    """From the publisher's call to the moment at which somebody who looks sees the row."""
    async with up(stage) as (_, database):
        owner = await database.connect("superuser")
        rounds = [await paced(stage, owner) for _ in range(stage.rounds)]
        await owner.close()
    return [
        Figure("publish → row that is seen, 1,000 events/s, p95 ms", "<", 100, rounds, form=".1f"),
    ]


async def paced(stage: Stage, owner: asyncpg.Connection) -> float:
    """The p95 of one round, in milliseconds. Raises BenchError if the publisher did not keep its pace."""
    last = await owner.fetchval("select coalesce(max(position), 0) from bloodbank.events")
    publisher = await asyncio.create_subprocess_exec(
        *(
            sys.executable,
            "-m",
            "tests.bench.bus.publisher",
            stage.node.url,
            EXCHANGE,
            str(PACE),
            str(SECONDS),
        ),
        cwd=HERE.parents[1],
    )
    found: list[float] = []
    async with asyncio.timeout(SECONDS + 60):
        while len(found) < PACE * SECONDS:
            rows = await owner.fetch(
                "select position, (payload ->> 'sent')::float8 from bloodbank.events where position > $1 order by position",
                last,
            )
            now = time.monotonic()
            if rows:
                last = rows[-1][0]
                found += [now - sent for _, sent in rows]
            await asyncio.sleep(LOOK)
        if await publisher.wait():
            raise BenchError(f"The publisher did not keep its {PACE:,} events/s; the machine is too busy")
    return percentile(found, 0.95) * 1000


async def mutated(stage: Stage) -> list[Figure]:
    """From before the HTTP request to the message at a consumer of the exchange, one at a time."""
    chance = random.Random(7)
    found: list[float] = []
    async with up(stage) as (live, _):
        connection = await aiormq.connect(stage.node.url)
        channel = await connection.channel()
        outside = (await channel.queue_declare(exclusive=True)).queue
        assert outside is not None
        await channel.queue_bind(outside, EXCHANGE, "imi.project.updated")
        came: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue()

        async def note(message: DeliveredMessage) -> None:
            came.put_nowait((time.perf_counter(), message.body))

        await channel.basic_consume(outside, note, no_ack=True)
        async with live.client() as client:
            project = await client.post(
                "/api/v1/projects", json={"remote_origin": "https://github.com/acme/service"}
            )
            path = f"/api/v1/projects/{project.raise_for_status().json()['id']}"
            for number in range(MUTATIONS):
                await asyncio.sleep(chance.uniform(0.05, 0.7))
                began = time.perf_counter()
                answer = await client.patch(path, json={"description": f"the {number}th"})
                answer.raise_for_status()
                async with asyncio.timeout(30):
                    at, body = await came.get()
                assert orjson.loads(body)["payload"]["description"] == f"the {number}th"
                found.append((at - began) * 1000)
        await connection.close()
    return [
        Figure("mutation → message on the exchange, idle, ms: of 200", "<", 20, found, form=".1f"),
        Figure("mutation → message on the exchange, idle, p99 ms", "<", 100, [percentile(found, 0.99)], form=".1f"),
    ]  # fmt: skip


async def remembered(stage: Stage) -> list[Figure]:
    """The resident memory of `imi up` after all messages, beside what it was after a tenth of them."""
    messages = 1_000_000 if stage.full else 300_000
    async with up(stage) as (live, database):
        assert live.process is not None
        owner = await database.connect("superuser")
        sizes: list[int] = []
        for part in range(10):
            for some in range(10):
                await stage.publish(events(messages // 100, seed=10 * part + some))
            await stored(owner, messages // 10 * (part + 1))
            sizes.append(resident(live.process.pid))
        await owner.close()
    what = f"resident memory after {messages:,} messages, × after {messages // 10:,} ({sizes[0] >> 10} MiB)"
    return [Figure(what, "≤", 1.2, [sizes[-1] / sizes[0]])]


def resident(pid: int) -> int:
    """In KiB."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1])


def percentile(values: list[float], part: float) -> float:
    return sorted(values)[int(len(values) * part)]
