"""From an operation and its texts to an answer: two pools, and batches.

Every GET runs on the reader's pool, where nothing can write; everything else on the api's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import orjson

from imi.database.batch import Batch
from imi.database.pool import Pools, fetch
from imi.server.contract import CATALOGUE, Contract, Operation

if TYPE_CHECKING:
    from asyncpg import Pool, Record

# Doors in logic that no operation names.
ONCE = "select status, body from logic.once($1::text, $2::text::json, $3::text::json)"
HEALTH = "select logic.health()"
METRICS = "select logic.metrics()"


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, its body as PostgreSQL wrote it."""

    status: int
    body: bytes | None
    headers: dict[str, str] | None = None


class Calls:
    """Every statement that the server sends."""

    def __init__(self, pools: Pools) -> None:
        self.pools = pools
        self._batches: dict[str, Batch] = {}

    async def bind(self, contract: Contract) -> None:
        """Have the catalogue judge the contract and give it its statements. Raises ContractError."""
        contract.judge(map(dict, await fetch(self.pools.api, CATALOGUE)))
        for each in contract.operations:
            if each.batch:
                one = partial(fetch_one, self.pools.reader, each.statement)
                many = partial(fetch, self.pools.reader, each.batch_statement)
                self._batches[each.id] = Batch(one, many, each.batch)

    async def operation(self, operation: Operation, texts: Sequence[str | None]) -> Reply:
        """Call an operation's function."""
        if operation.batch:
            row = await self._batches[operation.id].call(texts)
        else:
            pool = self.pools.reader if operation.method == "GET" else self.pools.api
            row = await fetch_one(pool, operation.statement, *texts)
        return reply(row, operation.status)

    async def once(self, operation: Operation, texts: Sequence[str | None]) -> Reply:
        """Call an operation's function for an Idempotency-Key, or answer what is stored for it."""
        arguments = orjson.dumps(dict(zip(operation.arguments, texts[:-1], strict=False))).decode()
        row = await fetch_one(self.pools.api, ONCE, operation.function, arguments, texts[-1])
        return reply(row, operation.status)

    async def door(self, statement: str, *texts: str) -> Record | None:
        """The row of a door in logic, or None."""
        return next(iter(await fetch(self.pools.api, statement, *texts)), None)


def reply(row: Record, status: int) -> Reply:
    """The reply of a row (status, body[, headers]); without a status of its own it has the operation's."""
    headers = row[2] if len(row) > 2 else None
    return Reply(row[0] or status, row[1] and row[1].encode(), headers and orjson.loads(headers))


async def fetch_one(pool: Pool, statement: str, *values: Any) -> Record:
    """The one row of a statement."""
    return (await fetch(pool, statement, *values))[0]
