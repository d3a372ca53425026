"""How fast the projections are made anew from the log."""

from __future__ import annotations

import time

from tests.bench.load import BenchError
from tests.bench.log.stage import MILLION, Stage
from tests.bench.rows import Figure
from tests.conftest import TEMPLATE, copy

# One event in ten is of a workflow, ten to each, each caused by the one before it.
LOG = """
    insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, arrived)
    select md5('event ' || n)::uuid, told.event_type, now() - (2000000 - n) * interval '1 second', '1.0.0', '{}',
      case when k % 10 > 0 and told.is_workflow then array[md5('event ' || n - 10)::uuid] else '{}' end,
      case when told.is_workflow then jsonb_build_object(
        'workflow_id', md5('workflow ' || k / 10)::uuid, 'session_id', 'agent-' || md5('session ' || k / 10)::uuid,
        'project_name', 'atlas', 'phase', 'design', 'to_agent', 'architect', 'agent_type', 'letta', 'checkpoint_id', 'checkpoint-' || n)
      else jsonb_build_object('n', n) end,
      'bus'
    from generate_series(1, $1::integer) as n
    cross join lateral (select n / 10 as k) as of
    cross join lateral (
      select n % 10 = 0 as is_workflow, case when n % 10 > 0 then 'llm.prompt.sent' else (array[
        'bmad.workflow.started', 'bmad.workflow.phase.completed', 'bmad.workflow.handoff.requested', 'agent.handoff.accepted',
        'agent.letta.checkpoint.saved', 'agent.letta.task.completed', 'bmad.workflow.handoff.requested',
        'agent.handoff.accepted', 'agent.letta.task.completed', 'bmad.workflow.completed'])[1 + k % 10] end as event_type
    ) as told"""


async def rebuilt(stage: Stage) -> list[Figure]:
    """All rows made, then again with nothing to be changed. Raises BenchError if the second finds something."""
    made: list[float] = []
    checked: list[float] = []
    database = copy(stage.server, TEMPLATE, "rebuild")
    owner = await database.connect()
    await owner.execute(LOG, MILLION)
    await owner.execute(
        "insert into bloodbank.causes select cause, event_id from bloodbank.events cross join unnest(correlation_ids) as cause"
    )
    await owner.execute("vacuum (analyze) bloodbank.events, bloodbank.causes")
    for _ in range(stage.rounds):
        await owner.execute("truncate bloodbank.workflow_state, bloodbank.agent_sessions")
        for rates in (made, checked):
            began = time.perf_counter()
            found = await owner.fetchrow("select * from ops.rebuild_projections()")
            rates.append(MILLION / (time.perf_counter() - began))
        if found["events"] != MILLION / 10 or found["changed"]:
            raise BenchError(f"The second rebuild found {found['changed']} of {found['events']} wrong")
    await owner.close()
    return [
        Figure("rebuild of all rows, events scanned/s", "≥", 50_000, made, form=",.0f"),
        Figure("rebuild that finds all right, events scanned/s", "≥", 50_000, checked, form=",.0f"),
    ]
