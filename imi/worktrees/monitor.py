"""The monitor of worktrees: who touches what, which of them come and go, and who holds them.

Three threads meet here: the one that watches (`noticed`), the batcher's, which reports (reporter.py), and one
that looks every second for worktrees that came or went, asks the server who holds what, and whether others
touch the same files.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from imi.cli.client import Api
from imi.cli.outcome import Failure
from imi.config import ConfigError
from imi.worktrees import report
from imi.worktrees.batching import Batcher
from imi.worktrees.git import GitError
from imi.worktrees.names import LayoutError
from imi.worktrees.overlaps import WINDOW, Overlap, Overlaps, Touch
from imi.worktrees.reporter import Reporter, ignored
from imi.worktrees.roster import Roster, Watched
from imi.worktrees.watching import Change, Watcher

LOOK, AGAIN, ASK, OVERLAPS, MINUTE = 1.0, 5.0, 15.0, 3.0, 60.0  # seconds
FIRST = 20  # worktrees whose state is read in one look, after the start
PAGE = 100
FILES = ("added", "modified", "deleted")


class Screen(Protocol):
    """Where it is seen. Called from several threads."""

    def warn(self, overlaps: list[Overlap]) -> None:
        """Two have touched the same files."""

    def say(self, sentence: str) -> None:
        """Something went wrong, or is well again."""


class Monitor:
    """Watches over what the watcher tells. `widen` answers more worktrees to watch, asked once a minute.
    `screen` is set before it begins."""

    screen: Screen

    def __init__(
        self,
        api: Api,
        roster: Roster,
        reports: Callable[[], bool],
        track: bool,
        widen: Callable[[], list[Path]] | None,
    ) -> None:
        self.api, self.roster, self.reports, self.widen = api, roster, reports, widen
        self.reporter = Reporter(api, roster, reports, track, self.say)
        self.holders, self.overlaps = self.reporter.holders, Overlaps()
        self.lock = threading.Lock()  # of the overlaps and of what was said
        self.unread: list[Path] = []  # worktrees whose state was not read since the start
        self.said: dict[str, float] = {}
        self.asked: dict[str, float] = {}
        self.ended = threading.Event()
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run, name="imi-look", daemon=True)

    def begin(self) -> list[Path]:
        """The worktrees that are there. GitError or LayoutError."""
        self._widen()
        return self.roster.look()[0]

    def start(self, watcher: Watcher, batcher: Batcher) -> None:
        """Look for worktrees, which the watcher shall watch too, and report how each stands."""
        self.watcher, self.batcher = watcher, batcher
        self.unread = list(self.roster.watched)
        for project in self.roster.projects:
            if project.remote is None:
                self.say(f"{project.root.name}: {report.NAMELESS}")
        self.thread.start()

    def stop(self) -> None:
        """Look no more; the batcher's end comes next."""
        self.reporter.stop()
        self.ended.set()
        self.thread.join(AGAIN)

    def close(self) -> None:
        """After the batcher's end. An error that ended the looking comes out here."""
        self.reporter.close()
        if self.failure:
            raise self.failure

    def agent(self, root: Path) -> str:
        """Who works in a worktree: the claim's holder, else whoever runs this."""
        watched = self.roster.watched.get(root)
        return (watched and self.holders.of(watched.project, watched.branch)) or self.api.actor

    def say(self, sentence: str) -> None:
        """Say it, once a minute at most."""
        now = time.monotonic()
        with self.lock:
            self.said = {each: at for each, at in self.said.items() if now - at < MINUTE}
            if sentence in self.said:
                return
            self.said[sentence] = now
        self.screen.say(sentence)

    def noticed(self, changes: Iterable[Change]) -> None:
        """Compare these changes with the others of the last minute, and warn at once."""
        touched: dict[Path, list[Change]] = {}
        for change in changes:
            if change.kind == "gone":
                self.roster.lost(change.worktree)
            elif change.kind in FILES:
                touched.setdefault(change.worktree, []).append(change)
        for root, its in touched.items():
            if watched := self.roster.watched.get(root):
                self._compare(watched, its)

    def _compare(self, watched: Watched, changes: list[Change]) -> None:
        """Compare one worktree's changes of files with what others have touched."""
        root, repository = watched.root, watched.project.repository
        agent = self.agent(root)
        found: list[Overlap] = []
        with self.lock:
            for change in changes:
                touch = Touch(str(root), root.name, agent, change.moment)
                found += self.overlaps.touch(repository, change.path, touch)
        nobodys = ignored(root, [each.path for each in found])
        with self.lock:
            for each in found:
                if each.path in nobodys:
                    self.overlaps.withdraw(each)
        named = [
            replace(each, first=self._named(each.first), last=self._named(each.last))
            for each in found
            if each.path not in nobodys
        ]
        if named:
            self.screen.warn(named)

    def _named(self, touch: Touch) -> Touch:
        """By whom it was, if a claim is newer than what was known: asked for once a second at most."""
        root = Path(touch.place)
        watched = self.roster.watched.get(root)
        if touch.agent != self.api.actor or not watched or not watched.branch:
            return touch
        is_away = self.reporter.away or self.holders.failure
        if not is_away and self._is_due(f"holder of {root}", LOOK):
            with suppress(Failure):
                self.holders.now(watched.project, watched.branch)
        return replace(touch, agent=self.agent(root))

    def _run(self) -> None:
        try:
            while not self.ended.is_set():
                try:
                    self._look()
                except Failure as failure:
                    self.say(failure.message)
                except (GitError, LayoutError, ConfigError, OSError) as error:
                    self.say(str(error))
                self.ended.wait(LOOK)
        except BaseException as error:
            self.failure = error
            self.watcher.stop()

    def _is_due(self, what: str, every: float) -> bool:
        now = time.monotonic()
        if now - self.asked.get(what, -every) < every:
            return False
        self.asked[what] = now
        return True

    def _look(self) -> None:
        self._widen()
        new, gone = self.roster.look()
        for root in gone:
            self.watcher.remove(root)
        for root in new:
            self.watcher.add(root)
        now, self.unread = self.unread[:FIRST], self.unread[FIRST:]
        self._read(now)
        if self._is_due("holders", AGAIN if self.holders.failure else ASK):
            before = self.holders.failure
            self.holders.ask(self.roster.projects)
            if self.holders.failure and not before:
                self.say(f"{self.holders.failure}; who holds what is not known")
        reporter = self.reporter
        if reporter.away and not self.holders.failure and self._is_due("delivery", AGAIN):
            reporter.deliver()
        if reporter.untold and not reporter.away:
            again, reporter.untold = reporter.untold, set()
            self._read(again)
        if reporter.delivered and self._is_due("overlaps", OVERLAPS):
            self._ask_for_overlaps()

    def _read(self, roots: Iterable[Path]) -> None:
        """Let the state of these worktrees be read and told."""
        self.batcher.put([Change(root, "", "git", datetime.now(UTC)) for root in roots])

    def _widen(self) -> None:
        if self.widen is None or not self._is_due("widen", MINUTE):
            return
        try:
            refused = self.roster.widen(self.widen())
        except Failure as failure:
            refused = [f"{failure.message}; the worktrees of other projects are not known"]
        for sentence in refused:
            self.say(sentence)

    def _ask_for_overlaps(self) -> None:
        wanted, self.reporter.delivered = self.reporter.delivered, set()
        watched = list(self.roster.watched.values())
        for repository in wanted & self.holders.ids.keys():
            branches = {each.branch: each.root for each in watched if each.project.repository == repository}
            here = {str(root) for root in branches.values()}
            query = {"project_id": self.holders.ids[repository], "limit": PAGE}
            page = self.api.get("/conflicts", window_seconds=int(WINDOW.total_seconds()), **query)
            found: list[Overlap] = []
            for each in page["items"]:
                touches = [self.holders.touch(repository, branches, touch) for touch in each["touches"]]
                with self.lock:
                    found += self.overlaps.among(repository, each["path"], touches)
            if left := [each for each in found if {each.first.place, each.last.place} & here]:
                self.screen.warn(left)
