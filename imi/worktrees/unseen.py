"""Changed files that git was told not to look at: `git status` says nothing of them, and they go with the
worktree all the same."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from imi.worktrees import git, uncommitted

FLAGS = ("--no-assume-unchanged", "--no-skip-worktree")


def files(worktree: Path, links: frozenset[str] = frozenset()) -> list[str]:
    """The files marked assume-unchanged or skip-worktree that are there and differ from the index, but for
    sync's `links`. Asked of a copy of the index that has no such marks."""
    listed = git.run(worktree, "ls-files", "-v", "-z").split("\0")[:-1]
    marked = [line[2:] for line in listed if line[0].islower() or line[0] == "S"]
    there = [each for each in marked if each not in links and os.path.lexists(worktree / each)]
    if not there:
        return []
    index = git.run(worktree, "rev-parse", "--path-format=absolute", "--git-path", "index").removesuffix("\n")
    blanked = uncommitted.filters(worktree)
    question = ("diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=dirty")
    with TemporaryDirectory() as folder:
        copy = shutil.copyfile(index, f"{folder}/index")
        for flag in FLAGS:
            shutil.copystat(index, copy)  # git compares the content of what is as young as its index
            given = "\0".join(there)
            git.run(worktree, "update-index", flag, "-z", "--stdin", fed=given, GIT_INDEX_FILE=copy)
        shutil.copystat(index, copy)
        changed = git.run(worktree, *question, blanked=blanked, GIT_INDEX_FILE=copy).split("\0")
    return sorted(set(there).intersection(changed))
