"""What a scenario has: a broker, a database, iMi as a process of its own, and those who publish and count."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import Any

import aiormq
import asyncpg

from imi.bloodbank.rabbitmq import DEAD, QUEUE
from imi.database import embedded
from imi.database.cluster import Cluster
from tests.live import Live
from tests.rabbitmq import Broker
from tests.soak.counts import COUNT, HANDLED, SETUP, STORED, Row, Size, envelope
from tests.soak.publisher import EXCHANGE, Publisher

OUT = "soak_out"  # a queue of somebody who reads what iMi sends


class World:
    """`start` iMi, `publish` and `append`, harm, `settle`."""

    def __init__(self, folder: Path, node: Broker) -> None:
        self.node = node
        self.home = folder / "data"
        self._joined: tuple[Cluster, int] | None = None
        self.live = Live(self.home, IMI_RABBITMQ_URL=node.url)
        self.publisher = Publisher(node.url)
        self.own = self.foreign = 0  # different events: iMi's and those of others

    def close(self) -> None:
        """End all of it but the broker."""
        if self.live.process and self.live.process.poll() is None:
            self.live.process.kill()
            self.live.process.wait()
        if self._joined:
            embedded.leave(*self._joined)

    @property
    def cluster(self) -> Cluster:
        """The PostgreSQL of `home`, kept up while iMi is down; who asks first starts it."""
        self._joined = self._joined or embedded.join(self.home)
        return self._joined[0]

    @property
    def url(self) -> str:
        """Its owner's."""
        return embedded.url(self.cluster)

    @property
    def said(self) -> str:
        """iMi's log up to now."""
        return self.live.data_dir.with_suffix(".out").read_text()

    @contextlib.asynccontextmanager
    async def database(self) -> AsyncIterator[asyncpg.Connection]:
        """The owner's connection, as soon as the database is there."""
        async with asyncio.timeout(60):
            while True:
                try:
                    connection = await asyncpg.connect(self.url)
                    break
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)
        try:
            await connection.execute("set role imi_owner")
            yield connection
        finally:
            connection.terminate()

    async def value(self, query: str) -> Any:
        """The value of a query, however often the database is away."""
        async with asyncio.timeout(60):
            while True:
                try:
                    async with self.database() as database:
                        return await database.fetchval(query)
                except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                    await asyncio.sleep(0.05)

    async def until(self, query: str, least: int, seconds: float = 90) -> None:
        """Wait until a query has counted so many."""
        found, since = -1, time.monotonic()
        while True:
            began = time.monotonic()
            now = await self.value(query)
            if now >= least:
                return
            if now != found:  # as long as there is progress there is patience
                found, since = now, began
            assert began - since < seconds, f"{query}: {now} of {least}\n{self.said[-3000:]}"
            await asyncio.sleep(max(0.05, 4 * (time.monotonic() - began)))  # counting is to be no load

    async def start(self) -> None:
        """iMi up, its queue on the broker; the first time the test's own tables besides."""
        await asyncio.to_thread(self.live.start)
        if not await self.value("select to_regclass('soak.seen') is not null"):
            async with self.database() as database:
                await database.execute(SETUP)
            await self._bind()
        async with asyncio.timeout(60):
            while await self.depth(QUEUE) is None:
                await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """iMi down, as its operator does it."""
        assert await asyncio.to_thread(self.live.stop) == 0

    async def dies(self, where: str, turn: int) -> None:
        """Start an iMi that kills itself the `turn`th time it is there, and wait for its end."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith("IMI_")}
        environment |= {"IMI_DATA_DIR": str(self.home), "IMI_PORT": str(self.live.port)} | self.live.settings
        with self.live.data_dir.with_suffix(".out").open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "tests.soak.dies", where, str(turn),
                env=environment, stdout=output, stderr=output,
            )  # fmt: skip
        try:
            async with asyncio.timeout(60):
                assert await process.wait() == -signal.SIGKILL, self.said[-3000:]
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()

    async def publish(self, messages: Iterable[tuple[str, bytes]]) -> None:
        """Somebody else's events: on the broker, and noted as published."""
        messages = list(messages)
        ids = {event_id for event_id, _ in messages}
        self.foreign += len(ids)
        async with self.database() as database:
            await database.copy_records_to_table(
                "published", schema_name="soak", columns=["event_id"], records=[(each,) for each in ids]
            )
        await self.publisher.publish([body for _, body in messages])

    async def append(self, count: int) -> None:
        """Events of iMi's own, a hundred in a transaction."""
        async with self.database() as database:
            for first in range(0, count, 100):
                await database.execute(
                    """insert into soak.published
                       select logic.event_append('soak.own', '{}', '{}') from generate_series(1, $1::int)""",
                    min(100, count - first),
                )
        self.own += count

    async def settle(self, scenario: str, dead: int = 0) -> Row:
        """Wait until all is done, stop iMi, count, and hold the counts against each other."""
        await self.until("select - logic.relay_lag()", 0)
        # what the relay sent stands in the queue before this; when it is handled, so is everything
        await self.publish([envelope("soak.last")])
        published = await self.value("select count(*) from soak.published")
        await self.until(STORED, published)
        await self.until(HANDLED, published)
        await self.until("select count(*) from bloodbank.dead_letters", dead)
        await self.stop()
        async with self.database() as database:
            found = dict(await database.fetchrow(COUNT))
        out = await self._read()
        unacked, refused = await self.depth(QUEUE), await self.depth(DEAD)
        assert found["missing"] == 0, found
        assert found["published"] == found["stored"] == found["handled"] == found["handled_once"], found
        assert found["dead"] == dead, found
        assert (unacked, refused) == (0, 0), (unacked, refused)
        assert len(set(out)) == self.own
        repeats = len(out) - self.own + self.publisher.sent - self.foreign
        return Row(
            scenario, found["published"], found["stored"], found["handled"], found["dead"], repeats, unacked
        )

    @contextlib.asynccontextmanager
    async def channel(self) -> AsyncIterator[Any]:
        """A channel of the test's own."""
        connection = await aiormq.connect(self.node.url)
        try:
            yield await connection.channel()
        finally:
            await connection.close()

    async def depth(self, queue: str) -> int | None:
        """Messages that wait in a queue, None without one."""
        with contextlib.suppress(aiormq.exceptions.ChannelNotFoundEntity):
            async with self.channel() as channel:
                return (await channel.queue_declare(queue, passive=True)).message_count
        return None

    async def clean(self) -> None:
        """Nothing of an earlier scenario on the broker."""
        async with self.channel() as channel:
            for queue in (QUEUE, DEAD, OUT):
                await channel.queue_delete(queue)

    async def _bind(self) -> None:
        async with self.channel() as channel:
            await channel.exchange_declare(exchange=EXCHANGE, exchange_type="topic", durable=True)
            await channel.queue_declare(OUT, durable=True)
            await channel.queue_bind(OUT, EXCHANGE, "soak.own")

    async def _read(self) -> list[str]:
        there, found = await self.depth(OUT), []
        arrived: asyncio.Queue[Any] = asyncio.Queue()
        async with asyncio.timeout(120), self.channel() as channel:
            await channel.basic_consume(OUT, arrived.put, no_ack=True)
            while len(found) < (there or 0):
                found.append((await arrived.get()).header.properties.message_id)
        return found


Scenario = Callable[[World, Size], Coroutine[Any, Any, Row]]


@contextlib.contextmanager
def world(node: Broker) -> Iterator[World]:
    """A world of its own on a broker that may be down."""
    folder = Path(tempfile.mkdtemp(prefix="imi-soak-", dir="/tmp"))
    folder.chmod(0o755)
    try:
        node.start()
        made = World(folder, node)
        try:
            yield made
        finally:
            made.close()
    finally:
        shutil.rmtree(folder)


def play(node: Broker, scenario: Scenario, size: Size) -> Row:
    """A scenario, in a world of its own."""

    async def run() -> Row:
        await here.clean()
        return await scenario(here, size)

    with world(node) as here:
        return asyncio.run(run())
