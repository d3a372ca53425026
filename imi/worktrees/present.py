"""The present: how worktrees stand, read from git now, in the words of the registry."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from imi.worktrees import facts, parallel, sync, trunk, uncommitted
from imi.worktrees.facts import Facts, Look
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project
from imi.worktrees.parallel import Progress, quietly


def read(project: Project, folder: Path) -> Facts:
    """The facts of one worktree, sync's links left out. GitError says why there are none."""
    return facts.read(folder, trunk.tip(project), sync.linked(project, folder))


def read_all(project: Project, folders: Sequence[Path], progress: Progress = quietly) -> dict[Path, Facts]:
    """The facts of many worktrees of a project, of those that can be read: the next reader of another says
    why not."""
    if not folders:
        return {}
    try:
        links, tip = sync.links_of(project), trunk.tip(project)
        filters = uncommitted.shared_filters(project.repository)
    except GitError:
        return {}

    def look(folder: Path) -> Look | None:
        try:
            return facts.look(folder, links(folder), filters)
        except GitError:
            return None

    looks = []
    for done, found in enumerate(parallel.run(look, folders)):
        progress("reading worktrees", done, len(folders))
        if found:
            looks.append(found)
    return {each.worktree: each for each in _complete(project, looks, tip)}


def _complete(project: Project, looks: list[Look], tip: str | None) -> list[Facts]:
    """The facts of all but those whose commit, or its history, cannot be read: they are found by halves."""
    try:
        return facts.complete(project.repository, looks, tip)
    except GitError:
        if len(looks) < 2:
            return []
        middle = len(looks) // 2
        return _complete(project, looks[:middle], tip) + _complete(project, looks[middle:], tip)


def status(read: Facts) -> str:
    """A worktree's status by the registry's rule for a work item."""
    if read.dirty or read.untracked:
        return "uncommitted"
    if read.ahead and read.behind:
        return "diverged"
    return "ahead" if read.ahead else "behind" if read.behind else "clean"


def document(read: Facts) -> dict[str, Any]:
    """The facts that a work item has too, as `imi list` and `status` name them; `dirty` counts the untracked
    files as well."""
    return {
        "branch": read.branch,
        "status": status(read),
        "ahead": read.ahead,
        "behind": read.behind,
        "dirty": read.dirty + read.untracked,
        "observed_at": read.observed_at.isoformat(),
    }
