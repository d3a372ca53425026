"""Which folder and which of git's worktrees belong together, read from the files in which each names the
other: the folder's `.git`, and `gitdir` below the repository's `worktrees`.

A folder that was moved by hand still names its worktree, while git looks for it where it was; when the
repository itself was moved, the folders name a place that is gone.
"""

from __future__ import annotations

import os
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from imi.worktrees.gitdirs import INITIALIZING
from imi.worktrees.layout import TRASH, Project


@dataclass(slots=True)
class Broken:
    """What is to be repaired: folders that moved (from, to), and those that are where they were but no longer
    name their worktree. `left` are folders that can be no worktree of this repository, with the reason. git
    repairs all or none: `foreign` is a folder that it would take from another worktree or clone."""

    moved: dict[Path, Path] = field(default_factory=dict)
    unlinked: list[Path] = field(default_factory=list)
    left: dict[Path, str] = field(default_factory=dict)
    foreign: Path | None = None


def is_trash(project: Project, folder: Path) -> bool:
    """Whether the folder lies in the project's trash."""
    return folder.is_relative_to(project.root / TRASH)


def target(folder: Path) -> Path | None:
    """Where a worktree's `.git` file says that git keeps what is its own; None without such a file."""
    return path_in(folder / ".git", "gitdir: ")


def broken(project: Project, here: Path) -> Broken:
    """What is broken among the worktrees. Folders are looked for in the root, beside every folder that is
    gone, and around `here`."""
    home = project.repository / "worktrees"
    kept = {own.name: gitdir.parent for own in _inside(home) if (gitdir := path_in(own / "gitdir"))}
    kept = {
        name: folder
        for name, folder in kept.items()
        if not is_trash(project, folder) and not _is_begun(home / name)
    }
    gone = {folder.parent for folder in kept.values() if not os.path.lexists(folder)}
    near = {each for parent in (project.root, *gone) for each in _inside(parent)}
    claims: dict[str, list[Path]] = defaultdict(list)
    foreign: dict[Path, Path] = {}
    for folder in sorted({*near, *kept.values(), here, *here.parents}):
        named = target(folder)
        if named is None:
            continue
        if named.name in kept and (_is_same(named.parent, home) or not os.path.lexists(named)):
            claims[named.name].append(folder)
        elif os.path.lexists(named):
            foreign[folder] = named
    found = Broken()
    for name, folder in kept.items():
        _judge(found, home / name, folder, claims[name], foreign.get(folder))
    for name, folder in kept.items():
        if folder not in claims[name] and folder not in found.moved and target(folder):
            found.foreign = folder
    return found


def _judge(found: Broken, own: Path, folder: Path, claims: list[Path], foreign: Path | None) -> None:
    """Sort one of git's worktrees, kept in `own`, by the folders that say they are it."""
    if folder in claims:
        if not _is_same(target(folder), own):
            found.unlinked.append(folder)
        for copy in claims:
            if copy != folder:
                found.left[copy] = f"it is a copy of {folder}, and git knows that one"
    elif len(claims) == 1 and (_is_same(target(claims[0]), own) or not os.path.lexists(folder)):
        found.moved[folder] = claims[0]
    elif claims:
        names = ", ".join(map(str, claims))
        found.left[folder] = f"it may be any of {names}: keep one, or say which: git worktree repair FOLDER"
    elif foreign:
        found.left[folder] = f"it belongs to another clone: {foreign}"
    elif folder.is_dir() and not os.path.lexists(folder / ".git"):
        if _inside(folder):
            found.unlinked.append(folder)
        else:
            found.left[folder] = "the folder is empty: an unmounted disk? If its work is gone, remove it"


def path_in(file: Path, before: str = "") -> Path | None:
    """The path that one of git's files holds, which may count from the file's folder."""
    try:
        text = os.fsdecode(file.read_bytes())
    except OSError:
        return None
    if not text.startswith(before):
        return None
    path = text.removeprefix(before).removesuffix("\n")
    return Path(os.path.normpath(file.parent / path)) if path else None


def _is_begun(own: Path) -> bool:
    """Whether git has not finished making the worktree."""
    try:
        return (own / "locked").read_bytes().strip() == INITIALIZING.encode()
    except OSError:
        return False


def _inside(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_same(one: Path | None, other: Path) -> bool:
    try:
        return one is not None and (one == other or one.samefile(other))
    except OSError:
        return False
