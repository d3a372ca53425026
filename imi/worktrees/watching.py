"""Watching many worktrees for changes, in one thread, with one inotify instance.

Each folder is watched by itself, never recursively, so what is excluded costs nothing. watchfiles cannot add
a folder to a running instance: when folders appear, a new instance takes over from the old one, which is read
to its end; what lies in a new folder by then counts as added. Whatever else the thread must hear of rings a
bell, a file that is watched like the others, because watchfiles forgets changes when it is interrupted.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from watchfiles._rust_notify import RustNotify, WatchfilesRustInternalError

from imi.worktrees.polling import Poller
from imi.worktrees.tree import Change, Kind, Raw, Tree, is_utf8

__all__ = ["Change", "Kind", "Watcher"]

STEP, DEBOUNCE, BELL = 5, 20, 300  # milliseconds
TICK = 0.1  # seconds; a file's times may lag behind the clock
REST = 10  # building instances may take one part in so many of the time
TRIES = 20  # to build one while folders go away
LIMIT = "file watch limit"
FULL = (
    "out of inotify watches: {} folders cannot be watched and are looked at every few seconds instead; "
    "raise the sysctl fs.inotify.max_user_watches"
)


class Watcher:
    """The worktrees, watched from here on until `stop`. Their paths are absolute, links in them resolved.
    `warn` is called with a sentence when something cannot be watched. `add`, `remove` and `stop` may be
    called from any thread. OSError when there is no inotify instance to be had."""

    def __init__(
        self, worktrees: Iterable[Path], exclude: Sequence[str], warn: Callable[[str], None]
    ) -> None:
        self.tree, self.warn = Tree(exclude), warn
        self.limit: int | None = None  # how many folders can be watched
        self.told = self.ended = False
        self.heard, self.built, self.cost = time.time(), 0.0, 0.0
        self.alarm: threading.Timer | None = None
        self.orders: deque[tuple[Callable[[str], None], str]] = deque()
        self.polled: deque[Raw] = deque()
        self.bells = TemporaryDirectory(prefix="imi-watch-")
        self.bell = os.path.realpath(self.bells.name)
        self.poller = Poller(self._take_polled)
        for root in worktrees:
            self.tree.adopt(os.fspath(root))
        self.instance = self._build()
        self.tree.arrived.clear()

    def add(self, root: Path) -> None:
        """Watch this worktree too."""
        self.orders.append((self._adopt, os.fspath(root)))
        self._ring()

    def remove(self, root: Path) -> None:
        """Watch this worktree no more."""
        self.orders.append((self.tree.drop, os.fspath(root)))
        self._ring()

    def stop(self) -> None:
        """Let `changes` come to its end."""
        self.ended = True
        self._ring()

    def changes(self) -> Iterator[list[Change]]:
        """What happens, in lists that are not empty, each at once. Of a worktree that was added, its state is
        told (`git`) when it is watched. Ctrl-C is a KeyboardInterrupt."""
        try:
            while not self.ended:
                try:
                    raw = self.instance.watch(DEBOUNCE, STEP, 0, None)
                    if raw == "signal":  # watchfiles keeps the exception to itself
                        raise KeyboardInterrupt
                    found = self.tree.judge(raw) if isinstance(raw, set) else []
                except (
                    WatchfilesRustInternalError
                ):  # a name that is not UTF-8: the instance is of no more use
                    found = self._start_again()
                self.heard = time.time()
                if not Path(self.bell).exists():  # somebody tidied up
                    Path(self.bell).mkdir(parents=True)
                    self.tree.stale, self.built = True, 0.0  # at once: nothing else would wake this thread
                found += self._catch_up()
                if found:
                    yield list(dict.fromkeys(found))
        finally:
            self.poller.close()
            if self.alarm:
                self.alarm.cancel()
            self.instance.close()
            self.bells.cleanup()

    def _catch_up(self) -> list[Change]:
        """What was polled or ordered, and a new instance when one is due: as it may swallow the bell, the
        others are looked at again after it."""
        found: list[Change] = []
        while True:
            while self.polled:
                found += self.tree.judge(self.polled.popleft())
            while self.orders:
                order, root = self.orders.popleft()
                order(root)
            if not (self.tree.stale and self._may_build()):
                return found
            found += self._renew()

    def _adopt(self, root: str) -> None:
        if root not in self.tree.roots:
            self.tree.adopt(root)

    def _ring(self) -> None:
        try:
            Path(self.bell, "bell").write_bytes(b"!")
        except OSError:  # it ended meanwhile
            return

    def _take_polled(self, raw: Raw) -> None:
        self.polled.append(raw)
        self._ring()

    def _may_build(self) -> bool:
        wait = self.built + REST * self.cost - time.monotonic()
        if wait > 0 and not (self.alarm and self.alarm.is_alive()):
            self.alarm = threading.Timer(wait, self._ring)
            self.alarm.daemon = True
            self.alarm.start()
        return wait <= 0

    def _renew(self) -> list[Change]:
        old, self.instance = self.instance, self._build()
        try:
            left = old.watch(1, 1, 1, None)
        except WatchfilesRustInternalError:
            return self._start_again()
        finally:
            old.close()
        found = self.tree.judge(left) if isinstance(left, set) else []
        return found + self.tree.read_again()

    def _start_again(self) -> list[Change]:
        """After a name that watchfiles cannot tell: poll the folders with such names, and let the state of
        every worktree be read, because the instance has dropped what it had not told."""
        for root in list(self.tree.roots):
            self.tree.walk(root, root)
        old, self.instance = self.instance, self._build(since=self.heard - TICK)
        old.close()
        moment = datetime.now(UTC)
        return [Change(Path(root), "", "git", moment) for root in self.tree.roots]

    def _build(self, since: float | None = None) -> RustNotify:
        """An instance for all folders that can be watched; the others are polled. What changed in these after
        `since` (epoch seconds) is told."""
        began, tree, tries = time.monotonic(), self.tree, TRIES
        while True:
            seen = dict.fromkeys((*tree.git, *tree.folders))
            folders = [each for each in seen if each not in tree.odd and is_utf8(each)]
            watched = folders[: self.limit]
            try:
                # without any watch even the bell has to be polled
                instance = RustNotify([self.bell, *watched], False, self.limit == 0, BELL, False, False)
                break
            except WatchfilesRustInternalError as error:
                raise OSError(f"{error}; see the sysctl fs.inotify.max_user_instances") from None
            except OSError as error:
                if LIMIT in str(error) and watched:
                    self.limit = len(watched) * 3 // 4
                elif isinstance(error, FileNotFoundError | PermissionError) and tries:
                    tries -= 1
                    tree.prune()  # since it was listed, something changed
                else:
                    raise
        tree.stale = False
        if len(watched) < len(folders) and not self.told:
            self.told = True
            self.warn(FULL.format(len(folders) - len(watched)))
        self.poller.watch(seen.keys() - set(watched), since)
        self.built = time.monotonic()
        self.cost = self.built - began
        return instance
