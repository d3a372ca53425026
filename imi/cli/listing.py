"""`imi list`: every worktree, how it stands, and who holds it."""

from __future__ import annotations

import time
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.names import FEW, PROJECT, name_projects
from imi.cli.outcome import NOT_FOUND, Failure
from imi.cli.render import Column, age, moment, note_all, table
from imi.worktrees.layout import Project
from imi.worktrees.names import LayoutError

app = group("Worktrees and how they stand.")
LONG = 100
"""What reading more worktrees than these from git took is said."""


def since(text: str | None) -> str:
    """How long ago a moment was."""
    if not text:
        return "never"
    return age(max(0.0, (datetime.now(UTC) - datetime.fromisoformat(text)).total_seconds()))


def commits(row: Any) -> str | None:
    """Ahead of and behind the trunk."""
    return None if row["ahead"] is None else f"+{row['ahead']} -{row['behind']}"


def held(row: Any) -> str | None:
    """By whom it is claimed, and until when."""
    claim = row["claim"]
    return claim and f"{claim['agent_id']} until {moment(claim['lease_until'])}"


COLUMNS = (
    Column("name", "name", cut=True),
    Column("branch", "branch", cut=True, wide=80),
    Column("status", "status"),
    Column("commits", commits),
    Column("files", "dirty", right=True),
    Column("seen", lambda row: since(row["observed_at"]), right=True),
    Column("type", "work_type", wide=120),
    Column("owner", "owner", cut=True, wide=80),
    Column("held by", held, cut=True, rare=True),
    Column("state", lambda row: None if row["state"] in ("registered", "trunk") else row["state"], rare=True),
)
ELSEWHERE = Column("host", "host", cut=True)


def show(data: dict[str, Any]) -> Any:
    """The table."""
    import socket

    note_all(data)
    shown = [COLUMNS[0], *([PROJECT] if data["all"] else []), *COLUMNS[1:]]
    if any(row["host"] != socket.gethostname() for row in data["items"]):
        shown.insert(1 + data["all"], ELSEWHERE)
    return table(data["items"], *shown) if data["items"] else "none"


@command(app, "list", example="imi list --all", show=show)
def list_(
    api: Api,
    everything: Annotated[bool, typer.Option("--all", help="Of all projects, on every host.")] = False,
) -> Any:
    """List the worktrees of this project: the trunk, then the one that changed last.

    The facts are those of the last report, and `seen` is their age; what has no report yet is read now. A
    state tells what git and the server disagree about: not registered, or gone; imi reconcile mends both.
    --json: {items, total, all, notes}.
    """
    api.prepare()
    projects = _projects(everything)
    from imi.worktrees import overview

    there = overview.places(projects)
    notes: list[str] = []
    try:
        worktrees, items = _asked(api, None if everything else projects[0], notes)
        is_asked = True
    except Failure as failure:
        notes.append(f"{failure.message}; owners and claims are unknown")
        worktrees, items, is_asked = [], {}, False
    began = time.monotonic()
    rows = overview.rows(worktrees, items, there, is_asked)
    if not is_asked and len(there) > LONG:
        notes.append(f"{len(there)} worktrees were read from git: {time.monotonic() - began:.1f} s")
    if everything:
        for row in rows:
            row["project"] = there[row["path"]][0].root.name if row["path"] in there else None
        name_projects(api, (row for row in rows if row["project_id"]))
        rows.sort(key=lambda row: row["project"] or "")
    if blank := sum(row["observed_at"] is None and row["state"] != "gone" for row in rows):
        notes.append(
            f"nobody has reported yet how {blank} of them stand: imi status in a folder reads and reports it"
        )
    return {"items": rows, "total": len(rows), "all": everything, "notes": notes}


def _projects(everything: bool) -> list[Project]:
    """This project; with `everything` all that imi has met here, this one among them if there is one."""
    from imi.worktrees import known_projects, layout
    from imi.worktrees.git import GitError

    with failures():
        try:
            here = [layout.find(Path.cwd())]
            known_projects.remember(here[0])
        except LayoutError:
            if not everything:
                raise
            here = []
    for root, _ in known_projects.projects() if everything else []:
        with suppress(LayoutError, GitError):
            here += [layout.at(root)] if all(root != each.root for each in here) else []
    return here


def _asked(
    api: Api, project: Project | None, notes: list[str]
) -> tuple[list[dict[str, Any]], dict[str, dict[str, Any]]]:
    """The server's worktrees, of one project or all, and their work items by id. What waits in the spool is
    told first."""
    from imi.worktrees import delivery, registry, spool

    if project and project.remote is None:
        raise Failure("NOT_FOUND", "the server does not know a project without a remote", None, NOT_FOUND)
    registered = registry.project(api, project) if project else None
    if spool.waiting():
        notes += delivery.deliver(api)[1]
        registered = registry.project(api, project) if project else None
    if project and not registered:
        return [], {}
    query = {"project_id": registered["id"]} if registered else {}
    worktrees = [*api.all("/worktrees", **query)]
    items = {item["id"]: item for item in api.all("/work", **query)}
    ended = {each["work_item_id"] for each in worktrees} - {None, *items}
    if len(ended) <= FEW:
        items |= {each: api.get(f"/work/{each}") for each in sorted(ended)}
    else:
        items |= {item["id"]: item for item in api.all("/work", active="false", **query)}
    return worktrees, items
