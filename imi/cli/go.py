"""`imi go`: the path of a worktree that a few letters name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.command import command, group
from imi.cli.completion import worktrees
from imi.cli.failures import failures
from imi.cli.outcome import CONFLICT, NOT_FOUND, Failure

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
    wins: the whole name or path, the whole branch or task, the beginning of a name, of a branch, letters
    within either, letters in that order, or with a slash a piece of the path. If several fit as well, they
    are named (exit 4). --json: path.
    """
    with failures():
        found = _found(query)
    if not found:
        raise Failure("NOT_FOUND", f"no worktree fits {query}", "imi list --all shows all", NOT_FOUND)
    if len(found) > 1:
        shown = ", ".join(str(path) for path in found[:SHOWN])
        more = f" and {len(found) - SHOWN} more" if len(found) > SHOWN else ""
        raise Failure("CONFLICT", f"{query} may be one of {shown}{more}", "say more of it", CONFLICT)
    return {"path": str(found[0])}


def _found(query: str | None) -> list[Path]:
    from imi.worktrees import finding
    from imi.worktrees.layout import NoProjectError

    near: list[finding.Place] = []
    try:
        root, near = finding.here(Path.cwd())
        if not query:
            return [root]
    except NoProjectError:
        if not query:
            raise
    return finding.matches(query, near) or finding.matches(query, finding.everywhere())
