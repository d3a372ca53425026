"""The stream under a thousand clients: how long after its commit an event arrives, and what a client costs.

Every event carries its number, and the time is taken before its statement is sent, so a latency holds the commit
itself. The clients are bare sockets that look for numbers: parsing in Python would be what is measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import re
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from statistics import quantiles
from typing import cast

import asyncpg

from imi.database import embedded
from tests.bench.log.stage import Stage
from tests.bench.rows import Figure
from tests.live import Live, running

OWN, ALL, RATE, SECONDS, IDLE = 900, 100, 200, 15, 60
NUMBER = re.compile(rb'"number": (\d+)[,}]')
LONGEST = 40  # bytes of a number with its key
UPGRADE = "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
_numbers = itertools.count()


class Sink(asyncio.Protocol):
    """A client, every other one a WebSocket; it notes when each number came."""

    def __init__(self, live: Live, query: str, arrivals: list[tuple[int, float]]) -> None:
        self.live = live
        self.query = query
        self.arrivals = arrivals
        self.begun = asyncio.get_running_loop().create_future()
        self.rest = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        upgrade = UPGRADE if next(_numbers) % 2 else ""
        head = f"GET /api/v1/events/stream?{self.query} HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {self.live.key}\r\n"
        self.transport.write(f"{head}{upgrade}\r\n".encode())

    def data_received(self, data: bytes) -> None:
        now = time.perf_counter()
        if not self.begun.done() and b"heartbeat" in data:  # it follows the log from here on
            self.begun.set_result(None)
        data = self.rest + data
        end = 0
        for found in NUMBER.finditer(data):
            self.arrivals.append((int(found[1]), now))
            end = found.end()
        self.rest = data[max(end, len(data) - LONGEST) :]

    def connection_lost(self, error: Exception | None) -> None:
        if not self.begun.done():
            self.begun.set_exception(ConnectionError("the stream ended before it began"))


class Crowd:
    """The server, and its clients."""

    def __init__(self, live: Live, url: str) -> None:
        self.live = live
        self.url = url
        self.arrivals: list[tuple[int, float]] = []
        self.sent: dict[int, float] = {}
        self.workflows = [str(uuid.uuid4()) for _ in range(OWN)]
        self.sinks: list[Sink] = []

    async def join(self, queries: list[str]) -> list[Sink]:
        """Connect a client for each query, a few at a time."""
        loop, few = asyncio.get_running_loop(), asyncio.Semaphore(50)

        async def one(query: str) -> Sink:
            async with few:
                _, sink = await loop.create_connection(
                    lambda: Sink(self.live, query, self.arrivals), "127.0.0.1", self.live.port
                )
                await sink.begun
                return sink

        async with asyncio.timeout(60):
            sinks = await asyncio.gather(*map(one, queries))
        self.sinks += sinks
        return sinks

    async def publish(self, numbers: range, pause: Iterator[float]) -> list[float]:
        """Commit events with these numbers; the latencies of all who should have each, in milliseconds."""
        connection = await asyncpg.connect(self.url)
        await connection.execute("set role imi_owner")
        self.arrivals.clear()
        begun = time.perf_counter()
        for number in numbers:
            begun += next(pause)
            await asyncio.sleep(max(0.0, begun - time.perf_counter()))
            payload = {"workflow_id": self.workflows[number % OWN], "number": number}
            self.sent[number] = time.perf_counter()
            await connection.execute("select logic.event_append('bench.tick', $1, '{}')", json.dumps(payload))
        await connection.close()
        expected = len(numbers) * (ALL + 1)
        async with asyncio.timeout(60):
            while len(self.arrivals) < expected:
                await asyncio.sleep(0.05)
        assert len(self.arrivals) == expected, "an event came twice"
        return [(at - self.sent[number]) * 1000 for number, at in self.arrivals]


def memory(live: Live) -> float:
    """The server's resident memory, in KB."""
    assert live.process
    status = Path(f"/proc/{live.process.pid}/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])


def p99(latencies: list[float]) -> float:
    return quantiles(latencies, n=100)[98]


@contextlib.asynccontextmanager
async def crowd() -> AsyncIterator[Crowd]:
    """A server of its own, which nobody watches yet."""
    with running() as live:
        cluster, users = embedded.join(live.data_dir)
        try:
            yield Crowd(live, embedded.url(cluster))
        finally:
            embedded.leave(cluster, users)


async def watched(stage: Stage) -> list[Figure]:
    """Latency and memory with a thousand clients, each round on a new server."""
    found: dict[str, list[float]] = {"idle": [], "memory": [], "busy": [], "stuck": []}
    for _ in range(stage.rounds):
        async with crowd() as clients:
            everything = ["event_type=%23"] * ALL
            await clients.join(everything)
            before = memory(clients.live)
            await clients.join([f"workflow_id={each}" for each in clients.workflows])
            found["memory"].append((memory(clients.live) - before) / OWN)
            numbers = range(1_000_000, 1_000_000 + IDLE)
            found["idle"].append(
                p99(await clients.publish(numbers, iter(lambda: random.uniform(0.2, 0.5), None)))
            )
            numbers = range(2_000_000, 2_000_000 + RATE * SECONDS)
            found["busy"].append(p99(await clients.publish(numbers, iter(lambda: 1 / RATE, None))))
            for sink in await clients.join(everything[:5]):
                sink.transport.pause_reading()
            numbers = range(3_000_000, 3_000_000 + RATE * SECONDS)
            found["stuck"].append(p99(await clients.publish(numbers, iter(lambda: 1 / RATE, None))))
            for sink in clients.sinks:
                sink.transport.abort()
    what = f"commit to client of {OWN} + {ALL}"
    return [
        Figure(f"{what}, one event at a time, ms p99", "<", 50, found["idle"], ".1f"),
        Figure(f"{what}, {RATE} events/s, ms p99", "<", 250, found["busy"], ".1f"),
        Figure("the same beside 5 that never read, ms p99", "<", 250, found["stuck"], ".1f"),
        Figure("memory of the server for an idle client, KB", "<", 30, found["memory"], ".1f"),
    ]
