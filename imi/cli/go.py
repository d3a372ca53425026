"""`imi go`: the path of a worktree that a few letters name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.command import command, group
from imi.cli.completion import worktrees
from imi.cli.outcome import CONFLICT, NOT_FOUND, Failure
from imi.cli.worktrees import failures

app = group("The way to a worktree.")
SHOWN = 10
"""So many candidates are named."""


@command(app, "go", example="imi go login", show=lambda data: data["path"])
def go(
    query: Annotated[
        str | None,
        typer.Argument(
            metavar="[QUERY]",
            help="Some letters of its name, branch or path.  [default: the project's folder]",
            autocompletion=worktrees,
        ),
    ] = None,
) -> Any:
    """Print the path of a worktree; with the function of `imi shell-init`, go there.

    It is looked for in this project, then in every project that imi has met on this machine. The best fit
    wins: the whole name or path, the whole branch or task, the beginning of a name, of a branch, letters within
    either, letters in that order, letters of the path. If several fit as well, they are named (exit 4).
    """
    from imi.worktrees import finding
    from imi.worktrees.layout import NoProjectError

    with failures():
        try:
            root, near = finding.here(Path.cwd())
        except NoProjectError:
            if not query:
                raise
            root, near = None, []
        if not query:
            return {"path": str(root)}
        found = finding.matches(query, near) or finding.matches(query, finding.everywhere())
    if not found:
        raise Failure("NOT_FOUND", f"no worktree fits {query}", "imi list shows all", NOT_FOUND)
    if len(found) > 1:
        shown = ", ".join(str(place.path) for place in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise Failure("CONFLICT", f"{query} may be one of {shown}{more}", "say more of it", CONFLICT)
    return {"path": str(found[0].path)}
