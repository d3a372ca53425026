"""What is not committed: how a worktree's files differ from its commit, without any program but git."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from imi.worktrees import git

FILTERS = r"^filter\..*\.(clean|smudge|process|required)$"
LATE = 2**32 - 1


@dataclass(frozen=True, slots=True)
class Entry:
    """A file that differs from the commit. Two letters say how (index, work tree); `??` is untracked."""

    letters: str
    path: str
    is_submodule: bool


@dataclass(frozen=True, slots=True)
class Status:
    """What `git status` says: its headings (`branch.oid`, …) and its entries."""

    headings: dict[str, str]
    entries: tuple[Entry, ...]


PATH_FIELD = {"1": 8, "2": 9, "u": 10}


def filters(worktree: Path) -> list[str]:
    """The settings of filters that hold in a worktree."""
    return _settings(worktree, FILTERS)


def shared_filters(repository: Path) -> dict[str, list[str]]:
    """The settings of filters that hold in all worktrees of a repository, by its folder: in the place of a
    worktree may lie another's clone, with its own. Empty where they may differ."""
    names = _settings(repository, rf"{FILTERS}|^includeif\.|^extensions\.worktreeconfig$")
    return {str(repository): names} if all(name.startswith("filter.") for name in names) else {}


def _settings(folder: Path, pattern: str) -> list[str]:
    """The names of the settings that match."""
    listed = git.run(folder, "config", "-z", "--name-only", "--get-regexp", pattern, accept=(0, 1))
    return [*dict.fromkeys(name for name in listed.split("\0") if name)]


def status(worktree: Path, *headings: str, blanked: Sequence[str] | None = None) -> Status:
    """How a worktree differs from its commit: what is staged, changed, in conflict, or new and not ignored. A
    renamed file is one entry; so is a submodule where another commit than the recorded one is checked out.
    `headings` are the options of git that ask for them; `blanked` are its filters, if they are known.

    A filter (git-lfs has one) is a program that a repository may name, and git-lfs runs others that it
    names, so none runs, not even the user's own. What has a filter is therefore judged by size and times: a
    file that was written again with the same content counts."""
    if blanked is None:
        blanked = filters(worktree)
    question = ("status", "--porcelain=v2", "-z", "--untracked-files=all", "--ignore-submodules=dirty")
    lines = iter(git.run(worktree, *question, *headings, blanked=blanked).split("\0"))
    told: dict[str, str] = {}
    entries: list[Entry] = []
    for line in lines:
        kind, _, rest = line.partition(" ")
        if kind == "#":
            name, _, value = rest.partition(" ")
            told[name] = value
        elif kind == "?":
            entries.append(Entry("??", rest, False))
        elif kind:
            fields = line.split(" ", PATH_FIELD[kind])
            entries.append(Entry(fields[1], fields[-1], fields[2].startswith("S")))
        if kind == "2":
            next(lines)  # a renamed file's old path
    changed = [entry.path for entry in entries if entry.letters == ".M"]
    wrong = _misjudged(worktree, changed, blanked) if blanked and changed else frozenset()
    return Status(told, tuple(each for each in entries if each.letters != ".M" or each.path not in wrong))


def count(worktree: Path) -> int:
    """How many files of a worktree differ from its commit, as `status` says."""
    return len(status(worktree).entries)


def _misjudged(worktree: Path, changed: list[str], blanked: Sequence[str]) -> frozenset[str]:
    """Which of the changed files have a filter, and the size and times that the index has. git compares
    the content of a file as young as the index, which without its filter always differs; so it is asked again
    about a copy of the index that is younger than all files."""
    question = ("check-attr", "-z", "--stdin", "filter")
    attributes = git.run(worktree, *question, fed="\0".join(changed)).split("\0")
    answers = zip(attributes[:-1:3], attributes[2::3], strict=True)  # path, "filter", value, …
    filtered = {path for path, value in answers if value not in ("unspecified", "unset", "set")}
    if not filtered:
        return frozenset()
    import shutil
    from tempfile import TemporaryDirectory

    index = git.run(worktree, "rev-parse", "--path-format=absolute", "--git-path", "index").removesuffix("\n")
    with TemporaryDirectory() as folder:
        copy = shutil.copyfile(index, f"{folder}/index")
        os.utime(copy, (LATE, LATE))
        question = ("diff-files", "-z", "--name-only", "--ignore-submodules=dirty")
        older = git.run(worktree, *question, blanked=blanked, GIT_INDEX_FILE=copy)
    return frozenset(filtered.difference(older.split("\0")))
