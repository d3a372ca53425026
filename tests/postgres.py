"""A PostgreSQL server and its databases, as tests handle them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg

from imi.database import roles
from imi.database.lanes import BEHAVIOUR
from imi.database.programs import beside

Answer = TypeVar("Answer")


def wait_for(work: Coroutine[Any, Any, Answer]) -> Answer:
    """Run async work from a fixture that is not, away from any loop of the test's."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


@dataclass(frozen=True)
class Server:
    """A PostgreSQL server; `url` is a superuser's, for the database postgres."""

    url: str

    def url_of(self, database: str) -> str:
        return beside(self.url, database)

    def run(self, *statements: str, database: str = "postgres") -> None:
        async def run() -> None:
            connection = await asyncpg.connect(self.url_of(database))
            for statement in statements:
                await connection.execute(statement)
            await connection.close()

        wait_for(run())

    def drop(self, database: str) -> None:
        """Drop a database with its logins."""
        logins = [f'drop role if exists "{database}_{kind}"' for kind in roles.KINDS]
        self.run(f'drop database if exists "{database}" with (force)', *logins)


@dataclass(frozen=True)
class Database:
    """A migrated database; `url` is what IMI_DATABASE_URL would be."""

    server: Server
    name: str

    @property
    def url(self) -> str:
        return self.server.url_of(self.name)

    async def connect(self, who: str = "owner", **options: Any) -> asyncpg.Connection:
        """Connect as `owner` (the role imi_owner), `superuser`, or a login: `api`, `reader`, `worker`, `subscriber`."""
        connection = await asyncpg.connect(self.url)
        if who == "superuser":
            return connection
        await connection.execute("set role imi_owner")
        if who == "owner":
            return connection
        name = roles.login(self.name, who)
        password = await connection.fetchval("select value from imi_meta.secrets where name = $1", name)
        await connection.close()
        return await asyncpg.connect(self.url, user=name, password=password, **options)


async def behaviour(connection: asyncpg.Connection) -> dict[str, tuple[int, str]]:
    """What the behaviour lane has made: name → (oid, the whole definition)."""
    rows = await connection.fetch(
        """select oid::regprocedure::text, oid, pg_get_functiondef(oid) || array(select unnest(proacl)::text order by 1)::text
           from pg_proc where pronamespace::regnamespace::text = any ($1)
           union all
           select oid::regclass::text, oid, pg_get_viewdef(oid) || array(select unnest(relacl)::text order by 1)::text
           from pg_class where relnamespace::regnamespace::text = any ($1) and relkind = 'v'
           order by 2""",
        BEHAVIOUR,
    )
    return {name: (oid, definition) for name, oid, definition in rows}
