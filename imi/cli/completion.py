"""What the shells complete: names that git knows, without a server."""

from __future__ import annotations

from pathlib import Path


def worktrees(incomplete: str) -> list[str]:
    """The folders of this project's worktrees that begin with what is typed; none where there is no project."""
    from imi.cli.outcome import Failure
    from imi.cli.worktrees import failures
    from imi.worktrees import layout

    try:
        with failures():
            found = layout.find(Path.cwd()).worktrees
    except Failure:
        return []
    names = (each.path.name for each in found if not each.bare and not each.prunable)
    return [name for name in names if name.startswith(incomplete) and name.isprintable()]
