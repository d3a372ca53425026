"""Descendants: trees over HTTP, and the walk beside the index alone."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from statistics import median

from tests.bench.load import BenchError
from tests.bench.log.stage import MILLION, Stage, fill, served, timed
from tests.bench.rows import Figure, ratios
from tests.conftest import TEMPLATE, copy

LARGE, SMALL = 10_000, 100
# What any walk must do at the least: find each event's effects in the index. A tree has nothing to be met twice.
BARE = """
with recursive walk (event_id) as (
  select $1::uuid
  union all
  select causes.effect from walk join bloodbank.causes on causes.cause = walk.event_id
)
select count(*) from walk"""
IDS = "select count(*) from logic.event_walk($1, true, 101, 100001)"


async def descended(stage: Stage) -> list[Figure]:
    """A tree of 100 events, one of 10,000, and the ids of the latter alone."""
    database = copy(stage.server, TEMPLATE, "causes")
    await fill(database, MILLION, "causes.sql")
    connection = await database.connect("superuser")
    await connection.execute("set jit = off; set random_page_cost = 1.1")  # as the API's logins have it
    large = await connection.fetchval("select bench.id($1)", MILLION // 2)
    small = await connection.fetchval("select bench.id(1)")

    async with served(database) as client:

        async def fetched(root: str, size: int) -> float:
            took, answer = await timed(client, f"/api/v1/events/{root}/descendants")
            if (found := answer.text.count('"event_id" : ')) != size:
                raise BenchError(f"the tree has {found} events, not {size}: {answer.text[:200]}")
            return took

        async def counted(query: str) -> float:
            began = time.perf_counter()
            found = await connection.fetchval(query, large)
            took = (time.perf_counter() - began) * 1000
            if found != LARGE:
                raise BenchError(f"the walk met {found} events, not {LARGE}")
            return took

        async def turns(*sides: Callable[[], Awaitable[float]]) -> list[tuple[float, ...]]:
            return [
                tuple([median([await side() for _ in range(5)]) for side in sides])
                for _ in range(stage.rounds + 1)
            ][1:]

        of_small = await turns(lambda: fetched(small, SMALL))
        of_large = await turns(lambda: fetched(large, LARGE))
        walks = await turns(lambda: counted(IDS), lambda: counted(BARE))
    await connection.close()
    return [
        Figure("descendants over HTTP, a tree of 100, ms", "<", 5, [each[0] for each in of_small]),
        Figure(
            "descendants over HTTP, a tree of 10,000, ms",
            "<",
            250,
            [each[0] for each in of_large],
            form=".0f",
        ),
        Figure(
            "its ids alone, × the bare index walk", "≤", 2, ratios([(ours, bare) for ours, bare in walks])
        ),
    ]
