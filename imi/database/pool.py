"""Where the database is, and the connections to it: the owner's, and the pools of two logins."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import asyncpg

from imi.config import Settings
from imi.database import DatabaseError, embedded, said
from imi.database.roles import KINDS, login

if TYPE_CHECKING:
    from asyncpg import Connection, Pool

NOT_MIGRATED = "This database is not migrated to this release: run `imi db migrate`"
# The door to the keys; the parameter is the SHA-256 of a whole key, in hex.
KEY_CHECK = "select key_id::text, name, scope from logic.key_check($1::text)"
CONNECT_TIMEOUT = 1.5  # seconds; a database that is away must be said to be away within two
ANSWERED = 15.0  # seconds, more than a login's statement_timeout: one who is silent for longer is away


class PooledConnection(asyncpg.Connection):
    """A connection that is not reset when it goes back: nobody may SET, LISTEN or session-lock on it."""

    def get_reset_query(self) -> str:
        """Answer nothing to be run."""
        return ""


@dataclass(frozen=True, slots=True)
class Pools:
    """`api` may do what the API does, `reader` cannot write; `probe` reads and waits for neither of them.

    `url` is the owner's; the stream makes its own connection from it.
    """

    url: str
    api: Pool
    reader: Pool
    probe: Pool


@contextlib.asynccontextmanager
async def located(settings: Settings, *, makes: bool = True) -> AsyncIterator[str]:
    """Answer the owner's URL: IMI_DATABASE_URL, or the embedded server for as long as this is entered.

    Makes the data directory and a cluster in it, or with `makes` false nothing. Raises DatabaseError.
    """
    if settings.database_url:
        yield settings.database_url
        return
    if not makes and not embedded.exists(settings.data_dir):
        raise DatabaseError(
            f"There is no iMi in {settings.data_dir}: start `imi up` there, or set IMI_DATA_DIR "
            "to where it is, or IMI_DATABASE_URL for a PostgreSQL of your own"
        )
    async with embedded.running(settings.data_dir) as url:
        yield url


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    """Say why a connection cannot be had as a DatabaseError, which holds no secret."""
    try:
        yield
    except asyncpg.InvalidCatalogNameError as error:
        raise DatabaseError(f"The {said(error)}: make it with `create database`") from None
    except asyncpg.InvalidParameterValueError:  # no role imi_owner
        raise DatabaseError(NOT_MIGRATED) from None
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError, ValueError) as error:
        raise DatabaseError(f"Cannot connect to the database: {said(error)}") from None


async def connect(url: str) -> Connection:
    """Connect as the login of the URL. Raises DatabaseError."""
    with _explained():
        return await asyncpg.connect(url)


async def connect_as(url: str, kind: str) -> Connection:
    """Connect as the login of a kind (api, reader, worker, subscriber). Raises DatabaseError."""
    name, password = (await _logins(url))[kind]
    with _explained():
        return await asyncpg.connect(
            url, user=name, password=password, timeout=CONNECT_TIMEOUT, command_timeout=ANSWERED
        )


@contextlib.asynccontextmanager
async def connect_owner(url: str) -> AsyncIterator[Connection]:
    """A connection of its own with the owner's role, for as long as this is entered. Raises DatabaseError."""
    connection = await connect(url)
    try:
        with _explained():
            await connection.execute("set role imi_owner")
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def pools(url: str, settings: Settings) -> AsyncIterator[Pools]:
    """Open the pools, and close them at the end.

    The owner reads a login's password for every new connection: a restore may have made another.
    """
    logins = await _logins(url)
    most = settings.database_pool_size + settings.database_max_overflow

    async with contextlib.AsyncExitStack() as stack:
        made = []
        for kind, least, size in (("api", 1, most), ("reader", 1, most), ("reader", 0, 2)):

            async def password(kind: str = kind) -> str:
                return (await _logins(url))[kind][1]

            pool = asyncpg.create_pool(
                url,
                user=logins[kind][0],
                password=password,
                min_size=least,
                max_size=size,
                connection_class=PooledConnection,
                max_cached_statement_lifetime=0,
                timeout=CONNECT_TIMEOUT,
                command_timeout=ANSWERED,
            )
            with _explained():
                made.append(await pool)
            stack.push_async_callback(_close, pool)
        yield Pools(url, *made)


async def _close(pool: Pool) -> None:
    """Close a pool; connections that do not answer any more are dropped."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(CONNECT_TIMEOUT):
            await pool.close()


async def _logins(url: str) -> dict[str, tuple[str, str]]:
    """Answer the login of each kind with its password. Raises DatabaseError."""
    query = "select current_database(), name, value from imi_meta.secrets"
    with _explained():
        owner = await asyncpg.connect(url, command_timeout=ANSWERED)
        try:
            await owner.execute("set role imi_owner")
            rows = await owner.fetch(query)
            await owner.close()
        except asyncpg.UndefinedTableError:
            rows = []
        finally:
            owner.terminate()
    found = {row["name"]: row["value"] for row in rows}
    names = {kind: login(rows[0][0], kind) for kind in KINDS} if rows else {}
    if not names or not found.keys() >= set(names.values()):
        raise DatabaseError(NOT_MIGRATED)
    return {kind: (name, found[name]) for kind, name in names.items()}
