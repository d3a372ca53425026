"""Payloads and their schemas: what the API publishes fits them, and ?validate=true refuses what does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from importlib import resources
from typing import Any
from uuid import uuid4

import httpx
import pytest

from imi import openapi
from imi.bloodbank.schemas import faults
from imi.texts import complaints, validator
from tests.conftest import Database
from tests.serving import code, live

WRITTEN = resources.files("imi").joinpath("schemas", "events", "envelope.json").read_bytes()
ENVELOPE = validator(openapi.expanded(openapi.read(), json.loads(WRITTEN)))
SHA = "9fceb02d0ae598e95dc970b74767f19372d61af8"

PUBLISHED = {
    *(f"imi.project.{what}" for what in ("registered", "updated", "deactivated", "reactivated")),
    *(f"imi.work.{what}" for what in ("started", "updated", "git_state_updated", "completed", "deactivated")),
    *(f"imi.work.{what}" for what in ("claimed", "released")),
    *(f"imi.worktree.{what}" for what in ("created", "synced", "removed")),
    *(f"imi.link.{what}" for what in ("ticket_linked", "ticket_updated")),
    *(f"imi.pr.{what}" for what in ("created", "updated", "closed", "reopened", "merged")),
    *(f"imi.deploy.{what}" for what in ("completed", "updated")),
    *(f"imi.component.{what}" for what in ("registered", "updated", "related")),
}


def test_whatever_the_api_publishes_fits(database: Database) -> None:
    with live(database.url) as client:

        def send(method: str, path: str, body: Any = None) -> Any:
            answer = client.request(method, f"/api/v1{path}", json=body)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        remote = {"remote_origin": "https://github.com/33GOD/iMi", "metadata": {"team": "platform"}}
        project = send("POST", "/projects", remote)["id"]
        send("PATCH", f"/projects/{project}", {"description": "The registry"})
        start = {"project_id": project, "branch_name": "feat/a", "owner_id": "ada"}
        work = send("POST", "/work", start)["id"]
        send("PATCH", f"/work/{work}", {"host": "ada-laptop"})
        state = {"ahead_of_trunk": 2, "last_commit_hash": SHA, "last_commit_message": "m"}
        send("PATCH", f"/work/{work}/git-state", state)
        send("POST", f"/work/{work}/claim", {"agent_id": "claude-7"})
        send("POST", f"/work/{work}/release", {"agent_id": "claude-7"})
        tree = {"project_id": project, "work_item_id": work, "name": "a", "path": "/a", "host": "ada-laptop"}
        worktree = send("POST", "/worktrees", tree)["id"]
        send("PATCH", f"/worktrees/{worktree}", {"path": "/b"})
        send("DELETE", f"/worktrees/{worktree}")
        ticket = {"work_item_id": work, "plane_ticket_id": "P-1"}
        send("POST", "/links/ticket", ticket)
        send("POST", "/links/ticket", ticket | {"ticket_title": "t", "ticket_url": "https://plane.so/P-1"})
        deploy = {"work_item_id": work, "deploy_id": "d", "environment": "production", "commit_hash": SHA}
        send("POST", "/links/deploy", deploy)
        send("POST", "/links/deploy", deploy | {"metadata": {"region": "eu"}})
        pull = {"work_item_id": work, "pr_number": 4, "pr_url": "https://github.com/33GOD/iMi/pull/4"}
        link = send("POST", "/links/pr", pull)["id"]
        for change in ({"pr_title": "t"}, {"pr_state": "closed"}, {"pr_state": "open"}):
            send("PATCH", f"/links/pr/{link}", change)
        merge = {"pr_state": "merged", "merge_commit_hash": SHA, "merged_by": "ada"}
        send("PATCH", f"/links/pr/{link}", merge)
        send("POST", "/work", start | {"branch_name": "feat/b"})
        part = {"parent_project_id": project, "path": "p", "kind": "submodule"}
        one = send("POST", "/components", part | {"name": "one", "linked_project_id": project})["id"]
        two = send("POST", "/components", part | {"name": "two"})["id"]
        send("PATCH", f"/components/{one}", {"linked_project_id": None})
        edge = {"target_component_id": two, "relationship_type": "depends_on"}
        send("POST", f"/components/{one}/relationships", edge)
        send("DELETE", f"/projects/{project}")
        send("POST", "/projects", remote)

        log = send("GET", "/events?after=0&limit=1000")
    assert {each["event_type"] for each in log} == PUBLISHED
    for event in log:
        assert faults(event["event_type"], event["payload"]) == [], event
        assert complaints(ENVELOPE, event) == []


class TestValidate:
    @pytest.fixture
    def publish(self, api: httpx.Client) -> Callable[..., httpx.Response]:
        def publish(body: Any, validate: str = "?validate=true", **headers: str) -> httpx.Response:
            return api.post(f"/api/v1/events{validate}", json=body, headers=headers)

        return publish

    def event(self, event_type: str = "plane.ticket.created", **payload: Any) -> dict[str, Any]:
        return {"event_id": str(uuid4()), "event_type": event_type, "payload": payload}

    def test_a_fault_names_index_and_path_and_nothing_is_stored(
        self, api: httpx.Client, publish: Callable[..., httpx.Response]
    ) -> None:
        good = [self.event(ticket_id=f"P-{n}") for n in range(3)]
        refused = publish([*good, self.event(ticket_id=7), self.event("bmad.workflow.completed")])
        assert code(refused) == (400, "VALIDATION_ERROR")
        assert refused.json()["detail"]["message"] == "3.payload.ticket_id is not of type string"
        assert refused.json()["detail"]["params"]["errors"] == [
            {"path": "3.payload.ticket_id", "message": "is not of type string"},
            {"path": "4.payload.workflow_id", "message": "is required"},
        ]
        for each in good:
            assert api.get(f"/api/v1/events/{each['event_id']}").status_code == 404

    def test_one_event_has_no_index(self, publish: Callable[..., httpx.Response]) -> None:
        refused = publish(self.event())
        assert code(refused) == (400, "VALIDATION_ERROR")
        assert refused.json()["detail"]["params"]["errors"][0]["path"] == "payload.ticket_id"

    def test_what_fits_is_stored(self, api: httpx.Client, publish: Callable[..., httpx.Response]) -> None:
        event = self.event("tool.mutation.edit", tool_name="Edit", repo={"branch": "a", "remote_url": "/a"})
        assert publish(event).status_code == 202
        assert api.get(f"/api/v1/events/{event['event_id']}").json()["payload"] == event["payload"]
        assert publish([event, self.event(ticket_id="P-1")]).status_code == 202

    def test_a_type_that_nobody_described_passes(self, publish: Callable[..., httpx.Response]) -> None:
        assert publish(self.event("nobody.described.this", ticket_id=7)).status_code == 202

    @pytest.mark.parametrize("query", ["", "?validate=false"])
    def test_unasked_nothing_is_judged(self, publish: Callable[..., httpx.Response], query: str) -> None:
        assert publish(self.event(ticket_id=7), query).status_code == 202

    @pytest.mark.parametrize("query", ["?validate=yes", "?validate=", "?validate=true&validate=true"])
    def test_it_is_true_or_false(self, publish: Callable[..., httpx.Response], query: str) -> None:
        refused = publish(self.event(ticket_id="P-1"), query)
        assert code(refused) == (400, "VALIDATION_ERROR")
        assert refused.json()["detail"]["params"]["errors"][0]["path"] == "validate"

    def test_an_envelope_that_is_none_is_refused_first(self, publish: Callable[..., httpx.Response]) -> None:
        assert publish({"payload": {}}).json()["detail"]["params"]["errors"] == [
            {"path": "event_type", "message": "is required"}
        ]

    def test_a_repeat_is_answered_as_before(self, publish: Callable[..., httpx.Response]) -> None:
        event, key = self.event(ticket_id="P-1"), {"Idempotency-Key": str(uuid4())}
        first = publish(event, **key)
        assert first.status_code == 202
        assert publish(event, **key).json() == first.json()

    def test_a_large_list(self, publish: Callable[..., httpx.Response]) -> None:
        events = [self.event(ticket_id="P-1", title="x" * 100) for _ in range(1000)]
        assert publish(events).status_code == 202
        events[-1]["payload"]["ticket_id"] = None
        assert publish(events).json()["detail"]["params"]["errors"][0]["path"] == "999.payload.ticket_id"
