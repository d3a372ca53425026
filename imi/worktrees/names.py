"""What a task's folder and branch are called. Every name is checked before git or the disk sees it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from imi.worktrees import git
from imi.worktrees.git import GitError


class LayoutError(Exception):
    """A place or a name that cannot be used: one sentence, and what to do."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class NameRefusedError(LayoutError):
    """A name that no folder or branch can have."""


class TakenError(LayoutError):
    """Something else is in the way: nothing was changed."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of work: how its folders and branches begin, and its work_type."""

    folder: str
    branch: str
    work_type: str


KINDS = {
    "feat": Kind("feat-", "feat/", "feature"),
    "fix": Kind("fix-", "fix/", "fix"),
    "aiops": Kind("aiops-", "aiops/", "aiops"),
    "devops": Kind("devops-", "devops/", "devops"),
    "exp": Kind("exp-", "exp/", "experiment"),
    "review": Kind("pr-", "pr/", "review"),
}
WORK_TYPES = {kind.branch: kind.work_type for kind in KINDS.values()}
"""What a branch's prefix says."""
TRUNKS = ("main", "master", "trunk")
"""What a default branch is usually called."""
PLAIN = re.compile(r"[A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*")
"""Names that need not be shown to git: no dot, no @, nothing else that has a meaning."""
LONGEST = 200
"""Bytes of a folder's name; file systems take 255, and the trash adds to it."""


def work_type(branch: str, folder: str = "") -> str:
    """The work_type that the beginning of a branch's name says, else that of its folder's; else feature."""
    prefix, slash, _ = branch.partition("/")
    by_folder = (kind.work_type for kind in KINDS.values() if folder.startswith(kind.folder))
    return WORK_TYPES.get(prefix + slash) or next(by_folder, "feature")


def folder_name(kind: str, name: str) -> str:
    """The folder of a task, such as feat-login; NameRefusedError for a name that could lead elsewhere."""
    folder = KINDS[kind].folder + checked(name).replace("/", "-")
    if len(folder.encode()) > LONGEST:
        raise NameRefusedError(f"the name is longer than {LONGEST} bytes", "choose a shorter one")
    return folder


def folders(task: str) -> frozenset[str]:
    """The folders that a task of this name may have, whatever kind it is."""
    return frozenset(kind.folder + task.replace("/", "-") for kind in KINDS.values())


def branch_name(kind: str, name: str) -> str:
    """The branch of a task, such as feat/login; NameRefusedError for one that git would not take."""
    return checked_branch(KINDS[kind].branch + checked(name))


def checked_branch(branch: str) -> str:
    """A branch's name as it is, or NameRefusedError."""
    if len(checked(branch)) > 255:
        raise NameRefusedError("the branch's name is longer than 255 characters", "choose a shorter one")
    if PLAIN.fullmatch(branch):
        return branch
    try:
        git.run(Path("/"), "check-ref-format", f"refs/heads/{branch}")
    except GitError:
        raise NameRefusedError(f"git takes no branch called {branch}", "such as feat/login") from None
    return branch


def checked(name: str) -> str:
    """A name as it is, or NameRefusedError: it could be an option, lead elsewhere, or steer a terminal."""
    refused = None
    if not name:
        refused = "a name is not empty"
    elif name.startswith("-"):
        refused = f"a name does not begin with -, as {name} does"
    elif not name.isprintable():
        refused = f"{name!a} holds characters that are not printed"
    elif any(part == "" or part.startswith(".") for part in name.split("/")):
        refused = f"{name} is no name: no part of it may be empty or begin with a dot"
    if refused:
        raise NameRefusedError(refused, "letters, digits, - and / do, such as login or ui/login")
    return name
