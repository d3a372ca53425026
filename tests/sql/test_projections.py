"""sql/projections.sql and projections_rebuild.sql: where workflows and sessions stand, whatever order their events come in."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

WORKFLOW = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b19"
SESSION = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b1a"


def event(event_type, payload=None, at="10:00", causes=(), **rest):
    """An envelope of the workflow, on 2026-02-11 at a time of day."""
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": event_type,
        "timestamp": f"2026-02-11T{at}:00Z",
        "correlation_ids": [str(cause) for cause in causes],
        "payload": {"workflow_id": WORKFLOW, **(payload or {})},
        **rest,
    }


def started(at="10:00", **payload):
    return event("bmad.workflow.started", {"project_name": "iMi", **payload}, at)


def requested(to="architect", at="10:30", **payload):
    return event("bmad.workflow.handoff.requested", {"from_agent": "analyst", "to_agent": to, **payload}, at)


def accepted(*causes, at="10:40", session=SESSION, **payload):
    given = {"agent_type": "letta", "session_id": session, "accepted_from": "analyst", **payload}
    return event("agent.handoff.accepted", given, at, causes)


def letta(what, at="11:00", **payload):
    return event(f"agent.letta.{what}", {"session_id": SESSION, **payload}, at)


@pytest.fixture
def ingest(db):
    async def ingest(*events):
        """All of them in one batch, as a bus brings them."""
        taken = await db.fetchval(
            "select logic.intake(array(select jsonb_array_elements_text($1::jsonb)))",
            json.dumps([json.dumps(each) for each in events]),
        )
        return json.loads(taken)

    return ingest


@pytest.fixture
def workflow(db):
    async def workflow(workflow_id=WORKFLOW):
        return await db.fetchrow("select * from bloodbank.workflow_state where workflow_id = $1", workflow_id)

    return workflow


@pytest.fixture
def session(db):
    async def session(session_id=SESSION):
        return await db.fetchrow("select * from bloodbank.agent_sessions where session_id = $1", session_id)

    return session


@pytest.fixture
def letters(db):
    async def letters():
        return await db.fetch(
            "select id, event_id, reason, sqlstate from bloodbank.dead_letters where source = 'projection' order by id"
        )

    return letters


def clock(at):
    return datetime.fromisoformat(f"2026-02-11T{at}:00Z")


async def test_a_workflow_from_start_to_end(ingest, workflow, session):
    first = started(phase="analysis")
    await ingest(first)
    row = await workflow()
    assert (row["project_name"], row["current_phase"], row["current_agent"]) == ("iMi", "analysis", None)
    assert (row["started_at"], row["updated_at"], row["completed_at"]) == (
        clock("10:00"),
        clock("10:00"),
        None,
    )

    done = event("bmad.workflow.phase.completed", {"phase": "analysis", "next_phase": "design"}, "10:20")
    request = requested()
    await ingest(done, request)
    assert (await workflow())["current_phase"] == "design"
    assert (await workflow())["current_agent"] is None, "a request alone moves nothing"

    await ingest(accepted(request["event_id"]))
    assert (await workflow())["current_agent"] == "architect"
    row = await session()
    assert (row["agent_type"], row["status"], str(row["workflow_id"])) == ("letta", "active", WORKFLOW)

    await ingest(letta("checkpoint.saved", checkpoint_id="checkpoint-7"))
    row = await session()
    assert (row["checkpoint_id"], row["status"], row["last_active_at"]) == (
        "checkpoint-7", "active", clock("11:00"),
    )  # fmt: skip
    await ingest(letta("task.completed", "11:10", result="done"))
    row = await session()
    assert (row["status"], row["completed_at"], row["started_at"]) == (
        "completed", clock("11:10"), clock("10:40"),
    )  # fmt: skip
    last = event("bmad.workflow.completed", at="11:20")
    await ingest(last)
    row = await workflow()
    assert (row["completed_at"], str(row["last_event_id"])) == (clock("11:20"), last["event_id"])
    assert row["updated_at"] == clock("11:20") and row["current_phase"] == "design"
    assert [str(cause) for cause in row["correlation_ids"]] == [request["event_id"]]


async def test_the_phase_that_is_done_stays_if_none_is_next(ingest, workflow):
    await ingest(event("bmad.workflow.phase.completed", {"phase": "analysis", "next_phase": None}))
    assert (await workflow())["current_phase"] == "analysis"


async def test_the_first_event_makes_the_row_and_a_late_start_resets_nothing(ingest, workflow):
    await ingest(event("bmad.workflow.phase.completed", {"phase": "design"}, "10:20"))
    row = await workflow()
    assert (row["project_name"], row["started_at"]) == (None, clock("10:20"))
    await ingest(event("bmad.workflow.completed", at="10:50"))
    await ingest(started("10:00", phase="analysis"))
    row = await workflow()
    assert (row["project_name"], row["current_phase"]) == ("iMi", "design")
    assert (row["started_at"], row["updated_at"], row["completed_at"]) == (
        clock("10:00"), clock("10:50"), clock("10:50"),
    )  # fmt: skip


async def test_the_start_says_when_it_began_even_if_another_clock_was_behind(ingest, workflow):
    await ingest(requested(at="09:59"), started("10:00"))
    assert (await workflow())["started_at"] == clock("10:00")


async def test_the_agent_is_that_of_the_request_whichever_comes_first(ingest, workflow):
    request = requested(to="architect")
    await ingest(accepted(request["event_id"]))
    assert (await workflow())["current_agent"] == "letta"
    await ingest(request)
    assert (await workflow())["current_agent"] == "architect"


async def test_a_request_that_comes_late_does_not_undo_a_later_hand_off(ingest, workflow):
    one, two = requested("architect", "10:30"), requested("coder", "10:50")
    await ingest(accepted(one["event_id"]))
    await ingest(two, accepted(two["event_id"], at="10:55"))
    await ingest(one)
    assert (await workflow())["current_agent"] == "coder"


async def test_of_two_requests_of_one_acceptance_the_later_counts(ingest, workflow):
    one, two = requested("architect", "10:30"), requested("coder", "10:35")
    await ingest(two)
    await ingest(accepted(two["event_id"], one["event_id"]))
    await ingest(one)
    assert (await workflow())["current_agent"] == "coder"


async def test_the_request_of_another_workflow_or_one_that_is_broken_says_nothing(ingest, workflow, letters):
    other, broken = requested(workflow_id=str(uuid.uuid4())), requested(to=7)
    await ingest(other, broken, accepted(other["event_id"], broken["event_id"]))
    assert (await workflow())["current_agent"] == "letta"
    assert [str(letter["event_id"]) for letter in await letters()] == [broken["event_id"]]


async def test_a_session_is_one_with_and_without_agent_before_its_id(ingest, session, db):
    await ingest(accepted(session=f"agent-{SESSION}"))
    assert (await session())["agent_instance_id"] == f"agent-{SESSION}"
    await ingest(letta("checkpoint.saved", checkpoint_id="one"))
    assert (await session())["checkpoint_id"] == "one"
    assert await db.fetchval("select count(*) from bloodbank.agent_sessions") == 1


async def test_a_session_id_in_another_form_is_not_judged_where_none_is_asked_for(
    ingest, workflow, letters, db
):
    await ingest(*(started(session_id=odd) for odd in ("bmad-7", 7, "", "agent-")))
    assert (await workflow())["project_name"] == "iMi"
    assert await letters() == []
    assert await db.fetchval("select count(*) from bloodbank.agent_sessions") == 0


async def test_a_checkpoint_before_its_acceptance_makes_the_session(ingest, session):
    await ingest(letta("checkpoint.saved", checkpoint_id="one"))
    assert ((await session())["agent_type"], (await session())["status"]) == (None, "active")
    await ingest(accepted())
    row = await session()
    assert (row["agent_type"], row["started_at"]) == ("letta", clock("10:40"))


async def test_a_blocked_session_and_one_that_never_came_to_be(ingest, session, workflow, letters):
    await ingest(letta("task.blocked", session_id=None, reason="no runtime"))
    assert await session() is None and (await workflow())["updated_at"] == clock("11:00")
    await ingest(accepted(), letta("task.blocked", reason="the brief names no user"))
    assert ((await session())["status"], (await session())["completed_at"]) == ("blocked", None)
    await ingest(accepted(at="11:30"))
    assert (await session())["status"] == "active", "taken on again"
    assert await letters() == []


async def test_a_fast_clock_does_not_win_for_ever(ingest, workflow, at):
    def phase(name, timestamp):
        return event("bmad.workflow.phase.completed", {"phase": name}, timestamp=timestamp)

    await at("2026-02-11T10:00Z")
    await ingest(phase("fast", "2099-01-01T00:00:00Z"))
    assert (await workflow())["updated_at"] == clock("10:05")
    await at("2026-02-11T10:04Z")
    await ingest(phase("slow", "2026-02-11T10:04:00Z"))
    assert (await workflow())["current_phase"] == "fast"
    await at("2026-02-11T10:06Z")
    await ingest(phase("next", "2026-02-11T10:06:00Z"))
    assert (await workflow())["current_phase"] == "next"


async def test_at_one_time_the_later_in_the_log_wins(ingest, workflow):
    await ingest(*(event("bmad.workflow.phase.completed", {"phase": name}) for name in "abc"))
    assert (await workflow())["current_phase"] == "c"


async def test_a_duplicate_changes_nothing(ingest, workflow):
    one = started()
    await ingest(one, one)
    before = dict(await workflow())
    assert await ingest(one) == {"stored": 0, "known": 1, "dead": 0}
    assert dict(await workflow()) == before


async def test_the_newest_thousand_causes_are_kept(ingest, workflow):
    causes = [str(uuid.uuid4()) for _ in range(1200)]
    for n in range(0, 1200, 100):
        await ingest(event("bmad.workflow.completed", at=f"10:{n // 100:02}", causes=causes[n : n + 100]))
    row = await workflow()
    assert {str(cause) for cause in row["correlation_ids"]} == set(causes[200:])
    assert len(json.loads(row["marks"])) < 1010
    await ingest(event("bmad.workflow.completed", at="10:30", causes=causes[:1]))
    row = await workflow()
    assert len(row["correlation_ids"]) == 1000 and str(row["correlation_ids"][-1]) == causes[0]


async def test_other_events_make_nothing(ingest, db):
    await ingest(event("git.push"), event("bmad.workflow.paused"), event("agent.handoff.refused"))
    assert await db.fetchval("select count(*) from bloodbank.workflow_state") == 0


BROKEN = [
    (event("bmad.workflow.completed", {"workflow_id": None}), "has no workflow_id"),
    (event("bmad.workflow.completed", {"workflow_id": "w1"}), "has no UUID in workflow_id"),
    (event("bmad.workflow.completed", {"workflow_id": 7}), "has no text in workflow_id"),
    (started(project_name=""), "has no project_name"),
    (started(project_name=["iMi"]), "has no text in project_name"),
    (started(project_name="x" * 256), "has more than 255 characters in project_name"),
    (started(phase="x" * 51), "has more than 50 characters in phase"),
    (event("bmad.workflow.phase.completed"), "has no phase"),
    (event("bmad.workflow.phase.completed", {"phase": "a", "next_phase": {}}), "has no text in next_phase"),
    (requested(to=""), "has no to_agent"),
    (requested(to="x" * 101), "has more than 100 characters in to_agent"),
    (accepted(agent_type="x" * 51), "has more than 50 characters in agent_type"),
    (accepted(session="agent-7"), "has no UUID in session_id"),
    (accepted(session=None), "has no session_id"),
    (letta("checkpoint.saved"), "has no checkpoint_id"),
    (letta("checkpoint.saved", checkpoint_id="x" * 256), "has more than 255 characters in checkpoint_id"),
    (letta("task.blocked", session_id="agent-"), "has no UUID in session_id"),
]


@pytest.mark.parametrize(("broken", "fault"), BROKEN, ids=[fault for _, fault in BROKEN])
async def test_what_cannot_be_projected_is_stored_and_a_dead_letter(
    ingest, workflow, letters, db, call, broken, fault
):
    assert (await ingest(broken, started("09:00", phase="first")))["stored"] == 2
    row = await workflow()
    assert (row["current_phase"], row["updated_at"]) == ("first", clock("09:00")), (
        "its neighbour is projected"
    )
    (letter,) = await letters()
    assert (str(letter["event_id"]), letter["sqlstate"]) == (broken["event_id"], "IM400")
    assert letter["reason"] == f"The event {fault}"
    assert await db.fetchval(
        "select count(*) from bloodbank.events where event_id = $1", uuid.UUID(broken["event_id"])
    )
    again = await call("api.dead_letter_replay", dead_letter_id=letter["id"], context={})
    assert again["status"] == 409 and again["body"]["detail"]["params"]["reason"] == f"The event {fault}"


@pytest.mark.parametrize("longest", BROKEN[5:7] + BROKEN[10:12] + BROKEN[15:16], ids=lambda _: "")
async def test_one_character_less_fits(ingest, letters, longest):
    broken, _ = longest
    shorter = {
        k: v[:-1] if isinstance(v, str) and len(set(v)) == 1 else v for k, v in broken["payload"].items()
    }
    await ingest(broken | {"payload": shorter})
    assert await letters() == []


async def test_what_nobody_thought_of_is_a_dead_letter_that_can_be_replayed(
    ingest, workflow, letters, db, call
):
    await db.execute("alter table bloodbank.workflow_state add constraint no_x check (current_phase <> 'x')")
    await ingest(started(phase="a"), started("10:10", phase="x"), requested())
    row = await workflow()
    assert (row["current_phase"], row["updated_at"]) == ("a", clock("10:30"))
    (letter,) = await letters()
    assert "no_x" in letter["reason"] and letter["sqlstate"] == "23514"
    await db.execute("alter table bloodbank.workflow_state drop constraint no_x")
    again = await call("api.dead_letter_replay", dead_letter_id=letter["id"], context={})
    assert again["status"] == 200
    assert (await workflow())["current_phase"] == "x"


async def test_every_door_projects(call, workflow):
    await call("api.event_publish", body=started())
    await call("api.event_publish", body=[requested(), event("bmad.workflow.completed", at="10:59")])
    assert (await workflow())["completed_at"] == clock("10:59")


async def test_what_imi_says_itself_tells_of_no_workflow(db):
    """event_append does not project: none of the types it is called with is one of these."""
    types = await db.fetchval("select logic.projected_types()")
    assert len(types) == 8 and not [each for each in types if each.startswith("imi.")]
    appended = await db.fetch(
        r"""select found[1] from pg_proc cross join lateral regexp_matches(prosrc, 'event_append\(\s*(\S+)', 'g') as found
            where pronamespace::regnamespace::text in ('logic', 'api', 'ops')"""
    )
    assert len(appended) > 10
    for (said,) in appended:
        assert said.startswith(("'imi.", "case")), said


async def test_rebuilding_mends_what_is_not_as_the_log_tells(ingest, workflow, session, db):
    request = requested()
    await ingest(
        started(), request, accepted(request["event_id"]), started(workflow_id="0" * 8 + WORKFLOW[8:])
    )
    right = [
        await db.fetch(f"select * from bloodbank.{table} order by 1")
        for table in ("workflow_state", "agent_sessions")
    ]
    rebuild = "select * from ops.rebuild_projections()"
    assert tuple(await db.fetchrow(rebuild)) == (4, 0)
    await db.execute(
        "update bloodbank.workflow_state set current_agent = 'nobody' where current_agent is not null"
    )
    await db.execute("delete from bloodbank.workflow_state where current_agent is null")
    await db.execute(
        """insert into bloodbank.workflow_state (workflow_id, started_at, updated_at) values (gen_random_uuid(), now(), now());
           insert into bloodbank.agent_sessions (session_id, workflow_id, started_at, last_active_at, status)
           select gen_random_uuid(), workflow_id, now(), now(), 'active' from bloodbank.workflow_state;
           update bloodbank.agent_sessions set marks = '{}', status = 'blocked' where agent_type = 'letta'"""
    )
    assert tuple(await db.fetchrow(rebuild)) == (4, 6)
    again = [
        await db.fetch(f"select * from bloodbank.{table} order by 1")
        for table in ("workflow_state", "agent_sessions")
    ]
    assert again == right


@pytest.mark.parametrize("removed", range(5))
async def test_what_retention_removed_is_kept(ingest, workflow, session, db, removed):
    request = requested()
    await ingest(started(phase="a"), request, accepted(request["event_id"]))
    await ingest(event("bmad.workflow.phase.completed", {"phase": "b"}, "10:50"), letta("task.completed"))
    before = [dict(await workflow()), dict(await session())]
    mark = await db.fetchval("select min(position) - 1 from bloodbank.events") + removed
    await db.execute("delete from bloodbank.events where position <= $1", mark)
    await db.execute("insert into bloodbank.cursors (name, position) values ('pruned', $1)", mark)
    assert tuple(await db.fetchrow("select * from ops.rebuild_projections()")) == (5 - removed, 0)
    assert [dict(await workflow()), dict(await session())] == before
    await db.execute("update bloodbank.workflow_state set current_phase = 'x'")
    await db.execute("select ops.rebuild_projections()")
    assert [dict(await workflow()), dict(await session())] == before


async def test_a_clock_far_behind_is_the_first(ingest, workflow):
    await ingest(requested(at="10:00"), event("bmad.workflow.completed", timestamp="1970-01-01T00:00:00Z"))
    row = await workflow()
    assert row["started_at"] == datetime(1970, 1, 1, tzinfo=UTC)
    assert row["updated_at"] - row["completed_at"] > timedelta(days=20000)


async def test_an_operator_rebuilds_and_nobody_else_does(connect):
    db = await connect("superuser")
    await db.execute("set role imi_operator")
    assert (await db.fetchrow("select * from ops.rebuild_projections()"))["changed"] == 0
    assert (await db.fetchrow("select * from ops.rebuild_projections()"))["changed"] == 0
    for role in ("imi_api", "imi_worker", "imi_analyst"):
        await db.execute(f"set role {role}")
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await db.execute("select ops.rebuild_projections()")
