"""Facts: how a worktree stands at this moment.

A thousand are read in seconds, so each costs four calls of git: one more where there are stashes, and some
with filters or submodules. What git keeps as a file is looked at as one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from imi.worktrees import git, gitdirs
from imi.worktrees.git import Entry, GitError

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
class Commit:
    """A commit; its time is the committer's."""

    hash: str
    subject: str
    author: str
    author_email: str
    committed_at: datetime


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


def read(worktree: Path, trunk: str, links: frozenset[str] = frozenset()) -> Facts:
    """The facts of a worktree, given by its root. `trunk` is a whole reference or a commit; `links` are the
    paths in the worktree that sync linked, which count neither as dirty nor as untracked while they are
    symbolic links. GitError says why it cannot be read."""
    observed_at = datetime.now(UTC)
    status = git.status(worktree, "--branch", "--show-stash", "--ahead-behind")
    entries = [entry for entry in status.entries if not _is_linked(worktree, entry, links)]
    untracked = sum(entry.letters == "??" for entry in entries)
    told = status.headings
    branch = None if told["branch.head"] == "(detached)" else told["branch.head"]
    is_born = told["branch.oid"] != "(initial)"
    ahead, behind = _divergence(worktree, trunk, told["branch.oid"]) if is_born else (None, None)
    upstream_ahead, upstream_behind = _counts(told.get("branch.ab"))
    found = gitdirs.find(str(worktree))
    if found is None:
        raise GitError(f"{worktree}: its .git cannot be read")
    own = Path(found.own)
    return Facts(
        observed_at=observed_at,
        worktree=worktree,
        branch=branch,
        commit=_commit(worktree, told["branch.oid"]) if is_born else None,
        dirty=len(entries) - untracked,
        untracked=untracked,
        ahead=ahead,
        behind=behind,
        upstream=told.get("branch.upstream"),
        upstream_ahead=upstream_ahead,
        upstream_behind=upstream_behind,
        stashes=_stashes(worktree, branch) if "stash" in told else 0,
        operation=next((name for file, name in OPERATIONS.items() if (own / file).exists()), None),
        is_locked=(own / "locked").exists(),
        is_main=found.own == found.common,
        submodules=_submodules(worktree, entries),
    )


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


def _divergence(worktree: Path, trunk: str, commit: str) -> tuple[int | None, int | None]:
    try:
        return git.divergence(worktree, trunk, commit)
    except GitError:
        question = ("rev-parse", "--quiet", "--verify", f"{trunk}^{{commit}}")
        if git.run(worktree, *question, accept=(0, 1)):
            raise
        return None, None


def _commit(worktree: Path, commit: str) -> Commit:
    layout = "--format=%s%x00%an%x00%ae%x00%ct"
    question = ("rev-list", "--max-count=1", "--no-commit-header", "--encoding=UTF-8", layout, commit, "--")
    subject, author, email, seconds = git.run(worktree, *question).split("\0")
    return Commit(commit, subject, author, email, datetime.fromtimestamp(int(seconds), UTC))


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
            inner = git.status(folder).entries
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
