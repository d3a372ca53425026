"""The present: how worktrees stand, read from git now, in the words of the registry."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from imi.worktrees import facts, sync, trunk
from imi.worktrees.facts import Facts
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project

AT_ONCE = 4


def read(project: Project, folder: Path) -> Facts:
    """The facts of one worktree, sync's links left out. GitError says why there are none."""
    return facts.read(folder, trunk.ref(project), sync.linked(project, folder))


def read_all(wanted: Sequence[tuple[Project, Path]]) -> Iterator[Facts | None]:
    """The facts of many, in their order; None for one that cannot be read, whose next reader says why."""
    from concurrent.futures import ThreadPoolExecutor

    trunks = {project.root: trunk.ref(project) for project, _ in wanted}

    def one(project: Project, folder: Path) -> Facts | None:
        try:
            return facts.read(folder, trunks[project.root], sync.linked(project, folder))
        except GitError:
            return None

    with ThreadPoolExecutor(AT_ONCE) as threads:
        yield from threads.map(one, *zip(*wanted, strict=True)) if wanted else ()


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
