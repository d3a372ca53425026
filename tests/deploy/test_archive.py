"""Backups and restores: everything comes back, into another server too, and no reader loses an event."""

from __future__ import annotations

import asyncio
import json

import asyncpg
import pytest

from imi.config import Settings
from imi.database import DatabaseError, archive, deploy, pool

CONTEXT = json.dumps({"actor": "tester", "scope": "admin", "host": "here", "correlation_ids": []})


async def contents(connection: asyncpg.Connection) -> dict[str, list[asyncpg.Record]]:
    """Every row of every table of the state lane."""
    tables = "select relid::regclass::text from pg_stat_user_tables where schemaname in ('imi', 'bloodbank')"
    return {
        name: await connection.fetch(f"select * from {name} as row order by row::text")
        for (name,) in await connection.fetch(tables)
    }


async def publish(connection: asyncpg.Connection, event_type: str) -> int:
    body = json.dumps({"event_type": event_type, "payload": {}})
    answer = await connection.fetchval(
        "select body from api.event_publish(p_body => $1::text::json, p_context => $2::text::json)",
        body,
        CONTEXT,
    )
    return json.loads(answer)["cursor"]


async def read(connection: asyncpg.Connection, after: int) -> list[str]:
    answer = await connection.fetchval(
        "select body from api.event_list(p_after => $1::bigint, p_limit => 1000)", after
    )
    return [event["event_type"] for event in json.loads(answer)]


async def test_everything_comes_back_on_another_server(fresh_database, second_server, tmp_path):
    await deploy.sample(fresh_database.url)
    file = tmp_path / "it.dump"
    await archive.backup(fresh_database.url, file)
    assert file.stat().st_mode & 0o777 == 0o600
    second_server.run("create database again")
    url = second_server.url_of("again")
    await archive.restore(url, file)
    assert not await deploy.migrate(url)
    async with pool.connect_owner(fresh_database.url) as here, pool.connect_owner(url) as there:
        kept = await contents(here)
        assert len([name for name, rows in kept.items() if rows]) > 12
        assert await contents(there) == kept
    async with pool.pools(url, Settings()) as pools:
        projects = json.loads(await pools.reader.fetchval("select api.project_list(p_active => 'all')"))
        assert projects["total"] == len(kept["imi.projects"])


async def test_a_cursor_from_after_the_backup_hides_no_later_event(fresh_database, tmp_path):
    owner = await fresh_database.connect()
    await publish(owner, "before.the.backup")
    await archive.backup(fresh_database.url, tmp_path / "it.dump")
    cursor = max([await publish(owner, f"lost.{n}") for n in range(5)])
    assert await read(owner, cursor) == []
    await owner.close()
    await archive.restore(fresh_database.url, tmp_path / "it.dump", replace=True)
    owner = await fresh_database.connect()
    assert await read(owner, 0) == ["before.the.backup"]
    await publish(owner, "after.the.restore")
    assert await read(owner, cursor) == ["after.the.restore"]
    await owner.close()


async def test_a_backup_holds_no_password(fresh_database, tmp_path):
    async with pool.connect_owner(fresh_database.url) as owner:
        passwords = [row[0] for row in await owner.fetch("select value from imi_meta.secrets")]
    await archive.backup(fresh_database.url, tmp_path / "it.dump")
    text = await archive.run("pg_dump", fresh_database.url, "--schema=imi_meta")
    assert passwords and all(word.encode() in text for word in passwords)
    assert not any(word.encode() in (tmp_path / "it.dump").read_bytes() for word in passwords)


async def test_what_is_there_is_replaced_only_when_said(fresh_database, tmp_path):
    await deploy.sample(fresh_database.url)
    await archive.backup(fresh_database.url, tmp_path / "it.dump")
    with pytest.raises(DatabaseError, match="The database is not empty: say --yes"):
        await archive.restore(fresh_database.url, tmp_path / "it.dump")
    await archive.restore(fresh_database.url, tmp_path / "it.dump", replace=True)


@pytest.mark.parametrize("part", [0.5, 0.95])
async def test_a_damaged_backup_changes_nothing(fresh_database, tmp_path, part):
    await deploy.sample(fresh_database.url)
    await archive.backup(fresh_database.url, tmp_path / "it.dump")
    whole = (tmp_path / "it.dump").read_bytes()
    (tmp_path / "half.dump").write_bytes(whole[: int(len(whole) * part)])
    async with pool.connect_owner(fresh_database.url) as owner:
        before = await contents(owner)
        with pytest.raises(DatabaseError, match="pg_restore failed"):
            await archive.restore(fresh_database.url, tmp_path / "half.dump", replace=True)
        assert await contents(owner) == before


async def test_objects_of_others_stop_a_restore_and_a_reset(fresh_database, tmp_path):
    await archive.backup(fresh_database.url, tmp_path / "it.dump")
    superuser = await fresh_database.connect("superuser")
    await superuser.execute(
        """create schema bi; create view bi.mine as select id from imi.projects;
           create table bi.notes (project uuid constraint note_is_on_a_project references imi.projects)"""
    )
    others = r"stand on them: constraint note_is_on_a_project on table bi\.notes, view bi\.mine\. Drop"
    with pytest.raises(DatabaseError, match=others):
        await archive.restore(fresh_database.url, tmp_path / "it.dump", replace=True)
    with pytest.raises(DatabaseError, match=others):
        await archive.reset(fresh_database.url)
    await superuser.execute("drop schema bi cascade")
    await superuser.close()
    await archive.reset(fresh_database.url)


async def test_a_backup_that_cannot_be_written_is_one_sentence(fresh_database, tmp_path):
    with pytest.raises(DatabaseError, match=r"Cannot write the backup .*: No such file or directory"):
        await archive.backup(fresh_database.url, tmp_path / "nowhere/it.dump")
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseError, match=r"Cannot make .*/file/backups"):
        archive.folder(tmp_path / "file")


async def test_a_backup_a_day_and_seven_are_kept(fresh_database, tmp_path):
    folder = archive.folder(tmp_path)
    for day in range(1, 10):
        (folder / f"imi-2020-01-0{day}.dump").write_text("old")
    (folder / "imi-2020-01-01T000000Z.dump").write_text("made by hand")
    keeping = asyncio.create_task(archive.daily(fresh_database.url, tmp_path))
    async with asyncio.timeout(30):
        while len(list(folder.iterdir())) != 8:
            await asyncio.sleep(0.02)
    keeping.cancel()
    names = sorted(file.name for file in folder.iterdir())
    assert names[:2] == ["imi-2020-01-01T000000Z.dump", "imi-2020-01-04.dump"]
    assert (folder / names[-1]).read_bytes().startswith(b"PGDMP")
