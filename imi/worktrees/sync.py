"""Sync: the files that all worktrees of a project share, as links to one copy below its root."""

from __future__ import annotations

import os
from pathlib import Path

from imi.worktrees import settings
from imi.worktrees.layout import Project


def linked(project: Project, worktree: Path) -> frozenset[str]:
    """Which of the configured files are links of sync in this worktree; git's facts leave them out."""
    chosen = settings.load()
    homes = [project.root / path for path in sources(chosen.sync_settings)]
    return frozenset(
        name
        for name in chosen.symlink_files
        if any(_leads_to(worktree / name, home / name) for home in homes)
    )


def sources(chosen: settings.SyncSettings) -> tuple[str, str]:
    """The folders of shared files below the root, the project's own before the user's."""
    return chosen.local_sync_path, chosen.user_sync_path


def _leads_to(link: Path, file: Path) -> bool:
    try:
        target = link.readlink()
    except OSError:
        return False
    return os.path.normpath(link.parent / target) == os.path.normpath(file)
