"""Which worktrees a monitor watches: those of its projects, also the ones that come later.

git's list is asked for again when its administration changed, which one look at a folder's time tells. A
worktree that git still fills is left alone until it is complete, else its files would count as work.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from imi.worktrees import gitdirs, layout
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project
from imi.worktrees.names import LayoutError


@dataclass(frozen=True, slots=True)
class Watched:
    """A worktree that is watched, links in its path resolved. `branch` is the one that it had last; while a
    rebase goes on, that is the one which is rebased."""

    root: Path
    project: Project
    branch: str | None


@dataclass(slots=True)
class Listed:
    """A project, when git's administration of its worktrees last changed, and those that are not ready."""

    project: Project
    changed: int
    pending: list[Path]


class Roster:
    """The watched worktrees by their root. `look` is called from one thread; the others may read `watched`
    and call `lost`."""

    def __init__(self, projects: Iterable[Project]) -> None:
        self.watched: dict[Path, Watched] = {}
        self.listed = {project.repository: Listed(project, -1, []) for project in projects}
        self.gone: deque[Path] = deque()

    @property
    def projects(self) -> list[Project]:
        """The projects whose worktrees are watched."""
        return [each.project for each in self.listed.values()]

    def widen(self, paths: Iterable[Path]) -> list[str]:
        """Take in the projects that worktrees at these paths belong to; why one cannot be, in sentences."""
        refused = []
        known = {os.fspath(repository) for repository in self.listed}
        for path in paths:
            found = gitdirs.find(os.fspath(path))
            if found is None or found.common in known:
                continue
            known.add(found.common)
            try:
                project = layout.at(path)
            except (LayoutError, GitError) as error:
                refused.append(f"{path} is not watched: {error}")
            else:
                self.listed.setdefault(project.repository, Listed(project, -1, []))
        return refused

    def lost(self, root: Path) -> None:
        """Its folder is gone; it may come back."""
        self.gone.append(root)

    def switched(self, root: Path, branch: str) -> None:
        """It has this branch now."""
        if (known := self.watched.get(root)) and known.branch != branch:
            self.watched[root] = replace(known, branch=branch)

    def look(self) -> tuple[list[Path], list[Path]]:
        """The worktrees that are new since the last look, and those to let go. GitError or LayoutError."""
        before = dict(self.watched)
        missing = set()
        while self.gone:
            missing.add(self.gone.popleft())
        for repository, listed in self.listed.items():
            changed = _changed(repository)
            lost = any(root in before and before[root].project.repository == repository for root in missing)
            if changed != listed.changed or lost or any(_is_ready(path) for path in listed.pending):
                listed.changed = changed
                self._list(repository, listed)
        new = [root for root in self.watched if root not in before or root in missing]
        return new, [root for root in before if root not in self.watched]

    def _list(self, repository: Path, listed: Listed) -> None:
        listed.project = layout.at(repository)
        ready, listed.pending = [], []
        for each in listed.project.worktrees:
            root = Path(os.path.realpath(each.path))
            if each.bare:
                continue
            if _is_ready(root):
                known = self.watched.get(root)
                ready.append(Watched(root, listed.project, each.branch or (known.branch if known else None)))
            else:
                listed.pending.append(root)
        others = {root: each for root, each in self.watched.items() if each.project.repository != repository}
        self.watched = others | {each.root: each for each in ready}


def _changed(repository: Path) -> int:
    """When a worktree was last added to git's list, or taken from it; 0 while there is none."""
    try:
        return (repository / "worktrees").stat().st_mtime_ns
    except OSError:
        return 0


def _is_ready(root: Path) -> bool:
    """Whether a folder is there and git has filled it."""
    found = gitdirs.find(os.fspath(root))
    if found is None or not Path(found.own).is_dir():
        return False
    try:
        return Path(found.own, "locked").read_text(errors="replace").strip() != gitdirs.INITIALIZING
    except FileNotFoundError:
        return True
    except OSError:
        return False
