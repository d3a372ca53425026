"""kill -9 during 500 concurrent mutations: every acknowledged one is there with exactly one event, no event without its row."""

import asyncio
import os
import signal
import uuid

import asyncpg
import httpx
import pytest

from imi.database import embedded
from tests.live import running

MUTATIONS, CLIENTS, ENOUGH = 500, 50, 100


async def mutate(live, project_id, enough):
    """Start 500 work items from 50 clients; the ids that were acknowledged. Sets `enough` on the way."""
    acknowledged = set()
    numbers = iter(range(MUTATIONS))

    async def client(http):
        for n in numbers:
            body = {"project_id": project_id, "branch_name": f"b{n}-{uuid.uuid4().hex}", "owner_id": "ada"}
            try:
                answer = await http.post("/api/v1/work", json=body)
            except httpx.TransportError:
                continue
            if answer.status_code == 201:
                acknowledged.add(answer.json()["id"])
            else:
                assert answer.status_code == 503, answer.text
                assert "Retry-After" in answer.headers
            if len(acknowledged) >= ENOUGH:
                enough.set()

    limits = httpx.Limits(max_connections=CLIENTS)
    async with live.client(limits=limits) as http:
        await asyncio.gather(*(client(http) for _ in range(CLIENTS)))
    return acknowledged


async def project(live):
    async with live.client() as http:
        return (
            await http.post("/api/v1/projects", json={"remote_origin": f"https://h.example/{uuid.uuid4()}"})
        ).json()["id"]


async def verify(live, project_id, acknowledged):
    cluster, users = await asyncio.to_thread(embedded.join, live.data_dir)
    try:
        connection = await asyncpg.connect(embedded.url(cluster))
        rows = await connection.fetch(
            """select items.id, count(events.event_id) as events
               from (select id from imi.work_items where project_id = $1) as items
               full join (select event_id, payload ->> 'id' as id from bloodbank.events
                          where event_type = 'imi.work.started' and payload ->> 'project_id' = $1::text) as events
                 on events.id = items.id::text
               group by items.id""",
            uuid.UUID(project_id),
        )
        await connection.close()
    finally:
        await asyncio.to_thread(embedded.leave, cluster, users)
    assert {r["events"] for r in rows} == {1}
    there = {str(r["id"]) for r in rows}
    assert None not in {r["id"] for r in rows}
    assert acknowledged <= there
    assert len(acknowledged) >= ENOUGH


@pytest.fixture
def live():
    with running() as server:
        yield server


async def test_kill_9_of_imi(live):
    project_id, enough = await project(live), asyncio.Event()
    work = asyncio.create_task(mutate(live, project_id, enough))
    await asyncio.wait_for(enough.wait(), 60)
    live.process.kill()
    acknowledged = await work
    live.process.wait()
    await verify(live, project_id, acknowledged)
    live.start()
    async with live.client() as http:
        answer = await http.get("/api/v1/work", params={"project_id": project_id, "limit": 1})
    assert answer.json()["total"] >= len(acknowledged)


async def test_kill_9_of_postgresql(live):
    project_id, enough = await project(live), asyncio.Event()
    work = asyncio.create_task(mutate(live, project_id, enough))
    await asyncio.wait_for(enough.wait(), 60)
    os.kill(live.postmaster(), signal.SIGKILL)
    acknowledged = await work
    # iMi brings its own PostgreSQL back, without a restart
    async with live.client() as http:
        for _ in range(600):
            if (await http.get("/health")).status_code == 200:
                break
            await asyncio.sleep(0.1)
        assert (await http.get("/health")).json()["database"] == "connected"
        answer = await http.post(
            "/api/v1/work", json={"project_id": project_id, "branch_name": "after", "owner_id": "ada"}
        )
        assert answer.status_code == 201, answer.text
    await verify(live, project_id, acknowledged | {answer.json()["id"]})
