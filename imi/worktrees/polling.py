"""Folders that cannot be watched are looked at every few seconds instead."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable

INTERVAL = 2.0  # seconds
SHARE = 0.05  # of one processor at most
ADDED, MODIFIED, DELETED = 1, 2, 3  # as in watchfiles

Snapshot = dict[str, tuple[int, int, int]]


class Poller:
    """Compares the folders with how they were, in a thread of its own that lives while there are any.

    `found` is called with the changes: (kind, path), as watchfiles tells them."""

    def __init__(self, found: Callable[[set[tuple[int, str]]], None]) -> None:
        self.found = found
        self.known: dict[str, Snapshot] = {}
        self.lock = threading.Lock()
        self.ended = threading.Event()
        self.thread: threading.Thread | None = None

    def watch(self, folders: Iterable[str], since: float | None = None) -> None:
        """Look at these folders from now on, and at no others. What changed after `since` (epoch seconds) in
        a folder that is new here counts as changed."""
        wanted = set(folders)
        with self.lock:
            self.known = {folder: seen for folder, seen in self.known.items() if folder in wanted}
            fresh = wanted - self.known.keys()
            self.known |= {folder: snapshot(folder) for folder in fresh}
            if since is not None:
                late = {
                    (MODIFIED, f"{folder}/{name}")
                    for folder in fresh
                    for name, signature in self.known[folder].items()
                    if signature[0] >= since * 1e9
                }
                if late:
                    self.found(late)
            if self.known and self.thread is None:
                self.thread = threading.Thread(target=self._run, name="imi-poll", daemon=True)
                self.thread.start()

    def close(self) -> None:
        """Look no more."""
        self.ended.set()
        if self.thread:
            self.thread.join()

    def _run(self) -> None:
        pause = INTERVAL
        while not self.ended.wait(pause):
            began = time.monotonic()
            changes = set()
            with self.lock:
                for folder, before in self.known.items():
                    after = self.known[folder] = snapshot(folder)
                    changes |= {(ADDED, f"{folder}/{name}") for name in after.keys() - before.keys()}
                    changes |= {(DELETED, f"{folder}/{name}") for name in before.keys() - after.keys()}
                    changes |= {
                        (MODIFIED, f"{folder}/{name}")
                        for name in after.keys() & before.keys()
                        if after[name] != before[name]
                    }
            if changes:
                self.found(changes)
            pause = max(INTERVAL, (time.monotonic() - began) / SHARE)


def snapshot(folder: str) -> Snapshot:
    """Of each entry: when its inode last changed (ns), its size, its inode. Empty when it is not there."""
    seen: Snapshot = {}
    try:
        with os.scandir(folder) as entries:
            for entry in entries:
                try:
                    at = entry.stat(follow_symlinks=False)
                except OSError:  # gone meanwhile
                    continue
                is_folder = entry.is_dir(follow_symlinks=False)
                times = (0, 0) if is_folder else (at.st_ctime_ns, at.st_size)
                seen[entry.name] = (*times, at.st_ino)
    except OSError:
        return seen
    return seen
