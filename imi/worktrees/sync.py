"""Sync: the files that all worktrees of a project share, as links to one copy below its root.

What is written lies inside the worktree: an entry is a path of plain parts, and each folder on its way is
opened as a real folder, never through a link. Where a link leads is the project's sync folder, which its
owner fills: git writes only into worktrees, so nobody's commit reaches it. What the owner links to from there
is followed, wherever it is.

Nothing is lost: what is in the way is renamed before the link is made, so a kill in between leaves it under
its new name, and the next sync makes the link. A tracked file with the content of its commit needs no second
name. The links are relative: the project's folder may move. `git status` shows them unless the repository
ignores them; info/exclude belongs to all worktrees, where real files of these names would vanish with them.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from imi.worktrees import acts, git, settings
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project

DRAFT = ".imi-link"


class RefusedError(Exception):
    """An entry that cannot be linked: why, to follow its name."""


@dataclass(slots=True)
class Synced:
    """What sync did in a worktree: the entries it linked, the second names of what was in the way, and the
    entries it refused, each with why."""

    worktree: Path
    linked: list[str] = field(default_factory=list)
    backups: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    tracked: list[str] = field(default_factory=list)

    @property
    def notes(self) -> list[str]:
        """Sentences for people about all but the plain links."""
        name = self.worktree.name
        return [
            *(f"{name}: {file} was in the way and is now {kept}" for file, kept in self.backups.items()),
            *(
                f"{name}: git tracks {file}; its link is a change: leave it out of commits"
                for file in self.tracked
            ),
            *(f"{name}: {file} was not linked: {why}" for file, why in self.refused.items()),
        ]


def linked(project: Project, worktree: Path) -> frozenset[str]:
    """Which of the configured files are links of sync in this worktree; git's facts leave them out."""
    return links_of(project)(worktree)


def links_of(project: Project) -> Callable[[Path], frozenset[str]]:
    """A function that tells it of any worktree of a project: the settings are read once."""
    chosen, names = settings.load(), []
    homes = _homes(project, chosen)
    for entry in chosen.symlink_files:
        with suppress(RefusedError):
            names.append(_checked(entry))

    def find(worktree: Path) -> frozenset[str]:
        root = worktree.resolve()
        return frozenset(name for name in names if _is_ours(root / name, homes, name))

    return find


def sources(chosen: settings.SyncSettings) -> tuple[str, str]:
    """The folders of shared files below the root, the project's own before the user's."""
    return chosen.local_sync_path, chosen.user_sync_path


def link(project: Project, worktree: Path, spare: bool = False) -> Synced:
    """Link the configured files that the project has into a worktree, whose folder's lock is held; with
    `spare` what is in the way stays."""
    chosen = settings.load()
    homes = _homes(project, chosen)
    synced = Synced(worktree)
    for entry in chosen.symlink_files:
        try:
            name = _checked(entry)
            file = next((home / name for home in homes if (home / name).exists()), None)
            if file:
                _link(synced, name, file, homes, spare)
        except RefusedError as error:
            synced.refused[entry] = str(error)
        except OSError as error:
            synced.refused[entry] = str(error.strerror)
    return synced


def unnamed(project: Project) -> list[str]:
    """What lies beside the shared files and is not linked, below the root."""
    chosen = settings.load()
    named = {PurePosixPath(entry).parts[:1] for entry in chosen.symlink_files}
    there = (each for home in _homes(project, chosen) if home.is_dir() for each in sorted(home.iterdir()))
    return [os.path.relpath(each, project.root.resolve()) for each in there if (each.name,) not in named]


def _homes(project: Project, chosen: settings.Config) -> list[Path]:
    return [project.root.resolve() / path for path in sources(chosen.sync_settings)]


def _checked(entry: str) -> str:
    """An entry as git would name it. RefusedError if it could lead out of the worktree, or into git's own."""
    path = PurePosixPath(entry)
    if "\0" in entry or not path.parts:
        raise RefusedError("it is no path")
    if path.is_absolute() or ".." in path.parts:
        raise RefusedError("it leads out of the worktree")
    if any(part.lower() == ".git" for part in path.parts):
        raise RefusedError("it belongs to git")
    return str(path)


def _is_ours(path: Path, homes: list[Path], name: str) -> bool:
    """Whether it is a link that sync made, to one of the files it may lead to."""
    try:
        target = os.path.normpath(path.parent / path.readlink())
    except OSError:
        return False
    return any(target == os.path.normpath(home / name) for home in homes)


def _link(synced: Synced, name: str, file: Path, homes: list[Path], spare: bool) -> None:
    worktree = synced.worktree.resolve()
    path = worktree / name
    target = os.path.relpath(file, path.parent)
    with _folder(worktree, name) as folder:
        _forget_draft(folder, path, homes, name)
        try:
            there = os.lstat(path.name, dir_fd=folder)
        except FileNotFoundError:
            os.symlink(target, path.name, dir_fd=folder)
            synced.linked.append(name)
            return
        if os.path.samestat(there, file.stat()):
            return  # the shared file itself, in the worktree that shares it
        if _is_ours(path, homes, name):
            if os.path.normpath(path.parent / path.readlink()) != os.path.normpath(file):
                os.symlink(target, path.name + DRAFT, dir_fd=folder)
                os.rename(path.name + DRAFT, path.name, src_dir_fd=folder, dst_dir_fd=folder)
                synced.linked.append(name)
            return
        if spare:
            return
        backup = _free(folder, path.name)
        os.rename(path.name, backup, src_dir_fd=folder, dst_dir_fd=folder)
        kept = str(PurePosixPath(name).with_name(backup))
        synced.backups[name] = kept
        os.symlink(target, path.name, dir_fd=folder)
        synced.linked.append(name)
        if stat.S_ISREG(there.st_mode) and _is_committed(worktree, name, kept):
            os.unlink(backup, dir_fd=folder)
            del synced.backups[name]
            synced.tracked.append(name)


@contextmanager
def _folder(worktree: Path, name: str) -> Iterator[int]:
    """The folder that holds the entry, made where it is missing. RefusedError if a link is on the way."""
    way = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW
    held = os.open(worktree, way)
    try:
        for part in PurePosixPath(name).parts[:-1]:
            with suppress(FileExistsError):
                os.mkdir(part, dir_fd=held)
            try:
                inner = os.open(part, way, dir_fd=held)
            except OSError as error:
                if error.errno not in (errno.ENOTDIR, errno.ELOOP):
                    raise
                raise RefusedError(f"{part} on its way is a link, or no folder") from None
            os.close(held)
            held = inner
        yield held
    finally:
        os.close(held)


def _forget_draft(folder: int, path: Path, homes: list[Path], name: str) -> None:
    """Take away the link that a killed sync had not put in its place yet."""
    draft = path.with_name(path.name + DRAFT)
    if _is_ours(draft, homes, name):
        os.unlink(draft.name, dir_fd=folder)


def _free(folder: int, name: str) -> str:
    """The first of NAME.backup, NAME.backup.1, … that nothing has."""
    taken = set(os.listdir(folder))
    backup, number = f"{name}.backup", 0
    while backup in taken:
        number += 1
        backup = f"{name}.backup.{number}"
    return backup


def _is_committed(worktree: Path, name: str, kept: str) -> bool:
    """Whether the file kept under a second name has the content that the commit has under its own: read, as
    git's index may have been told not to look."""
    try:
        there = git.run(worktree, "rev-parse", "--verify", "--quiet", f"HEAD:{name}", accept=(0, 1)).strip()
        return (
            bool(there) and acts.run(worktree, "hash-object", f"--path={name}", "--", kept).strip() == there
        )
    except GitError:
        return False
