"""Roles: the groups and the owner (db/roles.sql), and the logins of one database with their passwords.

A login is named after its database, `<database>_api`, `_reader`, `_worker` and `_subscriber` (imi letta's),
and is a member of the group imi_api, imi_reader, imi_worker or imi_subscriber. Its password is made here and
kept in imi_meta.secrets, which only the owner reads; the server is sent the SCRAM verifier alone, so that no
log of its can hold a password.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import random
import secrets
from typing import TYPE_CHECKING

from imi.database import DatabaseError, said

if TYPE_CHECKING:
    from asyncpg import Connection

KINDS = ("api", "reader", "worker", "subscriber")
LIMITS = {
    "statement_timeout": "10s",
    "idle_in_transaction_session_timeout": "5s",
    "transaction_timeout": "30s",
    "timezone": "UTC",
    "jit": "off",
    "random_page_cost": "1.1",  # what the API reads is in memory or on an SSD
}


def login(database: str, kind: str) -> str:
    """Answer the name of a database's login. Raises DatabaseError where there can be no such name."""
    name = f"{database}_{kind}"
    if database == "imi":
        raise DatabaseError(
            "The database cannot be called imi: its logins would bear the names of the group roles imi_api, "
            "imi_reader, imi_worker and imi_subscriber; call it imi_main, say"
        )
    if len(name.encode()) > 63:
        raise DatabaseError(f"The database's name is too long: {name} has more than 63 bytes")
    return name


async def complete(connection: Connection) -> bool:
    """Say whether all of this database's logins are there, with their passwords; to be asked as the owner."""
    database = await connection.fetchval("select current_database()")
    return bool(
        await connection.fetchval(
            """select count(*) = $2 from imi_meta.secrets
               join pg_roles on pg_roles.rolname = secrets.name
               where secrets.name = any ($1::text[]) and pg_roles.rolcanlogin""",
            [login(database, kind) for kind in KINDS],
            len(KINDS),
        )
    )


async def ensure(connection: Connection, roles_sql: str) -> None:
    """Make what is missing of the roles, imi_meta and the logins, as the login of IMI_DATABASE_URL."""
    import asyncpg

    for attempt in range(20):
        try:
            async with connection.transaction():
                await connection.execute(roles_sql)
                await _logins(connection)
            return
        except asyncpg.InsufficientPrivilegeError as error:
            user = await connection.fetchval("select session_user")
            raise DatabaseError(
                f"The login {user} of IMI_DATABASE_URL may not do that ({said(error)}): it needs CREATEROLE, "
                "CREATE on the database, and the admin option on the roles imi_* if another login made them"
            ) from None
        except (asyncpg.UniqueViolationError, asyncpg.DuplicateObjectError, asyncpg.InternalServerError):
            if attempt == 19:
                raise
            await asyncio.sleep(random.uniform(0.02, 0.2))  # another database's migrate step was faster


async def _logins(connection: Connection) -> None:
    database = await connection.fetchval("select current_database()")
    for kind in KINDS:
        name = login(database, kind)
        await connection.execute("set local role imi_owner")
        known = await connection.fetchval("select true from imi_meta.secrets where name = $1", name)
        password = secrets.token_urlsafe(32)
        if not known:
            await connection.execute("insert into imi_meta.secrets values ($1, $2)", name, password)
        else:
            password = await connection.fetchval("select value from imi_meta.secrets where name = $1", name)
        await connection.execute("set local role none")
        made = await connection.fetchval("select true from pg_roles where rolname = $1", name)
        script = [] if made else [f'create role "{name}" login']
        if not (known and made):
            script.append(f"alter role \"{name}\" password '{verifier(password)}'")
        if not made:
            script.append(f'grant imi_{kind} to "{name}"')
        limits = LIMITS | ({"default_transaction_read_only": "on"} if kind == "reader" else {})
        script += [f"alter role \"{name}\" set {setting} = '{value}'" for setting, value in limits.items()]
        await connection.execute("; ".join(script))


def verifier(password: str) -> str:
    """Answer what PostgreSQL stores of a password (SCRAM-SHA-256, RFC 5802); `password` is ASCII."""
    salt, rounds = secrets.token_bytes(16), 4096
    salted = hashlib.pbkdf2_hmac("sha256", password.encode(), salt, rounds)
    client = hmac.digest(salted, b"Client Key", "sha256")
    stored, server = hashlib.sha256(client).digest(), hmac.digest(salted, b"Server Key", "sha256")
    salt64, stored64, server64 = (base64.b64encode(part).decode() for part in (salt, stored, server))
    return f"SCRAM-SHA-256${rounds}:{salt64}${stored64}:{server64}"
