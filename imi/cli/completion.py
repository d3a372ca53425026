"""What the shells complete: names that git knows, without a server."""

from __future__ import annotations

import re
from pathlib import Path

PLAIN = re.compile(r"[\w./@+,=-]+")
"""Names that mean nothing but themselves to any shell; the others are for typing."""


def worktrees(incomplete: str) -> list[str]:
    """The folders of this project's worktrees that begin so; none where there is no project."""
    from imi.config import ConfigError
    from imi.worktrees import layout
    from imi.worktrees.git import GitError
    from imi.worktrees.names import LayoutError

    try:
        found = layout.find(Path.cwd()).worktrees
    except (LayoutError, GitError, ConfigError):
        return []
    names = (each.path.name for each in found if not each.bare and not each.prunable)
    return [name for name in names if name.startswith(incomplete) and PLAIN.fullmatch(name)]
