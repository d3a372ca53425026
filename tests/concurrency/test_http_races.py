"""The same races through the server: what each of many clients at once is told."""

import asyncio
import collections

import httpx
import pytest

from tests.serving import live
from tests.sql.test_remotes import SPELLINGS


@pytest.fixture(scope="module")
def server_of(database):
    with live(database.url, database_pool_size=10, database_max_overflow=5) as admin:
        yield admin


@pytest.fixture
async def http(server_of):
    options = {"base_url": server_of.base_url, "headers": server_of.headers, "timeout": 30}
    async with httpx.AsyncClient(**options, limits=httpx.Limits(max_connections=64)) as client:
        yield client


async def test_48_registrations_of_six_spellings_are_one_201(http):
    bodies = [{"remote_origin": SPELLINGS[n % 6]} for n in range(48)]
    answers = await asyncio.gather(*(http.post("/api/v1/projects", json=body) for body in bodies))
    assert collections.Counter(a.status_code for a in answers) == {201: 1, 200: 47}
    (only,) = {a.json()["id"] for a in answers}
    events = (await http.get("/api/v1/events", params={"event_type": "imi.project.#"})).json()
    assert [e["payload"]["id"] for e in events] == [only]


async def test_32_claims_have_one_winner(http):
    project = (await http.post("/api/v1/projects", json={"remote_origin": "https://h.example/claims"})).json()
    body = {"project_id": project["id"], "branch_name": "b", "owner_id": "ada"}
    item = (await http.post("/api/v1/work", json=body)).json()
    claim = f"/api/v1/work/{item['id']}/claim"
    answers = await asyncio.gather(*(http.post(claim, json={"agent_id": f"agent-{n}"}) for n in range(32)))
    assert collections.Counter(a.status_code for a in answers) == {200: 1, 409: 31}
    (winner,) = [a.json()["claim"]["agent_id"] for a in answers if a.status_code == 200]
    assert {a.json()["detail"]["params"]["agent_id"] for a in answers if a.status_code == 409} == {winner}


async def test_one_idempotency_key_at_once_is_one_effect(http):
    project = (await http.post("/api/v1/projects", json={"remote_origin": "https://h.example/once"})).json()
    body = {"project_id": project["id"], "branch_name": "b", "owner_id": "ada"}
    headers = {"Idempotency-Key": "the-same"}
    answers = await asyncio.gather(
        *(http.post("/api/v1/work", json=body, headers=headers) for _ in range(16))
    )
    assert {a.status_code for a in answers} == {201}
    assert len({a.content for a in answers}) == 1
