"""What a monitor tells the server: what was done in worktrees, and how they stand, several at a time.

Files that git ignores are not reported. While the server is away, activities are kept (spool.py) and of each
worktree only that its state is to be told: when the server answers again, it is read once more.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import Failure
from imi.config import ConfigError
from imi.worktrees import delivery, git, present, report, spool
from imi.worktrees.batching import WORKTREES, Activity
from imi.worktrees.facts import Facts
from imi.worktrees.git import GitError
from imi.worktrees.holders import Holders
from imi.worktrees.roster import Roster, Watched

HEARTBEAT = 60.0  # seconds in which a state that is the same is not told again
PATIENCE = 5.0  # seconds that the end waits for the server
LONGEST = 2048  # characters of a path that the server takes
STRANGER = "the server has no work in progress on its branch, so nothing is reported; imi reconcile adopts it"


@dataclass(frozen=True, slots=True)
class Telling:
    """A report of a worktree, and the facts that were read for it."""

    watched: Watched
    seen: Facts
    kind: str
    body: dict[str, Any]


class Reporter:
    """The batcher's reporter. `reports` says whether this process reports, or another one does; `track`
    whether activities are reported, or states alone; `say` is called with what went wrong, or is well again.
    """

    def __init__(
        self,
        api: Api,
        roster: Roster,
        reports: Callable[[], bool],
        track: bool,
        say: Callable[[str], None],
    ) -> None:
        self.api, self.roster, self.reports, self.track, self.say = api, roster, reports, track, say
        self.holders = Holders(api)
        self.told: dict[Path, tuple[Facts, float]] = {}
        self.untold: set[Path] = set()  # worktrees of whose state the server has not heard
        self.delivered: set[Path] = set()  # repositories of which it has heard something new
        self.strangers: set[Path] = set()  # worktrees that the server has no work of, which was said
        self.away = False
        self.asks = False  # whether the server is asked who holds what, for this report
        self.lock = threading.Lock()  # of deliveries, and of what is said of them
        self.end = float("inf")

    def report(self, batches: Mapping[Path, list[Activity]]) -> None:
        """Tell what was done in these worktrees and how they stand; of the trunk nothing."""
        if not self.reports():
            return
        self.asks = not self.away and self.end == float("inf")
        done, states = [], []
        for watched, seen in self._read(batches):
            if seen.branch:
                self.roster.switched(watched.root, seen.branch)
            branch = seen.branch or watched.branch  # during a rebase there is none
            if branch is None or branch == watched.project.trunk:
                continue
            batch = batches[watched.root] if self.track else []
            if batch and (activities := self._activities(watched, branch, batch)):
                body = report.activities_body(watched.project, branch, activities)
                done.append(Telling(watched, seen, "activities", body))
            if seen.branch and self.away and self.end == float("inf"):
                self.untold.add(watched.root)
            elif seen.branch and not self._is_known(seen):
                body = report.git_state_body(watched.project, seen)
                states.append(Telling(watched, seen, "git_state", body))
        if tellings := done + states:  # states that follow each other are sent side by side
            self._tell(tellings)

    def deliver(self) -> None:
        """Try again to deliver what waits."""
        with self.lock:
            self._heard(delivery.deliver(self.api)[1])

    def stop(self) -> None:
        """What is told from here on must be quick: later it is only kept."""
        self.end = time.monotonic() + PATIENCE

    def close(self) -> None:
        """After the last batch: keep what the server has not heard, and say so."""
        untold = [*self.untold]
        for start in range(0, len(untold), WORKTREES):
            self.report({root: [] for root in untold[start : start + WORKTREES]})
        if self.reports() and (kept := spool.count()):
            self.say(f"{kept} report{'s wait' if kept > 1 else ' waits'} for the server")

    def _read(self, roots: Iterable[Path]) -> Iterator[tuple[Watched, Facts]]:
        """How they stand, of those that can be read; what is wrong with the others is said."""
        projects: dict[Path, list[Watched]] = {}
        for watched in filter(None, map(self.roster.watched.get, roots)):
            if watched.project.remote:
                projects.setdefault(watched.project.repository, []).append(watched)
        for group in projects.values():
            try:
                found = present.read_all(group[0].project, [each.root for each in group])
            except ConfigError as error:
                self.say(str(error))
                continue
            for watched in group:
                try:
                    yield watched, found.get(watched.root) or present.read(watched.project, watched.root)
                except (GitError, ConfigError) as error:
                    if watched.root.is_dir():
                        self.say(f"{watched.root.name}: {error}")

    def _activities(self, watched: Watched, branch: str, batch: list[Activity]) -> list[dict[str, Any]]:
        left_out = ignored(watched.root, [each.path for each in batch if each.path])
        agent = self._holder(watched, branch) or self.api.actor
        return [_activity(each, agent) for each in batch if each.path not in left_out]

    def _holder(self, watched: Watched, branch: str) -> str | None:
        if self.asks:
            try:
                return self.holders.now(watched.project, branch)
            except Failure:  # the next one would wait as long for it
                self.asks = False
        return self.holders.of(watched.project, branch)

    def _is_known(self, seen: Facts) -> bool:
        """Whether the server has just had the same."""
        before, at = self.told.get(seen.worktree, (seen, -HEARTBEAT))
        return time.monotonic() - at < HEARTBEAT and before == replace(seen, observed_at=before.observed_at)

    def _tell(self, tellings: list[Telling]) -> None:
        if time.monotonic() > self.end:
            for each in tellings:
                spool.put([spool.made(self.api.actor, each.kind, each.body)])
            return
        with self.lock:
            answers, notes = delivery.tell_all(self.api, [(each.kind, each.body) for each in tellings])
            self._heard(notes)
        for each, answer in zip(tellings, answers, strict=False):
            root = each.watched.root
            if answer and each.kind == "git_state":
                self.told[root] = each.seen, time.monotonic()
                self.untold.discard(root)
            elif answer:
                self.delivered.add(each.watched.project.repository)
            elif answer == {} and root not in self.strangers:
                self.strangers.add(root)
                self.say(f"{root.name}: {STRANGER}")

    def _heard(self, notes: list[str]) -> None:
        """Say what came of a delivery: once that the server is away, and once that it is there again."""
        away = bool(spool.waiting())
        if away and not self.away:
            self.say(notes[-1] if notes else "the server has not had all reports yet")
        elif self.away and not away:
            self.say("the server answers again and has all reports")
        for sentence in [] if away else notes:
            self.say(sentence.partition("; kept as")[0])
        self.away = away


def _activity(done: Activity, agent: str) -> dict[str, Any]:
    """An activity as the API takes it. A path that is too long for it is cut, and stands in the details."""
    activity = {
        "id": str(uuid.uuid4()),
        "activity_type": "file_change",
        "agent_id": agent,
        "occurred_at": done.moment.isoformat(),
    }
    if done.path is None:
        return activity | {"details": {"left_out": done.changes}}
    path = report.text(done.path)
    details = {"change": done.kind, "changes": done.changes}
    if len(path) > LONGEST:
        return activity | {"details": details | {"end_of_path": path[-LONGEST:]}}
    return activity | {"path": path, "details": details}


def ignored(root: Path, paths: list[str]) -> set[str]:
    """Those of a worktree's paths that git ignores; none, when it cannot tell."""
    if not paths:
        return set()
    try:
        fed = "".join(f"{path}\0" for path in paths)
        said = git.run(root, "check-ignore", "-z", "--stdin", accept=(0, 1), fed=fed)
    except GitError:
        return set()
    return set(said.split("\0")) - {""}
