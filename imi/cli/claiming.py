"""`imi claim` and `release`: who holds the work of a worktree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli import claims
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.completion import worktrees
from imi.cli.failures import failures
from imi.cli.outcome import NOT_FOUND, Failure
from imi.cli.render import note_all
from imi.worktrees.layout import Project, Worktree

app = group("Leases on the work of worktrees.")

Name = Annotated[
    str | None,
    typer.Argument(
        metavar="[NAME]",
        help="The worktree: its folder, its branch or its task.  [default: the one here]",
        show_default=False,
        autocompletion=worktrees,
    ),
]


def named(name: str | None) -> tuple[Project, Worktree]:
    """The worktree that is meant, and its project."""
    from imi.worktrees import known_projects, layout

    with failures():
        project = layout.find(Path.cwd())
        known_projects.remember(project)
        return project, layout.named(project, name, Path.cwd())


def work_item(api: Api, project: Project, worktree: Worktree) -> tuple[str, list[str]]:
    """The id of a worktree's work item, after what waits is told, and sentences. Failure says why not."""
    from imi.worktrees import delivery, registry, spool

    name = worktree.path.name
    if project.is_trunk(worktree.path):
        hint = "work on a task of its own: imi feat NAME"
        raise Failure("NOT_FOUND", f"{name} is the trunk, which is nobody's work", hint, NOT_FOUND)
    if project.remote is None:
        hint = "give the project a name there: git remote add origin URL"
        message = "the server does not know a project without a remote"
        raise Failure("NOT_FOUND", message, hint, NOT_FOUND)
    notes = delivery.deliver(api)[1] if spool.waiting() else []
    row = registry.worktree(api, worktree.path)
    if row is None or row["work_item_id"] is None:
        what = "has no work item" if row else "is not known to the server"
        hint = "; ".join([*notes, "register it, on a branch: imi reconcile"])
        raise Failure("NOT_FOUND", f"{name} {what}", hint, NOT_FOUND)
    return str(row["work_item_id"]), notes


def _claimed(data: dict[str, Any]) -> str:
    note_all(data)
    return claims.show_claim(data)


def _released(data: dict[str, Any]) -> str:
    note_all(data)
    return f"{data['branch_name']} is free"


@command(app, "claim", example="imi claim login --agent claude-7 --ttl 2h", show=_claimed)
def claim(api: Api, name: Name = None, ttl: claims.Ttl = 1800) -> Any:
    """Take the lease on a worktree's work for --agent, or make it last longer. Refused (exit 4) while another
    holds it.

    A claim is the server's: without it there is none (exit 5). It ends when it is released, or by itself when
    its time is over. --json: the work item and notes.
    """
    api.prepare()
    item_id, notes = work_item(api, *named(name))
    return claims.prolong(api, claims.claim(api, item_id, ttl), ttl) | {"notes": notes}


@command(app, "release", example="imi release login --agent claude-7", show=_released)
def release(api: Api, name: Name = None) -> Any:
    """Give the lease of --agent on a worktree's work back. Refused (exit 4) when another holds it.

    --json: the work item and notes.
    """
    api.prepare()
    item_id, notes = work_item(api, *named(name))
    return claims.release(api, item_id) | {"notes": notes}
