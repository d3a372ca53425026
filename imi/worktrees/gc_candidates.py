"""Which worktrees are of no more use: merged, clean, unclaimed, unlocked, and nobody is inside."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from imi.worktrees import gitdirs, parallel, reasons
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project, Worktree
from imi.worktrees.reasons import Ask, Standing


@dataclass(frozen=True, slots=True)
class Candidate:
    """A worktree, how it stands (None when it cannot be read), and every reason to leave it."""

    worktree: Worktree
    standing: Standing | None
    against: tuple[str, ...]


def candidates(
    project: Project, actor: str, ask: Ask, against: Callable[[Standing], Sequence[str]]
) -> Iterator[Candidate]:
    """Every worktree but the trunk's and git's main one."""
    running = reasons.processes()

    def read(each: Worktree) -> Candidate | None:
        if each.bare:
            return None
        if each.prunable:
            return Candidate(each, None, ("git does not find it any more: imi reconcile",))
        try:
            standing = reasons.of(project, each, actor, ask, lambda: running)
        except GitError as error:
            return Candidate(each, None, (str(error),))
        return None if standing.never else Candidate(each, standing, tuple(against(standing)))

    yield from filter(None, parallel.run(read, project.worktrees))


def useful(older_than: timedelta | None) -> Callable[[Standing], list[str]]:
    """What speaks for leaving a worktree: all that refuses its removal, an open branch, any claim, one that
    nobody knows of, or a change that is not so old."""

    def against(standing: Standing) -> list[str]:
        found = list(standing.reasons)
        holder = standing.known.holder
        if standing.verdict.state != "merged":
            found.insert(
                0, "it is not merged" if standing.verdict.state == "open" else "it has no commits yet"
            )
        if not standing.known.is_known:
            found.append("who claims it is unknown")
        if holder and f"{holder} claims it" not in found:
            found.append(f"{holder} claims it")
        if older_than and changed_at(standing) > datetime.now(UTC) - older_than:
            found.append(f"it was changed on {changed_at(standing):%Y-%m-%d}")
        return found

    return against


def changed_at(standing: Standing) -> datetime:
    """When the last commit was made, or HEAD last moved."""
    commit = standing.facts.commit
    own = gitdirs.find(str(standing.facts.worktree))
    times = [commit.committed_at] if commit else []
    for name in ("logs/HEAD", "HEAD"):
        if own and Path(own.own, name).is_file():
            times.append(datetime.fromtimestamp(Path(own.own, name).stat().st_mtime, UTC))
            break
    return max(times)
