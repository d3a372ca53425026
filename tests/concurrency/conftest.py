"""Races that begin together: everybody waits at a lock until all are there."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest

GATE = 77


@pytest.fixture
async def race(connect) -> Callable[..., Awaitable[list[Any]]]:
    """`await race([work, …])` runs each `work(connection)` on its own connection, all let go at once.

    Answers what each returned, or the PostgresError that it raised.
    """

    async def run(works: list[Callable[[asyncpg.Connection], Awaitable[Any]]]) -> list[Any]:
        keeper = await connect()
        await keeper.execute("select pg_advisory_lock($1)", GATE)
        connections = await asyncio.gather(*(connect() for _ in works))

        async def runner(
            connection: asyncpg.Connection, work: Callable[[asyncpg.Connection], Awaitable[Any]]
        ) -> Any:
            await connection.execute("select pg_advisory_lock_shared($1)", GATE)
            try:
                return await work(connection)
            except asyncpg.PostgresError as error:
                return error

        runners = [asyncio.create_task(runner(c, w)) for c, w in zip(connections, works, strict=True)]
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and objid = $1 and not granted"
        while await keeper.fetchval(waiting, GATE) < len(works):
            await asyncio.sleep(0)
        await keeper.execute("select pg_advisory_unlock($1)", GATE)
        answers = await asyncio.gather(*runners)
        for connection in [keeper, *connections]:
            await connection.close()
        return answers

    return run


async def api(connection: asyncpg.Connection, function: str, **arguments: Any) -> asyncpg.Record:
    """Call a mutation: status and body as the API gives them."""
    arguments.setdefault("context", {"actor": "racer", "scope": "admin"})
    named = ", ".join(f"p_{name} => ${n}" for n, name in enumerate(arguments, 1))
    values = [json.dumps(v) if isinstance(v, dict) else v for v in arguments.values()]
    row = await connection.fetchrow(f"select * from api.{function}({named})", *values)
    return {k: json.loads(v) if isinstance(v, str) else v for k, v in row.items()}


def code(answer: Any) -> str | None:
    """The error code of a refused call, None for one that went through."""
    return json.loads(answer.detail)["code"] if isinstance(answer, asyncpg.PostgresError) else None
