"""Projections: any order, duplicates and gaps make the rows that the log order makes, and so does the rebuild."""

import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import pytest

START = datetime(2026, 2, 11, 10, tzinfo=UTC)
ROWS = {
    "workflow_state": "workflow_id",
    "agent_sessions": "session_id",
}
# Positions differ between two orders of arrival, and so does what they stand for.
SEEN = (
    """select to_jsonb(known) - 'marks' - 'correlation_ids' as row from bloodbank.{} as known order by {}"""
)


def some_events(dice, count):
    """Events of a few workflows and sessions: good and broken ones, caused by each other, at times that may be equal."""

    def new():
        return str(uuid.UUID(int=dice.getrandbits(128), version=4))

    workflows, sessions = [new() for _ in range(4)], [new() for _ in range(5)]
    made = []
    for _ in range(count):
        kind = dice.choice(TYPES)
        payload = {"workflow_id": dice.choice(workflows)}
        for key, values in PAYLOADS.get(kind, {}).items():
            payload[key] = dice.choice(values)
        if kind.startswith("agent."):
            payload["session_id"] = dice.choice(["", "agent-"]) + dice.choice(sessions)
        if kind == "agent.letta.task.blocked" and dice.random() < 0.3:
            payload["session_id"] = None
        if dice.random() < 0.05:
            payload[dice.choice(list(payload))] = dice.choice([None, 7, "x" * 300, "not-a-uuid"])
        causes = [each["event_id"] for each in made if dice.random() < 3 / count]
        made.append({
            "event_id": new(), "event_type": kind, "correlation_ids": causes, "payload": payload,
            "timestamp": (START + timedelta(minutes=dice.randrange(60))).isoformat(),
        })  # fmt: skip
        if dice.random() < 0.05:
            made[-1]["timestamp"] = "2150-01-01T00:00:00Z"
    # a cause that comes later in the list than its effect
    for each in dice.sample(made, count // 5):
        each["correlation_ids"] = list({*each["correlation_ids"], dice.choice(made)["event_id"]})
    return made


TYPES = (
    "bmad.workflow.started", "bmad.workflow.phase.completed", "bmad.workflow.handoff.requested",
    "bmad.workflow.handoff.requested", "bmad.workflow.completed", "agent.handoff.accepted", "agent.handoff.accepted",
    "agent.letta.checkpoint.saved", "agent.letta.task.completed", "agent.letta.task.blocked", "bmad.workflow.paused",
)  # fmt: skip
PAYLOADS = {
    "bmad.workflow.started": {"project_name": ["atlas", "beacon"], "phase": ["analysis", None, "design"]},
    "bmad.workflow.phase.completed": {
        "phase": ["analysis", "design"],
        "next_phase": [None, "design", "tests"],
    },
    "bmad.workflow.handoff.requested": {"to_agent": ["architect", "coder", "tester"]},
    "agent.handoff.accepted": {"agent_type": ["letta", "claude_code"]},
    "agent.letta.checkpoint.saved": {"checkpoint_id": ["one", "two", "three"]},
}


@dataclass
class Model:
    """What the design says, over the log in order of time and position: each event just sets what it tells."""

    workflows: dict[str, dict] = field(default_factory=dict)
    sessions: dict[str, dict] = field(default_factory=dict)

    def tell(self, log):
        """The log's rows, in the order in which the later wins."""
        told = sorted(log, key=lambda e: (e["moment"], e["position"]))
        requests = {e["event_id"]: e for e in told if e["event_type"] == "bmad.workflow.handoff.requested"}
        for event in told:
            getattr(self, event["event_type"].replace(".", "_"))(event, event["payload"], requests)

    def workflow(self, event):
        row = self.workflows.setdefault(
            event["payload"]["workflow_id"],
            dict.fromkeys(("project_name", "current_phase", "current_agent", "completed_at"))
            | {"started_at": event["moment"], "has_started": False, "correlation_ids": set()},
        )
        row["correlation_ids"].update(event["correlation_ids"])
        row |= {"updated_at": event["moment"], "last_event_id": event["event_id"]}
        return row

    def session(self, event):
        self.workflow(event)
        whole = event["payload"].get("session_id")
        if not whole:
            return {}
        row = self.sessions.setdefault(
            whole.removeprefix("agent-"),
            dict.fromkeys(("agent_type", "checkpoint_id", "completed_at"))
            | {"status": "active", "started_at": event["moment"], "has_started": False},
        )
        row |= {
            "last_active_at": event["moment"],
            "workflow_id": event["payload"]["workflow_id"],
            "agent_instance_id": whole,
        }
        return row

    @staticmethod
    def began(row, event):
        if not row["has_started"]:
            row |= {"has_started": True, "started_at": event["moment"]}

    def bmad_workflow_started(self, event, payload, _):
        row = self.workflow(event)
        self.began(row, event)
        row["project_name"] = payload["project_name"]
        row["current_phase"] = payload.get("phase") or row["current_phase"]

    def bmad_workflow_phase_completed(self, event, payload, _):
        self.workflow(event)["current_phase"] = payload.get("next_phase") or payload["phase"]

    def bmad_workflow_handoff_requested(self, event, *_):
        self.workflow(event)

    def bmad_workflow_completed(self, event, *_):
        self.workflow(event)["completed_at"] = event["moment"]

    def agent_handoff_accepted(self, event, payload, requests):
        row = self.session(event)
        self.began(row, event)
        row |= {"agent_type": payload["agent_type"], "status": "active", "completed_at": None}
        asked = [requests[cause] for cause in event["correlation_ids"] if cause in requests]
        asked = [each for each in asked if each["payload"]["workflow_id"] == payload["workflow_id"]]
        last = max(asked, key=lambda e: (e["moment"], e["position"]), default=None)
        self.workflow(event)["current_agent"] = last["payload"]["to_agent"] if last else payload["agent_type"]

    def agent_letta_checkpoint_saved(self, event, payload, _):
        self.session(event)["checkpoint_id"] = payload["checkpoint_id"]

    def agent_letta_task_completed(self, event, *_):
        self.session(event).update(status="completed", completed_at=event["moment"])

    def agent_letta_task_blocked(self, event, *_):
        self.session(event).update(status="blocked", completed_at=None)


async def take_in(db, dice, events, most=40):
    """In batches of any size, each in a transaction of its own."""
    while events:
        some, events = events[: (size := dice.randint(1, most))], events[size:]
        await db.execute(
            "select logic.intake(array(select jsonb_array_elements_text($1::jsonb)))",
            json.dumps([json.dumps(each) for each in some]),
        )


async def contents(db, what="select known::text as row from bloodbank.{} as known order by {}"):
    return {table: [row[0] for row in await db.fetch(what.format(table, key))] for table, key in ROWS.items()}


async def log(db):
    """The log's events that can be projected, with the moment that counts."""
    rows = await db.fetch(
        """select position, event_id::text, event_type, correlation_ids::text[], payload::text,
             least("timestamp", ingested_at + interval '5 minutes') as moment
           from bloodbank.events
           where event_type = any (logic.projected_types())
             and event_id not in (select event_id from bloodbank.dead_letters where source = 'projection')"""
    )
    return [dict(row) | {"payload": json.loads(row["payload"])} for row in rows]


def plain(value):
    """Ids as text, lists as sets."""
    if isinstance(value, list):
        return {str(each) for each in value}
    return str(value) if isinstance(value, uuid.UUID) else value


@pytest.fixture
async def emptied(connect):
    async def emptied():
        db = await connect()
        await db.execute(
            """truncate bloodbank.events, bloodbank.causes, bloodbank.workflow_state, bloodbank.agent_sessions,
               bloodbank.dead_letters"""
        )
        return db

    return emptied


@pytest.mark.parametrize("seed", range(12))
async def test_the_rows_are_those_of_the_log_order_and_rebuilt_they_are_the_same(emptied, seed):
    dice = random.Random(seed)
    db = await emptied()
    events = some_events(dice, 200)
    dice.shuffle(events)
    sent = [each for each in events if dice.random() > 0.1]
    sent += dice.choices(sent, k=40)
    dice.shuffle(sent)
    await take_in(db, dice, sent)

    model = Model()
    model.tell(await log(db))
    for table, rows in (("workflow_state", model.workflows), ("agent_sessions", model.sessions)):
        found = {str(row[ROWS[table]]): row for row in await db.fetch(f"select * from bloodbank.{table}")}
        assert found.keys() == rows.keys() and len(rows) >= 4
        for key, row in rows.items():
            told = {name: value for name, value in row.items() if name != "has_started"}
            assert {name: plain(found[key][name]) for name in told} == told, (table, key)

    before = await contents(db)
    assert (await db.fetchrow("select * from ops.rebuild_projections()"))["changed"] == 0
    assert await contents(db) == before
    for table in reversed(ROWS):
        await db.execute(f"delete from bloodbank.{table}")
    rebuilt = await db.fetchrow("select * from ops.rebuild_projections()")
    assert rebuilt["changed"] == len(model.workflows) + len(model.sessions)
    assert await contents(db) == before


@pytest.mark.parametrize("seed", range(6))
async def test_two_orders_of_arrival_make_the_same(emptied, seed):
    """At times that differ: what happened at one and the same time is told apart by its place in the log only."""
    dice = random.Random(seed)
    events = some_events(dice, 150)
    for n, each in enumerate(events):
        each["timestamp"] = (START + timedelta(seconds=n)).isoformat()
    db = await emptied()
    await take_in(db, dice, events)
    in_order = await contents(db, SEEN)
    assert len(in_order["workflow_state"]) == 4
    for _ in range(3):
        dice.shuffle(events)
        db = await emptied()
        await take_in(db, dice, [*events, *dice.sample(events, 30)])
        assert await contents(db, SEEN) == in_order
