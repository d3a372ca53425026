"""Backups, restores and the schema's dump, by PostgreSQL's own programs.

A backup holds iMi's schemas but not the logins' passwords, which a restore makes anew. A restore happens in
one transaction: afterwards the database is as it was before, or as the backup has it.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from secrets import token_hex
from typing import TYPE_CHECKING

from asyncpg import InsufficientPrivilegeError

from imi.database import DatabaseError, roles, said
from imi.database.deploy import applied_migrations, locked, make_state, migrate
from imi.database.lanes import BEHAVIOUR, Lanes, lanes
from imi.database.load import drop_schemas, refuse_dependents
from imi.database.programs import beside, replay, run

if TYPE_CHECKING:
    from asyncpg import Connection

log = logging.getLogger(__name__)

KEPT = 7  # daily backups
SCHEMAS = (*BEHAVIOUR, "pgmq", "bloodbank", "imi", "imi_meta")
# So that who follows the log meanwhile finds a deadlock first, is rolled back and comes again; where we may.
PREVAIL = """do $$ begin
  perform set_config('deadlock_timeout', '20s', false);
exception when insufficient_privilege then null;
end $$;
"""
CLEAR = f"{PREVAIL}set role imi_owner;\ndrop schema if exists {', '.join(SCHEMAS)} cascade;\n"
# So far on that no cursor handed out after the backup was made can hide an event that comes now.
MOVE_ON = """
select setval('bloodbank.events_position_seq',
  coalesce(pg_sequence_last_value('bloodbank.events_position_seq'), 0) + (1::bigint << 32));
"""
# What a dump says of its own making; the token of \\restrict is another one each time.
PASSING = r"^(\\(un)?restrict .*|-- Dumped (from|by) .*|--|-- PostgreSQL database dump( complete)?)\n"


async def backup(url: str, file: Path) -> None:
    """Write a backup, complete or not at all. Raises DatabaseError."""
    async with locked(url) as connection:
        choice = await _choice(connection, SCHEMAS)
    partial = file.with_name(f".{file.name}.partial")
    try:
        partial.unlink(missing_ok=True)
        partial.touch(mode=0o600, exist_ok=False)
        choice += ["--format=custom", "--exclude-table-data=imi_meta.secrets", f"--file={partial}"]
        await run("pg_dump", url, *choice)
        partial.rename(file)
    except OSError as error:
        raise DatabaseError(f"Cannot write the backup {file}: {error.strerror}") from None
    finally:
        partial.unlink(missing_ok=True)


async def restore(url: str, file: Path, replace: bool = False) -> None:
    """Bring back what a backup holds, then migrate it to this release.

    A database that has events is only replaced with `replace`. Raises DatabaseError.
    """
    async with locked(url) as connection:
        await roles.ensure(connection, lanes().roles)
        await connection.execute("set role imi_owner")
        if not replace and await _has_events(connection):
            raise DatabaseError("The database is not empty: say --yes to replace what it holds")
        await refuse_dependents(connection, SCHEMAS)
        await replay(file, url, CLEAR, MOVE_ON)
    await migrate(url)


async def occupied(url: str) -> bool:
    """Say whether a restore would replace something. Raises DatabaseError."""
    async with locked(url) as connection:
        return await _has_events(connection)


async def _has_events(connection: Connection) -> bool:
    if not await connection.fetchval("select to_regclass('bloodbank.events') is not null"):
        return False
    await connection.execute("set role imi_owner")
    return bool(await connection.fetchval("select exists (table bloodbank.events)"))


async def reset(url: str) -> None:
    """Drop everything that is iMi's, and migrate anew. Raises DatabaseError."""
    async with locked(url) as connection:
        await connection.execute(PREVAIL)
        await drop_schemas(connection, SCHEMAS)
    await migrate(url)


def folder(data_dir: Path) -> Path:
    """Answer where backups are kept when nobody says, after making it."""
    found = data_dir / "backups"
    try:
        found.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise DatabaseError(f"Cannot make {found}: {error.strerror}") from None
    return found


async def daily(url: str, data_dir: Path) -> None:
    """Keep a backup of each of the last seven days on which this ran, until cancelled."""
    while True:
        try:
            if today := _due(data_dir):
                await backup(url, today)
                _prune(data_dir)
        except (DatabaseError, OSError) as error:
            log.error("the daily backup failed: %s", error)
        await asyncio.sleep(600)


def _due(data_dir: Path) -> Path | None:
    today = folder(data_dir) / f"imi-{datetime.now(UTC):%Y-%m-%d}.dump"
    return None if today.exists() else today


def _prune(data_dir: Path) -> None:
    for old in sorted(folder(data_dir).glob("imi-????-??-??.dump"))[:-KEPT]:
        old.unlink()


async def schema(url: str, found: Lanes | None = None) -> str:
    """Answer what the migrations make, as SQL: one text for one state lane, whatever the machine.

    They make it in a scratch database beside the URL's: functions over tables change the order of a dump.
    """
    found = found or lanes()
    scratch = f"imi_scratch_{token_hex(6)}"
    async with locked(url) as connection:
        try:
            await connection.execute(f"create database {scratch} template template0")
        except InsufficientPrivilegeError as error:
            raise DatabaseError(f"A dump is made in a scratch database: {said(error)}") from None
        try:
            async with locked(beside(url, scratch)) as inside:
                await make_state(inside, beside(url, scratch), found)
            return await dump(beside(url, scratch), found)
        finally:
            await connection.execute(f"drop database {scratch} with (force)")


async def dump(url: str, found: Lanes) -> str:
    """Answer the state lane of this very database, as SQL without a trace of the dump's own making."""
    async with locked(url) as connection:
        versions = await applied_migrations(connection, found)
        choice = await _choice(connection, found.schemas)
    printed = await run("pg_dump", url, "--schema-only", "--no-owner", "--no-privileges", *choice)
    text = re.sub(r"\n{3,}", "\n\n", re.sub(PASSING, "", printed.decode(), flags=re.MULTILINE)).strip()
    header = f"-- After migrations {', '.join(versions)}, as `imi db dump` writes it; not to be edited."
    return f"{header}\n\n{text}\n"


async def _choice(connection: Connection, schemas: Sequence[str]) -> list[str]:
    """Answer pg_dump's flags for some schemas with the extensions inside them."""
    inside = "select extname from pg_extension where extnamespace::regnamespace::text = any ($1)"
    extensions = [row["extname"] for row in await connection.fetch(inside, schemas)]
    return [*(f"--schema={name}" for name in schemas), *(f"--extension={name}" for name in extensions)]
