"""`imi publish` against the real server."""

from __future__ import annotations

import io
import json
import socket
import sys
import uuid
from pathlib import Path
from typing import Any

import httpx
import pytest

from imi.bloodbank import publish
from tests.commandline import Imi, Live
from tests.serving import ADMIN

WORKFLOW = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b19"
HANDOFF = {
    "workflow_id": WORKFLOW,
    "from_agent": "bmad-architect",
    "to_agent": "letta-python-dev",
    "task": "Baue die Tür",
    "context": {"brief": "docs/brief.md"},
}


def stored(live: Live, event_id: str) -> Any:
    headers = {"Authorization": f"Bearer {ADMIN}"}
    answer = httpx.get(f"{live.url}/api/v1/events/{event_id}", headers=headers)
    answer.raise_for_status()
    return answer.json()


def test_it_prints_the_id_of_what_is_in_the_log(imi: Imi, live: Live) -> None:
    ran = imi("publish", "test.began", "--payload", "{}")
    causes = [ran.out.strip(), imi.data("publish", "test.began", "--payload", "{}")["event_id"]]
    assert ran.out == f"{uuid.UUID(causes[0])}\n" and ran.err == ""
    event_id = imi(
        "publish", "bmad.workflow.handoff.requested", "--payload", json.dumps(HANDOFF),
        "--caused-by", causes[0], "--caused-by", causes[1],
    ).out.strip()  # fmt: skip
    event = stored(live, event_id)
    assert (event["event_type"], event["payload"]) == ("bmad.workflow.handoff.requested", HANDOFF)
    assert event["correlation_ids"] == causes
    assert stored(live, causes[1])["correlation_ids"] == []


@pytest.mark.parametrize("ascii_only", [True, False])
def test_a_payload_from_a_file_and_from_stdin(
    imi: Imi, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ascii_only: bool
) -> None:
    text = json.dumps(HANDOFF, ensure_ascii=ascii_only).encode()
    (tmp_path / "handoff.json").write_bytes(text)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    for payload in (f"@{tmp_path}/handoff.json", "-"):
        event_id = imi.data("publish", "bmad.workflow.handoff.requested", "--payload", payload)["event_id"]
        assert stored(live, event_id)["payload"] == HANDOFF


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a b", "--payload", "{}"), "is no event type"),
        (("a.b",), "--payload"),
        (("a.b", "--payload", "{"), "--payload is not JSON"),
        (("a.b", "--payload", "\udcff"), "--payload is not JSON"),
        (("a.b", "--payload", '{"a":' * 100_000 + "1" + "}" * 100_000), "--payload is not JSON"),
        (("a.b", "--payload", "[]"), "The payload is not an object"),
        (("a.b", "--payload", '{"n": NaN}'), "The payload is no JSON"),
        (("a.b", "--payload", '{"n": 1e999}'), "The payload is no JSON"),
        (("a.b", "--payload", "{}", "--caused-by", "x"), "--caused-by x is no UUID"),
        (("bmad.workflow.completed", "--payload", "{}"), "payload.workflow_id is required"),
    ],
    ids=lambda each: " ".join(each)[:30] if isinstance(each, tuple) else "",
)
@pytest.mark.usefixtures("live")
def test_what_is_wrong_is_a_matter_of_usage(imi: Imi, arguments: tuple[str, ...], message: str) -> None:
    refused = imi.error(2, "publish", *arguments)
    assert refused["code"] == "USAGE" and refused["hint"]
    assert message in str(refused["message"])
    assert imi("publish", *arguments, code=2).out == ""


def test_a_file_that_is_not_there(imi: Imi, tmp_path: Path) -> None:
    refused = imi.error(1, "publish", "a.b", "--payload", f"@{tmp_path}/no.json")
    assert refused["message"] == f"cannot read {tmp_path}/no.json: No such file or directory"


def test_a_server_that_is_away(imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    monkeypatch.setattr(publish, "PATIENCE", 0.5)
    monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{port}")
    refused = imi.error(5, "publish", "a.b", "--payload", "{}")
    assert refused["code"] == "UNREACHABLE" and "imi up" in str(refused["hint"])
    monkeypatch.setenv("IMI_RABBITMQ_URL", f"amqp://guest:secret@127.0.0.1:{port}/")
    ran = imi("publish", "a.b", "--payload", "{}", code=5)
    assert "IMI_RABBITMQ_URL" in ran.err and "secret" not in ran.err


@pytest.mark.parametrize(
    ("name", "value", "exit_code", "code"),
    [("IMI_API_KEY", "imi_wrong", 4, "UNAUTHENTICATED"), ("IMI_API_URL", "ftp://x", 1, "CONFIG")],
)
@pytest.mark.usefixtures("live")
def test_a_refusal_has_its_exit_code(
    imi: Imi, monkeypatch: pytest.MonkeyPatch, name: str, value: str, exit_code: int, code: str
) -> None:
    monkeypatch.setenv(name, value)
    assert imi.error(exit_code, "publish", "a.b", "--payload", "{}")["code"] == code


def test_a_cause_is_an_events_id(imi: Imi) -> None:
    refused = imi.error(2, "publish", "a.b", "--payload", "{}", "--caused-by", WORKFLOW, "--caused-by", "abc")
    assert refused["message"] == "--caused-by abc is no UUID"
    assert "an event's id" in str(refused["hint"])


def test_without_a_key_it_says_where_one_was_looked_for(
    imi: Imi, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_DATA_DIR", str(tmp_path))
    refused = imi.error(4, "publish", "a.b", "--payload", "{}")
    assert refused["message"] == "This needs a key"
    assert f"there is no {tmp_path}/admin.key" in str(refused["hint"])
