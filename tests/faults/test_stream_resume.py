"""A client of the stream that is killed and resumed a hundred times has each event exactly once, and so has `imi events tail`.

Meanwhile events are committed all the time, some of them late by transactions that pause; the server is stopped and
killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest

from imi.database import embedded
from tests.live import Live, running

RESUMES, RESTARTS = 100, (25, 50, 75)
APPEND = "select logic.event_append('resume.tick', '{}', '{}')"
AWAY = (aiohttp.ClientError, OSError, asyncio.IncompleteReadError)


@pytest.fixture
def live() -> Iterator[Live]:
    with running() as server:
        yield server


@contextlib.asynccontextmanager
async def database(live: Live) -> AsyncIterator[str]:
    """The embedded database's URL, for as long as this is entered, whatever becomes of the server."""
    cluster, users = await asyncio.to_thread(embedded.join, live.data_dir)
    try:
        yield embedded.url(cluster)
    finally:
        await asyncio.to_thread(embedded.leave, cluster, users)


async def write(url: str, stop: asyncio.Event) -> None:
    """An event every few milliseconds."""
    connection = await asyncpg.connect(url)
    while not stop.is_set():
        await connection.execute(APPEND)
        await asyncio.sleep(0.005)
    await connection.close()


async def write_late(url: str, stop: asyncio.Event) -> None:
    """Two events in a transaction that pauses between them and its end, while others commit beyond them."""
    connection = await asyncpg.connect(url)
    while not stop.is_set():
        async with connection.transaction():
            for _ in range(2):
                await connection.execute(APPEND)
                await asyncio.sleep(random.uniform(0, 0.4))
    await connection.close()


class Reader:
    """A client that remembers nothing but its last cursor, and what it has had."""

    def __init__(self, live: Live) -> None:
        self.url = f"{live.url}/api/v1/events/stream"
        self.headers = {"Authorization": f"Bearer {live.key}"}
        self.cursor = 0
        self.ids: list[str] = []

    async def read(self, websocket: bool, enough: int) -> None:
        """Connect, take so many events if the server lives that long, and break off."""
        params = {"after": str(self.cursor), "event_type": "resume.#"}
        goal = len(self.ids) + enough
        with contextlib.suppress(*AWAY):
            async with aiohttp.ClientSession(headers=self.headers) as session:
                if websocket:
                    async with session.ws_connect(self.url, params=params, max_msg_size=0) as socket:
                        async for said in socket:
                            self.take(json.loads(said.data))
                            if len(self.ids) >= goal:
                                socket._response.connection.transport.abort()
                                return
                else:
                    async with session.get(self.url, params=params, timeout=None) as answer:
                        async for line in answer.content:
                            if line.startswith(b"data: "):
                                self.take(json.loads(line[6:]))
                            if len(self.ids) >= goal:
                                answer.connection.transport.abort()
                                return

    def take(self, message: dict[str, Any]) -> None:
        self.cursor = message["cursor"]
        if message["type"] == "event":
            self.ids.append(message["data"]["event_id"])


@contextlib.contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Whatever goes wrong in here ends the process too."""
    try:
        yield
    except BaseException:
        process.kill()
        process.wait()
        raise


async def restart(live: Live, sign: signal.Signals) -> None:
    await asyncio.to_thread(live.stop, sign)
    await asyncio.to_thread(live.start)


async def story(live: Live, reader: Reader) -> list[str]:
    """All that happens; the ids that are stored, in the log's order."""
    stop, restarting = asyncio.Event(), None
    async with database(live) as url:
        writers = [asyncio.create_task(each(url, stop)) for each in (write, write_late, write_late)]
        for n in range(RESUMES):
            if n in RESTARTS:
                if restarting:
                    await restarting
                sign = signal.SIGKILL if RESTARTS.index(n) % 2 else signal.SIGTERM
                restarting = asyncio.create_task(restart(live, sign))
            had = len(reader.ids)
            while len(reader.ids) == had:  # the server may be away
                await reader.read(websocket=n % 2 == 0, enough=random.randint(1, 30))
                await asyncio.sleep(0.01)
        assert restarting
        await restarting
        stop.set()
        await asyncio.gather(*writers)
        connection = await asyncpg.connect(url)
        rows = await connection.fetch(
            "select event_id::text from bloodbank.events where event_type = 'resume.tick' order by position"
        )
        await connection.close()
        await reader.read(websocket=True, enough=len(rows) - len(reader.ids))
        return [row[0] for row in rows]


async def test_each_event_exactly_once(live: Live, tmp_path: Path) -> None:
    reader, shown = Reader(live), tmp_path / "tail.jsonl"
    command = ("events", "tail", "--type", "resume.#", "--after", "0", "--json", "--api-url", live.url)
    with shown.open("wb") as output:
        tail = live.spawn(*command, output=output)
    with ended(tail):
        stored = await story(live, reader)
        assert len(stored) > RESUMES and reader.ids == stored
        async with asyncio.timeout(30):
            while shown.read_bytes().count(b'"type": "event"') < len(stored):
                await asyncio.sleep(0.05)
        tail.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(tail.wait, 30) == 0
    lines = [json.loads(line) for line in shown.read_text().splitlines() if line.startswith("{")]
    assert [each["data"]["event_id"] for each in lines] == stored
