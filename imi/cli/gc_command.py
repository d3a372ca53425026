"""`imi gc`: the worktrees that nobody needs any more go to the trash."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from imi.cli.arguments import OlderThan
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.render import Column, note_all, table
from imi.cli.trash import finish, judged, opened
from imi.worktrees import names, trash
from imi.worktrees.git import GitError

app = group("Removing the worktrees that nobody needs any more.")


def _show_collected(data: dict[str, Any]) -> Any:
    from rich.console import Group

    note_all(data)
    columns = (
        Column("name", "name", cut=True),
        Column("branch", "branch", cut=True),
        Column("state", judged),
        Column("", "action"),
        Column("why not", lambda row: "; ".join(row["reasons"]) or None, cut=True, rare=True),
    )
    if not data["items"]:
        return "there are no worktrees but the trunk's"
    count = sum(item["action"] != "keep" for item in data["items"])
    last = f"{count} removed" if data["done"] else f"{count} to remove; nothing was: say --yes"
    return Group(table(data["items"], *columns), last if count else "nothing to remove")


@command(app, "gc", example="imi gc --older-than 14d --yes", show=_show_collected)
def gc(
    api: Api,
    older_than: OlderThan = None,
    yes: Annotated[bool, typer.Option("--yes", help="Do it; else only what would be done is shown.")] = False,
) -> Any:
    """Move merged, clean, unclaimed and unused worktrees to the trash.

    Without the server nobody knows what is claimed, so nothing is removed. Data: items (name, path, branch,
    state, test, action: remove, removed or keep, reasons to keep it), done, notes.
    """
    from imi.worktrees import delivery, gc_candidates, reasons

    api.prepare()
    notes: list[str] = []
    items: list[dict[str, Any]] = []
    with failures():
        project = opened(notes)
        ask, against = reasons.asking(api, project), gc_candidates.useful(older_than)
        ask(project.trunk)  # whether there is a server, before many threads ask it
        for number, each in enumerate(gc_candidates.candidates(project, api.actor, ask, against)):
            api.bar.show("looking at worktrees", number, len(project.worktrees))
            why, action = list(each.against), "keep"
            if not why:
                action = "remove"
                if yes:
                    try:
                        removed = trash.remove(project, each.worktree.path, api.actor, ask, against)
                        notes += removed.notes
                        action = "removed"
                    except (names.LayoutError, GitError) as error:
                        why, action = [str(error)], "keep"
            verdict = each.standing.verdict if each.standing else None
            items.append(
                {
                    "name": each.worktree.path.name,
                    "path": str(each.worktree.path),
                    "branch": each.standing.branch if each.standing else each.worktree.branch,
                    "state": verdict.state if verdict else None,
                    "test": verdict.test if verdict else None,
                    "action": action,
                    "reasons": why,
                }
            )
            if each.standing:
                notes += [said for said in each.standing.notes if said not in notes]
        if yes:
            finish(api, project, notes)
        else:
            notes += delivery.deliver(api)[1]
    return {"items": items, "done": yes, "notes": notes}
