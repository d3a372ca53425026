"""Watching many worktrees for changes, in one thread, with one inotify instance.

Each folder is watched by itself, never recursively, so what is excluded costs nothing. watchfiles cannot add a
folder to a running instance: when folders appear, a new instance takes over from the old one, which is read
to its end; what lies in a new folder by then counts as added. Whatever else the thread must hear of rings a
bell, a file that is watched like the others, because watchfiles forgets changes when it is interrupted.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from imi.worktrees import gitdirs
from imi.worktrees.exclusion import Exclusion
from imi.worktrees.polling import ADDED, DELETED, MODIFIED, Poller

STEP, DEBOUNCE = 4, 20  # milliseconds
REST = 10  # building an instance may take one part in so many of the time
LIMIT = "file watch limit"
FULL = (
    "not all folders can be watched: out of inotify watches; {} are looked at every few seconds. "
    "Raise the sysctl fs.inotify.max_user_watches"
)

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


class Watcher:
    """The worktrees, watched from here on until `stop`. Their paths are absolute, links in them resolved.
    `warn` is called with a sentence when something cannot be watched. `add`, `remove` and `stop` may be called
    from any thread."""

    def __init__(self, worktrees: Iterable[Path], exclude: Sequence[str], warn: Callable[[str], None]) -> None:
        self.exclusion, self.warn = Exclusion(exclude), warn
        self.roots: dict[str, gitdirs.GitDir | None] = {}
        self.folders: dict[str, str] = {}  # each folder that is seen, and the root that it is in
        self.git: dict[str, None] = {}  # the folders in which git keeps state
        self.odd: set[str] = set()  # folders with names that are not UTF-8, which watchfiles cannot tell
        self.fresh: list[str] = []  # folders that are not watched yet
        self.limit: int | None = None  # how many folders can be watched
        self.told = self.ended = False
        self.heard = self.built = self.cost = 0.0
        self.orders: deque[tuple[str, str]] = deque()
        self.polled: deque[Raw] = deque()
        self.bells = TemporaryDirectory(prefix="imi-watch-")
        self.bell = os.path.realpath(self.bells.name)
        self.poller = Poller(self._polled)
        for root in worktrees:
            self._adopt(os.fspath(root))
        self.fresh.clear()
        self.instance = self._build()

    def add(self, root: Path) -> None:
        """Watch this worktree too."""
        self.orders.append(("add", os.fspath(root)))
        self._ring()

    def remove(self, root: Path) -> None:
        """Watch this worktree no more."""
        self.orders.append(("remove", os.fspath(root)))
        self._ring()

    def stop(self) -> None:
        """Let `changes` come to its end."""
        self.ended = True
        self._ring()

    def changes(self) -> Iterator[list[Change]]:
        """What happens, in lists that are not empty, each at once."""
        try:
            while not self.ended:
                try:
                    raw = self.instance.watch(DEBOUNCE, STEP, 0, None)
                except WatchfilesRustInternalError:  # a name that is not UTF-8: this instance is of no more use
                    found = self._start_again()
                else:
                    found = self._judge(raw if isinstance(raw, set) else set())
                self.heard = time.time()
                while self.polled:
                    found += self._judge(self.polled.popleft())
                while self.orders:
                    found += self._obey(*self.orders.popleft())
                if self.fresh and self._may_build():
                    found += self._renew()
                if found:
                    yield list(dict.fromkeys(found))
        finally:
            self.instance.close()
            self.poller.close()
            self.bells.cleanup()

    def _ring(self) -> None:
        try:
            Path(self.bell, "bell").write_bytes(b"!")
        except OSError:  # it ended meanwhile
            return

    def _polled(self, raw: Raw) -> None:
        self.polled.append(raw)
        self._ring()

    def _obey(self, order: str, root: str) -> list[Change]:
        if order == "add" and root not in self.roots:
            self._adopt(root)
        elif order == "remove":
            self._drop(root)
        return []

    def _adopt(self, root: str) -> None:
        self.roots[root] = found = gitdirs.find(root)
        if found:
            state = dict.fromkeys(found.folders())
            self.fresh += state.keys() - self.git.keys()
            self.git |= state
        self._walk(root, root)

    def _drop(self, root: str) -> None:
        """Forget a worktree. Its folders stay in the instance until the next one; nobody listens to them."""
        self.roots.pop(root, None)
        self.folders = {folder: owner for folder, owner in self.folders.items() if owner != root}
        self.git = {folder: None for each in self.roots.values() if each for folder in each.folders()}

    def _walk(self, folder: str, root: str) -> list[str]:
        """Take in a folder and those below it; the files in them."""
        files: list[str] = []
        left = [folder]
        while left:
            at = left.pop()
            if self.folders.get(at, root) != root or (at != root and at in self.roots):
                continue  # a worktree in a worktree
            if at not in self.folders:
                self.fresh.append(at)
            self.folders[at] = root
            try:
                with os.scandir(at) as entries:
                    listed = [(entry.path, entry.is_dir(follow_symlinks=False)) for entry in entries]
            except OSError:  # gone meanwhile, or not ours to read
                continue
            if not all(_is_utf8(path) for path, _ in listed):
                self.odd.add(at)
            for path, is_folder in listed:
                if not self.exclusion.covers(os.path.relpath(path, root), is_folder):
                    (left if is_folder else files).append(path)
        return files

    def _judge(self, raw: Raw) -> list[Change]:
        """What the raw changes mean. They come without order, several of one path among them."""
        moment = datetime.now(UTC)
        kinds: dict[str, set[int]] = {}
        for kind, path in raw:
            kinds.setdefault(path, set()).add(kind)
        found = []
        for path in sorted(kinds, reverse=True):  # what is in a folder before the folder
            folder = os.path.dirname(path)  # noqa: PTH120
            if folder in self.git:
                found += self._git_changes(path, moment)
            if path in self.roots and not os.path.lexists(path):
                self._drop(path)
                found.append(Change(Path(path), "", "gone", moment))
            elif root := self.folders.get(folder):
                found += self._file_changes(path, kinds[path], root, moment)
        return found

    def _git_changes(self, path: str, moment: datetime) -> list[Change]:
        if path.startswith(tuple(f"{each.common}/refs/" for each in self.roots.values() if each)) and (
            os.path.isdir(path) and path not in self.git  # noqa: PTH112
        ):
            self.git[path] = None
            self.fresh.append(path)
        about = gitdirs.touched(path, [each for each in self.roots.values() if each])
        return [Change(Path(root), name, "git", moment) for root, name in about]

    def _file_changes(self, path: str, kinds: set[int], root: str, moment: datetime) -> list[Change]:
        below = os.path.relpath(path, root)
        try:
            is_folder = os.path.isdir(path) and not os.path.islink(path)  # noqa: PTH112, PTH114
            there = is_folder or os.path.lexists(path)
        except ValueError:
            return []
        if not there:
            if ADDED in kinds and DELETED in kinds and path not in self.folders:
                return []  # it came and went
            moved = [each for each in self.folders if each.startswith(f"{path}/")]
            for each in (path, *moved):
                self.folders.pop(each, None)
            if moved:
                self.fresh.append(path)  # the instance still knows them by their old paths
            return [] if self.exclusion.covers(below, True) else [Change(Path(root), below, "deleted", moment)]
        if self.exclusion.covers(below, is_folder):
            return []
        if is_folder:
            if kinds == {MODIFIED}:
                return []
            self.folders.pop(path, None)  # perhaps another one than before
            return [self._added(file, root, moment) for file in self._walk(path, root)]
        kind: Kind = "added" if ADDED in kinds and DELETED not in kinds else "modified"
        return [Change(Path(root), below, kind, moment)]

    def _added(self, path: str, root: str, moment: datetime) -> Change:
        return Change(Path(root), os.path.relpath(path, root), "added", moment)

    def _may_build(self) -> bool:
        wait = self.built + REST * self.cost - time.monotonic()
        if wait > 0:
            alarm = threading.Timer(wait, self._ring)
            alarm.daemon = True
            alarm.start()
        return wait <= 0

    def _renew(self) -> list[Change]:
        """A new instance in place of the old one; what happened in the new folders before it was there."""
        fresh, self.fresh = self.fresh, []
        old, self.instance = self.instance, self._build()
        left = old.watch(1, 1, 1, None)
        old.close()
        found = self._judge(left) if isinstance(left, set) else []
        moment = datetime.now(UTC)
        for folder in fresh:
            if root := self.folders.get(folder):
                found += [self._added(file, root, moment) for file in self._walk(folder, root)]
            elif folder in self.git:
                names = os.listdir(folder) if os.path.isdir(folder) else []  # noqa: PTH112, PTH208
                found += [c for name in names for c in self._git_changes(f"{folder}/{name}", moment)]
        return found

    def _start_again(self) -> list[Change]:
        """After a name that watchfiles cannot tell: poll the folders with such names, and let every worktree's
        state be read, because the instance dropped what it had not told."""
        known, self.folders = self.folders, {}
        for root in self.roots:
            self._walk(root, root)
        self.fresh = [folder for folder in self.folders if folder not in known]
        old, self.instance = self.instance, self._build(since=self.heard or None)
        old.close()
        moment = datetime.now(UTC)
        return [Change(Path(root), "", "git", moment) for root in self.roots]

    def _build(self, since: float | None = None) -> RustNotify:
        began = time.monotonic()
        while True:
            folders = [f for f in (*self.git, *self.folders) if f not in self.odd and _is_utf8(f)]
            watched = folders[: self.limit]
            try:
                instance = RustNotify([self.bell, *watched], False, False, 0, False, True)
            except FileNotFoundError:  # gone since it was listed
                self.git = {f: None for f in self.git if os.path.isdir(f)}  # noqa: PTH112
                self.folders = {f: root for f, root in self.folders.items() if os.path.isdir(f)}  # noqa: PTH112
                continue
            except (WatchfilesRustInternalError, OSError) as error:
                if LIMIT not in str(error) or not watched:
                    raise
                self.limit = len(watched) * 3 // 4
                continue
            break
        rest = {*self.git, *self.folders}.difference(watched)
        if len(watched) < len(folders) and not self.told:
            self.told = True
            self.warn(FULL.format(len(folders) - len(watched)))
        self.poller.watch(rest, since)
        self.built = time.monotonic()
        self.cost = self.built - began
        return instance


def _is_utf8(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
