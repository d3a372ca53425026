"""What the server is told about worktrees: at once when it answers, else by the next command.

A report names things as this machine knows them (remote, branch, path); the ids come from the server's
answers while it is delivered. KINDS holds what each kind sends.
"""

from __future__ import annotations

import socket
import uuid
from collections.abc import Callable
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import CONFLICT, NOT_FOUND, USAGE, Failure
from imi.worktrees import spool
from imi.worktrees.spool import Report

Sender = Callable[[str, str, dict[str, Any]], Any]
"""Sends one step of a report: method, path below /api/v1, body; answers the data."""


def worktree_body(
    *,
    project: dict[str, Any],
    path: str,
    name: str,
    branch: str,
    work_type: str,
    ticket: str | None = None,
) -> dict[str, Any]:
    """What a report of the kind `worktree` holds; `project` as `project_body` makes it."""
    return {
        "project": project,
        "work": {
            "branch_name": branch,
            "work_type": work_type,
            "source": {"type": "plane_ticket", "ref": ticket} if ticket else {"type": "manual"},
            "worktree_path": path,
            "host": socket.gethostname(),
        },
        "name": name,
        "ticket": ticket,
    }


def project_body(remote: str, trunk: str, trunk_path: str | None) -> dict[str, Any]:
    """What a report of the kind `project` holds."""
    body = {"remote_origin": remote, "default_branch": trunk}
    return body | ({"trunk_path": trunk_path} if trunk_path else {})


def tell(api: Api, kind: str, body: dict[str, Any]) -> tuple[dict[str, Any] | None, list[str]]:
    """Report something, after all that waits. Answers what the server said to it (None: not yet, or another
    process delivered it), and sentences for people."""
    report = spool.made(api.actor, kind, body)
    try:
        spool.put(report)
    except OSError as error:
        return None, [f"the server was not told: cannot write to {spool.folder()}: {error.strerror}"]
    answers, notes = deliver(api)
    return answers.get(report.id), notes


def deliver(api: Api) -> tuple[dict[str, dict[str, Any]], list[str]]:
    """Deliver what waits, oldest first. Answers the server's answers by report id, and sentences."""
    answers: dict[str, dict[str, Any]] = {}
    notes: list[str] = []
    if not spool.waiting():
        return answers, notes
    with spool.delivering() as held:
        for file in spool.waiting() if held else []:
            try:
                report = spool.read(file)
                answers[report.id] = KINDS[report.kind](_sender(api, report), report)
            except (ValueError, KeyError):
                notes.append(f"no report that this version can send, kept as {spool.refuse(file)}")
            except Failure as failure:
                if not _is_final(failure):
                    kept = len(spool.waiting())
                    what = f"{kept} reports are" if kept > 1 else "the report is"
                    notes.append(f"{failure.message}; {what} kept for the next command or `imi reconcile`")
                    return answers, notes
                notes.append(f"the server refused a report: {failure.message}; kept as {spool.refuse(file)}")
            else:
                spool.done(file)
    if not held:
        notes.append("another process has been delivering for half a minute; the report is kept")
    return answers, notes


def _is_final(failure: Failure) -> bool:
    """Whether the server would never take it, whoever sends it and whenever."""
    known = failure.code not in ("UNAUTHENTICATED", "FORBIDDEN", "TOO_MANY_REQUESTS")
    return known and failure.exit_code in (USAGE, NOT_FOUND, CONFLICT)


def _sender(api: Api, report: Report) -> Sender:
    """Sends a report's steps, each with a key made of the report's id, in the name of who acted then."""

    def send(method: str, path: str, body: dict[str, Any]) -> Any:
        headers = {"X-Agent-Id": report.actor}
        if method == "POST":
            headers["Idempotency-Key"] = str(uuid.uuid5(uuid.UUID(report.id), path))
        return api.call(method, path, body, headers=headers).data

    return send


def _project(send: Sender, report: Report) -> dict[str, Any]:
    project = send("POST", "/projects", report.body)
    return {"project_id": project["id"]}


def _worktree(send: Sender, report: Report) -> dict[str, Any]:
    body = report.body
    project_id = send("POST", "/projects", body["project"])["id"]
    work = body["work"]
    try:
        item_id = send("POST", "/work", {"project_id": project_id} | work)["id"]
    except Failure as failure:
        if "work_item_id" not in failure.params:
            raise
        item_id = failure.params["work_item_id"]  # the branch's item, which goes on
    worktree = {
        "project_id": project_id,
        "work_item_id": item_id,
        "name": body["name"],
        "path": work["worktree_path"],
        "host": work["host"],
        "branch_name": work["branch_name"],
    }
    worktree_id = send("POST", "/worktrees", worktree)["id"]
    if body["ticket"]:
        send("POST", "/links/ticket", {"work_item_id": item_id, "plane_ticket_id": body["ticket"]})
    return {"project_id": project_id, "work_item_id": item_id, "worktree_id": worktree_id}


KINDS: dict[str, Callable[[Sender, Report], dict[str, Any]]] = {"project": _project, "worktree": _worktree}
