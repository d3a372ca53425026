"""What is seen of the watched worktrees: their folders, and what a raw change in one of them means."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

from imi.worktrees import gitdirs
from imi.worktrees.exclusion import Exclusion
from imi.worktrees.polling import ADDED, DELETED, MODIFIED

Kind = Literal["added", "modified", "deleted", "git", "gone"]
Raw = set[tuple[int, str]]


@dataclass(frozen=True, slots=True)
class Change:
    """What happened in a worktree, and when it was noticed. `path` is below its root. Of kind `git`, it names
    what moved (HEAD, index, a reference, empty for "anything"); a worktree that is `gone` has none. A folder
    is told only when it is deleted; a file that was replaced by a rename counts as added."""

    worktree: Path
    path: str
    kind: Kind
    moment: datetime


class Tree:
    """The folders of the worktrees, without what is excluded; links are not followed. Paths are as the system
    has them, bytes that are not UTF-8 as lone surrogates."""

    def __init__(self, exclude: Sequence[str]) -> None:
        self.exclusion = Exclusion(exclude)
        self.roots: dict[str, gitdirs.GitDir | None] = {}
        self.folders: dict[str, str] = {}  # each folder, and the root that it is in
        self.git: dict[str, None] = {}  # the folders in which git keeps state
        self.odd: set[str] = set()  # folders with names in them that are not UTF-8
        self.stale = False  # what is watched is no longer what is here
        self.arrived: set[str] = set()  # worktrees of which only the state is told, once they are watched
        self.unread: set[str] = set()  # folders in which something may have happened before they were watched

    def adopt(self, root: str) -> None:
        """Take in a worktree."""
        self.roots[root] = found = gitdirs.find(root)
        if found:
            self.git |= dict.fromkeys(found.folders())
        self.walk(root, root)
        self.arrived.add(root)
        self.stale = True

    def drop(self, root: str) -> None:
        """Forget a worktree. Its folders may be watched for a while; nobody listens to them."""
        if root in self.roots:
            del self.roots[root]
            self.folders = {folder: owner for folder, owner in self.folders.items() if owner != root}
            self.git = {folder: None for each in self.roots.values() if each for folder in each.folders()}

    def prune(self) -> None:
        """Forget the folders that are not there any more, or not ours to read."""
        self.git = {each: None for each in self.git if _readable(each)}
        self.folders = {each: root for each, root in self.folders.items() if _readable(each)}

    def walk(self, folder: str, root: str) -> list[str]:
        """Take in a folder and those below it; the files in them."""
        files: list[str] = []
        left = [folder]
        while left:
            at = left.pop()
            if at != folder and at in self.roots:
                continue  # a worktree in a worktree
            try:
                with os.scandir(at) as entries:
                    listed = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError:  # gone meanwhile, or not ours to read
                continue
            self.stale |= at not in self.folders
            self.folders[at] = root
            if not all(is_utf8(path) for path, _ in listed):
                self.odd.add(at)
            for path, is_folder in listed:
                if not self.exclusion.covers(os.path.relpath(path, root), is_folder):
                    (left if is_folder else files).append(path)
        return files

    def judge(self, raw: Raw) -> list[Change]:
        """What raw changes mean. They come without order, several of one path among them."""
        moment = datetime.now(UTC)
        kinds: dict[str, set[int]] = {}
        for kind, path in raw:
            kinds.setdefault(path, set()).add(kind)
        found: list[Change] = []
        touched = set()
        for path in sorted(kinds, reverse=True):  # what is in a folder before the folder
            folder = path.rpartition("/")[0]
            if path in self.roots:
                touched.add(path)
            if folder in self.git:
                found += self._git_changes(path, moment)
            if root := self.folders.get(folder):
                found += self._file_changes(path, kinds[path], root, moment)
        touched |= {os.fspath(change.worktree) for change in found}
        gone = {root for root in touched & self.roots.keys() if not os.path.lexists(root)}
        for root in gone:
            self.drop(root)
        kept = [change for change in found if os.fspath(change.worktree) not in gone]
        return kept + [Change(Path(root), "", "gone", moment) for root in gone]

    def read_again(self) -> list[Change]:
        """The changes in folders that were not watched when they appeared."""
        folders, self.unread = self.unread, set()
        arrived, self.arrived = self.arrived & self.roots.keys(), set()
        moment = datetime.now(UTC)
        found = [Change(Path(root), "", "git", moment) for root in arrived]
        for folder in folders:
            if root := self.folders.get(folder):
                before = len(self.folders)
                found += self._added(folder, root, moment)
                if len(self.folders) > before:  # more appeared, again unwatched
                    self.unread.add(folder)
            elif folder in self.git and _readable(folder):
                for name in os.listdir(folder):  # noqa: PTH208
                    found += self._git_changes(f"{folder}/{name}", moment)
        return found

    def _git_changes(self, path: str, moment: datetime) -> list[Change]:
        dirs = [each for each in self.roots.values() if each]
        below_refs = any(path.startswith(f"{each.common}/refs/") for each in dirs)
        if below_refs and path not in self.git and _readable(path):
            self.git[path] = None
            self.unread.add(path)
            self.stale = True
        return [Change(Path(root), name, "git", moment) for root, name in gitdirs.touched(path, dirs)]

    def _file_changes(self, path: str, kinds: set[int], root: str, moment: datetime) -> list[Change]:
        below = os.path.relpath(path, root)
        is_folder = Path(path).is_dir() and not Path(path).is_symlink()
        if not os.path.lexists(path):
            if {ADDED, DELETED} <= kinds and path not in self.folders:
                return []  # it came and went
            if self.folders.pop(path, None):
                inside = [each for each in self.folders if each.startswith(f"{path}/")]
                for each in inside:
                    del self.folders[each]
                self.stale |= bool(inside)  # moved away: they are still watched, under their old paths
            return (
                [] if self.exclusion.covers(below, True) else [Change(Path(root), below, "deleted", moment)]
            )
        if self.exclusion.covers(below, is_folder) or path in self.roots:
            return []
        if is_folder:
            if kinds == {MODIFIED}:
                return []
            self.folders.pop(path, None)  # it may be another one than before
            self.unread.add(path)
            return self._added(path, root, moment)
        kind: Kind = "added" if ADDED in kinds and DELETED not in kinds else "modified"
        return [Change(Path(root), below, kind, moment)]

    def _added(self, folder: str, root: str, moment: datetime) -> list[Change]:
        files = self.walk(folder, root)
        return [Change(Path(root), os.path.relpath(file, root), "added", moment) for file in files]


def is_utf8(path: str) -> bool:
    """Whether watchfiles can tell this path."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True


def _readable(folder: str) -> bool:
    return Path(folder).is_dir() and os.access(folder, os.R_OK)
