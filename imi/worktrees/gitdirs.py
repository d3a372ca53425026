"""Where git keeps a worktree's HEAD, index and references: read from its files, without running git."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

OWN = frozenset({"HEAD", "index"})
INITIALIZING = "initializing"
"""The reason in a worktree's `locked` until git has completed it."""


@dataclass(frozen=True, slots=True)
class GitDir:
    """A worktree's own git folder, and the one that all worktrees of its repository share."""

    root: str
    own: str
    common: str

    def head(self) -> str | None:
        """The reference that is checked out, whole; None when it is a commit, or not to be read."""
        return pointed(Path(self.own, "HEAD"))

    def folders(self) -> list[str]:
        """What to watch to notice commits and branch switches."""
        refs = [at for at, _, _ in os.walk(os.path.join(self.common, "refs"))]  # noqa: PTH118
        return [*dict.fromkeys((self.own, self.common)), *refs]


def pointed(file: Path) -> str | None:
    """The whole reference that a symbolic one points to; None when it is a commit, or not to be read."""
    try:
        text = os.fsdecode(file.read_bytes()).strip()
    except OSError:
        return None
    return text.removeprefix("ref: ") if text.startswith("ref: ") else None


def find(root: str) -> GitDir | None:
    """The git folders of a worktree, wherever they lie; None when it has none."""
    dot = Path(root, ".git")
    try:
        own = dot
        if not dot.is_dir():
            said = os.fsdecode(dot.read_bytes()).removesuffix("\n")
            if not said.startswith("gitdir: "):
                return None
            own = Path(root, said.removeprefix("gitdir: "))
        shared = own / "commondir"
        common = own / os.fsdecode(shared.read_bytes()).removesuffix("\n") if shared.exists() else own
        return GitDir(root, os.path.realpath(own), os.path.realpath(common))
    except OSError:
        return None


def touched(path: str, dirs: Iterable[GitDir]) -> list[tuple[str, str]]:
    """The worktrees whose state a change of this file may alter, each with what changed (HEAD, index,
    a reference). A local branch concerns who has it checked out; a remote's, and packed ones, everybody."""
    folder, name = os.path.split(path)
    if name.endswith(".lock"):
        return []
    found = []
    for each in dirs:
        reference = path[len(each.common) + 1 :]
        if (
            (folder == each.own and name in OWN)
            or (folder == each.common and name == "packed-refs")
            or (path.startswith(f"{each.common}/refs/heads/") and each.head() == reference)
        ):
            found.append((each.root, name if folder in (each.own, each.common) else reference))
        elif path.startswith(f"{each.common}/refs/remotes/"):
            found.append((each.root, reference))
    return found
