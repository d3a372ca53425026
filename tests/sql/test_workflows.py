"""sql/workflows.sql: workflows, their events and the sessions as the API shows them."""

import uuid

import pytest

from tests.sql.conftest import refused

ONE, TWO = (
    uuid.UUID("01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b19"),
    uuid.UUID("01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b20"),
)
SESSION = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b1a"
REQUEST = "01980c3b-a640-7d11-8c22-6a0f1be4d702"


@pytest.fixture
async def told(call):
    """Two workflows: one handed off, one completed; and an event that is only caused by one of theirs."""

    def event(event_type, workflow, at, **payload):
        return {
            "event_type": event_type,
            "timestamp": f"2026-02-11T{at}:00Z",
            "payload": {"workflow_id": str(workflow), **payload},
        }

    events = [
        event("bmad.workflow.started", ONE, "10:00", project_name="atlas", phase="analysis"),
        event("bmad.workflow.handoff.requested", ONE, "10:30", to_agent="architect") | {"event_id": REQUEST},
        event("agent.handoff.accepted", ONE, "10:40", agent_type="letta", session_id=f"agent-{SESSION}")
        | {"correlation_ids": [REQUEST]},
        event("agent.letta.checkpoint.saved", ONE, "11:00", session_id=SESSION, checkpoint_id="checkpoint-7"),
        event("bmad.workflow.started", TWO, "09:00", project_name="beacon", phase="tests"),
        event("agent.handoff.accepted", TWO, "09:10", agent_type="claude_code", session_id=str(uuid.uuid4())),
        event("bmad.workflow.completed", TWO, "09:30"),
        event("tool.mutation.edit", ONE, "10:45"),
    ]
    return (await call("api.event_publish", body=events))["body"]["items"]


async def test_a_workflow_is_shown_without_its_marks(told, call):
    assert await call("api.workflow_get", workflow_id=ONE) == {
        "status": 200,
        "body": {
            "workflow_id": str(ONE), "project_name": "atlas", "current_phase": "analysis", "current_agent": "architect",
            "started_at": "2026-02-11T10:00:00+00:00", "updated_at": "2026-02-11T11:00:00+00:00", "completed_at": None,
            "last_event_id": told[3]["event_id"], "correlation_ids": [REQUEST], "metadata": {},
        },
    }  # fmt: skip


async def test_an_unknown_workflow(call):
    missing = await call("api.workflow_get", workflow_id=ONE)
    assert missing["status"] == 404
    assert missing["body"]["detail"]["params"] == {"workflow_id": str(ONE)}
    with refused(404, "NOT_FOUND") as detail:
        await call("api.workflow_events", workflow_id=ONE)
    assert detail["params"] == {"workflow_id": str(ONE)}


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, [ONE, TWO]),
        ({"phase": "analysis"}, [ONE]),
        ({"phase": "anal"}, []),
        ({"project_name": "beacon"}, [TWO]),
        ({"agent": "architect"}, [ONE]),
        ({"agent": "claude_code", "completed": True}, [TWO]),
        ({"completed": True}, [TWO]),
        ({"completed": False}, [ONE]),
        ({"completed": False, "phase": "tests"}, []),
        ({"offset": 1}, [TWO]),
        ({"limit": 1}, [ONE]),
    ],
)
async def test_workflows_by_their_traits_last_changed_first(told, call, wanted, found):
    page = await call("api.workflow_list", **wanted)
    assert [each["workflow_id"] for each in page["items"]] == [str(each) for each in found]
    whole = {k: v for k, v in wanted.items() if k not in ("offset", "limit")}
    assert page["total"] == len(found) if whole == wanted else page["total"] == 2
    for each in page["items"]:
        assert each == (await call("api.workflow_get", workflow_id=uuid.UUID(each["workflow_id"])))["body"]


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({}, ["letta", "claude_code"]),
        ({"status": "active"}, ["letta", "claude_code"]),
        ({"status": "blocked"}, []),
        ({"agent_type": "claude_code"}, ["claude_code"]),
        ({"workflow_id": ONE}, ["letta"]),
        ({"workflow_id": ONE, "agent_type": "claude_code"}, []),
        ({"offset": 1, "limit": 1}, ["claude_code"]),
    ],
)
async def test_sessions_by_their_traits_last_active_first(told, call, wanted, found):
    page = await call("api.agent_session_list", **wanted)
    assert [each["agent_type"] for each in page["items"]] == found


async def test_a_session_is_shown_without_its_marks(told, call):
    assert (await call("api.agent_session_list", workflow_id=ONE))["items"] == [{
        "session_id": SESSION, "agent_type": "letta", "agent_instance_id": SESSION, "workflow_id": str(ONE),
        "status": "active", "checkpoint_id": "checkpoint-7", "started_at": "2026-02-11T10:40:00+00:00",
        "last_active_at": "2026-02-11T11:00:00+00:00", "completed_at": None, "metadata": {},
    }]  # fmt: skip


@pytest.mark.parametrize(
    "wanted",
    [
        {},
        {"order": "asc"},
        {"event_type": "agent.#"},
        {"limit": 2, "offset": 1},
        {"start_time": "2026-02-11T10:35:00Z", "end_time": "2026-02-11T10:50:00Z"},
        {"count": True, "limit": 1},
        {"after": 0},
    ],
    ids=str,
)
async def test_its_events_are_those_of_the_log_by_workflow(call_live, connect, wanted):
    """Committed, because a cursor reads below the floor."""
    owner = await connect()
    async with owner.transaction():
        await owner.execute("truncate bloodbank.events, bloodbank.causes, bloodbank.workflow_state cascade")
    for n in range(5):
        event = {
            "event_type": ("bmad.workflow.started", "agent.state.changed")[n % 2],
            "timestamp": f"2026-02-11T10:{30 + 5 * n}:00Z",
            "payload": {"workflow_id": str((ONE, TWO)[n == 4]), "project_name": "atlas"},
        }
        await call_live("api.event_publish", body=event)
    times = {key: value for key, value in wanted.items() if key.endswith("_time")}
    given = wanted | {
        key: await owner.fetchval("select $1::text::timestamptz", value) for key, value in times.items()
    }
    listed = await call_live("api.event_list", workflow_id=ONE, **given)
    own = await call_live("api.workflow_events", workflow_id=ONE, **given)
    assert own == listed and len(own["body"]) >= 1
    assert {each["payload"]["workflow_id"] for each in own["body"]} == {str(ONE)}


async def test_the_lists_use_the_indexes(told, db):
    """A page of the last changed reads no more rows than it shows."""
    await db.execute(
        """insert into bloodbank.workflow_state (workflow_id, current_phase, started_at, updated_at)
           select gen_random_uuid(), 'p' || n % 500, now(), now() - n * interval '1 second' from generate_series(1, 20000) as n;
           insert into bloodbank.agent_sessions (session_id, workflow_id, started_at, last_active_at, status)
           select workflow_id, workflow_id, now(), updated_at, 'active' from bloodbank.workflow_state"""
    )
    await db.execute("analyze bloodbank.workflow_state; analyze bloodbank.agent_sessions")
    page = "select * from logic.workflows_matching(null, null, null, null) order by updated_at desc, workflow_id desc limit 20"
    for query, index in (
        (page, "workflow_state_by_update"),
        ("select * from logic.workflows_matching('p7', null, null, null)", "workflow_state_by_phase"),
        ("select * from logic.workflows_matching(null, 'atlas', null, null)", "workflow_state_by_project"),
        (f"select * from logic.sessions_matching(null, null, '{ONE}')", "agent_sessions_by_workflow"),
        (
            "select * from logic.sessions_matching('active', null, null) order by last_active_at desc, session_id desc limit 20",
            "agent_sessions_by_status",
        ),
    ):
        plan = "\n".join(row[0] for row in await db.fetch(f"explain (costs off) {query}"))
        assert index in plan, plan
