"""Both lanes as a Sqitch project, deployed, verified and reverted by Sqitch itself."""

from __future__ import annotations

import asyncio
import shutil
from asyncio.subprocess import PIPE, STDOUT
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import pytest

from imi.database import DatabaseError, archive, pool, sqitch
from imi.database.lanes import lanes
from imi.database.programs import program
from tests.postgres import behaviour

pytestmark = pytest.mark.skipif(shutil.which("sqitch") is None, reason="needs sqitch: make needs")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    sqitch.write(tmp_path / "project")
    return tmp_path / "project"


async def run(project: Path, url: str, command: str, *arguments: str) -> str:
    host = urlsplit(url).query.partition("host=")[2]
    target = f"db:pg://postgres@/{urlsplit(url).path.strip('/')}?{urlencode({'host': host})}"
    process = await asyncio.create_subprocess_exec(
        "sqitch", command, *arguments, "--target", target, "--client", program("psql", url),
        cwd=project, stdout=PIPE, stderr=STDOUT,
    )  # fmt: skip
    said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()
    return said.decode()


async def test_sqitch_makes_what_the_migrate_step_makes(project, empty_database, fresh_database):
    assert "behaviour" in await run(project, empty_database.url, "deploy", "--verify")
    assert "Verify successful" in await run(project, empty_database.url, "verify")
    async with (
        pool.connect_owner(empty_database.url) as ours,
        pool.connect_owner(fresh_database.url) as theirs,
    ):
        made = {name: text for name, (_, text) in (await behaviour(ours)).items()}
        assert made == {name: text for name, (_, text) in (await behaviour(theirs)).items()}
    for database in (empty_database, fresh_database):
        async with pool.connect_owner(database.url) as owner:
            await owner.execute("drop schema logic, api, analytics, ops cascade")
    schema = (await archive.dump(empty_database.url, lanes())).partition("\n")[2]
    assert schema == (await archive.dump(fresh_database.url, lanes())).partition("\n")[2]
    async with pool.connect_owner(empty_database.url) as owner:
        await owner.execute(
            "create schema logic; create schema api; create schema analytics; create schema ops"
        )
    await run(project, empty_database.url, "revert", "-y")
    async with pool.connect_owner(empty_database.url) as owner:
        left = "select nspname from pg_namespace where nspname = any ($1)"
        assert await owner.fetch(left, archive.SCHEMAS) == []
    await run(project, empty_database.url, "deploy", "--verify")


def test_a_project_is_the_same_each_time_and_overwrites_nothing(project, tmp_path):
    sqitch.write(tmp_path / "again")
    for file in project.rglob("*.*"):
        assert (tmp_path / "again" / file.relative_to(project)).read_text() == file.read_text()
    with pytest.raises(DatabaseError, match="is not empty"):
        sqitch.write(project)
    with pytest.raises(DatabaseError, match="Cannot write the Sqitch project"):
        sqitch.write(project / "sqitch.plan/below")
