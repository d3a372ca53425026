"""The behaviour lane's load: what it replaces, what it drops, what it leaves alone, and that nobody notices."""

from __future__ import annotations

import asyncio
import itertools
import re
from collections.abc import AsyncIterator, Awaitable, Callable

import asyncpg
import pytest

from imi.database import DatabaseError, pool
from imi.database.lanes import Lanes, lanes, statements
from imi.database.line import REPEATABLE
from imi.database.load import load
from tests.postgres import Database, behaviour

SCHEMAS = "".join(f"create schema if not exists {name};\n" for name in ("logic", "api", "analytics", "ops"))


class Toys:
    """A database with a behaviour lane that a test writes as it goes."""

    def __init__(self, database: Database, found: Lanes) -> None:
        self.database, self.found = database, found

    async def load(self, *texts: str, drop_dependents: bool = False) -> dict[str, tuple[int, str]]:
        (self.found.sql_dir / "toys.sql").write_text(SCHEMAS + "\n".join(texts))
        async with pool.connect_owner(self.database.url) as owner:
            await load(owner, self.found.manifest(), drop_dependents)
            return await behaviour(owner)


@pytest.fixture
def toys(fresh_database: Database, small_lanes: Lanes) -> Toys:
    return Toys(fresh_database, small_lanes)


@pytest.fixture
async def session(fresh_database: Database) -> AsyncIterator[Callable[..., Awaitable[asyncpg.Connection]]]:
    """Opens connections to the same database."""
    opened = []

    async def connect(who: str = "owner") -> asyncpg.Connection:
        opened.append(await fresh_database.connect(who))
        return opened[-1]

    yield connect
    for connection in opened:
        await connection.close()


def function(name: str, arguments: str = "", returns: str = "integer", body: str = "select 1") -> str:
    return f"create or replace function {name}({arguments}) returns {returns} language sql stable as $${body};$$;"


def view(name: str, body: str) -> str:
    return f"create or replace view {name} as {body};\ncomment on view {name} is 'A toy';"


async def test_a_second_load_changes_nothing(database):
    async with pool.connect_owner(database.url) as owner:
        before = await behaviour(owner)
        await load(owner, lanes().manifest())
        assert await behaviour(owner) == before


async def test_what_no_file_names_is_dropped(toys):
    made = await toys.load(function("logic.a"), function("logic.b"), view("logic.v", "select logic.b()"))
    assert list(made) == ["logic.a()", "logic.b()", "logic.v"]
    left = await toys.load(function("logic.a"))
    assert list(left) == ["logic.a()"]
    assert left["logic.a()"][0] == made["logic.a()"][0]


async def test_a_function_made_in_a_block_counts_as_named(toys):
    block = "do $x$ begin create or replace function logic.a() returns int language sql as 'select 1'; exception when division_by_zero then null; end $x$;"
    await toys.load(block)
    assert list(await toys.load(block)) == ["logic.a()"]


async def test_other_arguments_replace_a_function_instead_of_overloading_it(toys):
    await toys.load(function("logic.a", "p_x integer"))
    assert list(await toys.load(function("logic.a", "p_x integer, p_y text default ''"))) == [
        "logic.a(integer,text)"
    ]
    assert list(await toys.load(function("logic.a", "p_x text"))) == ["logic.a(text)"]


async def test_a_view_is_replaced_only_if_it_says_something_else(toys, session):
    owner = await session()

    async def rule() -> str:
        return await owner.fetchval(
            "select xmin::text from pg_rewrite where ev_class = to_regclass('logic.v')"
        )

    says = "select item.id, item.owner_id from imi.work_items as item"
    await toys.load(view("logic.v", says))
    last = await rule()
    await toys.load(view("logic.v", f"-- the same, spelled otherwise\n{says.upper()}"))
    assert await rule() == last
    for changed in (
        f"{says} where item.active",
        f"{says} where not item.active",
        f"{says}, imi.agents",
        says,
    ):
        await toys.load(view("logic.v", changed))
        assert await rule() != last
        last = await rule()
    await toys.load(f"create or replace view logic.v with (security_barrier) as {says};")
    assert await owner.fetchval("select reloptions from pg_class where oid = 'logic.v'::regclass")
    await toys.load(view("logic.v", says.replace("owner_id", "owner_id as who")))
    assert await owner.fetch("select who from logic.v") == []


async def test_a_view_of_everything_follows_its_table(toys, session):
    await toys.load(view("logic.v", "select * from imi.claims"))
    await (await session()).execute("alter table imi.claims add column note text")
    made = await toys.load(view("logic.v", "select * from imi.claims"))
    assert "note" in made["logic.v"][1]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        pytest.param(
            function("logic.a"), function("logic.a", returns="text", body="select 'x'"), id="42P13 result"
        ),
        pytest.param(
            function("logic.a", "p_x integer"), function("logic.a", "p_y integer"), id="42P13 argument name"
        ),
        pytest.param(
            view("logic.v", "select 1 as a, 2 as b"), view("logic.v", "select 1 as a"), id="42P16 column"
        ),
        pytest.param(
            function("logic.a", "p_x integer") + view("logic.v", "select logic.a(1)"),
            function("logic.a", "p_x integer, p_y text default ''") + view("logic.v", "select logic.a(1)"),
            id="42725 grown argument",
        ),
        pytest.param(
            function("logic.a") + view("logic.v", "select logic.a()"),
            function("logic.b") + view("logic.v", "select logic.b() as a"),
            id="renamed",
        ),
        pytest.param(
            function("logic.a") + view("logic.v", "select logic.a()"),
            function("logic.a", "p_x integer default 0") + "create or replace view logic.w as select 1;",
            id="dropped view",
        ),
        pytest.param(
            view("logic.v", "select 1 as a") + view("logic.w", "select * from logic.v"),
            view("logic.w", "select 1 as a") + view("logic.v", "select * from logic.w"),
            id="views turned round",
        ),
    ],
)
async def test_what_cannot_be_replaced_is_rebuilt(toys, session, before, after):
    await toys.load(before)
    made = await toys.load(after)
    assert len(made) == len(re.findall("create or replace", after))
    for name in made:
        await (await session()).fetch(
            f"table {name}" if "(" not in name else f"select to_regprocedure('{name}')"
        )


async def test_objects_of_others_are_named_and_nothing_is_dropped(toys, session):
    await toys.load(function("logic.a"), view("logic.v", "select 1 as a, 2 as b"))
    superuser = await session("superuser")
    await superuser.execute(
        """create schema bi; create view bi.mine as select a from logic.v; create view bi.more as table bi.mine;
           create table bi.facts (n int default logic.a());"""
    )
    change = view("logic.v", "select 1 as a")
    named = r"default value for column n of table bi\.facts, view bi\.mine, view bi\.more"
    with pytest.raises(DatabaseError, match=rf"objects of yours stand on them: {named}\. Drop"):
        await toys.load(change)
    assert await superuser.fetchval("select b from logic.v") == 2
    await toys.load(change, drop_dependents=True)
    assert await superuser.fetchval("select to_regclass('bi.mine')") is None
    assert await superuser.fetchval("select to_regclass('bi.facts')") is not None


async def test_a_dependent_of_a_function_that_goes_is_named_too(toys, session):
    await toys.load(function("logic.a"))
    superuser = await session("superuser")
    await superuser.execute("create schema bi; create view bi.mine as select logic.a()")
    with pytest.raises(DatabaseError, match=r"view bi\.mine"):
        await toys.load(function("logic.b"))


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("-- one\n\nselect 1;\nselect\n  nothing;", r'sql/toys.sql:9: column "nothing" does not exist'),
        (
            "create or replace view logic.v as\n  select a\n  from nowhere.at_all;",
            r'sql/toys.sql:7: relation "nowhere',
        ),
        ("select 1", "sql/toys.sql: the last statement has no semicolon"),
    ],
)
async def test_an_error_names_its_line(toys, session, text, sentence):
    with pytest.raises(DatabaseError, match=sentence):
        await toys.load(text)
    assert "api.project_register(json,json)" in await behaviour(await session())


async def test_an_unqualified_name_finds_nothing(toys):
    with pytest.raises(DatabaseError, match='relation "projects" does not exist'):
        await toys.load(
            "set local search_path = imi;", "reset search_path;", view("logic.v", "select * from projects")
        )


def test_semicolons_hide_in_quotes_and_comments(tmp_path):
    hidden = [
        "select 'a;''b;', E'\\';', \"c;\" -- d;\n, /* e; */ $$f;$$, $x$ $$;$$ ; $x$;",
        "\nselect 2;",
        "\n-- at the end;\n",
    ]
    file = tmp_path / "hidden.sql"
    file.write_text("".join(hidden))
    assert [(found.line, found.text) for found in statements(file)] == [(1, hidden[0]), (2, hidden[1])]


async def test_a_load_waits_for_a_reader_without_holding_up_others(toys, session, monkeypatch, caplog):
    monkeypatch.setattr("imi.database.load.PATIENCE", 0.1)
    await toys.load(view("logic.v", "select 1 as a"))
    reader, other = await session(), await session()
    reading = reader.transaction()
    await reading.start()
    await reader.fetch("table logic.v")
    loading = asyncio.create_task(toys.load(view("logic.v", "select 1 as a, 2 as b")))
    for _ in range(20):
        await other.fetch("table logic.v", timeout=1)
        await asyncio.sleep(0.02)
    assert not loading.done()
    assert "waits for somebody who reads its views" in caplog.text
    await reading.commit()
    await loading
    assert await other.fetchval("select b from logic.v") == 2


async def call(connection: asyncpg.Connection, statement: str) -> object:
    """One call as the server makes it: once more where everything was rolled back."""
    try:
        return await connection.fetchval(statement)
    except asyncpg.PostgresError as error:
        if error.sqlstate not in REPEATABLE:
            raise
        return await connection.fetchval(statement)


@pytest.mark.parametrize("incompatible", [False, True], ids=["replaced", "rebuilt"])
async def test_redeploy_under_traffic(toys, session, incompatible):
    def release(number: int) -> list[str]:
        returns = ("bigint" if number % 2 else "integer") if incompatible else "integer"
        return [
            view("logic.v", f"select id, name, {number % 3} as release from imi.projects"),
            function("logic.inner", returns=returns, body=f"select {number % 5}::{returns}"),
            function(
                "api.count", "p_n integer", "json", "select to_json(count(*) + logic.inner()) from logic.v"
            ),
            "create or replace function api.change(p_body json) returns json language plpgsql as "
            "$$begin insert into imi.agents (id) values (p_body ->> 'id') on conflict (id) do update set last_seen = now();"
            " return (select to_json(max(release)) from logic.v); end$$;",
            view("analytics.v", f"select count(*) as n, {number % 2} as odd from logic.v"),
        ]

    await toys.load(*release(0))
    stop, failed, calls = asyncio.Event(), [], 0

    async def client(number: int) -> None:
        nonlocal calls
        connection = await session()
        queries = [
            "select api.count(p_n => 1)",
            f'select api.change(p_body => \'{{"id": "a{number}"}}\')',
            "select odd from analytics.v",
        ]
        for query in itertools.cycle(queries):
            if stop.is_set():
                break
            try:
                await call(connection, query)
                calls += 1
            except asyncpg.PostgresError as error:
                failed.append(f"{query}: {error.sqlstate} {error}")

    clients = [asyncio.create_task(client(number)) for number in range(8)]
    for number in range(50):
        await toys.load(*release(number))
    stop.set()
    await asyncio.gather(*clients)
    assert failed == []
    assert calls > 50
