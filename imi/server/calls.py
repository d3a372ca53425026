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
from imi.database.line import Line
from imi.database.pool import Pools
from imi.server.contract import CATALOGUE, Contract, Operation

if TYPE_CHECKING:
    from asyncpg import Record

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
        self._api = Line(pools.api)
        self._reader = Line(pools.reader)
        self._batches: dict[str, Batch] = {}

    async def bind(self, contract: Contract) -> None:
        """Have the catalogue judge the contract and give it its statements. Raises ContractError."""
        contract.judge(map(dict, await self._api.fetch(CATALOGUE)))
        for each in contract.operations:
            if each.batch:
                one = partial(fetch_one, self._reader, each.statement)
                many = partial(self._reader.fetch, each.batch_statement)
                self._batches[each.id] = Batch(one, many, **each.batch)

    async def operation(self, operation: Operation, texts: Sequence[str | None]) -> Reply:
        """Call an operation's function."""
        if operation.batch:
            row = await self._batches[operation.id].call(texts)
        else:
            line = self._reader if operation.method == "GET" else self._api
            row = await fetch_one(line, operation.statement, *texts)
        return reply(row, operation.status)

    async def once(self, operation: Operation, texts: Sequence[str | None]) -> Reply:
        """Call an operation's function for an Idempotency-Key, or answer what is stored for it."""
        arguments = orjson.dumps(dict(zip(operation.arguments, texts[:-1], strict=False))).decode()
        row = await fetch_one(self._api, ONCE, operation.function, arguments, texts[-1])
        return reply(row, operation.status)

    async def door(self, statement: str, *texts: str) -> Record | None:
        """The row of a door in logic, or None."""
        return next(iter(await self._api.fetch(statement, *texts)), None)


def reply(row: Record, status: int) -> Reply:
    """The reply of a row (status, body[, headers]); without a status of its own it has the operation's."""
    headers = row[2] if len(row) > 2 else None
    return Reply(row[0] or status, row[1] and row[1].encode(), headers and orjson.loads(headers))


async def fetch_one(line: Line, statement: str, *values: Any) -> Record:
    """The one row of a statement."""
    return (await line.fetch(statement, *values))[0]
