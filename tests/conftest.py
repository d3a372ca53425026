"""What every test may ask for: a PostgreSQL of its own, migrated databases, connections.

One server an xdist worker: the embedded one, or with IMI_TEST_BACKEND=containers a postgres:18 container. It
is migrated once, into a template; `database` is a copy of it for a module, `fresh_database` for one test.
"""

from __future__ import annotations

import itertools
import os
import re
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from imi.database import deploy, embedded, roles
from imi.database.lanes import lanes
from tests.postgres import Database, Server, wait_for

Connect = Callable[..., Awaitable[asyncpg.Connection]]

TEMPLATE = "imi_template"
_numbers = itertools.count(1)


@pytest.fixture(autouse=True, scope="session")
def plain_environment() -> Iterator[None]:
    """No IMI_ setting of whoever runs the tests reaches them, but for the backend."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(("IMI_", "PG")) and name != "IMI_TEST_BACKEND":
                patch.delenv(name)
        yield


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """A folder for a server of a test's own; pytest's tmp_path lies where root's server account cannot go."""
    folder = Path(tempfile.mkdtemp(prefix="imi-", dir="/tmp"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """The worker's PostgreSQL server."""
    if os.environ.get("IMI_TEST_BACKEND") == "containers":
        from testcontainers.postgres import PostgresContainer

        with PostgresContainer("postgres:18", dbname="postgres", driver=None) as container:
            yield Server(container.get_connection_url())
        return
    folder = Path(tempfile.mkdtemp(prefix="imi-", dir="/tmp"))
    cluster, users = embedded.join(folder)
    try:
        found = Server(embedded.url(cluster)).url_of("postgres")
        yield Server(found)
    finally:
        embedded.leave(cluster, users)
        shutil.rmtree(folder)


@pytest.fixture(scope="session")
def template(server: Server) -> str:
    """The migrated database that others are copies of."""
    server.run(f"create database {TEMPLATE}")
    wait_for(deploy.migrate(server.url_of(TEMPLATE)))
    return TEMPLATE


def copy(server: Server, template: str, name: str) -> Database:
    """Copy the template, with logins of the copy's own."""
    server.run(f'create database "{name}" template {template}')
    database = Database(server, name)

    async def logins() -> None:
        connection = await database.connect("superuser")
        await roles.ensure(connection, lanes().roles)
        await connection.close()

    wait_for(logins())
    return database


@pytest.fixture(scope="module")
def database(server: Server, template: str, request: pytest.FixtureRequest) -> Iterator[Database]:
    """A migrated database for the module; what its tests commit stays until its end."""
    module = re.sub(r"\W+", "_", request.module.__name__.rpartition(".")[2])
    name = f"{module[:40]}_{next(_numbers)}"
    yield copy(server, template, name)
    server.drop(name)


@pytest.fixture
def fresh_database(server: Server, template: str) -> Iterator[Database]:
    """A migrated database for one test."""
    name = f"fresh_{next(_numbers)}"
    yield copy(server, template, name)
    server.drop(name)


@pytest.fixture
def empty_database(server: Server) -> Iterator[Database]:
    """A database that no migrate step has seen."""
    name = f"empty_{next(_numbers)}"
    server.run(f"create database {name}")
    yield Database(server, name)
    server.drop(name)


@pytest_asyncio.fixture
async def db(database: Database) -> AsyncIterator[asyncpg.Connection]:
    """A connection as imi_owner inside a transaction that is rolled back."""
    connection = await database.connect()
    transaction = connection.transaction()
    await transaction.start()
    yield connection
    if not connection.is_closed():
        await transaction.rollback()
        await connection.close()


@pytest_asyncio.fixture
async def connect(database: Database) -> AsyncIterator[Connect]:
    """Opens connections to the module's database, as `Database.connect`, and closes them after the test."""
    opened: list[asyncpg.Connection] = []

    async def connect(who: str = "owner", **options: Any) -> asyncpg.Connection:
        opened.append(await database.connect(who, **options))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.terminate()
