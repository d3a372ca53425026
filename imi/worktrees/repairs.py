"""Repairs: git's own record of its worktrees brought up to the folders that are there.

No file is deleted. What git remembers of a folder that is gone is forgotten last, after its report
(`forget`); it is kept, locked with the reason KEPT, while the folder may only be away.
"""

from __future__ import annotations

import contextlib
import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from imi import config
from imi.worktrees import acts, backlinks, git, layout
from imi.worktrees.backlinks import is_trash
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project, Worktree
from imi.worktrees.names import LayoutError

KEPT = "imi reconcile: its folder is away"


@dataclass(slots=True)
class Repaired:
    """A project after its repair. `completed` were left half made, `moved` maps where folders were to where
    they are, `linked` no longer named the repository, `returned` had been away, and `gone` are to be
    forgotten. `left` are folders that were left as they are, with the reason."""

    project: Project
    completed: list[Path] = field(default_factory=list)
    moved: dict[Path, Path] = field(default_factory=dict)
    linked: list[Path] = field(default_factory=list)
    returned: list[Path] = field(default_factory=list)
    gone: list[Worktree] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)


def located(here: Path) -> Project:
    """The project of a folder, even where the folder's own link to the repository is broken. Raises as
    layout.find does."""
    try:
        return layout.find(here)
    except GitError as broken:
        start = (config.load().repo_root or here).resolve()
        for folder in (start, *start.parents):
            with contextlib.suppress(OSError):
                for candidate in (folder, *sorted(folder.iterdir())):
                    # a repository, bare or a clone's: what is broken are the files that lead to one
                    if (candidate / "HEAD").is_file() or (candidate / ".git").is_dir():
                        with contextlib.suppress(GitError, LayoutError):
                            return layout.at(candidate)
        raise broken from None


def repair(project: Project, here: Path) -> Repaired:
    """Complete what was left half made, link what was moved, and find what is gone."""
    found = Repaired(project)
    for each in project.worktrees:
        if each.is_half_made and not is_trash(project, each.path):
            try:
                _complete(found, each)
            except GitError as error:
                found.left[each.path] = f"half made: {error}"
    _link(found, here)
    waited: set[Path] = set()
    while True:
        found.project = layout.at(project.repository)
        there = [each for each in found.project.worktrees if not is_trash(project, each.path)]
        missing = {each.path for each in there if each.prunable} - waited
        if not missing:
            break
        for path in missing:
            with acts.lock(project.repository, path.name):
                waited.add(path)  # whoever was moving or removing it has finished
    for each in there:
        if each.prunable or each.locked == KEPT:
            _judge(found, each)
    return found


def forget(found: Repaired) -> str | None:
    """`git worktree prune` of what is gone. The trash's are the trash's: why nothing was pruned, or None."""
    if not found.gone:
        return None
    if any(each.prunable and is_trash(found.project, each.path) for each in found.project.worktrees):
        return "git still remembers what is gone: imi trash list shows what is in its way"
    acts.prune(found.project)
    return None


def _complete(found: Repaired, half: Worktree) -> None:
    project, folder = found.project, half.path
    with acts.lock(project.repository, folder.name):
        now = next((each for each in layout.worktrees(project.repository) if each.path == folder), None)
        if now is None or not now.is_half_made:
            return  # whoever makes it has finished meanwhile
        own = backlinks.target(folder)
        if own is None or own.parent.resolve() != project.repository / "worktrees":
            acts.unlock_worktree(project, folder)  # git had written nothing yet
            with contextlib.suppress(OSError):
                folder.rmdir()
            return
        branch = now.branch or _branch_for(project, folder)
        if branch is None:
            hint = f"git -C {shlex.quote(str(folder))} symbolic-ref HEAD refs/heads/BRANCH"
            raise GitError(f"no branch that it would be of; say which: {hint}")
        acts.finish(now, branch)
    found.completed.append(folder)


def _branch_for(project: Project, folder: Path) -> str | None:
    """The one branch that is checked out nowhere and whose folder this would be."""
    held = {each.branch for each in layout.worktrees(project.repository)}
    found = [
        name
        for ref in git.refs(project.repository, "refs/heads")
        if (name := ref.name.removeprefix("refs/heads/")) not in held
        if name.replace("/", "-") == folder.name
    ]
    return found[0] if len(found) == 1 else None


def _link(found: Repaired, here: Path) -> None:
    project = found.project
    broken = backlinks.broken(project, here)
    found.left |= broken.left
    if not broken.moved and not broken.unlinked:
        return
    after, reason = broken, f"git worktree repair would make {broken.foreign} something that it is not"
    if not broken.foreign:
        try:
            acts.repair(project.repository, *broken.moved.values())
        except GitError as error:  # git goes on with the others
            reason = str(error)
        after = backlinks.broken(project, here)
    found.moved = {old: new for old, new in broken.moved.items() if old not in after.moved}
    found.linked = [each for each in broken.unlinked if each not in after.unlinked]
    found.left |= {old: f"it is at {new} now: {reason}" for old, new in after.moved.items()}
    found.left |= dict.fromkeys(after.unlinked, f"it no longer names the repository: {reason}")


def _judge(found: Repaired, each: Worktree) -> None:
    """Whether a worktree that git misses is gone, away, or back."""
    project, is_there = found.project, os.path.lexists(each.path / ".git")
    why = None if is_there else found.left.get(each.path) or _kept(project, each)
    if why:
        if each.prunable:
            acts.lock_worktree(project, each.path, KEPT)
        found.left[each.path] = why
        return
    if each.locked == KEPT:
        acts.unlock_worktree(project, each.path)
    if is_there:
        found.returned.append(each.path)
    else:
        found.gone.append(each)


def _kept(project: Project, each: Worktree) -> str | None:
    """Why git must not forget a worktree whose folder is not there."""
    if not os.path.lexists(each.path.parent):
        drop = f"git worktree unlock {shlex.quote(str(each.path))} && git worktree prune"
        return f"an unmounted disk? If it is gone for good: {drop}"
    if each.branch is None and each.commit and each.commit.strip("0"):
        others = ("--not", "--branches", "--remotes", "--tags", "--")
        if git.run(project.repository, "rev-list", "--max-count=1", each.commit, *others):
            return f"nothing else holds its commits: git branch NAME {each.commit}"
    return None
