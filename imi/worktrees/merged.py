"""Whether a branch is merged, and by which test: merge commits, fast-forwards, squashes and rebases leave
different traces. The tests go from the surest to the most expensive, and the one that decided is told.

What the trunk took in and reverted later is merged all the same: its history has the work. Where no test can
tell, the branch counts as open.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from imi.worktrees import git

Test = Literal["ancestor", "same tree", "merge adds nothing", "patch-id", "pull request"]
LIMIT = 1000
CHUNK = 100
COMMITTING = ("commit", "cherry-pick", "revert", "am")
DRIVERS = r"^merge\..*\.driver$"
DIFF = (
    "diff-tree",
    "--stdin",
    "--root",
    "-p",
    "--full-index",
    "--no-renames",
    "--no-ext-diff",
    "--no-textconv",
    "--ignore-submodules=none",
)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of a branch: `merged`; `empty`, without changes of its own; or `open`. `test` is the one
    that found it merged, `commit` the trunk's commit that brought it, where one did."""

    state: Literal["merged", "empty", "open"]
    test: Test | None = None
    commit: str | None = None


def judge(repository: Path, branch: str, trunk: str, *, is_link_merged: bool = False) -> Verdict:
    """What became of a branch. Both are commits or whole references; given as a reference, the branch's
    reflog tells one that was fast-forwarded from one that never had a commit. `is_link_merged` is what its
    pull request's link says. At most LIMIT commits of the branch, and of the trunk since, are compared."""
    peeled = (f"{name}^{{{kind}}}" for kind in ("commit", "tree") for name in (branch, trunk))
    tip, top, tree, top_tree = git.run(repository, "rev-parse", *peeled).split()
    base = git.run(repository, "merge-base", tip, top, accept=(0, 1)).strip() or None
    if base == tip:
        return _contained(repository, branch, tip, top)
    own = [line.split() for line in _list(repository, "%H %P", tip, f"^{top}")]
    is_linear = all(len(parents) <= 1 for _, *parents in own)
    base_tree = git.run(repository, "rev-parse", f"{base}^{{tree}}").strip() if base else None
    # a branch that took back its own work says nothing of whether the trunk ever had it
    if tree == base_tree and not is_linear:
        before = _before_merge(tip, own)
        if before == tip or (before and judge(repository, before, top).state == "merged"):
            return Verdict("merged", "same tree" if tree == top_tree else "merge adds nothing")
    elif tree != base_tree:
        if tree == top_tree:
            return Verdict("merged", "same tree")
        if base and _merged_tree(repository, top, tip) == top_tree:
            return Verdict("merged", "merge adds nothing")
    verdict = _compared(repository, tip, top, base, [commit for commit, *_ in own], is_linear)
    if verdict.state == "open" and is_link_merged:
        return Verdict("merged", "pull request")
    return verdict


def _before_merge(tip: str, own: list[list[str]]) -> str | None:
    """What the branch was before its last commit took in the trunk; the tip itself if it had no work until
    then. None where that commit did something else: took work back, or took in another branch."""
    parents = {commit: rest for commit, *rest in own}
    mine, *others = parents[tip]
    if not others or any(each in parents for each in others):
        return None
    return mine if mine in parents else tip


def _contained(repository: Path, branch: str, tip: str, top: str) -> Verdict:
    """A branch that the trunk's history has. Where the trunk itself passed through its commit, it was
    fast-forwarded, or never had a commit of its own."""
    since = _list(repository, "%H %P", "--first-parent", top, f"^{tip}")
    if since and since[-1].split()[1:2] != [tip]:
        path = set(_list(repository, "%H", "--ancestry-path", top, f"^{tip}"))
        brought = [commit for commit in (line.split()[0] for line in since) if commit in path]
        return Verdict("merged", "ancestor", brought[-1])
    if branch.startswith("refs/") and _has_committed(repository, branch, tip):
        return Verdict("merged", "ancestor", tip)
    return Verdict("empty")


def _has_committed(repository: Path, branch: str, tip: str) -> bool:
    """Whether the branch's reflog has a commit made on it that is still in it."""
    made = {commit for commit, said in git.reflog(repository, branch) if said.startswith(COMMITTING)}
    return bool(made.difference(_list(repository, "%H", *made, f"^{tip}"))) if made else False


def _merged_tree(repository: Path, top: str, tip: str) -> str | None:
    """The tree that merging the branch into the trunk would give, None for a conflict. What it writes goes to
    a folder that is thrown away. A driver for merging is a program that a repository may name: none runs,
    and what needs one counts as a conflict."""
    listed = git.run(repository, "config", "-z", "--name-only", "--get-regexp", DRIVERS, accept=(0, 1))
    objects = git.common_dir(repository) / "objects"
    with TemporaryDirectory() as folder:
        answer = git.run(
            repository,
            "merge-tree",
            "--write-tree",
            "--no-messages",
            top,
            tip,
            accept=(0, 1),
            blanked=tuple(dict.fromkeys(name for name in listed.split("\0") if name)),
            IMI_BLANK="exit 1",
            GIT_OBJECT_DIRECTORY=folder,
            GIT_ALTERNATE_OBJECT_DIRECTORIES=json.dumps(str(objects), ensure_ascii=False),
        )
    return answer.split()[0] if answer.count("\n") == 1 else None


def _compared(
    repository: Path, tip: str, top: str, base: str | None, own: list[str], is_linear: bool
) -> Verdict:
    """Compare by patch-id: each commit of the branch (rebased), and its whole difference (squashed), with the
    trunk's commits since. What a merge commit changes by itself is in no patch, so a branch that has one is
    compared as a whole."""
    is_compared = is_linear and len(own) <= LIMIT
    rebased = _patch_ids(repository, own) if is_compared else {}
    if is_compared and not rebased:
        return Verdict("empty")
    squashed = _patch_ids(repository, [f"{tip} {base}"]).get(tip) if base else None
    since = _list(repository, "%H", "--no-merges", f"--max-count={LIMIT}", top, f"^{tip}")
    wanted = set(rebased.values())
    for chunk in _chunks(since):
        for commit, patch_id in _patch_ids(repository, chunk).items():
            wanted.discard(patch_id)
            if patch_id == squashed or (rebased and not wanted):
                return Verdict("merged", "patch-id", commit)
    return Verdict("open")


def _chunks(commits: list[str]) -> Iterator[list[str]]:
    for start in range(0, len(commits), CHUNK):
        yield commits[start : start + CHUNK]


def _patch_ids(repository: Path, commits: list[str]) -> dict[str, str]:
    """Each commit's patch-id; none for one that changes nothing. `commit base` compares it with that base.
    Verbatim, because a change of white space is a change."""
    changes = git.run(repository, *DIFF, fed="".join(f"{commit}\n" for commit in commits))
    listed = git.run(repository, "patch-id", "--verbatim", fed=changes)
    return {commit: patch_id for patch_id, commit in map(str.split, listed.splitlines())}


def _list(repository: Path, layout: str, *arguments: str) -> list[str]:
    """A line for each commit."""
    question = ("rev-list", "--no-commit-header", f"--format={layout}", *arguments, "--")
    return git.run(repository, *question).split("\n")[:-1]
