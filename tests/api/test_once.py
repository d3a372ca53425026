"""Idempotency-Key: a repeat answers the stored reply, whatever happened in between."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import httpx
import pytest

from tests.conftest import Database, wait_for
from tests.serving import Things, code


def events(api: httpx.Client, event_type: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = api.get(
        "/api/v1/events", params={"event_type": event_type, "limit": 1000}
    ).json()
    return found


def test_the_same_request_answers_the_stored_reply(api: httpx.Client, things: Things) -> None:
    body = {"project_id": things.project["id"], "branch_name": "once/1", "owner_id": "ada"}
    headers = {"Idempotency-Key": "start-1"}
    first = api.post("/api/v1/work", json=body, headers=headers)
    assert first.status_code == 201
    item = first.json()["id"]
    assert api.post(f"/api/v1/work/{item}/complete", json={"completion_type": "merged"}).is_success
    again = api.post("/api/v1/work", json=body, headers=headers)
    assert (again.status_code, again.json()) == (201, first.json())
    assert len([each for each in events(api, "imi.work.started") if each["payload"]["id"] == item]) == 1


def test_another_request_with_the_key_is_a_conflict(api: httpx.Client, things: Things) -> None:
    headers = {"Idempotency-Key": "start-2"}
    body = {"project_id": things.project["id"], "branch_name": "once/2", "owner_id": "ada"}
    assert api.post("/api/v1/work", json=body, headers=headers).status_code == 201
    answer = api.post("/api/v1/work", json=body | {"owner_id": "eve"}, headers=headers)
    assert code(answer) == (409, "CONFLICT")
    assert answer.json()["detail"]["params"] == {"idempotency_key": "start-2"}


def test_the_path_is_part_of_the_request(api: httpx.Client, things: Things) -> None:
    headers = {"Idempotency-Key": "claim-1"}
    one, two = things.new_work()["id"], things.new_work()["id"]
    assert api.post(f"/api/v1/work/{one}/claim", json={"agent_id": "ada"}, headers=headers).is_success
    answer = api.post(f"/api/v1/work/{two}/claim", json={"agent_id": "ada"}, headers=headers)
    assert code(answer) == (409, "CONFLICT")


def test_errors_are_not_stored(api: httpx.Client, things: Things) -> None:
    headers = {"Idempotency-Key": "claim-2"}
    item = things.new_work()["id"]
    things.post(f"/work/{item}/claim", agent_id="ada")
    assert code(api.post(f"/api/v1/work/{item}/claim", json={"agent_id": "eve"}, headers=headers)) == (
        409,
        "CONFLICT",
    )
    things.post(f"/work/{item}/release", agent_id="ada")
    assert api.post(f"/api/v1/work/{item}/claim", json={"agent_id": "eve"}, headers=headers).is_success


def test_a_key_belongs_to_who_sent_it_and_to_one_operation(
    api: httpx.Client, anybody: httpx.Client, key: Callable[[str], str]
) -> None:
    for headers in ({"X-API-Key": key("write")}, {"X-API-Key": key("write")}):
        body = {"event_type": "a.b", "payload": {"by": headers["X-API-Key"][-4:]}}
        answer = anybody.post("/api/v1/events", json=body, headers=headers | {"Idempotency-Key": "mine"})
        assert answer.status_code == 202
    body = {"remote_origin": "/tmp/mine"}
    assert api.post("/api/v1/projects", json=body, headers={"Idempotency-Key": "mine"}).status_code == 201


def test_two_at_once_make_one(api: httpx.Client, things: Things, database: Database) -> None:
    """The second waits for the first, which holds the row of the key while it waits for the project's."""
    body = {"project_id": things.project["id"], "branch_name": "once/race", "owner_id": "ada"}
    answers: list[httpx.Response] = []

    def post() -> None:
        answers.append(api.post("/api/v1/work", json=body, headers={"Idempotency-Key": "race"}))

    async def waiting(owner: Any, n: int) -> None:
        query = "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
        while await owner.fetchval(query) < n:
            pass

    async def race() -> None:
        async with asyncio.timeout(20):
            await run()

    async def run() -> None:
        owner = await database.connect()
        watcher = await database.connect("superuser")
        async with owner.transaction():
            await owner.execute("select from imi.projects where id = $1 for update", things.project["id"])
            for n, thread in enumerate(threads, 1):
                thread.start()
                await waiting(watcher, n)
        await owner.close()
        await watcher.close()

    threads = [threading.Thread(target=post) for _ in range(2)]
    wait_for(race())
    for thread in threads:
        thread.join()
    assert [answer.status_code for answer in answers] == [201, 201]
    assert answers[0].json() == answers[1].json()
    item = answers[0].json()["id"]
    assert len([each for each in events(api, "imi.work.started") if each["payload"]["id"] == item]) == 1


@pytest.mark.parametrize(("days", "status"), [(6, 201), (8, 409)])
def test_a_reply_is_kept_for_seven_days(
    api: httpx.Client, things: Things, database: Database, days: int, status: int
) -> None:
    body = {"project_id": things.project["id"], "branch_name": f"once/{days}", "owner_id": "ada"}
    headers = {"Idempotency-Key": f"old-{days}"}
    assert api.post("/api/v1/work", json=body, headers=headers).status_code == 201
    database.server.run(
        f"update imi.idempotency_keys set created_at = created_at - interval '{days} days' where key = 'old-{days}'",
        database=database.name,
    )
    assert api.post("/api/v1/work", json=body, headers=headers).status_code == status
