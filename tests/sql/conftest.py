"""Calling SQL functions from tests: by name, with Python values, JSON in and out."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Any

import asyncpg
import pytest

from imi.database import deploy
from tests.postgres import Database, wait_for

Call = Callable[..., Awaitable[Any]]
CONTEXT = {"actor": "tester", "scope": "write", "host": "testhost", "correlation_ids": []}


def caller(db: asyncpg.Connection) -> Call:
    """`await call("api.work_get", work_item_id=…)`: a dict of the OUT columns, or the one value."""

    async def function(name: str, **arguments: Any) -> Any:
        if "body" in arguments and name.startswith("api."):
            arguments.setdefault("context", CONTEXT)
        named = ", ".join(f"p_{key} => ${n}" for n, key in enumerate(arguments, 1))
        values = [json.dumps(v) if isinstance(v, dict | list) else v for k, v in arguments.items()]
        async with db.transaction():  # a savepoint, so that a refusal does not end the test's transaction
            row = await db.fetchrow(f"select * from {name}({named})", *values)
        parsed = {k: parse(v) for k, v in row.items()}
        return next(iter(parsed.values())) if len(parsed) == 1 else parsed

    return function


@pytest.fixture(scope="module")
def sampled(database: Database) -> Database:
    """The module's database, filled by `imi db sample`."""
    wait_for(deploy.sample(database.url))
    return database


@pytest.fixture
def call(db: asyncpg.Connection) -> Call:
    """Calls in a transaction that is rolled back after the test."""
    return caller(db)


@pytest.fixture
async def call_live(connect: Callable[..., Awaitable[asyncpg.Connection]]) -> Call:
    """Calls that commit: what is read below the floor must be."""
    return caller(await connect())


def parse(value: Any) -> Any:
    """JSON documents become Python values; other columns stay."""
    return json.loads(value) if isinstance(value, str) and value[:1] in "[{" else value


@pytest.fixture
def events(db: asyncpg.Connection) -> Callable[[], Awaitable[list[str]]]:
    """The types of the events so far, in log order."""

    async def types() -> list[str]:
        return [r[0] for r in await db.fetch("select event_type from bloodbank.events order by position")]

    return types


@pytest.fixture
async def project(call: Call) -> dict[str, Any]:
    """A project of the API's shape."""
    made = await call("api.project_register", body={"remote_origin": "git@github.com:acme/rocket.git"})
    return made["body"]


@pytest.fixture
async def item(call: Call, project: dict[str, Any]) -> dict[str, Any]:
    """An active work item of the API's shape."""
    made = await call(
        "api.work_start", body={"project_id": project["id"], "branch_name": "feat/engine", "owner_id": "ada"}
    )
    return made["body"]


@pytest.fixture
async def at(db: asyncpg.Connection) -> AsyncIterator[Callable[[str], Awaitable[None]]]:
    """`await at("2026-01-01T00:00Z")` moves logic.now() for the rest of the test's transaction."""

    async def move(time: str) -> None:
        await db.execute("select set_config('imi.now', $1, true)", time)

    yield move


@contextmanager
def refused(status: int, code: str) -> Iterator[dict[str, Any]]:
    """The block must raise IM<status> with this code; afterwards the yielded dict holds code, params, message, hint."""
    seen: dict[str, Any] = {}
    with pytest.raises(asyncpg.PostgresError) as caught:
        yield seen
    error = caught.value
    assert error.sqlstate == f"IM{status}", error
    seen.update(json.loads(error.detail), message=error.message, hint=error.hint)
    assert seen["code"] == code
