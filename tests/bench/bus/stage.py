"""What the rows stand on: a PostgreSQL with a migrated template, and a RabbitMQ node."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import asyncpg
from aiormq.channel import Channel

from imi.bloodbank.intake import QUEUE, _bound
from imi.bloodbank.rabbitmq import RabbitBus, opened
from tests.bench.bus.events import Event
from tests.bench.rows import server
from tests.conftest import TEMPLATE, copy
from tests.postgres import Database, Server
from tests.rabbitmq import Broker, broker

EXCHANGE = "bloodbank.events.v1"


@dataclass(frozen=True)
class Stage:
    """The servers; `full` asks for the sizes of the issue where ours are smaller."""

    server: Server
    node: Broker
    rounds: int
    full: bool
    _numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    @contextlib.contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[Database]:
        """A copy of the template, for as long as this is entered."""
        name = f"bench_{next(self._numbers)}"
        yield copy(self.server, template, name)
        self.server.drop(name)

    @contextlib.asynccontextmanager
    async def queue(self) -> AsyncIterator[Channel]:
        """A channel to the intake's own queue, which exists, is bound to everything, and is empty."""
        async with opened(self.node.url) as channel:
            await _bound(channel, EXCHANGE)
            await channel.queue_purge(QUEUE)
            yield channel

    async def publish(self, events: Sequence[Event]) -> None:
        """Have them in the queues, confirmed."""
        bus = RabbitBus(self.node.url, EXCHANGE)
        for some in chunks(events, 2000):
            await bus.publish((each.id, each.type, each.body) for each in some)
        await bus.close()

    async def alternate(self, ours: Side, theirs: Side) -> list[tuple[float, float]]:
        """The rates of both, turn by turn; a first turn does not count."""
        return [(await ours(), await theirs()) for _ in range(self.rounds + 1)][1:]


Side = Callable[[], Awaitable[float]]


@contextlib.contextmanager
def staged(rounds: int, full: bool) -> Iterator[Stage]:
    """Both servers, and nothing of them afterwards."""
    with server() as made, broker() as node:
        yield Stage(made, node, rounds, full)


def chunks(events: Sequence[Event], size: int = 500) -> Iterator[Sequence[Event]]:
    return (events[at : at + size] for at in range(0, len(events), size))


async def fill(connection: asyncpg.Connection, events: Sequence[Event], arrived: str) -> None:
    """Have them in the log; the connection is the owner's."""
    for some in chunks(events):
        await connection.execute(
            "select logic.event_ingest(array(select body::jsonb from unnest($1::text[]) as body), $2, '{}')",
            [each.body.decode() for each in some],
            arrived,
        )


async def emptied(connection: asyncpg.Connection) -> None:
    """An empty log, as it was made, and nothing of the last round left to be written."""
    await connection.execute("truncate bloodbank.events, bloodbank.causes restart identity")
    await connection.execute("checkpoint")


async def stored(connection: asyncpg.Connection, count: int) -> None:
    """Return when so many events are committed. The sequence is asked first: counting slows what is measured."""
    while (
        await connection.fetchval("select pg_sequence_last_value('bloodbank.events_position_seq')") or 0
    ) < count:
        await asyncio.sleep(0.005)
    while await connection.fetchval("select count(*) from bloodbank.events") < count:
        await asyncio.sleep(0.002)


async def while_running(work: Coroutine[Any, Any, None], until: Coroutine[Any, Any, None]) -> float:
    """The seconds from the start of `work` until `until` has returned; then the work is ended."""
    began = time.perf_counter()
    task = asyncio.create_task(work)
    try:
        async with asyncio.timeout(600):
            await until
        return time.perf_counter() - began
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
