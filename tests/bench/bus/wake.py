"""What the wake-up costs those who write."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from imi.bloodbank.subscriptions import subscriptions
from tests.bench.bus.stage import Stage, emptied
from tests.bench.contenders import api_login
from tests.bench.load import pgbench
from tests.bench.operations import Data, Operation
from tests.bench.rows import Figure, ratios

WRITERS, SECONDS = 32, 3
TURNS = 4  # for each round: what is looked for is smaller than what two rounds differ by
# Each writer has a project of its own, and every one of its changes is an event.
MUTATION = Operation(
    "wake",
    "a project's description",
    "\\set v random(1, 2000000000)\n"
    "select api.project_update(('00000000-0000-7000-8000-' || lpad((:client_id::int)::text, 12, '0'))::uuid, "
    "json_build_object('description', 'Number ' || :v::int), '{\"actor\": \"bench\"}');",
)
PROJECTS = """
insert into imi.projects (id, name, remote_origin)
select ('00000000-0000-7000-8000-' || lpad(n::text, 12, '0'))::uuid, 'service-' || n, 'https://github.com/acme/service-' || n
from generate_series(0, $1::integer - 1) as n
"""
SILENT = "create or replace function logic.log_wake() returns void language plpgsql as $$ begin end $$"


async def woken(stage: Stage) -> list[Figure]:
    """Mutations a second with logic.log_wake, beside those with one that does nothing; a follower listens to both."""
    often = replace(stage, rounds=TURNS * stage.rounds)
    with stage.database() as database:
        owner = await database.connect("superuser")
        await owner.execute(
            "delete from bloodbank.subscriptions"
        )  # the follower hears and looks, and has no work
        await owner.execute(PROJECTS, WRITERS)
        loud = await owner.fetchval("select pg_get_functiondef('logic.log_wake'::regproc)")
        api = await api_login(database.url)

        async def writing(wake: str) -> float:
            await owner.execute(wake)
            await emptied(owner)
            await owner.execute("vacuum (analyze) imi.projects")
            sample = await asyncio.to_thread(pgbench, api, MUTATION, Data(), WRITERS, SECONDS)
            return sample.rate

        follower = asyncio.create_task(subscriptions(database.url))
        try:
            turns = await often.alternate(lambda: writing(loud), lambda: writing(SILENT))
        finally:
            follower.cancel()
            await asyncio.gather(follower, return_exceptions=True)
        await owner.close()
    what = f"mutations at {WRITERS} writers with the wake-up, × without"
    return [Figure(what, "≥", 0.95, ratios(turns))]
