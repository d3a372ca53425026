"""Reports: what the server is told about worktrees, one function a kind.

A report names things as this machine knows them (remote, branch, path); the ids come from the server's
answers while it is delivered, perhaps days later. Nothing here waits or stores: that is delivery.py.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from imi.cli.outcome import NOT_FOUND, Failure

if TYPE_CHECKING:
    from imi.worktrees.facts import Facts
    from imi.worktrees.layout import Project
    from imi.worktrees.spool import Report

NAMELESS = "the server was not told: without a remote (git remote add origin URL) it has no name"
LONGEST = 65536
"""Characters of a commit's subject that the server takes."""
Send = Callable[[str, str, Any], Any]
"""Sends one request of a report: method, path below /api/v1, body (of a GET its query); answers the data."""


def text(path: str | Path) -> str:
    """A path, or a text of git, as JSON can hold it: bytes that are not UTF-8 become a mark."""
    return os.fsencode(path).decode(errors="replace")


def project_body(project: Project) -> dict[str, Any]:
    """`project`: it exists. The project must have a remote."""
    body = {"remote_origin": project.remote, "default_branch": project.trunk}
    return body | ({"trunk_path": text(project.trunk_path)} if project.trunk_path else {})


def worktree_body(
    project: Project,
    path: Path,
    branch: str | None,
    work_type: str,
    ticket: str | None = None,
    **work: Any,
) -> dict[str, Any]:
    """`worktree`: a folder holds a branch. `work` (source, owner_id) is of the work item; without a branch
    there is none."""
    source = {"type": "plane_ticket", "ref": ticket} if ticket else {"type": "manual"}
    work = {"work_type": work_type, "source": source} | work
    work |= {"plane_ticket_id": ticket} if ticket else {}
    worktree = {
        "name": text(path.name),
        "path": text(path),
        "host": socket.gethostname(),
        "branch_name": branch,
    }
    return {
        "project": project_body(project),
        "worktree": worktree | ({"work": work} if branch else {}),
    }


def git_state(facts: Facts) -> dict[str, Any]:
    """How a worktree stood at facts.observed_at, as the API takes it."""
    body: dict[str, Any] = {
        "uncommitted_files_count": facts.dirty + facts.untracked,
        "observed_at": facts.observed_at.isoformat(),
    }
    if facts.ahead is not None:
        body |= {"ahead_of_trunk": facts.ahead, "behind_trunk": facts.behind}
    if facts.commit:
        body |= {
            "last_commit_hash": facts.commit.hash,
            "last_commit_message": text(facts.commit.subject)[:LONGEST],
        }
    return body


def git_state_body(project: Project, facts: Facts) -> dict[str, Any]:
    """`git_state`: how a worktree stood. Its head must be on a branch."""
    return {"remote": project.remote, "git_state": {"branch_name": facts.branch} | git_state(facts)}


def removed_body(project: Project, path: Path, completion: dict[str, Any] | None) -> dict[str, Any]:
    """`removed`: a folder is gone. `completion` is what POST /work/{id}/complete takes for its work item:
    completion_type, merge_commit_hash, evidence; None leaves the item as it is."""
    return {
        "remote": project.remote,
        "path": text(path),
        "host": socket.gethostname(),
        "completion": completion,
    }


def moved_body(project: Project, path: Path, to: Path) -> dict[str, Any]:
    """`moved`: a folder is elsewhere now."""
    return {
        "remote": project.remote,
        "path": text(path),
        "host": socket.gethostname(),
        "to": text(to),
        "name": text(to.name),
    }


def activities_body(project: Project, branch: str, activities: list[dict[str, Any]]) -> dict[str, Any]:
    """`activities`: what was done on a branch; each with id (a UUID), activity_type, path, occurred_at,
    agent_id and details as POST /activities takes them."""
    return {"remote": project.remote, "branch": branch, "activities": activities}


def _project(send: Send, report: Report) -> dict[str, Any]:
    return {"project_id": send("POST", "/projects", report.body)["id"]}


def _worktree(send: Send, report: Report) -> dict[str, Any]:
    project_id = send("POST", "/projects", report.body["project"])["id"]
    body = {"project_id": project_id, "metadata": {"observed_at": report.at}} | report.body["worktree"]
    worktree = send("POST", "/worktrees", body)
    return {
        "project_id": project_id,
        "work_item_id": worktree["work_item_id"],
        "worktree_id": worktree["id"],
    }


def _git_state(send: Send, report: Report) -> dict[str, Any]:
    body = report.body
    project_id = _registered(send, body["remote"])
    if not project_id:
        return {}
    try:
        item = send("PATCH", "/work/git-state", {"project_id": project_id} | body["git_state"])
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
        return {}  # nobody works on it: the trunk, or work that was completed meanwhile
    return {"work_item_id": item["id"]}


def _removed(send: Send, report: Report) -> dict[str, Any]:
    body = report.body
    worktree = _there(send, report)
    if not worktree:
        return {}
    item_id = worktree["work_item_id"]
    if item_id and body["completion"] and not _goes_on(send, worktree, body["completion"]):
        try:
            send("POST", f"/work/{item_id}/complete", body["completion"])
        except Failure as failure:
            if failure.code != "CONFLICT":  # completed otherwise: what was said first stands
                raise
    send("DELETE", f"/worktrees/{worktree['id']}", {})
    return {"work_item_id": item_id, "worktree_id": worktree["id"]}


def _goes_on(send: Send, worktree: dict[str, Any], completion: dict[str, Any]) -> bool:
    """Whether work that would count as abandoned has another folder, perhaps on another host."""
    if completion["completion_type"] != "abandoned":
        return False
    folders = send("GET", "/worktrees", {"work_item_id": worktree["work_item_id"]})["items"]
    return any(each["id"] != worktree["id"] for each in folders)


def _moved(send: Send, report: Report) -> dict[str, Any]:
    worktree = _there(send, report)
    if not worktree:
        return {}
    to, item_id = report.body["to"], worktree["work_item_id"]
    send("PATCH", f"/worktrees/{worktree['id']}", {"path": to, "name": report.body["name"]})
    if item_id:
        try:
            send("PATCH", f"/work/{item_id}", {"worktree_path": to, "host": report.body["host"]})
        except Failure as failure:
            if failure.code != "CONFLICT":  # completed work keeps what it was
                raise
    return {"work_item_id": item_id, "worktree_id": worktree["id"]}


def _activities(send: Send, report: Report) -> dict[str, Any]:
    body = report.body
    project_id = _registered(send, body["remote"])
    query = {"project_id": project_id, "branch_name": body["branch"]}
    found = send("GET", "/work", query)["items"] if project_id else []
    if not found:
        return {}
    work = {"work_item_id": found[0]["id"]}
    send("POST", "/activities", [work | each for each in body["activities"]])
    return work


def _registered(send: Send, remote: str) -> str | None:
    """The id of a project that the server knows."""
    try:
        return str(send("GET", "/projects/by-origin", {"remote_origin": remote})["id"])
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
        return None


def _there(send: Send, report: Report) -> dict[str, Any] | None:
    """The server's worktree at a path of this host, unless it is a newer one than the report tells of. One of
    the future was reported before this host's clock was set back: that it is newer is not said."""
    body = report.body
    project_id = _registered(send, body["remote"])
    query = {"project_id": project_id, "host": body["host"], "path": body["path"]}
    found = send("GET", "/worktrees", query)["items"] if project_id else []
    if not found:
        return None
    observed_at = found[0]["metadata"].get("observed_at") or ""
    if report.at < observed_at <= datetime.now(UTC).isoformat():
        return None
    return dict(found[0])


def branch(report: Report) -> str | None:
    """The branch of a report that may be sent beside those of other branches; None: it goes alone."""
    part = report.body.get(report.kind)
    named = part.get("branch_name") if isinstance(part, dict) else None
    return named if isinstance(named, str) else None


KINDS: dict[str, Callable[[Send, Report], dict[str, Any]]] = {
    "project": _project,
    "worktree": _worktree,
    "git_state": _git_state,
    "removed": _removed,
    "moved": _moved,
    "activities": _activities,
}
