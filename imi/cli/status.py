"""`imi status`: how one worktree stands now, who is at it, and what it hangs together with."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from imi.cli import claiming, claims, listing
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.listing import since
from imi.cli.outcome import NOT_FOUND, Failure
from imi.cli.render import note_all, record, table
from imi.cli.trace import tables
from imi.cli.work_reports import ACTIVITIES
from imi.worktrees.facts import Facts

app = group("How a worktree stands.")
NEWEST = 10
"""So many activities are shown; --json has all of the hour."""


def _against(name: str, ahead: int | None, behind: int | None) -> str | None:
    return None if ahead is None else f"+{ahead} -{behind} against {name}"


def _show(data: dict[str, Any]) -> Any:
    if "items" in data:
        return listing.show(data)
    from rich.console import Group

    note_all(data)
    commit, item, activities = data["commit"], data["work"], data["activities"]
    upstream = data["upstream"]
    shown = {
        "worktree": data["path"],
        "branch": data["branch"] or "none: the head is detached",
        "status": data["status"],
        "commit": commit and f"{commit['hash'][:12]} {commit['subject']} ({since(commit['committed_at'])})",
        "commits": _against(data["trunk"], data["ahead"], data["behind"]),
        "upstream": upstream and (_against(**upstream) or f"{upstream['name']} is gone"),
        "files": f"{data['dirty'] - data['untracked']} changed, {data['untracked']} untracked",
        "stashes": data["stashes"] or None,
        "in progress": data["operation"],
        "submodules": ", ".join(data["submodules"]) or None,
        "locked": "yes" if data["locked"] else None,
        "modified": since(data["modified_at"]),
        "seen": since(data["observed_at"]),
        "owner": item and item["owner_id"],
        "held by": item and item["claim"] and claims.held(item["claim"]),
        "work item": item and item["id"],
        "agents": ", ".join(
            f"{each['agent_id']} ({since(each['last_at'])})" for each in data["agents"] or []
        ),
    }
    parts: list[Any] = [record({name: value for name, value in shown.items() if value})]
    if activities:
        total = len(activities)
        said = "in the last hour:" if total <= NEWEST else f"in the last hour, {NEWEST} newest of {total}:"
        parts += ["", said, table(activities[:NEWEST], *ACTIVITIES)]
    links = tables(item["links"]) if item else []
    return Group(*parts, *(["", *links] if links else []))


@command(app, "status", example="imi status login", show=_show)
def status(api: Api, name: claiming.Name = None) -> Any:
    """Show how a worktree stands: read from git now, and reported.

    Its branch, commit, commits against the trunk and the upstream, files, stashes, what git is in the middle
    of, when it was last modified; and from the server its owner, lease and links, and the agents and
    activities of the last hour. In the project's folder, of all worktrees: as imi list.

    --json: name, path, branch, status, trunk, ahead, behind, upstream, dirty, untracked, stashes, operation,
    submodules, locked, commit, modified_at, observed_at, notes; work (the work item), agents and activities,
    null where the server does not know the worktree or was not reached.
    """
    api.prepare()
    from imi.worktrees import delivery, present, registry, report, uncommitted

    try:
        project, worktree = claiming.named(name)
    except Failure as failure:
        if name or failure.exit_code != NOT_FOUND:
            raise
        return listing.list_(api)
    if not worktree.path.is_dir():
        raise Failure("NOT_FOUND", f"{worktree.path} is gone", "tidy up first: imi reconcile", NOT_FOUND)
    with failures():
        now = present.read(project, worktree.path)
        changed = [entry.path for entry in uncommitted.status(worktree.path).entries]
    data: dict[str, Any] = {"name": report.text(worktree.path.name), "path": report.text(worktree.path)}
    data |= present.document(now) | _facts(now)
    data |= {"trunk": project.trunk, "modified_at": _modified(now, changed)}
    notes: list[str] = []
    told: dict[str, Any] | None = None
    if project.remote is None:
        notes.append(report.NAMELESS)
    elif now.branch is None:
        told = {}
    else:
        told, notes = delivery.tell(api, "git_state", report.git_state_body(project, now))
    data |= dict.fromkeys(("work", "agents", "activities"))
    if told is not None:
        try:
            row = told if told.get("work_item_id") else registry.worktree(api, worktree.path)
            data |= _known(api, row["work_item_id"] if row else None)
        except Failure as failure:
            notes.append(f"{failure.message}; owner, lease and activities are unknown")
    return data | {"notes": notes}


def _facts(now: Facts) -> dict[str, Any]:
    """What `imi list` does not tell."""
    commit = now.commit
    return {
        "untracked": now.untracked,
        "stashes": now.stashes,
        "operation": now.operation,
        "submodules": list(now.submodules),
        "locked": now.is_locked,
        "upstream": now.upstream
        and {"name": now.upstream, "ahead": now.upstream_ahead, "behind": now.upstream_behind},
        "commit": commit
        and {
            "hash": commit.hash,
            "subject": commit.subject,
            "author": commit.author,
            "author_email": commit.author_email,
            "committed_at": commit.committed_at.isoformat(),
        },
    }


def _modified(now: Facts, changed: list[str]) -> str | None:
    """When something last happened in a worktree: its commit, or a change of one of the files that differ
    from it."""
    times = [now.commit.committed_at.timestamp()] if now.commit else []
    for path in changed:
        try:
            times.append((now.worktree / path).lstat().st_mtime)
        except OSError:  # it was deleted
            continue
    return datetime.fromtimestamp(max(times), UTC).isoformat() if times else None


def _known(api: Api, item_id: str | None) -> dict[str, Any]:
    if item_id is None:
        return {}
    item = api.get(f"/work/{item_id}")
    activities = [*api.all(f"/work/{item_id}/activities", window_seconds=3600)]
    last: dict[str, str] = {}
    for each in activities:
        if each["agent_id"]:
            last.setdefault(each["agent_id"], each["occurred_at"])
    agents = [{"agent_id": agent, "last_at": at} for agent, at in last.items()]
    return {"work": item, "activities": activities, "agents": agents}
