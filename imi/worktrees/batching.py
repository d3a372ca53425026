"""From single changes to reports: many changes of a file are one activity, and a worktree's git state is told
when it has been quiet for a moment, or has been busy for long."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal, Protocol

from imi.worktrees.watching import Change

QUIET, LATEST = 0.5, 5.0  # seconds
PATHS = 200  # of one worktree in one report
WORKTREES = 20  # in one report

Kind = Literal["added", "modified", "deleted", "left out"]


@dataclass(frozen=True, slots=True)
class Activity:
    """What happened to a file since the last report: its last kind, when that was noticed, how many changes
    it stands for. Of kind `left out`: how many changes of other files are not told one by one (no path)."""

    worktree: Path
    path: str | None
    kind: Kind
    moment: datetime
    changes: int


class Reporter(Protocol):
    """Whoever tells the server. It is called from one thread, one call at a time, and may take its time:
    what happens meanwhile is gathered."""

    def report(self, batches: Mapping[Path, list[Activity]]) -> None:
        """What happened in each of these worktrees, oldest first. Any of them may stand differently, also one
        with nothing to tell: read its state and tell it."""


@dataclass(slots=True)
class Pending:
    """What one worktree's next report will say. Moments in seconds of the monotonic clock."""

    first: float
    last: float
    files: dict[str, Activity] = field(default_factory=dict)
    left_out: Activity | None = None

    def due(self) -> float:
        """When it is to be told."""
        return min(self.last + QUIET, self.first + LATEST)

    def take(self, change: Change) -> None:
        """Count a change of a file."""
        if change.kind == "git" or change.kind == "gone":
            return
        known = self.files.pop(change.path, None)
        if known is None and len(self.files) >= PATHS:
            count = self.left_out.changes if self.left_out else 0
            self.left_out = Activity(change.worktree, None, "left out", change.moment, count + 1)
            return
        count = known.changes if known else 0
        self.files[change.path] = Activity(
            change.worktree, change.path, change.kind, change.moment, count + 1
        )

    def batch(self) -> list[Activity]:
        """The files in the order of their last change, then what was left out."""
        return [*self.files.values(), *([self.left_out] if self.left_out else [])]


class Batcher:
    """Gathers changes and reports them from a thread of its own, which sleeps while nothing happens. Used as
    a context: its end reports what is left. An error of the reporter ends it and comes out of the next
    call."""

    def __init__(self, reporter: Reporter) -> None:
        self.reporter = reporter
        self.pending: dict[Path, Pending] = {}
        self.changed = threading.Condition()
        self.ended = False
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="imi-report", daemon=True)

    def __enter__(self) -> Batcher:
        self.thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        with self.changed:
            self.ended = True
            self.changed.notify()
        self.thread.join()
        self._fail()

    def put(self, changes: Iterable[Change]) -> None:
        """Take these changes in; never waits for the reporter."""
        self._fail()
        now = time.monotonic()
        with self.changed:
            idle = not self.pending
            for change in changes:
                if change.kind == "gone":
                    self.pending.pop(change.worktree, None)
                    continue
                pending = self.pending.setdefault(change.worktree, Pending(now, now))
                pending.last = now
                pending.take(change)
            if idle and self.pending:
                self.changed.notify()

    def _fail(self) -> None:
        if self.failure:
            failure, self.failure = self.failure, None
            raise failure

    def _run(self) -> None:
        try:
            while batches := self._next():
                self.reporter.report(batches)
        except BaseException as error:
            self.failure = error

    def _next(self) -> dict[Path, list[Activity]]:
        """What is to be reported, once it is time, the longest due first; nothing at the end."""
        with self.changed:
            while True:
                due = sorted((pending.due(), worktree) for worktree, pending in self.pending.items())
                now = float("inf") if self.ended else time.monotonic()
                if ready := [worktree for moment, worktree in due[:WORKTREES] if moment <= now]:
                    return {worktree: self.pending.pop(worktree).batch() for worktree in ready}
                if self.ended:
                    return {}
                self.changed.wait(due[0][0] - now if due else None)
