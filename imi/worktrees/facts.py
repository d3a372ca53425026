"""Facts: how a worktree stands at this moment.

A thousand are read in seconds, so of many each costs one call of git: one more where there are stashes or
the trunk is far, and some with filters or submodules. What git keeps as a file is looked at as one.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from imi.worktrees import commits, git, gitdirs, uncommitted
from imi.worktrees.commits import Commit
from imi.worktrees.git import GitError
from imi.worktrees.uncommitted import Entry

OPERATIONS = {
    "rebase-merge": "rebase",
    "rebase-apply/applying": "am",
    "rebase-apply": "rebase",
    "MERGE_HEAD": "merge",
    "CHERRY_PICK_HEAD": "cherry-pick",
    "REVERT_HEAD": "revert",
    "sequencer": "cherry-pick or revert",
    "BISECT_LOG": "bisect",
}
"""What git leaves in a worktree's own folder while an operation is in progress; the first one counts."""


@dataclass(frozen=True, slots=True)
class Facts:
    """A worktree as it was at `observed_at`. `branch` is None when detached, `commit` while there is none.
    `ahead` and `behind` count commits against the trunk, None without one; `upstream_…` against the branch's
    upstream. `dirty` counts files that are staged, changed or in conflict; `stashes` those made on this
    branch, or on none when detached; `submodules` are the paths of those with changes."""

    observed_at: datetime
    worktree: Path
    branch: str | None
    commit: Commit | None
    dirty: int
    untracked: int
    ahead: int | None
    behind: int | None
    upstream: str | None
    upstream_ahead: int | None
    upstream_behind: int | None
    stashes: int
    operation: str | None
    is_locked: bool
    is_main: bool
    submodules: tuple[str, ...]


Look = tuple[Facts, str | None]
"""Facts without the commit and how far it is from the trunk, and its hash; None while there is none."""


def read(worktree: Path, trunk: str | None, links: frozenset[str] = frozenset()) -> Facts:
    """The facts of a worktree, given by its root. `trunk` is a commit or a whole reference, None where there
    is none; `links` are the paths in the worktree that sync linked, which count neither as dirty nor as
    untracked while they are symbolic links. GitError says why it cannot be read."""
    return complete(worktree, [look(worktree, links, {})], trunk)[0]


def look(worktree: Path, links: frozenset[str], filters: Mapping[str, Sequence[str]]) -> Look:
    """What one worktree is asked. `filters` are the names of the filters' settings that hold in all
    worktrees of a repository, by its folder; of any other git is asked."""
    observed_at = datetime.now(UTC)
    found = gitdirs.find(str(worktree))
    blanked = filters.get(found.common) if found else None
    status = uncommitted.status(worktree, "--branch", "--show-stash", "--ahead-behind", blanked=blanked)
    if found is None:  # git has usually said why by now
        raise GitError(f"{worktree}: its .git cannot be read")
    own = Path(found.own)
    entries = [entry for entry in status.entries if not _is_linked(worktree, entry, links)]
    untracked = sum(entry.letters == "??" for entry in entries)
    told = status.headings
    branch = None if told["branch.head"] == "(detached)" else told["branch.head"]
    head = None if told["branch.oid"] == "(initial)" else told["branch.oid"]
    upstream_ahead, upstream_behind = _counts(told.get("branch.ab"))
    seen = Facts(
        observed_at=observed_at,
        worktree=worktree,
        branch=branch,
        commit=None,
        dirty=len(entries) - untracked,
        untracked=untracked,
        ahead=None,
        behind=None,
        upstream=told.get("branch.upstream"),
        upstream_ahead=upstream_ahead,
        upstream_behind=upstream_behind,
        stashes=_stashes(worktree, branch) if "stash" in told else 0,
        operation=next((name for file, name in OPERATIONS.items() if (own / file).exists()), None),
        is_locked=(own / "locked").exists(),
        is_main=found.own == found.common,
        submodules=_submodules(worktree, entries),
    )
    return seen, head


def complete(repository: Path, looks: Sequence[Look], trunk: str | None) -> list[Facts]:
    """The whole facts; the commits of all are asked for together. `trunk` is a commit, None where there is
    none. GitError if one of them, or its history, cannot be read."""
    heads = {head for _, head in looks if head}
    found = commits.read(repository, heads)
    counts = commits.divergences(repository, trunk, heads) if trunk else {}
    whole = []
    for seen, head in looks:
        if head:
            ahead, behind = counts.get(head, (None, None))
            whole.append(replace(seen, commit=found[head], ahead=ahead, behind=behind))
        else:
            whole.append(seen)
    return whole


def unpushed(repository: Path, branch: str) -> list[tuple[str, str]]:
    """The commits, each with its subject, that nothing else holds: reachable from the branch (`refs/heads/…`,
    or a commit where the head is detached) and from no remote-tracking and no other local branch, the trunk
    among them. Newest first."""
    listed = git.run(
        repository,
        "rev-list",
        "--no-commit-header",
        "--encoding=UTF-8",
        "--format=%H%x00%s%x00",
        branch,
        "--not",
        f"--exclude={branch.removeprefix('refs/heads/')}",
        "--branches",
        "--remotes",
        "--",
    )
    fields = listed.split("\0")
    return [
        (commit.lstrip("\n"), subject) for commit, subject in zip(fields[:-1:2], fields[1::2], strict=True)
    ]


def _is_linked(worktree: Path, entry: Entry, links: frozenset[str]) -> bool:
    """Whether nothing but a link of sync stands between the file and its commit: it is one, or is hidden by
    one that took its folder's place. What is staged is the user's."""
    if entry.letters[0] not in ".?":
        return False
    paths = (entry.path, *map(str, Path(entry.path).parents))
    return any(path in links and (worktree / path).is_symlink() for path in paths)


def _counts(heading: str | None) -> tuple[int | None, int | None]:
    if heading is None:
        return None, None
    ahead, behind = heading.split()
    return int(ahead), -int(behind)


def _stashes(worktree: Path, branch: str | None) -> int:
    """How many stashes say that they were made on the branch: git writes it into their reflog."""
    made = (f"WIP on {branch or '(no branch)'}:", f"On {branch or '(no branch)'}:")
    return sum(said.startswith(made) for _, said in git.reflog(worktree, "refs/stash"))


def _submodules(worktree: Path, entries: list[Entry]) -> tuple[str, ...]:
    """The submodules with another commit than the recorded one, or with uncommitted files, also further down.
    Each is read as a repository of its own, if it is really inside."""
    changed = {entry.path for entry in entries if entry.is_submodule}
    for path, folder in _inside(worktree):
        if path not in changed:
            inner = uncommitted.status(folder).entries
            if inner or _submodules(folder, list(inner)):
                changed.add(path)
    return tuple(sorted(changed))


def _inside(worktree: Path) -> Iterator[tuple[str, Path]]:
    """The submodules that are checked out, each with its folder."""
    root = worktree.resolve()
    if (worktree / ".gitmodules").is_file():
        question = ("config", "-z", "--file", ".gitmodules", "--get-regexp", r"^submodule\..*\.path$")
        for pair in git.run(worktree, *question, accept=(0, 1)).split("\0"):
            path = pair.partition("\n")[2]
            folder = worktree / path
            real = folder.resolve()
            if root in real.parents and real == root / path and git.is_work_tree(folder):
                yield path, folder


def unpushed_submodules(worktree: Path) -> list[str]:
    """The submodules with commits or stashes that no remote has, also further down: their repositories go
    where the worktree goes."""
    found = []
    for path, folder in _inside(worktree):
        question = ("rev-parse", "--quiet", "--verify", "HEAD^{commit}")
        heads = git.run(folder, *question, accept=(0, 1, 128)).split()
        heads += [each.name for each in git.refs(folder, "refs/stash")]
        listed = ("rev-list", "--max-count=1", "--branches", *heads, "--not", "--remotes", "--tags", "--")
        if git.run(folder, *listed):
            found.append(path)
        found += [f"{path}/{each}" for each in unpushed_submodules(folder)]
    return found
