"""sql/reports.sql: the figures, each by its rule."""

import uuid
from datetime import date, timedelta

import pytest

DAY = timedelta(days=1)
COMMIT = "a" * 40


@pytest.fixture
def stuck(db, item):
    async def reason():
        row = await db.fetchrow(
            "select reason, stuck_for from analytics.stuck_work where work_item_id = $1", item["id"]
        )
        return row and tuple(row)

    return reason


@pytest.fixture
async def project(call, at):
    """Registered on the first of June; so is everything that stands on it."""
    await at("2026-06-01T00:00Z")
    made = await call("api.project_register", body={"remote_origin": "git@github.com:acme/rocket.git"})
    return made["body"]


async def test_lead_time_runs_from_the_start_over_the_merge_to_the_first_production_deploy(
    db, call, item, at
):
    async def deploy(environment, deploy_id):
        body = {
            "work_item_id": item["id"],
            "deploy_id": deploy_id,
            "environment": environment,
            "commit_hash": COMMIT,
        }
        await call("api.link_deploy", body=body)

    for ticket in ("R-2", "R-1"):
        await call("api.link_ticket", body={"work_item_id": item["id"], "plane_ticket_id": ticket})
    assert await db.fetchrow("select * from analytics.lead_times") is None
    await at("2026-06-03T00:00Z")
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "merged"})
    await deploy("staging", "d1")
    row = await db.fetchrow("select * from analytics.lead_times")
    assert (row["to_merge"], row["to_production"], row["tickets"]) == (2 * DAY, None, ["R-1", "R-2"])
    for day, deploy_id in ((6, "d2"), (9, "d3")):
        await at(f"2026-06-0{day}T00:00Z")
        await deploy("Prod-eu", deploy_id)
    row = await db.fetchrow("select * from analytics.lead_times")
    assert (row["to_merge"], row["merge_to_production"], row["to_production"]) == (2 * DAY, 3 * DAY, 5 * DAY)


async def test_work_that_was_not_merged_has_no_lead_time(db, call, item):
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    assert await db.fetch("select * from analytics.lead_times") == []


async def test_work_in_progress_counts_active_work_once_an_owner(db, call, project, item, at):
    async def start(branch, owner):
        body = {"project_id": project["id"], "branch_name": branch, "owner_id": owner}
        return (await call("api.work_start", body=body))["body"]

    ended = await start("feat/done", "ada")
    await call("api.work_complete", work_item_id=ended["id"], body={"completion_type": "merged"})
    await start("feat/other", "grace")
    dirty = {"has_uncommitted_changes": True, "ahead_of_trunk": 2}
    await at("2026-06-02T00:00Z")
    await call("api.work_git_state_update", work_item_id=item["id"], body=dirty)
    await call("api.work_claim", work_item_id=item["id"], body={"agent_id": "claude-7", "ttl_seconds": 60})
    columns = "owner_id, active_items, in_flight_items, uncommitted_items, claimed_items, projects"
    rows = f"select {columns} from analytics.wip_by_owner order by owner_id"
    assert [tuple(row) for row in await db.fetch(rows)] == [("ada", 1, 1, 1, 1, 1), ("grace", 1, 0, 0, 0, 1)]
    await at("2026-06-02T00:02Z")
    assert await db.fetchval("select claimed_items from analytics.wip_by_owner where owner_id = 'ada'") == 0


async def test_clean_work_is_stuck_after_a_week(stuck, at):
    await at("2026-06-07T23:59Z")
    assert await stuck() is None
    await at("2026-06-08T00:00Z")
    assert await stuck() == ("idle", 7 * DAY)


async def test_work_in_flight_is_stuck_after_three_silent_days_whatever_its_heartbeat(stuck, call, item, at):
    report = {"work_item_id": item["id"], "body": {"ahead_of_trunk": 1}}
    await at("2026-06-02T00:00Z")
    await call("api.work_git_state_update", **report)
    await at("2026-06-04T00:00Z")
    await call("api.work_git_state_update", **report)
    await at("2026-06-05T00:00Z")
    assert await stuck() == ("silent", 3 * DAY)


async def test_activity_is_a_sign_of_life(stuck, call, item, at):
    await call("api.work_git_state_update", work_item_id=item["id"], body={"ahead_of_trunk": 1})
    await at("2026-06-03T12:00Z")
    activity = {"id": str(uuid.uuid4()), "work_item_id": item["id"], "activity_type": "commit"}
    await call("api.activity_report", body=[activity])
    await at("2026-06-05T00:00Z")
    assert await stuck() is None
    await at("2026-06-06T12:00Z")
    assert await stuck() == ("silent", 3 * DAY)


async def test_a_review_is_waited_for_three_days(stuck, call, item, at):
    body = {"work_item_id": item["id"], "pr_number": 1, "pr_url": "https://github.com/acme/rocket/pull/1"}
    link = (await call("api.link_pr", body=body))["body"]
    await at("2026-06-04T00:00Z")
    assert await stuck() == ("review_waits", 3 * DAY)
    await call("api.link_pr_update", pr_link_id=link["id"], body={"pr_state": "closed"})
    assert await stuck() is None


async def test_a_lease_that_ran_out_comes_before_any_other_reason(stuck, call, item, at):
    await call("api.work_claim", work_item_id=item["id"], body={"agent_id": "codex-2", "ttl_seconds": 86400})
    await at("2026-06-01T23:59Z")
    assert await stuck() is None
    await at("2026-06-09T00:00Z")
    assert await stuck() == ("lease_expired", 7 * DAY)
    await call("api.work_claim", work_item_id=item["id"], body={"agent_id": "claude-7"})
    assert await stuck() is None
    await call("api.work_release", work_item_id=item["id"], body={"agent_id": "claude-7"})
    assert await stuck() == ("idle", 8 * DAY)
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    assert await stuck() is None


async def test_a_deploy_of_three_items_is_one_deploy_and_its_day_is_utc(db, call, project, item):
    await db.execute("set local timezone = 'Pacific/Auckland'")
    other = await call(
        "api.work_start", body={"project_id": project["id"], "branch_name": "feat/b", "owner_id": "ada"}
    )
    for work_item_id, deploy_id, time in (
        (item["id"], "d1", "2026-06-02T23:59:59Z"),
        (other["body"]["id"], "d1", "2026-06-02T23:59:59Z"),
        (item["id"], "d2", "2026-06-02T00:00:00Z"),
        (item["id"], "d3", "2026-06-03T00:00:00Z"),
    ):
        body = {"work_item_id": work_item_id, "deploy_id": deploy_id, "environment": "production"}
        await call("api.link_deploy", body=body | {"commit_hash": COMMIT, "deployed_at": time})
    rows = await db.fetch("select day, deploys, work_items from analytics.deploy_frequency order by day")
    assert [tuple(row) for row in rows] == [(date(2026, 6, 2), 2, 2), (date(2026, 6, 3), 1, 1)]


async def test_fan_in_counts_each_dependent_once_and_survives_cycles(db, call, project):
    components = {}
    for name in "abcdef":
        body = {"parent_project_id": project["id"], "name": name, "path": name, "kind": "local"}
        components[name] = (await call("api.component_register", body=body))["body"]["id"]

    async def relate(pairs, kind="depends_on"):
        for source, target in pairs:
            body = {"target_component_id": components[target], "relationship_type": kind}
            await call("api.component_relate", component_id=components[source], body=body)

    # b and c stand on a, d on both; e and d on each other; f on nothing
    await relate(["ba", "ca", "db", "dc", "ed", "de"])
    await relate(["ba"], "consumes_events_from")
    fan_in = {row["component"]: row for row in await db.fetch("select * from analytics.component_fan_in")}
    assert {name: tuple(row["dependents"]) for name, row in fan_in.items()} == {
        "a": ("b", "c", "d", "e"),
        "b": ("d", "e"),
        "c": ("d", "e"),
        "d": ("e",),
        "e": ("d",),
        "f": (),
    }
    assert [(fan_in[n]["direct_dependents"], fan_in[n]["transitive_dependents"]) for n in "af"] == [
        (2, 4),
        (0, 0),
    ]
    for name, row in fan_in.items():
        graph = await call("api.component_graph", component_id=components[name], direction="in")
        assert sorted(node["name"] for node in graph["nodes"] if node["depth"]) == row["dependents"]


async def test_events_by_day_counts_types_and_actors(db, call, item, at):
    for day, actor in ((2, "ada"), (2, "grace"), (2, "ada"), (3, "ada")):
        await at(f"2026-06-0{day}T12:00Z")
        await call(
            "api.event_publish", body={"event_type": "test.ran", "payload": {}}, context={"actor": actor}
        )
    rows = await db.fetch(
        "select day, events, actors from analytics.events_by_day where event_type = 'test.ran' order by day"
    )
    assert [tuple(row) for row in rows] == [(date(2026, 6, 2), 3, 2), (date(2026, 6, 3), 1, 1)]


async def test_a_handoff_is_measured_to_its_first_acceptance(db, call, at):
    async def publish(time, event_type, *causes):
        await at(time)
        payload = {"workflow_id": str(uuid.uuid4()), "from_agent": "planner", "to_agent": "coder"}
        body = {"event_type": event_type, "correlation_ids": list(causes), "payload": payload}
        return (await call("api.event_publish", body=body))["body"]["event_id"]

    request = await publish("2026-06-01T00:00Z", "bmad.workflow.handoff.requested")
    await publish("2026-06-01T00:01Z", "agent.note.taken", request)
    waiting = await db.fetchrow("select latency, waited, accepted_at from analytics.handoff_latency")
    assert tuple(waiting) == (None, timedelta(minutes=1), None)
    await publish("2026-06-01T00:09Z", "agent.handoff.accepted", request)
    first = await publish("2026-06-01T00:05Z", "agent.handoff.accepted", request)
    rows = await db.fetch(
        "select latency, waited, accepted_event_id, to_agent from analytics.handoff_latency"
    )
    assert [tuple(row) for row in rows] == [
        (timedelta(minutes=5), timedelta(minutes=5), uuid.UUID(first), "coder")
    ]
