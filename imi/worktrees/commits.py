"""Commits: what git says of them, of many in one call, and how far one is from the trunk."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imi.worktrees import git
from imi.worktrees.git import GitError


@dataclass(frozen=True, slots=True)
class Commit:
    """A commit; its time is the committer's."""

    hash: str
    subject: str
    author: str
    author_email: str
    committed_at: datetime


def read(repository: Path, hashes: Collection[str]) -> dict[str, Commit]:
    """The commits by their hashes. GitError unless all are there, and whole."""
    if not hashes:
        return {}
    layout = "".join(f"%{each}%x00" for each in ("H", "s", "an", "ae", "ct"))
    question = ("rev-list", "--no-walk", "--no-commit-header", "--encoding=UTF-8", f"--format={layout}")
    told = git.run(repository, *question, "--stdin", fed="\n".join(hashes)).split("\0\n")
    found = {}
    for commit, subject, author, email, seconds in (each.split("\0") for each in told if each):
        try:
            moment = datetime.fromtimestamp(int(seconds), UTC)
        except (ValueError, OverflowError, OSError):
            raise GitError(f"commit {commit} has no time that a calendar knows") from None
        found[commit] = Commit(commit, subject, author, email, moment)
    if strange := set(hashes) - found.keys():  # a tag, which is answered by its commit
        raise GitError(f"{min(strange)} is no commit")
    return found


def divergence(repository: Path, trunk: str, head: str) -> tuple[int, int]:
    """How many commits `head` has that `trunk` has not, and the other way round: (ahead, behind)."""
    if trunk == head:
        return 0, 0
    counted = git.run(repository, "rev-list", "--left-right", "--count", f"{trunk}...{head}", "--")
    behind, ahead = counted.split()
    return int(ahead), int(behind)
