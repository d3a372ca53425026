"""Dead letters over HTTP: found, shown and replayed by an admin."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from imi.bloodbank.envelope import sort
from tests.conftest import Database
from tests.serving import code

Intake = Callable[..., list[str]]


@pytest.fixture
def intake(database: Database, api: httpx.Client) -> Intake:
    """Lets messages come from the bus; answers the letters they became."""

    async def take(*messages: bytes) -> None:
        worker = await database.connect("worker")
        batch = sort(messages)
        await worker.execute("select logic.intake($1, $2, $3)", batch.messages, batch.rejected, batch.reasons)
        await worker.close()

    def run(*messages: bytes) -> list[str]:
        asyncio.run(take(*messages))
        items = api.get("/api/v1/dead-letters", params={"limit": len(messages)}).json()["items"]
        return [each["id"] for each in reversed(items)]

    return run


def mended(database: Database, letter: str, message: dict[str, Any]) -> None:
    """What a later release would understand."""
    text = json.dumps(message).replace("'", "''")
    database.server.run(
        f"update bloodbank.dead_letters set raw = convert_to('{text}', 'UTF8') where id = '{letter}'",
        database=database.name,
    )


def replayed(api: httpx.Client, letter: str) -> list[dict[str, Any]]:
    query = {"event_type": "imi.dead_letter.replayed", "order": "asc", "limit": 1000}
    events = api.get("/api/v1/events", params=query).json()
    return [each for each in events if each["payload"]["dead_letter_id"] == letter]


def test_they_are_listed_and_shown(api: httpx.Client, intake: Intake) -> None:
    text, binary = intake('{"event_type": "é"}'.encode(), b"\xff\x00")
    page = api.get("/api/v1/dead-letters", params={"source": "intake", "limit": 2}).json()
    assert (page["offset"], page["limit"]) == (0, 2) and page["total"] >= 2
    assert [each["id"] for each in page["items"]] == [binary, text]
    assert [each["raw_bytes"] for each in page["items"]] == [2, 20]
    assert "raw" not in page["items"][0]
    shown = api.get(f"/api/v1/dead-letters/{binary}").json()
    assert (shown["raw"], shown["raw_base64"], shown["sqlstate"]) == (None, "/wA=", "IM422")
    shown = api.get(f"/api/v1/dead-letters/{text}").json()
    assert (shown["raw"], shown["raw_base64"], shown["sqlstate"]) == ('{"event_type": "é"}', None, "IM400")


def test_filters(api: httpx.Client, intake: Intake) -> None:
    (letter,) = intake(b"{}")

    def found(**query: Any) -> bool:
        answer = api.get("/api/v1/dead-letters", params=query)
        assert answer.status_code == 200, answer.text
        return letter in [each["id"] for each in answer.json()["items"]]

    assert found() and found(replayed="all") and not found(replayed="true")
    assert found(source="intake") and not found(source="subscription")
    assert found(reason="NO EVENT_TYPE") and not found(reason="no event%type")
    assert found(before="2200-01-01T00:00:00Z") and not found(before="2020-01-01T00:00:00Z")
    assert not found(event_type="#") and not found(subscription="x")


@pytest.mark.parametrize(
    "query", ["source=bus", "event_type=a..b", "reason=", "before=yesterday", "replayed=no", "raw=1"]
)
def test_a_filter_that_means_nothing_is_refused(api: httpx.Client, query: str) -> None:
    assert code(api.get(f"/api/v1/dead-letters?{query}")) == (400, "VALIDATION_ERROR")


def test_a_replay_that_fails_is_stored_and_said(api: httpx.Client, intake: Intake) -> None:
    (letter,) = intake(json.dumps({"event_type": "a b", "payload": {}, "event_id": str(uuid4())}).encode())
    cause = str(uuid4())
    answer = api.post(f"/api/v1/dead-letters/{letter}/replay", headers={"X-Correlation-ID": cause})
    assert code(answer) == (409, "REPLAY_FAILED")
    detail = answer.json()["detail"]
    shown = api.get(f"/api/v1/dead-letters/{letter}").json()
    assert shown["attempts"] == 2 and shown["replayed_at"] is None
    assert detail["params"] == {
        "dead_letter_id": letter,
        "reason": shown["reason"],
        "sqlstate": "IM400",
        "attempts": 2,
    }
    (event,) = replayed(api, letter)
    assert event["payload"]["outcome"] == "failed" and event["correlation_ids"] == [cause]


def test_a_replay_stores_what_has_become_an_event(
    api: httpx.Client, intake: Intake, database: Database
) -> None:
    message = {"event_type": "a.b", "event_id": str(uuid4())}
    (letter,) = intake(json.dumps(message).encode())
    headers = {"Idempotency-Key": letter}
    path = f"/api/v1/dead-letters/{letter}/replay"
    assert code(api.post(path, headers=headers)) == (409, "REPLAY_FAILED")
    mended(database, letter, message | {"payload": {"n": 1}})
    answer = api.post(path, headers=headers)
    assert answer.status_code == 200
    assert answer.json() == api.get(f"/api/v1/dead-letters/{letter}").json()
    assert answer.json()["event_id"] == message["event_id"] and answer.json()["replayed_at"]
    assert api.get(f"/api/v1/events/{message['event_id']}").json()["payload"] == {"n": 1}
    assert api.post(path, headers=headers).json() == answer.json()
    again = api.post(path)
    assert code(again) == (409, "CONFLICT")
    assert again.json()["detail"]["params"]["replayed_at"] == answer.json()["replayed_at"]
    failed, done = replayed(api, letter)
    assert (failed["payload"]["outcome"], done["payload"]["outcome"]) == ("failed", "replayed")
    assert done["correlation_ids"] == [message["event_id"]]


def test_what_can_never_be_an_event_is_refused(api: httpx.Client, intake: Intake) -> None:
    (letter,) = intake(b"not JSON")
    answer = api.post(f"/api/v1/dead-letters/{letter}/replay")
    assert code(answer) == (409, "CONFLICT")
    assert "POST /api/v1/events" in answer.json()["detail"]["hint"]
    assert replayed(api, letter) == []


def test_it_takes_an_admin(anybody: httpx.Client, key: Callable[[str], str]) -> None:
    headers = {"X-API-Key": key("write")}
    for method, path in (("GET", ""), ("GET", f"/{uuid4()}"), ("POST", f"/{uuid4()}/replay")):
        answer = anybody.request(method, f"/api/v1/dead-letters{path}", headers=headers)
        assert code(answer) == (403, "FORBIDDEN")
