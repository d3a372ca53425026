"""Where the database is, and the connections to it: the owner's, and the pools of two logins."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from imi.config import Settings
from imi.database import DatabaseError, embedded
from imi.database.roles import login

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

CONNECT_TIMEOUT = 1.5  # seconds; a database that is away must be said to be away within two


class PooledConnection(asyncpg.Connection):
    """A connection that is not reset when it goes back: nobody may SET, LISTEN or session-lock on it."""

    def get_reset_query(self) -> str:
        """Answer nothing to be run."""
        return ""


@dataclass(frozen=True, slots=True)
class Pools:
    """The two pools: `api` may do what the API does, `reader` cannot write at all."""

    api: Pool
    reader: Pool


@contextlib.asynccontextmanager
async def located(settings: Settings) -> AsyncIterator[str]:
    """Answer the owner's URL: IMI_DATABASE_URL, or the embedded server for as long as this is entered."""
    if settings.database_url:
        yield settings.database_url
        return
    async with embedded.running(settings.data_dir) as url:
        yield url


async def connect(url: str, **options: Any) -> Connection:
    """Connect, with every refusal as a DatabaseError that holds no secret."""
    try:
        return await asyncpg.connect(url, **options)
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseError(f"The {error}: make it with `create database`") from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseError(f"Cannot connect to the database: {error or type(error).__name__}") from None


@contextlib.asynccontextmanager
async def connect_owner(url: str) -> AsyncIterator[Connection]:
    """A connection of its own with the owner's role, for as long as this is entered."""
    connection = await connect(url)
    try:
        await connection.execute("set role imi_owner")
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def pools(url: str, settings: Settings) -> AsyncIterator[Pools]:
    """Open both pools with the passwords that the owner reads, and close them at the end."""
    async with connect_owner(url) as owner:
        database = await owner.fetchval("select current_database()")
        names = [login(database, kind) for kind in ("api", "reader")]
        query = "select name, value from imi_meta.secrets where name = any ($1::text[])"
        passwords = {row["name"]: row["value"] for row in await owner.fetch(query, names)}
    async with contextlib.AsyncExitStack() as stack:
        made = [
            await stack.enter_async_context(
                asyncpg.create_pool(
                    url,
                    user=name,
                    password=passwords[name],
                    min_size=1,
                    max_size=settings.database_pool_size + settings.database_max_overflow,
                    max_inactive_connection_lifetime=300,
                    connection_class=PooledConnection,
                    timeout=CONNECT_TIMEOUT,
                    command_timeout=30,
                )
            )
            for name in names
        ]
        yield Pools(*made)
