"""What partitions by time would change: the log as it is beside the same log in twelve partitions, as ratios."""

from __future__ import annotations

import random
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from pathlib import Path

import asyncpg

from tests.bench.log.reading import BEGIN, STEP
from tests.bench.log.stage import Stage
from tests.bench.rows import Figure

SQL = Path(__file__).parent / "partitioned.sql"
BATCHES, LOOKS, PAGES = 40, 2000, 200
TYPES = ["git.push", "git.pr.opened", "git.pr.merged", "git.pr.closed"]

Work = Callable[[bool], Awaitable[None]]


async def compared(stage: Stage) -> list[Figure]:
    """Seconds of the partitioned log in those of the log as it is; a half of them somewhere would speak for partitions."""
    figures = []
    for size in stage.sizes:
        with stage.copy(size) as database:
            owner = await database.connect("superuser")
            await owner.execute(SQL.read_text())
            await owner.execute("vacuum (analyze)")
            for what, work in works(owner, size).items():
                turns = [await in_turn(work) for _ in range(stage.rounds + 1)][1:]
                figures.append(Figure(f"{what}, {size:,} events, × as it is", "≥", 0.5, turns))
            what = f"removing the oldest twelfth, {size:,} events, × as it is"
            figures.append(Figure(what, "≥", 0.5, [await pruned(owner)]))
            await owner.close()
    return figures


def works(owner: asyncpg.Connection, size: int) -> dict[str, Work]:
    chance = random.Random(1)

    async def stored(whole: bool) -> None:
        for _ in range(BATCHES):
            await owner.execute("call part.store($1)", whole)

    async def by_id(whole: bool) -> None:
        numbers = [chance.randrange(1, size) for _ in range(LOOKS)]
        looked = "select count(part.by_id($1, bench.event(n))) from unnest($2::bigint[]) as n"
        assert await owner.fetchval(looked, whole, numbers) == LOOKS

    async def newest(whole: bool) -> None:
        for _ in range(PAGES):
            await owner.execute("select part.by_type($1, $2, '-infinity', 'infinity')", whole, TYPES)

    async def of_a_day(whole: bool) -> None:
        for _ in range(PAGES):
            start = BEGIN + STEP * chance.randrange(size - 30_000)
            await owner.execute(
                "select part.by_type($1, $2, $3, $4)", whole, TYPES, start, start + timedelta(days=1)
            )

    return {
        "storing": stored,
        "by id": by_id,
        "newest of four types": newest,
        "of a day and four types": of_a_day,
    }


async def in_turn(work: Work) -> float:
    as_it_is = await seconds(work, True)
    return await seconds(work, False) / as_it_is


async def seconds(work: Work, whole: bool) -> float:
    began = time.perf_counter()
    await work(whole)
    return time.perf_counter() - began


async def pruned(owner: asyncpg.Connection) -> float:
    """A partition can be dropped; its ids and causes still go one by one, and what workflows keep is put aside first."""
    upto, before = await owner.fetchrow('select max(position), max("timestamp") from part.events_1')
    await owner.execute("update bloodbank.cursors set position = $1", upto + 1000)
    await owner.execute("update bloodbank.subscriptions set position = $1", upto + 1000)

    async def work(whole: bool) -> None:
        if whole:
            while await owner.fetch("select * from ops.prune_events($1, false)", before):
                pass
            await owner.execute("vacuum bloodbank.events, bloodbank.causes")
        else:
            await owner.execute("""
                create table part.kept as select * from part.events_1
                where payload ->> 'workflow_id' in (select payload ->> 'workflow_id' from part.events_2)""")
            await owner.execute(
                "delete from part.causes where effect in (select event_id from part.events_1)"
            )
            await owner.execute("delete from part.ids where event_id in (select event_id from part.events_1)")
            await owner.execute("drop table part.events_1")
            await owner.execute("vacuum part.ids, part.causes")

    return await in_turn(work)
