"""sql/stats.sql: every number there is, and every word of both maps."""

import uuid

import pytest

from tests.sql.conftest import CONTEXT

STATUSES = ("clean", "uncommitted", "ahead", "behind", "diverged")
TYPES = ("feature", "fix", "experiment", "review", "devops", "aiops")


async def test_an_empty_registry_is_all_zeros(call):
    counts = (
        "total_projects",
        "active_projects",
        "total_work_items",
        "active_work_items",
        "inflight_work_items",
    )
    more = ("total_components", "total_events", "relay_lag", "total_dead_letters")
    assert await call("api.stats_get") == {
        **dict.fromkeys(counts + more, 0),
        "work_items_by_status": dict.fromkeys(STATUSES, 0),
        "work_items_by_type": dict.fromkeys(TYPES, 0),
    }


async def test_each_number_counts_what_it_says(db, call, project):
    gone = (await call("api.project_register", body={"remote_origin": "https://h/gone"}))["body"]
    await call("api.project_deactivate", project_id=gone["id"], context=CONTEXT)
    states = [
        ("feature", {}), ("feature", {"ahead_of_trunk": 1}), ("fix", {"ahead_of_trunk": 2, "has_uncommitted_changes": True}),
        ("fix", {"ahead_of_trunk": 1, "behind_trunk": 1}), ("aiops", {"behind_trunk": 4}), ("review", {"ahead_of_trunk": 9}),
    ]  # fmt: skip
    for n, (kind, state) in enumerate(states):
        body = {"project_id": project["id"], "branch_name": f"b{n}", "owner_id": "o", "work_type": kind}
        item = (await call("api.work_start", body=body))["body"]
        await call("api.work_git_state_update", work_item_id=item["id"], body=state)
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "merged"})
    component = {"parent_project_id": project["id"], "name": "n", "path": "p", "kind": "local"}
    await call("api.component_register", body=component)
    await db.execute(
        "insert into bloodbank.dead_letters (source, reason) values ('relay', 'x'), ('intake', 'y')"
    )
    stats = await call("api.stats_get")
    events = await db.fetchval("select count(*) from bloodbank.events")
    assert stats == {
        "total_projects": 2,
        "active_projects": 1,
        "total_work_items": 6,
        "active_work_items": 5,
        "inflight_work_items": 4,
        "work_items_by_status": {"clean": 1, "uncommitted": 1, "ahead": 1, "behind": 1, "diverged": 1},
        "work_items_by_type": dict.fromkeys(TYPES, 0) | {"feature": 2, "fix": 2, "aiops": 1},
        "total_components": 1,
        "total_events": events,
        "relay_lag": events,
        "total_dead_letters": 2,
    }
    listed = {s: (await call("api.work_list", status=s))["total"] for s in STATUSES}
    assert stats["work_items_by_status"] == listed
    assert stats["inflight_work_items"] == (await call("api.work_inflight"))["total"]


@pytest.mark.parametrize(("sent", "lag"), [(0, 3), (3, 1), (5, 0)])
async def test_the_relays_lag_is_what_it_has_yet_to_send(db, call, sent, lag):
    """Events that came from the bus are never sent again, so they are none of its work."""
    positions = [
        await db.fetchval(
            """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
               values ($1, 'a.b', now(), '1', '{}', '{}', $2) returning position""",
            uuid.uuid4(), arrived,
        )
        for arrived in ("local", "bus", "local", "local", "bus")
    ]  # fmt: skip
    if sent:
        await db.execute(
            "insert into bloodbank.cursors (name, position) values ('relay', $1), ('other', 0) "
            "on conflict (name) do update set position = excluded.position",
            positions[sent - 1],
        )
    stats = await call("api.stats_get")
    assert (stats["relay_lag"], stats["total_events"]) == (lag, 5)
