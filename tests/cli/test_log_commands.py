"""`imi events list`, `descendants` and `ancestors`; workflows, sessions, agents, conflicts, worktrees, reports:
what they print."""

from __future__ import annotations

import uuid
from itertools import pairwise
from typing import Any

import httpx
import pytest

from tests.commandline import Imi, Live
from tests.serving import ADMIN

HOSTILE = "\x1b[31m\u202e"


def publish(live: Live, *events: dict[str, Any]) -> list[str]:
    body = [{"payload": {}, **each} for each in events]
    answer = httpx.post(f"{live.url}/api/v1/events", json=body, headers={"X-API-Key": ADMIN})
    return [each["event_id"] for each in answer.raise_for_status().json()["items"]]


class TestList:
    @pytest.fixture
    def kind(self) -> str:
        """A type that nothing else uses."""
        return f"listed.{uuid.uuid4().hex}"

    def test_pages_by_time(self, imi: Imi, live: Live, kind: str) -> None:
        times = [f"2026-02-11T10:3{n}:00Z" for n in (1, 0, 2)]
        ids = publish(live, *({"event_type": kind, "timestamp": each} for each in times))
        page = imi.data("events", "list", "--type", kind, "--limit", 2)
        assert [each["event_id"] for each in page.pop("items")] == [ids[2], ids[0]]
        assert page == {"total": None, "offset": 0, "limit": 2, "next_cursor": None}
        oldest = imi.data("events", "list", "--type", kind, "--order", "asc", "--offset", 1, "--count")
        assert [each["event_id"] for each in oldest["items"]] == [ids[0], ids[2]]
        assert oldest["total"] == 3
        between = ("--start-time", times[0], "--end-time", times[0])
        [found] = imi.data("events", "list", "--type", kind, *between)["items"]
        assert found["event_id"] == ids[0]
        shown = imi("events", "list", "--type", kind, "--limit", 2, "--count").lines
        assert shown[0].split() == ["time", "id", "event", "type", "by", "payload"]
        assert ids[2] in shown[1] and kind in shown[1]
        assert shown[-2:] == ["3 match", "the next ones: --offset 2; all of them: --all"]
        assert imi("events", "list", "--type", "no.such").lines == ["none"]

    def test_goes_on_from_a_cursor(self, imi: Imi, live: Live, kind: str) -> None:
        ids = publish(live, *[{"event_type": kind}] * 3)
        first = imi.data("events", "list", "--type", kind, "--after", 0, "--limit", 2)
        assert [each["event_id"] for each in first["items"]] == ids[:2]
        cursor = first["next_cursor"]
        said = imi("events", "list", "--type", kind, "--after", 0, "--limit", 2).lines[-1]
        assert said == f"what comes after these: --after {cursor}"
        rest = imi.data("events", "list", "--type", kind, "--after", cursor)
        assert [each["event_id"] for each in rest["items"]] == ids[2:]

    def test_all_reads_page_after_page(
        self, imi: Imi, live: Live, kind: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("imi.cli.event_list.PAGE", 3)
        ids = publish(live, *[{"event_type": kind}] * 7)
        whole = imi.data("events", "list", "--type", kind, "--all")
        assert [each["event_id"] for each in whole["items"]] == ids
        assert (whole["total"], whole["limit"]) == (7, 7)
        [later] = publish(live, {"event_type": kind})
        more = imi.data("events", "list", "--type", kind, "--all", "--after", whole["next_cursor"])
        assert [each["event_id"] for each in more["items"]] == [later]

    def test_by_cause_and_workflow(self, imi: Imi, live: Live, kind: str) -> None:
        workflow = str(uuid.uuid4())
        [cause] = publish(live, {"event_type": kind, "payload": {"workflow_id": workflow}})
        [effect] = publish(live, {"event_type": kind, "correlation_ids": [cause]})
        publish(live, {"event_type": kind})
        [found] = imi.data("events", "list", "--caused-by", cause)["items"]
        assert found["event_id"] == effect
        [found] = imi.data("events", "list", "--workflow", workflow)["items"]
        assert found["event_id"] == cause

    def test_what_is_refused(self, imi: Imi, live: Live) -> None:
        for both in (("--all", "--order", "asc"), ("--after", 0, "--offset", 1)):
            assert imi.error(2, "events", "list", *both)["code"] == "USAGE"
        assert imi.error(2, "events", "list", "--after", 10**15)["code"] == "INVALID_CURSOR"
        assert imi.error(2, "events", "list", "--start-time", "soon")["code"] == "VALIDATION_ERROR"


class TestCausation:
    @pytest.fixture
    def chain(self, live: Live) -> list[str]:
        """Each the cause of the next."""
        ids = [str(uuid.uuid4()) for _ in range(3)]
        publish(
            live,
            *(
                {
                    "event_id": each,
                    "event_type": f"chain.{n}",
                    "timestamp": f"2026-02-11T10:3{n}:00Z",
                    "correlation_ids": ids[n - 1 : n] if n else [],
                }
                for n, each in enumerate(ids)
            ),
        )
        return ids

    def test_a_tree_is_the_one_that_show_prints(self, imi: Imi, chain: list[str]) -> None:
        assert imi("events", "descendants", chain[0]).out == imi("events", "show", chain[0], "--tree").out
        assert imi("events", "ancestors", chain[2]).out == imi("events", "show", chain[2], "--ancestors").out
        assert len(imi("events", "ancestors", chain[2]).lines) == 3

    def test_the_depth_cuts_and_says_so(self, imi: Imi, chain: list[str]) -> None:
        lines = imi("events", "descendants", chain[0], "--max-depth", 1).lines
        assert [line[18:54] for line in lines[:2]] == chain[:2]
        assert lines[2].startswith("there is more: ") and "--max-depth" in lines[2]
        assert len(lines) == 3

    @pytest.mark.parametrize("which", ["descendants", "ancestors"])
    def test_flat(self, imi: Imi, chain: list[str], which: str) -> None:
        order = chain if which == "descendants" else chain[::-1]
        found = imi.data("events", which, order[0], "--format", "flat")
        assert [(each["event"]["event_id"], each["depth"]) for each in found["items"]] == [
            (each, n) for n, each in enumerate(order)
        ]
        rows = [line.split() for line in imi("events", which, order[0], "--format", "flat").lines[1:]]
        assert [(row[0], row[3]) for row in rows] == [(str(n), each) for n, each in enumerate(order)]

    def test_graph(self, imi: Imi, chain: list[str]) -> None:
        found = imi.data("events", "descendants", chain[0], "--format", "graph")
        edges = [{"source": a, "target": b} for a, b in pairwise(chain)]
        assert found["edges"] == edges
        lines = imi("events", "descendants", chain[0], "--format", "graph").lines
        assert [line.split() for line in lines[-3:]] == [
            ["cause", "effect"],
            *(list(e.values()) for e in edges),
        ]
        alone = imi("events", "descendants", chain[2], "--format", "graph").lines
        assert len(alone) == 2, "no edges: no table of them"

    def test_mermaid(self, imi: Imi, chain: list[str]) -> None:
        said = imi("events", "ancestors", chain[2], "--format", "mermaid")
        assert said.lines[0] == "flowchart LR"
        assert all(each in said.out for each in chain)
        assert (
            imi.data("events", "ancestors", chain[2], "--format", "mermaid").rstrip("\n") + "\n" == said.out
        )

    def test_what_is_refused(self, imi: Imi, live: Live) -> None:
        for shape in ("tree", "mermaid"):
            error = imi.error(3, "events", "descendants", uuid.uuid4(), "--format", shape)
            assert error["code"] == "NOT_FOUND"
        assert imi.error(2, "events", "ancestors", uuid.uuid4(), "--max-depth", 101)["code"] == "USAGE"

    def test_a_server_that_is_not_imi(self, imi: Imi, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
        def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
            return httpx.Response(200, headers={"X-Request-ID": "1"}, json={"hello": 1})

        monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
        error = imi.error(1, "events", "ancestors", uuid.uuid4(), "--format", "mermaid")
        assert error["code"] == "NOT_IMI"


class TestWorkflowsAndSessions:
    @pytest.fixture
    def workflow(self, live: Live) -> str:
        """One that was handed to an architect, whose session is active."""
        workflow = str(uuid.uuid4())
        given = {"workflow_id": workflow}
        session = {"session_id": f"agent-{uuid.uuid4()}", "agent_type": "letta", "accepted_from": "analyst"}
        [handoff, _] = publish(
            live,
            {"event_type": "bmad.workflow.handoff.requested", "payload": given | {"to_agent": "architect"}},
            {"event_type": "bmad.workflow.started", "payload": given | {"project_name": workflow + HOSTILE}},
        )
        accepted = {"event_type": "agent.handoff.accepted", "correlation_ids": [handoff]}
        publish(live, accepted | {"payload": given | session})
        return workflow

    def test_workflows(self, imi: Imi, workflow: str) -> None:
        named = ("workflows", "list", "--project-name", workflow + HOSTILE)
        [found] = imi.data(*named, "--current-agent", "architect")["items"]
        assert found["workflow_id"] == workflow
        assert imi.data(*named, "--completed", "false")["total"] == 1
        assert imi.data(*named, "--completed", "true")["total"] == 0
        assert imi.data(*named, "--phase", "no such")["total"] == 0
        said = imi(*named).out
        assert "\x1b" not in said and "\\u202e" in said and "architect" in said

    def test_one_with_its_events(self, imi: Imi, workflow: str) -> None:
        assert "events" not in imi.data("workflows", "show", workflow)
        found = imi.data("workflows", "show", workflow, "--events")
        types = [each["event_type"] for each in found["events"]]
        assert types[:2] == ["bmad.workflow.handoff.requested", "bmad.workflow.started"]
        assert "agent.handoff.accepted" in types
        lines = imi("workflows", "show", workflow, "--events").lines
        assert lines[0].split() == ["workflow_id", workflow]
        assert [line for line in lines if "agent.handoff.accepted" in line]
        assert imi.error(3, "workflows", "show", uuid.uuid4())["code"] == "NOT_FOUND"

    def test_sessions(self, imi: Imi, workflow: str) -> None:
        asked = ("sessions", "list", "--workflow", workflow)
        [found] = imi.data(*asked, "--status", "active", "--agent-type", "letta")["items"]
        assert found["workflow_id"] == workflow
        assert imi.data(*asked, "--status", "blocked")["total"] == 0
        assert found["session_id"] in imi(*asked).out


class TestRegistry:
    @pytest.fixture
    def project(self, imi: Imi, live: Live) -> str:
        name = f"repo-{uuid.uuid4().hex}"
        return str(imi.data("projects", "register", f"/srv/{name}", "--name", name)["id"])

    def test_conflicts(self, imi: Imi, project: str) -> None:
        a, b = (imi.data("work", "start", project, name)["id"] for name in ("a", "b"))
        imi.data("work", "activity", a, "file_change", "--path", "same.py", "--agent", "claude-7")
        imi.data("work", "activity", a, "file_change", "--path", "other.py", "--agent", "claude-7")
        assert imi.data("conflicts", "--project", project)["total"] == 0
        assert imi("conflicts", "--project", project).lines == ["none"]
        imi.data("work", "activity", b, "file_change", "--path", "same.py", "--agent", "codex-2")
        [found] = imi.data("conflicts", "--project", project)["items"]
        assert found["path"] == "same.py"
        assert {touch["work_item_id"] for touch in found["touches"]} == {a, b}
        assert "codex-2, claude-7 in 2 work items" in imi("conflicts", "--project", project).lines[1]
        old = ("--occurred-at", "2026-02-11T10:30:00Z")
        for agent in ("ada", "grace"):
            imi.data("work", "activity", a, "file_change", "--path", "old.py", "--agent", agent, *old)
        assert imi.data("conflicts", "--project", project, "--window", 60)["total"] == 1

    def test_an_activity_counts_once(self, imi: Imi, project: str) -> None:
        work = imi.data("work", "start", project, "a")["id"]
        known = ("work", "activity", work, "commit", "--id", uuid.uuid4())
        assert imi.data(*known)["new"] is True
        assert imi(*known).out.endswith("was reported before\n")
        assert imi.error(2, "work", "activity", uuid.uuid4(), "commit")["code"] == "INVALID_REFERENCE"

    def test_agents_are_known_from_their_first_word(self, imi: Imi, project: str) -> None:
        name = f"claude-{uuid.uuid4().hex}"
        imi.data("work", "start", project, "a", "--agent", name)
        assert imi.data("agents", "list", "--all")["items"][0]["id"] == name
        assert name in imi("agents", "list").lines[1]

    def test_a_state_by_branch(self, imi: Imi, project: str) -> None:
        work = imi.data("work", "start", project, "feat/a")["id"]
        item = imi.data("work", "report", project, "feat/a", "--uncommitted", 2, "--behind", 1)
        assert (item["id"], item["status"], item["behind_trunk"]) == (work, "uncommitted", 1)
        assert imi.error(2, "work", "report", project, "feat/a")["code"] == "USAGE"
        assert imi.error(3, "work", "report", project, "no", "--ahead", 1)["code"] == "NOT_FOUND"

    def test_worktrees(self, imi: Imi, project: str) -> None:
        made = imi.data(
            "worktrees", "register", project, "/srv/w/feat-a", "--branch", "feat/a", "--host", "h"
        )
        assert (made["name"], made["path"], made["host"]) == ("feat-a", "/srv/w/feat-a", "h")
        again = imi("worktrees", "register", project, "/srv/w/feat-a", "--host", "h")
        assert again.out == f"{made['id']}\n"
        moved = imi.data("worktrees", "update", made["id"], "--path", "/srv/w/moved")
        assert (moved["path"], moved["branch_name"]) == ("/srv/w/moved", "feat/a")
        [found] = imi.data("worktrees", "list", "--project", project, "--host", "h")["items"]
        assert imi.data("worktrees", "list", "--path", found["path"])["items"] == [found]
        assert imi.data("worktrees", "list", "--path", "/nowhere")["total"] == 0
        assert found == moved
        assert imi("worktrees", "remove", made["id"]).out.startswith("reported as removed")
        assert imi.data("worktrees", "list", "--project", project)["total"] == 0
        assert imi.data("worktrees", "list", "--project", project, "--active", "false")["total"] == 1
        assert imi.error(4, "worktrees", "update", made["id"], "--name", "x")["code"] == "CONFLICT"

    def test_a_component(self, imi: Imi, project: str) -> None:
        for name in ("flume", "candybar"):
            imi.data("components", "register", project, name, name)
        within = ("--project", project)
        imi.data("components", "relate", "flume", "depends_on", "candybar", *within)
        changed = imi.data("components", "update", "flume", "--disabled", "--path", "moved", *within)
        assert (changed["enabled"], changed["path"], changed["kind"]) == (False, "moved", "local")
        assert imi.data("components", "get", "flume", *within) == changed
        [relation] = imi.data("components", "relations", "candybar", *within)["incoming"]
        assert relation["source_component_id"] == changed["id"]
        row = imi("components", "relations", "candybar", *within).lines[1].split()
        assert row[:3] == ["flume", "depends_on", "candybar"]

    def test_links(self, imi: Imi, project: str) -> None:
        work, ticket = imi.data("work", "start", project, "a")["id"], f"X/{uuid.uuid4()}"
        assert imi("links", "list", work).lines == ["none"]
        imi.data("links", "ticket", work, ticket)
        [link] = imi.data("links", "list", work)["tickets"]
        assert link["plane_ticket_id"] == ticket
        assert ticket in imi("links", "list", work).out
        [found] = imi.data("links", "work", ticket)["items"]
        assert found["id"] == work
        assert work in imi("links", "work", ticket).out
