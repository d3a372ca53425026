"""Every success that the document names happens, and its body is exactly what the document describes."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import httpx
from jsonschema import Draft202012Validator

from imi.openapi import expanded
from imi.texts import FORMATS
from tests.conftest import Database
from tests.serving import CONTRACT, live

NAMED = {
    (operation.id, int(status)): expanded(CONTRACT.document, response)
    for operation in CONTRACT.operations
    for status, response in CONTRACT.document["paths"][operation.path][operation.method.lower()][
        "responses"
    ].items()
    if status.startswith("2")
}


def closed(node: Any) -> Any:
    """The schema, in which an object has no field that is not described."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    return (
        {"additionalProperties": False} | node
        if node.get("type") == "object" and "properties" in node
        else node
    )


class Witness:
    """Holds every answer against the document, and remembers which successes it saw."""

    def __init__(self) -> None:
        self.seen: set[tuple[str, int]] = set()

    def __call__(self, answer: httpx.Response) -> None:
        answer.read()
        methods, _ = CONTRACT.find(answer.request.url.raw_path.decode().partition("?")[0])
        operation = methods[answer.request.method]
        said = CONTRACT.document["paths"][operation.path][operation.method.lower()]["responses"]
        assert str(answer.status_code) in said, (operation.id, answer.status_code, answer.text)
        if answer.is_success:
            self.seen.add((operation.id, answer.status_code))
            response = NAMED[operation.id, answer.status_code]
            if "content" not in response:
                assert answer.content == b"" and "Content-Type" not in answer.headers
                return
            schema = closed(response["content"]["application/json"]["schema"])
            errors = Draft202012Validator(schema, format_checker=FORMATS).iter_errors(answer.json())
            assert not [f"{error.json_path}: {error.message[:300]}" for error in errors], operation.id


def test_every_success(fresh_database: Database) -> None:
    witness = Witness()
    with live(fresh_database.url) as client:
        client.event_hooks = {"response": [witness]}
        client.headers["X-Agent-Id"] = "claude-7"

        def send(method: str, path: str, body: Any = None) -> Any:
            answer = client.request(method, f"/api/v1{path}", json=body)
            assert answer.is_success, answer.text
            return answer.json() if answer.content else None

        remote = {
            "remote_origin": "https://github.com/33GOD/iMi",
            "description": "d",
            "trunk_path": "/t",
            "metadata": {"a": [1]},
        }
        project = send("POST", "/projects", remote)["id"]
        send("POST", "/projects", remote)
        send("PATCH", f"/projects/{project}", {"name": "imi", "description": None})
        start = {
            "project_id": project,
            "branch_name": "feat/a",
            "source": {"type": "plane_ticket", "ref": "P-1"},
            "host": "h",
        }
        work = send("POST", "/work", start)["id"]
        other = send("POST", "/work", start | {"branch_name": "feat/b"})["id"]
        send("PATCH", f"/work/{work}", {"metadata": {"b": 1}})
        state = {
            "has_uncommitted_changes": True,
            "uncommitted_files_count": 2,
            "last_commit_hash": "9fceb02",
            "last_commit_message": "m",
        }
        send("PATCH", f"/work/{work}/git-state", state)
        send(
            "PATCH", "/work/git-state", {"project_id": project, "branch_name": "feat/b", "ahead_of_trunk": 3}
        )
        for step in ("claim", "renew", "release", "claim"):
            send("POST", f"/work/{work}/{step}", {"agent_id": "claude-7"})
        tree = {
            "project_id": project,
            "work_item_id": work,
            "name": "feat-a",
            "path": "/a",
            "host": "h",
            "branch_name": "feat/a",
        }
        worktree = send("POST", "/worktrees", tree)["id"]
        send("POST", "/worktrees", tree)
        send("PATCH", f"/worktrees/{worktree}", {"path": "/b"})
        ticket = {
            "work_item_id": work,
            "plane_ticket_id": "P-1",
            "ticket_title": "t",
            "ticket_url": "https://x.example/1",
        }
        pull = {"work_item_id": work, "pr_number": 42, "pr_url": "https://github.com/33GOD/iMi/pull/42"}
        deploy = {
            "work_item_id": work,
            "deploy_id": "d-1",
            "environment": "production",
            "commit_hash": "9fceb02d0ae5",
        }
        for _ in range(2):
            send("POST", "/links/ticket", ticket)
            send("POST", "/links/deploy", deploy)
            link = send("POST", "/links/pr", pull)["id"]
        send("PATCH", f"/links/pr/{link}", {"pr_title": "t"})
        send("GET", f"/links?work_item_id={work}")
        send("GET", "/links/ticket/P-1")
        for what in (
            "ticket/P-1",
            f"work_item/{work}",
            "branch/feat%2Fa",
            "pr/42",
            "deploy/d-1",
            "commit/9fceb02",
        ):
            trace = send("GET", f"/trace/{what}?transitive=true")
            assert [item["id"] for item in trace["chain"]["work_items"]] == [work], what
            assert all(len(trace["chain"][kind]) == 1 for kind in ("tickets", "prs", "deploys")), what
        assert send("GET", "/trace/branch?id=feat/a")["chain"]["work_items"][0]["id"] == work
        for path in ("/projects", "/projects?search=im&active=all", f"/projects/{project}", f"/projects/by-origin?remote_origin={remote['remote_origin']}",
                     "/work", "/work?active=all", "/work/inflight", f"/work/{work}", f"/work/{other}", "/worktrees?active=all", "/stats", "/agents"):  # fmt: skip
            send("GET", path)
        assert len(send("GET", "/work/inflight")["items"]) == 2
        send("POST", f"/work/{other}/complete", {"completion_type": "superseded", "merged_by": "ada"})
        send("GET", f"/work/{other}")
        send("GET", "/work?status=superseded")

        part = {"parent_project_id": project, "path": "p", "kind": "submodule", "metadata": {"c": 1}}
        one = send("POST", "/components", part | {"name": "one", "linked_project_id": project})["id"]
        two = send("POST", "/components", part | {"name": "two"})["id"]
        send("POST", "/components", part | {"name": "two"})
        send("PATCH", f"/components/{one}", {"enabled": False, "linked_project_id": None})
        edge = {"target_component_id": two, "relationship_type": "depends_on"}
        for _ in range(2):
            send("POST", f"/components/{one}/relationships", edge)
        for path in (
            "",
            f"/{one}",
            f"/{one}/relationships",
            f"/{two}/relationships",
            f"/{one}/graph?direction=both",
        ):
            send("GET", f"/components{path}")
        assert len(send("GET", f"/components/{one}/graph")["edges"]) == 1

        event = {
            "event_id": str(uuid4()),
            "event_type": "a.b",
            "payload": {},
            "odd": 1,
            "agent_context": {"type": "x"},
        }
        for body in (event, event, [event, event | {"event_id": str(uuid4())}], []):
            send("POST", "/events", body)
        assert send("GET", f"/events/{event['event_id']}")["odd"] == 1
        for way in ("descendants", "ancestors"):
            for form in ("", "?format=tree&max_depth=3", "?format=flat", "?format=graph&max_depth=0"):
                send("GET", f"/events/{event['event_id']}/{way}{form}")
        found = client.get("/api/v1/events?after=0&count=true&limit=5")
        assert int(found.headers["X-Total-Count"]) > int(found.headers["X-Next-Cursor"]) == 5
        send("GET", "/events?event_type=imi.%23&order=asc")

        workflow, session = {"workflow_id": str(uuid4())}, f"agent-{uuid4()}"
        for event_type, told in (
            ("bmad.workflow.started", {"project_name": "iMi", "phase": "design"}),
            (
                "agent.handoff.accepted",
                {"agent_type": "letta", "session_id": session, "accepted_from": "analyst"},
            ),
        ):
            send("POST", "/events", {"event_type": event_type, "payload": workflow | told})
        found = send("GET", "/workflows?phase=design&project_name=iMi&agent=letta&completed=false&limit=1")
        assert (
            found["items"] == [send("GET", f"/workflows/{workflow['workflow_id']}")] and found["total"] == 1
        )
        for query, count in (
            ("", 2),
            ("?event_type=bmad.%23&order=asc&count=true", 1),
            ("?after=0&limit=1", 1),
        ):
            assert len(send("GET", f"/workflows/{workflow['workflow_id']}/events{query}")) == count
        (seen,) = send(
            "GET", f"/agent-sessions?status=active&agent_type=letta&workflow_id={workflow['workflow_id']}"
        )["items"]
        assert seen["agent_instance_id"] == session

        touch = {"work_item_id": work, "activity_type": "file_change", "path": "a.py", "details": {"n": 1}}
        taken = [touch | {"id": str(uuid4())}, touch | {"id": str(uuid4()), "agent_id": "eve"}]
        send("POST", "/activities", taken)
        assert len(send("GET", "/conflicts")["items"][0]["touches"]) == 2
        assert send("GET", f"/work/{work}/activities")["total"] == 2

        envelope = f'{{"event_id": "{uuid4()}", "event_type": "a.b", "payload": {{}}}}'
        fresh_database.server.run(
            f"select logic.dead_letter('intake', null, convert_to('{envelope}', 'UTF8'), 'none', 'IM400', 1)",
            database=fresh_database.name,
        )
        (letter,) = send("GET", "/dead-letters")["items"]
        send("GET", f"/dead-letters/{letter['id']}")
        assert send("POST", f"/dead-letters/{letter['id']}/replay")["event_type"] == "a.b"

        key = send("POST", "/api-keys", {"name": "ci", "expires_at": "2100-01-01T00:00:00Z"})
        send("GET", "/api-keys")
        send("DELETE", f"/api-keys/{key['id']}")
        send("DELETE", f"/worktrees/{worktree}")
        send("GET", "/worktrees?active=false")
        send("DELETE", f"/projects/{project}")
        send("GET", f"/projects/{project}")
    assert set(NAMED) - witness.seen == set()
