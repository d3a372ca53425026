"""Projections beside each other, and the rebuild beside them."""

import asyncio
import json
import random
import uuid

import asyncpg
import pytest

from tests.sql.test_projections_any_order import some_events

INTAKE = "select logic.intake(array(select jsonb_array_elements_text($1::jsonb)))"
AGENT = "select current_agent from bloodbank.workflow_state where workflow_id = $1"
WRONG = "select changed from ops.rebuild_projections()"


def messages(events):
    return json.dumps([json.dumps(each) for each in events])


async def waits(connection, other):
    """Return when the other's statement waits for a lock."""
    query = "select wait_event_type = 'Lock' from pg_stat_activity where pid = $1"
    async with asyncio.timeout(20):
        while not await connection.fetchval(query, other.get_server_pid()):
            await asyncio.sleep(0.005)


@pytest.mark.parametrize("is_request_first", [True, False])
async def test_a_request_and_its_acceptance_that_do_not_see_each_other(connect, is_request_first):
    workflow, request, acceptance = uuid.uuid4(), str(uuid.uuid4()), str(uuid.uuid4())
    pair = [
        {"event_id": request, "event_type": "bmad.workflow.handoff.requested",
         "payload": {"workflow_id": str(workflow), "to_agent": "architect"}},
        {"event_id": acceptance, "event_type": "agent.handoff.accepted", "correlation_ids": [request],
         "payload": {"workflow_id": str(workflow), "agent_type": "letta", "session_id": str(uuid.uuid4())}},
    ]  # fmt: skip
    first, second = pair if is_request_first else pair[::-1]
    one, other, watcher = await connect("worker"), await connect("worker"), await connect("superuser")
    held = one.transaction()
    await held.start()
    await one.execute(INTAKE, messages([first]))
    running = asyncio.create_task(other.execute(INTAKE, messages([second])))
    await waits(watcher, other)
    await held.commit()
    await running
    assert await watcher.fetchval(AGENT, workflow) == "architect"
    assert await watcher.fetchval(WRONG) == 0


@pytest.mark.parametrize("seed", range(3))
async def test_many_intakes_of_the_same_workflows_in_any_order_never_wait_in_a_circle(connect, race, seed):
    dice = random.Random(seed)
    events = some_events(dice, 400)
    dice.shuffle(events)

    def takes(share):
        async def work(connection):
            for n in range(0, len(share), 5):
                await connection.execute(INTAKE, messages(share[n : n + 5]))

        return work

    answers = await race([takes(events[n::8]) for n in range(8)])
    assert answers == [None] * 8
    owner = await connect()
    ids = [uuid.UUID(each["event_id"]) for each in events]
    assert await owner.fetchval("select count(*) from bloodbank.events where event_id = any ($1)", ids) == 400
    assert await owner.fetchval(WRONG) == 0


async def test_the_rebuild_beside_the_ingest_loses_nothing_and_stops_nobody(connect):
    dice = random.Random(7)
    events = some_events(dice, 600)
    dice.shuffle(events)
    rebuilder = await connect()
    stop = asyncio.Event()

    async def rebuild():
        times = 0
        while not stop.is_set() or times < 2:
            assert await rebuilder.fetchval(WRONG) == 0
            times += 1
        return times

    async def take(connection, share):
        for n in range(0, len(share), 3):
            await connection.execute(INTAKE, messages(share[n : n + 3]))

    rebuilding = asyncio.create_task(rebuild())
    try:
        workers = [await connect("worker") for _ in range(4)]
        await asyncio.gather(*(take(worker, events[n::4]) for n, worker in enumerate(workers)))
    finally:
        stop.set()
    assert await rebuilding >= 2
    owner = await connect()
    assert await owner.fetchval(WRONG) == 0
    for table in ("agent_sessions", "workflow_state"):
        await owner.execute(f"delete from bloodbank.{table}")
    assert await owner.fetchval(WRONG) > 0
    assert await owner.fetchval(WRONG) == 0


async def test_an_event_that_is_being_taken_in_while_the_rows_are_made_anew_is_in_them(connect):
    """It was stored before the rebuild looked, is not committed, and waits with its projection for the rebuild's end."""
    workflow = uuid.uuid4()
    started = {
        "event_id": str(uuid.uuid4()),
        "event_type": "bmad.workflow.started",
        "payload": {"workflow_id": str(workflow), "project_name": "iMi"},
    }
    keeper, taker, rebuilder = [await connect() for _ in range(3)]
    watcher = await connect("superuser")
    held = keeper.transaction()
    await held.start()
    await keeper.execute("lock table bloodbank.agent_sessions in share mode")
    rebuilding = asyncio.create_task(rebuilder.fetchval(WRONG))
    await waits(watcher, rebuilder)  # it holds workflow_state and waits for agent_sessions
    taking = asyncio.create_task(taker.execute(INTAKE, messages([started])))
    await waits(watcher, taker)
    await held.rollback()
    assert await rebuilding == 0
    await taking
    name = "select project_name from bloodbank.workflow_state where workflow_id = $1"
    assert await watcher.fetchval(name, workflow) == "iMi"
    assert await watcher.fetchval(WRONG) == 0


async def test_a_rebuild_that_is_ended_leaves_everything_as_it_was(connect):
    owner, other, watcher = await connect(), await connect(), await connect("superuser")
    await owner.execute(INTAKE, messages(some_events(random.Random(1), 60)))
    await owner.execute("update bloodbank.workflow_state set current_phase = 'wrong'")
    held = owner.transaction()
    await held.start()
    await owner.execute("lock table bloodbank.agent_sessions in share mode")
    rebuilding = asyncio.create_task(other.execute(WRONG))
    await waits(watcher, other)
    await watcher.execute("select pg_cancel_backend($1)", other.get_server_pid())
    with pytest.raises(asyncpg.QueryCanceledError):
        await rebuilding
    await held.rollback()
    assert (
        await owner.fetchval("select count(*) from bloodbank.workflow_state where current_phase <> 'wrong'")
        == 0
    )
    assert await owner.fetchval(WRONG) > 0
