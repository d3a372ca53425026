"""What the rows stand on: a PostgreSQL server, and logs of a million or ten million events in it."""

from __future__ import annotations

import contextlib
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from statistics import quantiles

import httpx

from tests.bench.rows import server
from tests.conftest import TEMPLATE, copy
from tests.live import running
from tests.postgres import Database, Server, wait_for

HERE = Path(__file__).parent
MILLION = 1_000_000


@dataclass(frozen=True)
class Stage:
    """`full` asks for ten million events too."""

    server: Server
    rounds: int
    full: bool
    _filled: dict[int, Database] = field(default_factory=dict)

    @property
    def sizes(self) -> list[int]:
        return [MILLION, 10 * MILLION] if self.full else [MILLION]

    def log(self, events: int) -> Database:
        """A database with so many events, made once (a million in a minute) and for all rows: leave it as it is."""
        if events not in self._filled:
            database = copy(self.server, TEMPLATE, f"log_of_{events}")
            wait_for(fill(database, events, "fill.sql"))
            self._filled[events] = database
        return self._filled[events]

    @contextlib.contextmanager
    def copy(self, events: int) -> Iterator[Database]:
        """One to be changed."""
        name = f"copy_of_{events}"
        yield copy(self.server, self.log(events).name, name)
        self.server.drop(name)


async def fill(database: Database, events: int, script: str) -> None:
    connection = await database.connect("superuser")
    await connection.execute(f"set bench.events = {events}; set maintenance_work_mem = '512MB'")
    await connection.execute((HERE / script).read_text())
    await connection.execute("vacuum (analyze)")
    await connection.execute("checkpoint")
    await connection.close()


@contextlib.contextmanager
def staged(rounds: int, full: bool) -> Iterator[Stage]:
    """The server, and nothing of it afterwards."""
    with server() as made:
        yield Stage(made, rounds, full)


@contextlib.asynccontextmanager
async def served(database: Database) -> AsyncIterator[httpx.AsyncClient]:
    """An HTTP client of an `imi up` on this database."""
    with running(IMI_DATABASE_URL=database.url) as live:
        async with live.client() as client:
            yield client


async def timed(client: httpx.AsyncClient, path: str, **query: str) -> tuple[float, httpx.Response]:
    """The milliseconds to the whole answer, and the answer, which must be a good one."""
    began = time.perf_counter()
    answer = await client.get(path, params=query)
    took = 1000 * (time.perf_counter() - began)
    answer.raise_for_status()
    return took, answer


def p95(values: list[float]) -> float:
    return quantiles(values, n=20)[-1]
