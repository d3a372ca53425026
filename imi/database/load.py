"""Load the behaviour lane: one transaction, under traffic, leaving exactly what the files name.

Each try waits at most 50 ms for a lock and is repeated until it gets through, so that nobody queues behind
it for longer. A view is replaced only if its new definition differs: PostgreSQL itself is asked, by making it
as a temporary view beside the old one. A change that `create or replace` cannot make drops the four schemas
first, in the same transaction.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import time
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg

from imi.database import DatabaseError, said
from imi.database.lanes import BEHAVIOUR, Statement, statements

if TYPE_CHECKING:
    from asyncpg import Connection

log = logging.getLogger(__name__)

LOCK_TIMEOUT = "50ms"
PATIENCE = 10.0  # seconds between two words about waiting
INCOMPATIBLE = (
    asyncpg.InvalidFunctionDefinitionError,  # 42P13
    asyncpg.InvalidTableDefinitionError,  # 42P16
    asyncpg.AmbiguousFunctionError,  # 42725
    asyncpg.DependentObjectsStillExistError,  # 2BP01
)
BUSY = (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError)
VIEW = re.compile(
    r"\A(?:\s|--[^\n]*\n)*create\s+or\s+replace\s+view\s+(?P<name>\w+\.\w+)(?P<rest>.*)\Z",
    re.DOTALL | re.IGNORECASE,
)

SAME_VIEW = """
select pg_get_viewdef($1::regclass) = pg_get_viewdef($2::regclass)
  and (select array_agg((attname, atttypid, atttypmod, attcollation) order by attnum)
       from pg_attribute where attrelid = $1::regclass and attnum > 0)
    = (select array_agg((attname, atttypid, atttypmod, attcollation) order by attnum)
       from pg_attribute where attrelid = $2::regclass and attnum > 0)
  and (select reloptions from pg_class where oid = $1::regclass)
    is not distinct from (select reloptions from pg_class where oid = $2::regclass)
"""
# What this transaction wrote has its xid, or a later one under a savepoint; everything else is older.
UNNAMED_FUNCTIONS = """
select oid::regprocedure::text from pg_proc
where pronamespace = any (select to_regnamespace(name) from unnest($1::text[]) as name) and age(xmin) > 0
order by 1
"""
UNNAMED_VIEWS = """
select format('%I.%I', nspname, relname) from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where nspname = any ($1::text[]) and relkind = 'v' and nspname || '.' || relname <> all ($2::text[])
order by 1
"""
# A reader locks a view before those it stands on, which are older. In that order a load that has met readers
# once locks the views it is going to replace: else it holds one and wants another while a reader does the
# opposite, and has to start over as long as there are readers.
OUTER_VIEWS_FIRST = """
select format('%I.%I', nspname, relname) as name
from pg_class join pg_namespace on pg_namespace.oid = relnamespace
where nspname = any ($1::text[]) and relkind = 'v' and ($2 or nspname || '.' || relname = any ($3::text[]))
order by pg_class.oid desc
"""
# What lives elsewhere and would go with the schemas, in any number of steps; a rule stands for its view.
DEPENDENTS = """
with recursive gone (classid, objid) as (
  select 'pg_namespace'::regclass::oid, oid from pg_namespace where nspname = any ($1::text[])
  union
  select case when rule.oid is null then dep.classid else 'pg_class'::regclass::oid end,
    coalesce(rule.ev_class, dep.objid)
  from gone
  join pg_depend as dep on dep.refclassid = gone.classid and dep.refobjid = gone.objid
  left join pg_rewrite as rule on dep.classid = 'pg_rewrite'::regclass and rule.oid = dep.objid
)
select distinct pg_describe_object(gone.classid, gone.objid, 0)
from gone
left join pg_constraint on gone.classid = 'pg_constraint'::regclass and pg_constraint.oid = gone.objid
left join pg_attrdef on gone.classid = 'pg_attrdef'::regclass and pg_attrdef.oid = gone.objid
left join pg_trigger on gone.classid = 'pg_trigger'::regclass and pg_trigger.oid = gone.objid
  and not tgisinternal
left join pg_class on gone.classid = 'pg_class'::regclass and pg_class.oid = gone.objid
  or pg_class.oid = coalesce(conrelid, adrelid, tgrelid)
left join pg_proc on gone.classid = 'pg_proc'::regclass and pg_proc.oid = gone.objid
where coalesce(relnamespace, pronamespace)::regnamespace::text <> all ($1::text[])
  and coalesce(relkind, 'r') not in ('i', 'I', 't', 'c')
order by 1
"""


async def load(connection: Connection, manifest: Sequence[Path], drop_dependents: bool = False) -> None:
    """Load the files and drop what they no longer name; the last file runs after that.

    Raises DatabaseError, naming file and line, or the objects of others that stand in the way.
    """
    *behaviour, grants = [list(statements(file)) for file in manifest]
    rebuild, changing = False, set[str]()
    patient = time.monotonic() + PATIENCE
    while True:
        try:
            async with connection.transaction():
                await connection.execute(
                    f"set local lock_timeout = '{LOCK_TIMEOUT}'; set local search_path = ''"
                )
                await connection.fetchval("select pg_current_xact_id()")
                for view in await connection.fetch(OUTER_VIEWS_FIRST, BEHAVIOUR, rebuild, changing):
                    await connection.execute(f"alter view {view['name']} owner to current_role")
                if rebuild:
                    await drop_schemas(connection, BEHAVIOUR, drop_dependents)
                views = [name for file in behaviour for name in await _run(connection, file, changing)]
                await _sweep(connection, views)
                await _run(connection, grants, changing)
            return
        except BUSY:
            if time.monotonic() > patient:
                log.warning("loading sql/ waits for somebody who reads its views; see pg_stat_activity")
                patient += PATIENCE
            await asyncio.sleep(random.uniform(0.01, 0.05))
        except _IncompatibleError as error:
            if rebuild:
                raise DatabaseError(str(error)) from None
            log.info("rebuilding the behaviour schemas: %s", error)
            rebuild = True


class _IncompatibleError(Exception):
    """Something that create or replace cannot do."""


async def _run(connection: Connection, file: Sequence[Statement], changing: set[str]) -> list[str]:
    """Run a file's statements; answers the views it names, and adds to `changing` those that it replaces."""
    views = []
    for match, group in groupby(file, lambda statement: VIEW.match(statement.text)):
        for statement in group if match else [_joined(list(group))]:
            try:
                if match:
                    views.append(match["name"].lower())
                    if await _differs(connection, match):
                        changing.add(views[-1])
                        await connection.execute(statement.text)
                else:
                    await connection.execute(statement.text)
            except asyncpg.PostgresError as error:
                if isinstance(error, BUSY):
                    raise
                kind = _IncompatibleError if isinstance(error, INCOMPATIBLE) else DatabaseError
                raise kind(f"sql/{statement.file}:{_line(statement, error)}: {said(error)}") from error
    return views


def _joined(group: list[Statement]) -> Statement:
    return Statement(group[0].file, group[0].line, "".join(statement.text for statement in group))


def _line(statement: Statement, error: asyncpg.PostgresError) -> int:
    position = str(getattr(error, "position", None) or "")
    return statement.line + (statement.text.count("\n", 0, int(position)) if position.isdigit() else 0)


async def _differs(connection: Connection, view: re.Match[str]) -> bool:
    """Say whether the view is not there, or would become another one."""
    if not await connection.fetchval("select to_regclass($1)", view["name"]):
        return True
    await connection.execute(f"create temporary view imi_probe{view['rest']}")
    same = await connection.fetchval(SAME_VIEW, view["name"], "pg_temp.imi_probe")
    await connection.execute("drop view pg_temp.imi_probe")
    return not same


async def _sweep(connection: Connection, views: list[str]) -> None:
    old_views = [row[0] for row in await connection.fetch(UNNAMED_VIEWS, BEHAVIOUR, views)]
    old_functions = [row[0] for row in await connection.fetch(UNNAMED_FUNCTIONS, BEHAVIOUR)]
    try:
        for kind, names in (("view", old_views), ("routine", old_functions)):
            if names:
                await connection.execute(f"drop {kind} {', '.join(names)}")
    except asyncpg.DependentObjectsStillExistError as error:
        raise _IncompatibleError(said(error)) from error


async def drop_schemas(connection: Connection, schemas: Sequence[str], dependents: bool = False) -> None:
    """Drop schemas of ours; objects of others that stand on them go too, or are refused."""
    if not dependents:
        await refuse_dependents(connection, schemas)
    await connection.execute(f"drop schema if exists {', '.join(schemas)} cascade")


async def refuse_dependents(connection: Connection, schemas: Sequence[str]) -> None:
    """Raise a DatabaseError that names the objects of others that stand on these schemas, if any do."""
    others = [row[0] for row in await connection.fetch(DEPENDENTS, schemas)]
    if others:
        raise DatabaseError(
            f"The schemas {', '.join(schemas)} must be dropped, and objects of yours stand on them: "
            f"{', '.join(others)}. Drop those first, or let `imi db migrate --drop-dependents` drop them"
        )
