"""Who may do what, read from the catalogue and tried as each role."""

from __future__ import annotations

import asyncpg
import pytest

from imi.database import roles
from imi.database.lanes import BEHAVIOUR
from imi.server import contract

OURS = (*BEHAVIOUR, "imi", "bloodbank", "imi_meta")
DOORS = {
    "imi_api": {"key_check", "once", "ticket_key"},
    "imi_reader": {"health", "metrics", "stream_read"},
    "imi_worker": {
        "relay_read",
        "relay_move",
        "relay_deliver",
        "intake",
        "intake_refuse",
        "subscriptions_waiting",
        "subscription_run",
        "subscription_try",
    },
}
QUEUES = {"format_table_name", "read", "read_with_poll", "delete", "archive", "set_vt"}
GROUPS = ("imi_api", "imi_reader", "imi_worker", "imi_analyst", "imi_operator", "imi_subscriber")


async def names(db: asyncpg.Connection, query: str, *arguments: object) -> list[str]:
    return [row[0] for row in await db.fetch(query, *arguments)]


async def executes(db: asyncpg.Connection, role: str, schema: str) -> set[str]:
    query = """select proname from pg_proc
               where pronamespace = to_regnamespace($2) and has_function_privilege($1, oid, 'execute')"""
    return set(await names(db, query, role, schema))


async def test_public_may_nothing(db):
    for schema in (*OURS, "pgmq"):
        assert await executes(db, "public", schema) <= await extension_members(db), schema
        assert not await db.fetchval("select has_schema_privilege('public', $1, 'usage, create')", schema), (
            schema
        )
    open_tables = """select oid::regclass::text from pg_class
                     where relnamespace::regnamespace::text = any ($1)
                       and relkind in ('r', 'v', 'm', 'S', 'p') and has_table_privilege('public', oid, 'select, insert, update, delete')"""
    assert await names(db, open_tables.replace("'S', ", ""), [*OURS, "pgmq"]) == []


async def extension_members(db: asyncpg.Connection) -> set[str]:
    query = """select proname from pg_proc join pg_depend on objid = pg_proc.oid and deptype = 'e'
               and classid = 'pg_proc'::regclass"""
    return set(await names(db, query))


async def test_nobody_but_the_owner_touches_a_table(db):
    tables = """select role || ' ' || pg_class.oid::regclass from pg_class, unnest($2::text[]) as role
                where relnamespace::regnamespace::text = any ($1) and relkind in ('r', 'p')
                  and has_table_privilege(role, pg_class.oid, 'select, insert, update, delete, truncate, references, trigger')"""
    assert await names(db, tables, ["imi", "bloodbank", "imi_meta"], GROUPS) == []


async def test_the_api_executes_its_functions_and_the_doors(db):
    everything = set(await names(db, "select proname from pg_proc where pronamespace = 'api'::regnamespace"))
    assert await executes(db, "imi_api", "api") == everything
    reads = {each.function for each in contract.load().operations if each.method == "GET" and each.function}
    assert {f"api.{name}" for name in await executes(db, "imi_reader", "api")} == reads
    for role, doors in DOORS.items():
        assert await executes(db, role, "logic") == doors, role
    for role in GROUPS[2:]:
        assert await executes(db, role, "api") == set(), role
    for role in GROUPS:
        assert await executes(db, role, "pgmq") == (QUEUES if role == "imi_subscriber" else set()), role


async def test_analysts_and_operators_execute_what_their_views_call(db):
    called = """select distinct pg_proc.proname from pg_class
                join pg_rewrite on ev_class = pg_class.oid
                join pg_depend on classid = 'pg_rewrite'::regclass and objid = pg_rewrite.oid
                  and refclassid = 'pg_proc'::regclass
                join pg_proc on pg_proc.oid = refobjid
                where relnamespace = to_regnamespace($1) and pronamespace = 'logic'::regnamespace"""
    for role, schema in (("imi_analyst", "analytics"), ("imi_operator", "ops")):
        assert await executes(db, role, "logic") >= set(await names(db, called, schema)), role


async def test_every_view_can_be_read_by_those_it_is_for(connect):
    owner = await connect("superuser")
    for role, schema in (("imi_analyst", "analytics"), ("imi_operator", "ops")):
        query = "select oid::regclass::text from pg_class where relnamespace = to_regnamespace($1) and relkind = 'v'"
        views = await names(owner, query, schema)
        await owner.execute(f"set role {role}")
        for view in views:
            await owner.fetch(f"select * from {view} limit 1")
        await owner.execute("reset role")
    for login in ("api", "reader", "worker"):
        stranger = await connect(login)
        for table in ("imi.projects", "bloodbank.events", "imi_meta.secrets"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await stranger.fetch(f"table {table}")


async def test_definers_pin_their_path_and_entrances_are_definers(db):
    loose = """select oid::regprocedure::text from pg_proc where prosecdef
               and pronamespace::regnamespace::text = any ($1)
               and coalesce('search_path=pg_catalog, pg_temp' <> all (proconfig), true)"""
    assert await names(db, loose, OURS) == []
    entrances = """select oid::regprocedure::text from pg_proc
                   where pronamespace::regnamespace::text in ('api', 'ops') and not prosecdef
                   union all
                   select oid::regprocedure::text from pg_proc
                   where pronamespace = 'logic'::regnamespace and proname = any ($1) and not prosecdef"""
    doors = set().union(*DOORS.values())
    assert await names(db, entrances, doors) == []


async def test_a_temporary_type_runs_nothing_as_the_owner(connect):
    attacker = await connect("reader")
    await attacker.execute("set session characteristics as transaction read write")
    await attacker.execute("select set_config('imi.spied', '', false)")
    await attacker.execute("""
        create function pg_temp.spy(p_value pg_catalog.text) returns boolean language plpgsql as $$
        begin
          perform set_config('imi.spied', current_setting('imi.spied', true) || current_user, false);
          return true;
        end $$;
        create domain pg_temp.text as pg_catalog.text check (pg_temp.spy(value));
        create domain pg_temp.json as pg_catalog.json check (pg_temp.spy(value::pg_catalog.text))""")
    await attacker.execute("select 'armed'::pg_temp.text")
    assert "_reader" in await attacker.fetchval("select current_setting('imi.spied')")
    await attacker.execute("select set_config('imi.spied', '', false)")
    await attacker.fetch("select * from api.event_list(p_event_type => 'a.#', p_limit => 1)")
    await attacker.fetch("select logic.health(), logic.metrics()")
    await attacker.fetch("select * from api.project_list(p_search => 'x')")
    assert await attacker.fetchval("select current_setting('imi.spied')") == ""


async def test_one_name_is_one_function(db):
    overloads = """select pronamespace::regnamespace || '.' || proname from pg_proc
                   where pronamespace::regnamespace::text = any ($1) group by 1 having count(*) > 1"""
    assert await names(db, overloads, BEHAVIOUR) == []


async def test_everything_public_has_a_comment(db):
    silent = """select oid::regprocedure::text from pg_proc
                where pronamespace::regnamespace::text in ('api', 'ops') and obj_description(oid, 'pg_proc') is null
                union all
                select oid::regclass::text from pg_class
                where relnamespace::regnamespace::text in ('analytics', 'ops') and relkind = 'v'
                  and obj_description(oid, 'pg_class') is null
                union all
                select attrelid::regclass || '.' || attname from pg_attribute
                join pg_class on pg_class.oid = attrelid
                where relnamespace::regnamespace::text in ('analytics', 'ops') and relkind = 'v' and attnum > 0
                  and col_description(attrelid, attnum) is null
                union all
                select nspname from pg_namespace
                where nspname = any ($1) and obj_description(oid, 'pg_namespace') is null"""
    assert await names(db, silent, OURS) == []


async def test_every_foreign_key_has_an_index(db):
    bare = """select conname from pg_constraint
              where contype = 'f' and connamespace::regnamespace::text = any ($1)
                and not exists (
                  select from pg_index where indrelid = conrelid
                  and (indkey::int2[])[0:array_length(conkey, 1) - 1] @> conkey)"""
    assert await names(db, bare, OURS) == []


async def test_constraints_are_named_like_sentences(db):
    anonymous = """select conname from pg_constraint join pg_class on pg_class.oid = conrelid
                   where connamespace::regnamespace::text in ('imi', 'bloodbank') and contype in ('c', 'f', 'u')
                     and conname ~ ('^' || relname || '_.*(check|fkey|key)[0-9]*$')"""
    assert await names(db, anonymous) == []


async def test_the_state_lane_never_names_the_other(db):
    upward = """select pg_describe_object(classid, objid, objsubid) from pg_depend
                join pg_proc on refclassid = 'pg_proc'::regclass and refobjid = pg_proc.oid
                where pronamespace::regnamespace::text = any ($1) and classid in ('pg_constraint'::regclass,
                  'pg_attrdef'::regclass, 'pg_trigger'::regclass, 'pg_class'::regclass)"""
    assert await names(db, upward, BEHAVIOUR) == []


async def test_each_login_is_a_member_of_one_group(database, db):
    memberships = """select member.rolname || ' in ' || team.rolname from pg_auth_members
                     join pg_roles as member on member.oid = pg_auth_members.member
                     join pg_roles as team on team.oid = pg_auth_members.roleid
                     where member.rolname like $1 || '\\_%' order by 1"""
    expected = [f"{database.name}_{kind} in imi_{kind}" for kind in sorted(roles.KINDS)]
    assert await names(db, memberships, database.name) == expected
