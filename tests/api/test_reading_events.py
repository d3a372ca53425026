"""GET /api/v1/events with what careless and hostile people send, and with the largest event there is."""

from __future__ import annotations

import json
import uuid

import httpx
import pytest


@pytest.mark.parametrize(
    ("query", "code", "reason"),
    [
        ({"after": "-1"}, "VALIDATION_ERROR", "0"),
        ({"after": "x"}, "VALIDATION_ERROR", "whole number"),
        ({"after": str(2**63)}, "VALIDATION_ERROR", "9223372036854775807"),
        ({"after": str(2**63 - 1)}, "INVALID_CURSOR", "beyond the end"),
        ({"after": "0", "offset": "0"}, "VALIDATION_ERROR", "cannot stand beside"),
        ({"after": "0", "order": "desc"}, "VALIDATION_ERROR", "cannot stand beside"),
        ({"event_type": "a..b"}, "VALIDATION_ERROR", "event_type"),
        ({"event_type": "a*"}, "VALIDATION_ERROR", "event_type"),
        ({"event_type": "a b"}, "VALIDATION_ERROR", "event_type"),
        ({"event_type": "(a+)+$"}, "VALIDATION_ERROR", "event_type"),
        ({"event_type": ""}, "VALIDATION_ERROR", "event_type"),
        ({"event_type": "x" * 256}, "VALIDATION_ERROR", "event_type"),
        ({"start_time": "yesterday"}, "VALIDATION_ERROR", "start_time"),
        ({"start_time": "2026-01-01"}, "VALIDATION_ERROR", "start_time"),
        ({"end_time": "2026-01-01T00:00:00"}, "VALIDATION_ERROR", "end_time"),
        ({"end_time": "2026-02-30T00:00:00Z"}, "VALIDATION_ERROR", "end_time"),
        ({"end_time": "infinity"}, "VALIDATION_ERROR", "end_time"),
        ({"workflow_id": "x"}, "VALIDATION_ERROR", "workflow_id"),
        ({"limit": "0"}, "VALIDATION_ERROR", "limit"),
        ({"limit": "1001"}, "VALIDATION_ERROR", "limit"),
        ({"order": "up"}, "VALIDATION_ERROR", "order"),
    ],
)
def test_a_wrong_question_is_400_with_the_reason(
    api: httpx.Client, query: dict[str, str], code: str, reason: str
) -> None:
    answer = api.get("/api/v1/events", params=query)
    detail = answer.json()["detail"]
    assert (answer.status_code, detail["code"]) == (400, code)
    assert reason in json.dumps(detail)


def test_a_pattern_built_to_be_slow_is_answered(api: httpx.Client) -> None:
    """Backtracking would take longer than the world is old; the limit is the reader's 10 seconds."""
    types = [".".join("a" * words) + end for words in range(1, 126) for end in ("", ".b")]
    body = [{"event_type": each, "payload": {}} for each in types]
    assert api.post("/api/v1/events", json=body).status_code == 202

    def found(pattern: str) -> int:
        answer = api.get("/api/v1/events", params={"event_type": pattern, "limit": 1000})
        assert answer.status_code == 200, answer.text
        return len(answer.json())

    assert found(".".join("#a" * 60)) == 125 - 60 + 1
    assert found(".".join("#*" * 60)) == (125 - 60 + 1) + (125 - 59 + 1)
    assert found(".".join("#a" * 60) + ".#.z") == 0
    assert found(".".join("a#*" * 42)) == (125 - 84 + 1) + (125 - 83 + 1)


def test_an_event_of_1_mib_is_stored_and_read_back(api: httpx.Client) -> None:
    event = {"event_id": str(uuid.uuid4()), "event_type": "test.large", "payload": {"text": ""}}
    room = (1 << 20) - len(json.dumps(event))
    event["payload"] = {"text": ("é" + "x" * 30) * (room // 32)}
    event["payload"]["text"] += "x" * (room - len(event["payload"]["text"].encode()))
    taken = api.post("/api/v1/events", json=event)
    assert taken.status_code == 202, taken.text
    one = api.get(f"/api/v1/events/{event['event_id']}").json()
    (listed,) = api.get("/api/v1/events", params={"event_type": "test.#"}).json()
    (followed,) = api.get("/api/v1/events", params={"after": taken.json()["cursor"] - 1}).json()
    assert one["payload"] == event["payload"]
    assert one == listed == followed
    larger = event | {"event_id": str(uuid.uuid4()), "payload": {"text": event["payload"]["text"] + "x"}}
    assert api.post("/api/v1/events", json=larger).status_code == 400
