"""What the rows stand on: one log of many events, in the embedded PostgreSQL, and iMi in front of it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import asyncpg

from imi.database import deploy, embedded
from tests.bench import contenders

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Stage:
    """The owner's database URL, the API's URL and its key."""

    database: str
    api: str
    key: str
    events: int
    rounds: int


@contextlib.contextmanager
def staged(events: int, rounds: int) -> Iterator[Stage]:
    """A filled log and the server, and nothing of them afterwards."""
    with contenders.folder() as home:
        cluster, users = embedded.join(home)
        try:
            url = embedded.url(cluster)
            asyncio.run(_fill(url, events))
            with contenders.imi(home) as api:
                yield Stage(url, api, contenders.KEY, events, rounds)
        finally:
            embedded.leave(cluster, users)


async def _fill(url: str, events: int) -> None:
    await deploy.migrate(url)
    connection = await asyncpg.connect(url)
    await connection.execute("select set_config('bench.events', $1, false)", str(events))
    await connection.execute((HERE / "fill.sql").read_text())
    await connection.close()
    await contenders.tidy(url)
