"""sql/analytics.sql: the registry and the log as views."""

import asyncpg
import pytest

VIEWS = (
    "projects", "work_items", "claims", "worktrees", "agents", "links", "trace", "components", "component_edges", "events",
    "workflows", "agent_sessions", "lead_times", "wip_by_owner", "stuck_work", "deploy_frequency", "component_fan_in",
    "events_by_day", "handoff_latency",
)  # fmt: skip


@pytest.fixture(autouse=True)
def sample(sampled):
    """All of these look at the sample."""


async def plan(db, query):
    return "\n".join(row[0] for row in await db.fetch(f"explain (costs off) {query}"))


async def test_an_analyst_reads_every_view_and_nothing_else(connect):
    db = await connect("superuser")
    await db.execute("set role imi_analyst")
    for view in VIEWS:
        assert await db.fetch(f"select * from analytics.{view}"), view
    for forbidden in ("imi.projects", "bloodbank.events", "logic.work_documents", "ops.keys"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.fetch(f"select * from {forbidden}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await db.execute("delete from analytics.projects")


async def test_there_are_no_other_views(db):
    found = await db.fetch(
        "select relname from pg_class where relnamespace = 'analytics'::regnamespace and relkind = 'v'"
    )
    assert {row[0] for row in found} == set(VIEWS)


async def test_work_items_say_what_the_api_says(db):
    differing = """
        select item.work_item_id from analytics.work_items as item
        full join logic.work_documents as document on document.id = item.work_item_id
        where (item.status, item.active, item.started_at) is distinct from (document.status, document.active, document.created_at)
          or item.in_flight <> exists (select from logic.work_in_flight as flying where flying.id = item.work_item_id)
          or item.claimed_by is distinct from document.claim ->> 'agent_id'
    """
    assert await db.fetch(differing) == []
    assert await db.fetchval("select count(*) from analytics.work_items where in_flight") == 4


async def test_age_stops_at_completion(db, at):
    await at("2100-01-01T00:00Z")
    ages = await db.fetch(
        """select branch_name, age from analytics.work_items
           where age = coalesce(completed_at, '2100-01-01T00:00Z') - started_at"""
    )
    assert len(ages) == await db.fetchval("select count(*) from imi.work_items")


async def test_projects_count_as_the_api_does(db):
    differing = """
        select project_id from analytics.projects full join logic.project_documents as document on document.id = project_id
        where (active_items, in_flight_items) is distinct from (document.work_item_count, document.inflight_count)
    """
    assert await db.fetch(differing) == []


async def test_a_moved_project_shows_its_present_remote_first(db, call):
    found = await db.fetchval("select project_id from analytics.projects where project = 'atlas'")
    await call(
        "api.project_update", project_id=found, body={"remote_origin": "https://git.acme.example/atlas"}
    )
    keys = await db.fetchval("select remote_keys from analytics.projects where project_id = $1", found)
    assert keys == ["git.acme.example/atlas", "github.com/acme/atlas"]


async def test_a_claim_shows_until_it_is_released(db, at):
    holders = "select agent_id, expired from analytics.claims order by agent_id"
    assert [tuple(row) for row in await db.fetch(holders)] == [("claude-7", False), ("codex-2", True)]
    assert await db.fetchval("select count(*) from imi.claims") == 3
    await at("2100-01-01T00:00Z")
    assert [row["expired"] for row in await db.fetch(holders)] == [True, True]
    assert await db.fetchval("select count(claimed_by) from analytics.work_items") == 0


async def test_every_link_is_one_row(db):
    kinds = dict(await db.fetch("select kind, count(*) from analytics.links group by kind"))
    tables = {kind: await db.fetchval(f"select count(*) from imi.{kind}_links") for kind in kinds}
    assert kinds == tables and len(kinds) == 3
    assert await db.fetchval("select bool_and(evidence ->> 'rule' = 'api') from analytics.links")


async def test_a_trace_is_flat_and_keeps_work_without_links(db):
    rows = await db.fetch(
        """select branch_name, pr_number, deploy_id from analytics.trace
           where plane_ticket_id = 'ATLAS-12' order by deployed_at"""
    )
    assert [tuple(row) for row in rows] == [
        ("feat/map-tiles", 41, "atlas-101"),
        ("feat/map-tiles", 41, "atlas-102"),
    ]
    distinct = "select count(distinct work_item_id) from analytics.trace"
    assert await db.fetchval(distinct) == await db.fetchval("select count(*) from imi.work_items")


async def test_components_name_both_ends_and_their_project(db):
    edge = await db.fetchrow("select * from analytics.component_edges where source_component = 'dashboard'")
    assert (edge["target_component"], edge["relationship_type"], edge["project"]) == (
        "gateway",
        "depends_on",
        "meta",
    )
    linked = "select linked_project from analytics.components where component = 'beacon'"
    assert await db.fetchval(linked) == "beacon"


async def test_events_say_who_and_in_which_workflow(db):
    accepted = await db.fetchrow(
        "select * from analytics.events where event_type = 'agent.handoff.accepted' order by position limit 1"
    )
    assert (accepted["actor"], accepted["agent_type"], accepted["host"]) == ("letta", "claude_code", "sample")
    started = await db.fetchrow(
        "select * from analytics.events where correlation_ids = array[$1::uuid] and event_type = 'imi.work.started'",
        accepted["event_id"],
    )
    assert (started["app"], started["actor"]) == ("imi", "claude-7")
    assert accepted["workflow_id"] in {
        str(row[0]) for row in await db.fetch("select workflow_id from analytics.workflows")
    }


async def test_what_is_not_asked_for_costs_nothing(db):
    assert "SubPlan" not in await plan(db, "select project from analytics.projects")
    counted = await plan(db, "select count(*) from analytics.work_items where status = 'merged'")
    assert "claims" not in counted and counted.count(" on work_items") == 1, counted


async def test_a_name_means_the_same_in_every_view(db):
    """So that views join with `using`."""
    types = """select attname, array_agg(distinct format_type(atttypid, atttypmod)) from pg_attribute
      where attrelid in (select oid from pg_class where relnamespace = 'analytics'::regnamespace) group by 1"""
    assert {name: found for name, found in await db.fetch(types) if len(found) > 1} == {}


async def test_filters_reach_the_indexes(db):
    await db.execute("set local enable_seqscan = off")
    for query, index in (
        ("trace where plane_ticket_id = 'ATLAS-12'", "ticket_links_by_ticket"),
        (
            "links where kind = 'pr' and work_item_id = '00000000-0000-7000-8000-000000000000'",
            "one_link_per_pr",
        ),
        ("work_items where in_flight", "work_in_flight_by"),
        ("events where workflow_id = 'x'", "events_by_workflow"),
        ("lead_times where work_item_id = '00000000-0000-7000-8000-000000000000'", "work_items_pkey"),
    ):
        assert index in await plan(db, f"select * from analytics.{query}"), query
