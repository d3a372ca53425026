"""The migrate step: from nothing, again, back and forth, by whom, and into what."""

from __future__ import annotations

import asyncio
import dataclasses

import asyncpg
import pytest

import imi
from imi.config import Settings
from imi.database import DatabaseError, archive, deploy, pool, roles
from imi.database.lanes import Lanes, lanes
from tests.postgres import Database, Server, behaviour

DEPLOYER = [
    "create role deployer login createrole password 'its secret'",
    "create database first owner deployer",
    "create database second owner deployer",
]


async def facts(url: str) -> tuple[object, ...]:
    """Everything that a migrate step makes in a database."""
    async with pool.connect_owner(url) as owner:
        return (
            await behaviour(owner),
            await owner.fetch("table imi_meta.ledger"),
            await owner.fetch("table imi_meta.secrets"),
            await owner.fetch("select version from imi_meta.schema_migrations"),
        )


async def test_the_first_makes_everything_and_the_second_nothing(empty_database):
    assert await deploy.migrate(empty_database.url)
    made = await facts(empty_database.url)
    assert not await deploy.migrate(empty_database.url)
    assert await facts(empty_database.url) == made
    functions, ledger, secrets, versions = made
    assert "api.project_register(json,json)" in functions
    assert [row["part"] for row in ledger] == ["pgmq", "sql"]
    assert {row["name"] for row in secrets} == {f"{empty_database.name}_{kind}" for kind in roles.KINDS}
    assert [row["version"] for row in versions] == list(lanes().migrations())


async def test_several_at_once_do_it_once(empty_database):
    done = await asyncio.gather(*(deploy.migrate(empty_database.url) for _ in range(4)))
    assert sorted(done) == [False, False, False, True]


async def test_two_databases_of_one_server_at_once(server):
    names = ("twin_a", "twin_b")
    for name in names:
        server.run(f"create database {name}")
    assert all(await asyncio.gather(*(deploy.migrate(server.url_of(name)) for name in names)))
    passwords = []
    for name in names:
        database = Database(server, name)
        reader = await database.connect("reader")
        assert await reader.fetchval("select current_user") == f"{name}_reader"
        await reader.close()
        _, _, secrets, _ = await facts(database.url)
        passwords += [row["value"] for row in secrets]
    assert len(set(passwords)) == 2 * len(roles.KINDS)
    for name in names:
        server.drop(name)


async def test_up_down_up_is_the_same_schema_and_it_is_the_committed_one(empty_database):
    url = empty_database.url

    async def up() -> str:
        async with deploy.locked(url) as connection:
            await deploy.make_state(connection, url, lanes())
        return await archive.dump(url, lanes())

    first = await up()
    assert lanes().schema_file.read_text() == first
    versions = list(lanes().migrations())
    assert [await deploy.rollback(url) for _ in versions] == versions[::-1]
    left = """select nspname from pg_namespace where nspname = any ($1) union all
              select proname from pg_proc where pronamespace = 'public'::regnamespace"""
    async with pool.connect_owner(url) as owner:
        assert await owner.fetch(left, lanes().schemas) == []
    with pytest.raises(DatabaseError, match="none to roll back"):
        await deploy.rollback(url)
    assert await up() == first
    assert await deploy.migrate(url)


async def test_a_step_that_breaks_is_named_and_can_be_repeated(empty_database, copied_lanes):
    broken = copied_lanes.migrations_dir / "0099_broken.sql"
    broken.write_text("-- migrate:up\ncreate table imi.half (a int);\nselect 1 / 0;\n-- migrate:down\n")
    with pytest.raises(DatabaseError, match=r"dbmate up failed: .*division by zero"):
        await deploy.migrate(empty_database.url, found=copied_lanes)
    broken.unlink()
    assert await deploy.migrate(empty_database.url, found=copied_lanes)
    async with pool.connect_owner(empty_database.url) as owner:
        assert await owner.fetchval("select to_regclass('imi.half')") is None


async def test_a_release_is_told_apart_by_what_it_brings(fresh_database, copied_lanes):
    assert not await deploy.migrate(fresh_database.url, found=copied_lanes)
    with (copied_lanes.sql_dir / "prelude.sql").open("a") as prelude:
        prelude.write("create or replace function logic.toy() returns int language sql return 42;\n")
    assert await deploy.migrate(fresh_database.url, found=copied_lanes)
    assert not await deploy.migrate(fresh_database.url, found=copied_lanes)
    assert await deploy.migrate(fresh_database.url)
    async with pool.connect_owner(fresh_database.url) as owner:
        assert await owner.fetchval("select to_regproc('logic.toy')") is None


async def test_a_release_can_be_rolled_back_to_the_one_before(fresh_database, copied_lanes):
    newer = copied_lanes.migrations_dir / "0099_more.sql"
    newer.write_text("-- migrate:up\ncreate table imi.more (a int);\n-- migrate:down\ndrop table imi.more;\n")
    assert await deploy.migrate(fresh_database.url, found=copied_lanes)
    assert await deploy.migrate(fresh_database.url), "the older release loads its own functions"
    assert not await deploy.migrate(fresh_database.url)
    assert await deploy.rollback(fresh_database.url, copied_lanes) == "0099"
    assert await deploy.migrate(fresh_database.url)
    assert (await deploy.status(fresh_database.url))["up_to_date"]


async def test_a_missing_login_is_made_again(fresh_database):
    name = f"{fresh_database.name}_worker"
    superuser = await fresh_database.connect("superuser")
    await superuser.execute(f'drop role "{name}"')
    assert await deploy.migrate(fresh_database.url)
    assert await superuser.fetchval("select rolcanlogin from pg_roles where rolname = $1", name)
    await superuser.execute("delete from imi_meta.secrets")
    assert await deploy.migrate(fresh_database.url)
    await superuser.close()
    worker = await fresh_database.connect("worker")
    assert await worker.fetchval("select pg_has_role('imi_worker', 'usage')")
    await worker.close()


async def test_the_logins_have_their_limits(connect):
    names = [
        "default_transaction_read_only",
        "statement_timeout",
        "idle_in_transaction_session_timeout",
        "transaction_timeout",
        "TimeZone",
    ]
    for who in roles.KINDS:
        login = await connect(who)
        read_only = "on" if who == "reader" else "off"
        found = [await login.fetchval("select current_setting($1)", name) for name in names]
        assert found == [read_only, "10s", "5s", "30s", "UTC"]
        assert not await login.fetchval(
            "select rolsuper or rolcreaterole or rolcreatedb from pg_roles where rolname = current_user"
        )
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.execute("set role imi_owner")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await login.fetch("table imi_meta.secrets")


async def test_no_password_reaches_the_server_in_clear(fresh_database):
    superuser = await fresh_database.connect("superuser")
    rows = await superuser.fetch(
        """select rolpassword, value from pg_authid join imi_meta.secrets on name = rolname
           where name like current_database() || '%'"""
    )
    assert len(rows) == len(roles.KINDS)
    for stored, password in rows:
        assert stored.startswith("SCRAM-SHA-256$4096:") and password not in stored
    await superuser.close()


async def test_without_superuser(second_server):
    second_server.run(*DEPLOYER)
    host = second_server.url.partition("?host=")[2]
    for name in ("first", "second"):
        url = f"postgresql://deployer:its%20secret@/{name}?host={host}"
        assert await deploy.migrate(url)
        assert not await deploy.migrate(url)
        assert (await deploy.status(url))["up_to_date"]
        assert "its%20secret" not in (await deploy.status(url))["url"]
        async with pool.pools(url, Settings()) as pools:
            assert await pools.api.fetchval("select current_user") == f"{name}_api"
            assert await pools.reader.fetchval("show default_transaction_read_only") == "on"
        assert await deploy.rollback(url) == list(lanes().migrations())[-1]
        assert await deploy.migrate(url)
        async with pool.connect_owner(url) as owner:
            owners = await owner.fetch(
                """select distinct relowner::regrole::text from pg_class
                   where relnamespace::regnamespace::text = any ($1)""",
                archive.SCHEMAS,
            )
        assert [row[0] for row in owners] == ["imi_owner"]


async def test_a_login_that_may_not_is_told_what_it_needs(second_server):
    second_server.run("create role weak login password 'x'", "create database poor")
    url = f"postgresql://weak:x@/poor?host={second_server.url.partition('?host=')[2]}"
    with pytest.raises(
        DatabaseError, match=r"The login weak of IMI_DATABASE_URL may not do that .*: it needs CREATEROLE"
    ):
        await deploy.migrate(url)


async def test_an_older_server_is_refused(empty_database, monkeypatch):
    monkeypatch.setattr(deploy, "OLDEST", 99)
    with pytest.raises(DatabaseError, match=r"iMi needs PostgreSQL 99 or newer, and this server is 18\."):
        await deploy.migrate(empty_database.url)


async def test_what_cannot_be_connected_to_is_one_sentence(server, data_dir, empty_database):
    with pytest.raises(
        DatabaseError, match='database "nobody" does not exist: make it with `create database`'
    ):
        await deploy.migrate(server.url_of("nobody"))
    for url in (
        f"postgresql://x@/x?host={data_dir}",
        "postgresql://x:secret@127.0.0.1:1/x",
        "postgresql://[/x",
    ):
        with pytest.raises(DatabaseError, match="Cannot connect to the database: ") as raised:
            await deploy.migrate(url)
        assert "secret" not in str(raised.value)
    with pytest.raises(DatabaseError, match="is not migrated to this release: run `imi db migrate`"):
        async with pool.pools(empty_database.url, Settings()):
            pass


@pytest.mark.parametrize("name", ["imi", "x" * 57])
async def test_a_database_whose_logins_cannot_be_named_is_refused(server: Server, name: str):
    server.run(f"create database {name}")
    with pytest.raises(DatabaseError, match=r"The database(?:'s name is too long| cannot be called imi)"):
        await deploy.migrate(server.url_of(name))
    server.run(f"drop database {name}")


def test_a_wheel_carries_both_lanes(copied_lanes: Lanes, tmp_path, monkeypatch):
    package = tmp_path / "site-packages/imi"
    (package / "lanes").mkdir(parents=True)
    for name in ("db", "sql"):
        (tmp_path / name).rename(package / "lanes" / name)
    (package / "lanes/dbmate.yml").write_bytes(
        (lanes().migrations_dir.parents[1] / "dbmate.yml").read_bytes()
    )
    here = lanes()
    monkeypatch.setattr(imi, "__file__", str(package / "__init__.py"))
    there = lanes()
    assert there.sql_dir == package / "lanes/sql"
    assert there.packaged and not here.packaged
    assert there.fingerprint() == here.fingerprint()
    assert (
        dataclasses.replace(there, **{f.name: getattr(here, f.name) for f in dataclasses.fields(here)})
        == here
    )
    (package / "lanes/dbmate.yml").unlink()
    with pytest.raises(DatabaseError, match="lacks its SQL files"):
        lanes()
