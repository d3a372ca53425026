"""db/sample.sql: a few rows of everything, once."""

import asyncio

import pytest

from imi.bloodbank.relay import LEADER
from imi.database import deploy

pytestmark = pytest.mark.usefixtures("sampled")

# Replies are kept for requests only, and nobody has a queue.
EMPTY = {"imi.idempotency_keys", "bloodbank.bindings"}
TABLES = "select oid::regclass::text from pg_class where relnamespace::regnamespace::text in ('imi', 'bloodbank') and relkind = 'r'"


async def contents(db):
    tables = [row[0] for row in await db.fetch(TABLES)]
    rows = "select count(*), md5(string_agg(t::text, ' ' order by t::text)) from {} as t"
    return {table: tuple(await db.fetchrow(rows.format(table))) for table in tables}


async def test_there_is_something_in_every_table(db):
    assert {table for table, (count, _) in (await contents(db)).items() if count == 0} == EMPTY


async def test_again_it_changes_nothing(db, sampled):
    before = await contents(db)
    await deploy.sample(sampled.url)
    assert await contents(db) == before


async def test_two_at_once_make_one(fresh_database):
    await asyncio.gather(*[deploy.sample(fresh_database.url) for _ in range(2)])
    db = await fresh_database.connect()
    assert (
        await db.fetchval("select count(*) from bloodbank.events where event_type = 'bmad.workflow.started'")
        == 2
    )
    await db.close()


async def test_it_needs_nobody_to_stop(fresh_database):
    db = await fresh_database.connect()
    await db.execute("select pg_advisory_lock($1)", LEADER)
    async with asyncio.timeout(60):
        await deploy.sample(fresh_database.url)
    await db.close()


async def test_it_shows_every_status_and_kind(db):
    async def words(column, view):
        return {row[0] for row in await db.fetch(f"select distinct {column} from analytics.{view}")}

    active = await db.fetch("select distinct status from analytics.work_items where active")
    assert {row[0] for row in active} == {"clean", "uncommitted", "ahead", "behind", "diverged"}
    assert await words("completion_type", "work_items") == {None, "merged", "abandoned", "superseded"}
    assert await words("work_type", "work_items") == {
        "feature",
        "fix",
        "experiment",
        "review",
        "devops",
        "aiops",
    }
    assert await words("kind", "links") == {"ticket", "pr", "deploy"}
    assert await words("expired", "claims") == {True, False}
    assert await words("present", "worktrees") == {True, False}
    assert await words("agent_type", "agent_sessions") == {"letta"}  # as imi letta says, not the role
    assert await words("reason", "stuck_work") == {"lease_expired", "review_waits", "silent", "idle"}


async def test_its_log_is_a_story_that_ended_before_now(db):
    timestamps = [r[0] for r in await db.fetch('select "timestamp" from bloodbank.events order by position')]
    assert timestamps == sorted(timestamps)
    assert timestamps[-1] < await db.fetchval("select now()")
    unknown = (
        "select count(*) from bloodbank.causes where cause not in (select event_id from bloodbank.events)"
    )
    assert await db.fetchval(unknown) == 0
    assert await db.fetchval("select count(*) from bloodbank.causes") > 5


async def test_it_leaves_the_clock_alone(db):
    assert await db.fetchval("select logic.now() between now() and clock_timestamp()")
