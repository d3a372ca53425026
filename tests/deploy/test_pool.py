"""Where the database is, and the two pools to it."""

from __future__ import annotations

import asyncio

import asyncpg
import pytest

from imi.config import Settings
from imi.database import DatabaseError, pool, programs
from imi.database.cluster import wheel

SMALL = Settings(database_pool_size=1, database_max_overflow=1)


async def test_a_url_is_where_the_database_is(database):
    settings = Settings(database_url=database.url)
    async with pool.located(settings) as url:
        assert url == database.url


async def test_without_a_url_it_is_in_the_data_directory(data_dir):
    async with pool.located(Settings(data_dir=data_dir)) as url:
        assert url == f"postgresql://postgres@/imi_main?host={data_dir}/run"
        with pytest.raises(DatabaseError, match="run `imi db migrate`"):
            async with pool.connect_owner(url):
                pass


async def test_where_nothing_may_be_made_nothing_is(data_dir):
    for folder in (data_dir, data_dir / "none" / "deeper"):
        with pytest.raises(DatabaseError, match=f"There is no iMi in {folder}: start `imi up` there, or set"):
            async with pool.located(Settings(data_dir=folder), makes=False):
                pass
    assert list(data_dir.iterdir()) == []
    (data_dir / "file").write_text("")
    with pytest.raises(DatabaseError, match="There is no iMi in"):
        async with pool.located(Settings(data_dir=data_dir / "file"), makes=False):
            pass
    here = Settings(data_dir=data_dir)
    async with pool.located(here) as url, pool.located(here, makes=False) as found:
        assert found == url


async def test_each_pool_is_its_login_and_no_larger_than_said(database):
    async with pool.pools(database.url, SMALL) as pools:
        for each, kind in ((pools.api, "api"), (pools.reader, "reader")):
            async with each.acquire() as one, each.acquire() as two:
                assert await one.fetchval("select current_user") == f"{database.name}_{kind}"
                assert await two.fetchval("select current_setting('jit')") == "off"
                with pytest.raises(TimeoutError):
                    await each.acquire(timeout=0.05)


async def test_a_connection_is_not_reset_when_it_goes_back(database):
    async with pool.pools(database.url, SMALL) as pools:
        await pools.api.execute("set application_name = 'stays'")
        assert await pools.api.fetchval("show application_name") == "stays"


async def test_a_reader_cannot_write_where_a_writer_can(database):
    async with pool.pools(database.url, SMALL) as pools:
        await pools.reader.fetch("select api.project_list()")
        await pools.api.execute("create temporary table note ()")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await pools.reader.fetch("select api.project_register(null, null)")
        async with pools.reader.acquire() as reader:
            with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
                await reader.execute("create temporary table note ()")


async def test_connections_that_the_server_dropped_are_made_again(database, connect):
    superuser = await connect("superuser")
    async with pool.pools(database.url, SMALL) as pools:
        first = await pools.api.fetchval("select pg_backend_pid()")
        await superuser.fetch(
            "select pg_terminate_backend(pid) from pg_stat_activity where usename = $1",
            f"{database.name}_api",
        )
        async with asyncio.timeout(30):
            while True:
                try:
                    assert await pools.api.fetchval("select pg_backend_pid()") != first
                    break
                except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError):
                    continue


async def test_a_login_whose_password_was_changed_is_one_sentence(fresh_database):
    superuser = await fresh_database.connect("superuser")
    await superuser.execute(f"alter role {fresh_database.name}_reader password 'other'")
    await superuser.close()
    with pytest.raises(DatabaseError, match="Cannot connect to the database: password authentication failed"):
        async with pool.pools(fresh_database.url, SMALL):
            pass


@pytest.mark.parametrize(
    ("url", "bare", "password"),
    [
        (
            "postgresql://me:a%2Fb@host:1/db?sslmode=require",
            "postgresql://me@host:1/db?sslmode=require",
            "a/b",
        ),
        ("postgresql://me@/db?host=/run&password=x", "postgresql://me@/db?host=/run", "x"),
        ("postgresql://me@/db?host=/a%20b+c&pass%77ord=x", "postgresql://me@/db?host=/a%20b+c", "x"),
        ("postgresql://h/db?options=-c%20a%3Db", "postgresql://h/db?options=-c%20a%3Db", None),
        ("postgresql://me@[::1]/db", "postgresql://me@[::1]/db", None),
        ("postgresql:///db", "postgresql:///db", None),
    ],
)
def test_a_password_is_kept_out_of_arguments(url, bare, password):
    assert programs.without_password(url) == (bare, password)


def test_programs_come_from_the_wheel_or_for_other_servers_from_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    own, far, near = str(wheel() / "bin"), "postgresql://me@db.example/x", "postgresql://me@/x?host=/run"
    assert programs.program("pg_dump", far) == f"{own}/pg_dump"
    for name, version in (("psql", "psql (PostgreSQL) 15.1"), ("pg_dump", "pg_dump (PostgreSQL) 15.1")):
        (tmp_path / name).write_text(f"#!/bin/sh\necho '{version}'\n")
        (tmp_path / name).chmod(0o755)
    assert programs.program("psql", far) == str(tmp_path / "psql")
    assert programs.program("pg_dump", far) == f"{own}/pg_dump"
    (tmp_path / "pg_dump").write_text("#!/bin/sh\necho 'pg_dump (PostgreSQL) 19beta1'\n")
    assert programs.program("pg_dump", far) == str(tmp_path / "pg_dump")
    assert programs.program("pg_dump", near) == f"{own}/pg_dump"
