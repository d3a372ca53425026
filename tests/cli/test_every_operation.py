"""Every operation of the contract is reached by a command: each command line here runs against the real
server, and the requests that leave are recorded."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import Iterator

import httpx
import pytest

from imi.server.contract import METHODS
from tests.commandline import Imi, Live
from tests.postgres import Database
from tests.serving import ADMIN, CONTRACT

OPERATIONS = {
    operation["operationId"]: operation
    for path in CONTRACT.document["paths"].values()
    for method, operation in path.items()
    if method in METHODS
}

COMMANDS = {
    "project_register": "projects register /srv/reached/new",
    "project_list": "projects list",
    "project_by_origin": "projects get {remote}",
    "project_get": "projects get {project}",
    "project_update": "projects update {project} --description new",
    "project_deactivate": "projects remove {project}",
    "work_start": "work start {project} new",
    "work_list": "work list",
    "work_inflight": "work inflight",
    "work_git_state_update_by_branch": "work report {project} feat/a --ahead 2",
    "work_get": "work get {work}",
    "work_update": "work update {work} --owner grace",
    "work_git_state_update": "work update {work} --ahead 2",
    "work_complete": "work complete {work} --type abandoned",
    "work_claim": "work claim {work}",
    "work_renew": "work renew {claimed}",
    "work_release": "work release {claimed}",
    "worktree_register": "worktrees register {project} /srv/reached/feat-b",
    "worktree_list": "worktrees list",
    "worktree_update": "worktrees update {worktree} --branch feat/b",
    "worktree_remove": "worktrees remove {worktree}",
    "link_ticket": "links ticket {work} PROJ-8",
    "link_pr": "links pr {work} https://git.example.org/team/reached/pull/8",
    "link_pr_update": "links pr-update {pr} --title new",
    "link_deploy": "links deploy {work} deploy-8 --environment test --commit 9fceb02d",
    "link_list": "links list {work}",
    "link_ticket_work_items": "links work PROJ-7",
    "trace_get_by_id": "trace ticket PROJ-7",
    "component_register": "components register {project} new new",
    "component_list": "components list",
    "component_get": "components get {component}",
    "component_update": "components update {component} --disabled",
    "component_relate": "components relate {component} depends_on {other}",
    "component_relationships": "components relations {component}",
    "component_graph": "components graph {component}",
    "event_publish": "publish reached.now --payload {{}}",
    "event_list": "events list",
    "event_stream": "events tail --after 0",
    "event_get": "events show {event}",
    "event_descendants": "events descendants {event}",
    "event_ancestors": "events ancestors {event}",
    "workflow_list": "workflows list",
    "workflow_get": "workflows show {workflow}",
    "workflow_events": "workflows show {workflow} --events",
    "agent_session_list": "sessions list",
    "dead_letter_list": "dead-letters list",
    "dead_letter_get": "dead-letters show {letter}",
    "dead_letter_replay": "dead-letters replay {letter}",
    "agent_list": "agents list",
    "conflict_list": "conflicts",
    "activity_report": "work activity {work} file_change --path a.py",
    "activity_list": "work activities {work}",
    "stats_get": "stats",
    "api_key_create": "keys create reached",
    "api_key_list": "keys list",
    "api_key_revoke": "keys revoke {key}",
}
NOT_HERE = {
    "trace_get": "imi trace asks the same with ?id=, which takes an id that no path can hold",
    "stream_ticket_create": "a ticket is for a browser, which cannot send a key; imi events tail sends its key",
}


@pytest.fixture
def reached(monkeypatch: pytest.MonkeyPatch) -> Iterator[set[str]]:
    """The operations that the server has answered with success. A stream ends as Ctrl-C ends it once it has
    begun."""
    found: set[str] = set()

    def note(request: httpx.Request, answer: httpx.Response) -> httpx.Response:
        if answer.is_success:
            operations, _ = CONTRACT.find(request.url.raw_path.partition(b"?")[0].decode())
            found.add(operations[request.method].id)
        if request.url.path.endswith("/stream"):
            raise KeyboardInterrupt
        return answer

    send, send_async = httpx.HTTPTransport.handle_request, httpx.AsyncHTTPTransport.handle_async_request

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        return note(request, send(transport, request))

    async def handle_async(transport: httpx.AsyncHTTPTransport, request: httpx.Request) -> httpx.Response:
        return note(request, await send_async(transport, request))

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    monkeypatch.setattr(httpx.AsyncHTTPTransport, "handle_async_request", handle_async)
    yield found


async def letter(database: Database) -> str:
    """A dead letter of the intake whose replay succeeds."""
    message = json.dumps(
        {
            "event_id": str(uuid.uuid4()),
            "event_type": "reached.late",
            "timestamp": "2026-02-11T10:30:00Z",
            "version": "1.0.0",
            "source": {"host": "builder", "type": "agent", "app": "test"},
            "correlation_ids": [],
            "payload": {},
        }
    ).encode()
    connection = await database.connect()
    try:
        query = "select logic.dead_letter('intake', null, $1, 'It came too early', 'IM400', 1)::text"
        return str(await connection.fetchval(query, message))
    finally:
        await connection.close()


@pytest.fixture
def things(imi: Imi, live: Live, database: Database) -> dict[str, str]:
    """One of each, by name."""
    remote = f"https://git.example.org/team/{uuid.uuid4()}"
    project = imi.data("projects", "register", remote)["id"]
    work = imi.data("work", "start", project, "feat/a")["id"]
    claimed = imi.data("work", "start", project, "feat/claimed")["id"]
    imi.data("work", "claim", claimed)
    imi.data("links", "ticket", work, "PROJ-7")
    pull = f"https://git.example.org/team/{uuid.uuid4()}/pull/7"
    workflow = str(uuid.uuid4())
    event = {
        "event_type": "bmad.workflow.started",
        "payload": {"workflow_id": workflow, "project_name": "iMi"},
    }
    published = httpx.post(f"{live.url}/api/v1/events", json=event, headers={"X-API-Key": ADMIN})
    return {
        "remote": remote,
        "project": project,
        "work": work,
        "claimed": claimed,
        "worktree": imi.data("worktrees", "register", project, f"/srv/reached/{project}")["id"],
        "pr": imi.data("links", "pr", work, pull)["id"],
        "component": imi.data("components", "register", project, "one", "one")["id"],
        "other": imi.data("components", "register", project, "other", "other")["id"],
        "event": published.json()["event_id"],
        "workflow": workflow,
        "letter": asyncio.run(letter(database)),
        "key": imi.data("keys", "create", "reached")["id"],
    }


def test_each_operation_has_a_command_or_a_reason() -> None:
    assert set(COMMANDS) | set(NOT_HERE) == set(OPERATIONS)
    assert not set(COMMANDS) & set(NOT_HERE)
    assert OPERATIONS["trace_get"]["x-sql"] == OPERATIONS["trace_get_by_id"]["x-sql"]


@pytest.mark.parametrize("name", COMMANDS)
def test_it_is_reached(imi: Imi, things: dict[str, str], reached: set[str], name: str) -> None:
    imi(*(word.format(**things) for word in COMMANDS[name].split()))
    assert name in reached
