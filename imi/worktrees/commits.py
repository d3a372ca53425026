"""Commits: what git says of them, and how far they are from the trunk; of many in one call if it can be."""

from __future__ import annotations

from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from imi.worktrees import git, parallel
from imi.worktrees.git import GitError

NEAR, FAR = 100, 10_000
"""At most so many commits are read for each of several tips, and for all; if more, git counts for each."""


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


def divergences(repository: Path, trunk: str, heads: Collection[str]) -> dict[str, tuple[int, int]]:
    """(ahead, behind) by head, as `divergence` counts; all are hashes. GitError as there."""
    history = _history(repository, {trunk, *heads}) if len(heads) > 1 else None
    if history is None:
        return dict(zip(heads, parallel.run(partial(divergence, repository, trunk), [*heads]), strict=True))
    reached: dict[str, int] = {}  # of each commit the set of those that it reaches, a bit each
    for place, (commit, parents) in enumerate(history.items()):
        reached[commit] = 1 << place
        for parent in parents:
            reached[commit] |= reached[parent]
    own = reached[trunk]
    return {head: ((reached[head] & ~own).bit_count(), (own & ~reached[head]).bit_count()) for head in heads}


def _history(repository: Path, tips: Collection[str]) -> dict[str, list[str]] | None:
    """The tips and all that they reach, each with its parents and after them: down to one commit that all the
    others descend from, whatever their dates, or to the end. None when neither is near, and when a
    replacement has made a circle of it."""
    from graphlib import CycleError, TopologicalSorter

    most = min(NEAR * len(tips), FAR)
    question = ("rev-list", "--parents", f"--max-count={most}", "--stdin")
    parents: dict[str, list[str]] = {}
    ends, has_root = set(tips), False
    for line in git.run(repository, *question, fed="\n".join(tips)).splitlines():
        commit, *before = line.split(" ")
        parents[commit] = before
        ends.discard(commit)
        ends.update(each for each in before if each not in parents)
        has_root |= not before
        if not ends or (len(ends) == 1 and not has_root):
            with suppress(CycleError):
                return {each: parents.get(each, []) for each in TopologicalSorter(parents).static_order()}
            break
    return None
