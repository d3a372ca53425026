"""Plans: what is asked all the time reads a few rows by an index, however much there is.

Judged by PostgreSQL's own counters of the transaction, around the real functions as the reader's login calls them,
often enough that a kept plan takes over where one is kept.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import asyncpg
import pytest

from tests.conftest import Database, wait_for

Read = Callable[[str], Awaitable[dict[str, tuple[int, int]]]]

SEED = Path(__file__).parents[1] / "bench/seed.sql"
PROJECTS, BUSY = 2000, 30  # 20,000 work items, 1,500 of them in flight, 40,000 events
TIMES = 7  # after five calls plpgsql may keep a plan
COUNTERS = """
select schemaname || '.' || relname, seq_scan, seq_tup_read + coalesce(idx_tup_fetch, 0)
from pg_stat_xact_user_tables
where schemaname in ('imi', 'bloodbank')
"""
PROJECT = "00000000-0000-7000-8000-{:012x}"
WORK = "00000000-0000-7000-9000-{:012x}"
LARGE = {
    *(f"imi.{name}" for name in ("projects", "project_remotes", "work_items", "ticket_links", "pr_links", "deploy_links")),
    *(f"bloodbank.{name}" for name in ("events", "causes")),
}  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def seeded(database: Database) -> None:
    async def seed() -> None:
        connection = await database.connect("superuser")
        await connection.execute(f"set bench.projects = {PROJECTS}; set bench.busy = {BUSY}")
        await connection.execute(SEED.read_text())
        await connection.execute("vacuum (analyze)")
        await connection.close()

    wait_for(seed())


async def counters(connection: asyncpg.Connection) -> dict[str, tuple[int, int]]:
    """Of each large table: its sequential scans, and the rows read from it."""
    return {name: (scans, rows) for name, scans, rows in await connection.fetch(COUNTERS) if name in LARGE}


@pytest.fixture
async def read(database: Database) -> AsyncIterator[Read]:
    """`await read("api.work_list(p_limit => 5)")`: the counters of one call, all of them on average."""
    connection = await database.connect("reader")

    async def read(call: str) -> dict[str, tuple[int, int]]:
        async with connection.transaction():
            for _ in range(TIMES):
                assert (
                    await connection.fetchval(
                        f"select count(*) from {call} as answer where answer is not null"
                    )
                    == 1
                )
            return {
                name: (scans, rows // TIMES) for name, (scans, rows) in (await counters(connection)).items()
            }

    yield read
    await connection.close()


@pytest.mark.parametrize(
    ("call", "most"),
    [
        (f"api.project_get('{PROJECT.format(77)}')", 50),
        ("api.project_by_origin('https://github.com/acme/service-77')", 50),
        (f"api.work_get('{WORK.format(77)}')", 50),
        ("api.work_inflight(p_limit => 50)", 100),
        (f"api.work_inflight(p_project_id => '{PROJECT.format(7)}')", 150),
        ("api.work_inflight(p_owner_id => 'agent-7')", 51 * BUSY),
        ("api.work_list(p_owner_id => 'agent-7')", 400),
        (f"api.work_list(p_project_id => '{PROJECT.format(77)}', p_active => 'all')", 150),
        ("api.work_list(p_source_ref => 'RKT-77', p_active => 'all')", 50),
        ("api.trace_get('ticket', 'RKT-77')", 50),
        ("api.trace_get('pr', '77')", 50),
        ("api.trace_get('pr', 'https://github.com/acme/pull/77')", 50),
        ("api.trace_get('deploy', 'deploy-77')", 50),
        ("api.trace_get('commit', bench.commit(77))", 50),
        ("api.trace_get('commit', left(bench.commit(77), 9))", 50),
        ("api.trace_get('branch', 'feat/change-77')", 50),
        (f"api.trace_get('work_item', '{WORK.format(77)}')", 50),
        ("api.event_list(p_event_type => 'git.commit.pushed', p_limit => 50)", 400),
        ("api.event_list(p_event_type => 'git.#', p_limit => 50)", 400),
        ("api.event_list(p_start_time => '2025-03-01Z', p_end_time => '2025-03-02Z', p_limit => 50)", 100),
        ("api.event_list(p_after => 20000, p_limit => 50)", 100),
        ("api.event_list(p_correlation_id => '00000000-0000-7000-8800-00000000004d')", 50),
        ("api.event_get('00000000-0000-7000-8800-00000000004d')", 50),
    ],
)
async def test_common_reads_use_indexes(read: Read, call: str, most: int) -> None:
    found = await read(call)
    assert not {name for name, (scans, _) in found.items() if scans}
    assert sum(rows for _, rows in found.values()) <= most, found


async def test_a_type_that_fell_silent_is_found_without_reading_what_came_since(
    database: Database, read: Read
) -> None:
    connection = await database.connect()
    await connection.execute("""
        insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
        select uuidv7(), 'git.noise', now() + n * interval '1 second', '1', '{}', '{}', 'local'
        from generate_series(1, 10000) as n""")
    await connection.close()
    superuser = await database.connect("superuser")
    await superuser.execute("vacuum (analyze) bloodbank.events")
    await superuser.close()
    found = await read("api.event_list(p_event_type => 'git.commit.pushed', p_limit => 50)")
    scans, rows = found["bloodbank.events"]
    assert not scans and rows <= 110


async def test_a_cursor_a_long_way_before_the_next_of_a_type_does_not_read_what_lies_between(
    read: Read,
) -> None:
    for filters in ("p_event_type => 'git.noise'", "p_start_time => '2099-01-01Z'"):
        found = await read(f"api.event_list(p_after => 1, {filters}, p_limit => 50)")
        scans, rows = found["bloodbank.events"]
        assert not scans and rows <= 10_000 + 110


async def test_a_missing_index_would_be_seen(database: Database) -> None:
    connection = await database.connect()
    async with connection.transaction():
        await connection.execute("drop index imi.work_in_flight_by_age, imi.work_in_flight_by_project")
        await connection.execute("drop index imi.one_active_item_per_branch")
        await connection.fetchval("select api.work_inflight()")
        scans, rows = (await counters(connection))["imi.work_items"]
        assert scans and rows >= 10 * PROJECTS
    await connection.close()
