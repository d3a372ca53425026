"""The trunk's reference: what the other worktrees are compared with, and merged into."""

from __future__ import annotations

from pathlib import Path

from imi.worktrees import commits, git
from imi.worktrees.git import Ref
from imi.worktrees.layout import Project

HEADS = "refs/heads/"


def newest(repository: Path, own: Ref | None, theirs: Ref | None) -> list[Ref]:
    """Of the local trunk and the remote's the one that contains the other, both when they have diverged, the
    remote's first; none where there is none. So neither a fetch nor a commit that is not pushed yet is
    missed."""
    if not own or not theirs or own.commit == theirs.commit:
        return [each for each in (theirs, own) if each][:1]
    ahead, behind = commits.divergence(repository, theirs.commit, own.commit)
    return [theirs] if not ahead else [own] if not behind else [theirs, own]


def refs(project: Project) -> list[Ref]:
    """The references of the trunk that is newest; none before the first commit."""
    own, theirs = HEADS + project.trunk, f"refs/remotes/{project.remote_name}/{project.trunk}"
    there = {ref.name: ref for ref in git.refs(project.repository, theirs, own)}
    return newest(project.repository, there.get(own), there.get(theirs))


def tip(project: Project) -> str | None:
    """The commit that worktrees are compared with; None before the first."""
    return next((ref.commit for ref in refs(project)), None)
