"""The trunk's reference: what the other worktrees are compared with, and merged into."""

from __future__ import annotations

from imi.worktrees import git
from imi.worktrees.layout import Project

HEADS = "refs/heads/"


def refs(project: Project) -> list[str]:
    """Of the local trunk and the remote's the one that contains the other, both when they have diverged, the
    remote's first; none before the first commit. So neither a fetch nor a commit that is not pushed yet is
    missed."""
    own, theirs = HEADS + project.trunk, f"refs/remotes/{project.remote_name}/{project.trunk}"
    there = [ref.name for ref in git.refs(project.repository, theirs, own) if ref.name in (theirs, own)]
    if len(there) < 2:
        return there
    ahead, behind = git.divergence(project.repository, theirs, own)
    return [theirs] if not ahead else [own] if not behind else [theirs, own]


def ref(project: Project) -> str:
    """The one that worktrees are compared with."""
    return next(iter(refs(project)), HEADS + project.trunk)
