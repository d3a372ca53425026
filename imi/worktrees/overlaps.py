"""Overlaps: two agents, or two worktrees, touched the same file of a project at nearly the same time.

What counts is what the server's `GET /conflicts` counts, over what this machine sees by itself at once and
what the server knows of others. A touch overlaps with the last one before it in another worktree, and by
another agent in its own: so of fifty in one file each is named, and not each with every other. Each is told
once a pair, file and window.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import chain, pairwise
from pathlib import Path

WINDOW = timedelta(seconds=60)
KEPT = 20_000  # files, and overlaps told, that are remembered: of a build with more, the last ones
NAMED = 3  # files of one pair that are named in one go


@dataclass(frozen=True, slots=True)
class Touch:
    """Who touched a file where. `place` is the worktree's root, or the work item's id when it is not watched
    here; `name` says it to people."""

    place: str
    name: str
    agent: str | None
    at: datetime


@dataclass(frozen=True, slots=True)
class Overlap:
    """A file of the project whose repository this is (its path below the worktrees' roots), and two touches,
    the later one last."""

    repository: Path
    path: str
    first: Touch
    last: Touch

    @property
    def pair(self) -> tuple[Path, frozenset[str], frozenset[str | None]]:
        """What it is the same overlap by: the two places, or one place and its two agents."""
        places = frozenset((self.first.place, self.last.place))
        agents = (
            frozenset((self.first.agent, self.last.agent)) if len(places) == 1 else frozenset[str | None]()
        )
        return self.repository, places, agents


class Overlaps:
    """The last touches of each file, and what has been told."""

    def __init__(self) -> None:
        # the last touches of a file, of two worktrees at most; the file touched last at the end
        self.touches: dict[tuple[Path, str], list[Touch]] = {}
        self.told: dict[object, datetime] = {}

    def touch(self, repository: Path, path: str, touch: Touch) -> list[Overlap]:
        """Take in a touch of this machine; its overlap with another worktree, if that has not been told. Of
        one worktree's agents the server knows better: a claim may be newer than what is known here."""
        key = repository, path
        other = [each for each in self.touches.pop(key, []) if each.place != touch.place][-1:]
        self.touches[key] = [*other, touch]
        if len(self.touches) > KEPT:
            del self.touches[next(iter(self.touches))]
        return self.untold(
            Overlap(repository, path, each, touch) for each in other if touch.at - each.at <= WINDOW
        )

    def withdraw(self, overlap: Overlap) -> None:
        """Its last touch is of a file that is nobody's, and does not come between others."""
        touches = self.touches.get((overlap.repository, overlap.path), [])
        touches[:] = [each for each in touches if each != overlap.last]

    def among(self, repository: Path, path: str, touches: Iterable[Touch]) -> list[Overlap]:
        """The overlaps among touches that the server knows, without those that have been told."""
        found = sorted(touches, key=lambda each: each.at)
        of_a_place = pairwise(sorted(found, key=lambda each: each.place))
        handed_on = (pair for pair in of_a_place if pair[0].place == pair[1].place)
        pairs = (Overlap(repository, path, *pair) for pair in chain(pairwise(found), handed_on))
        return self.untold(
            each
            for each in pairs
            if (each.first.place, each.first.agent) != (each.last.place, each.last.agent)
        )

    def untold(self, overlaps: Iterable[Overlap]) -> list[Overlap]:
        """Those of which nothing was said within the window; from now on something was."""
        fresh = []
        for each in overlaps:
            key = each.pair, each.path
            before = self.told.pop(key, None)
            is_known = before is not None and each.last.at - before <= WINDOW
            self.told[key] = before if before is not None and is_known else each.last.at
            if not is_known:
                fresh.append(each)
        while len(self.told) > KEPT:
            del self.told[next(iter(self.told))]
        return fresh


def sentences(overlaps: Iterable[Overlap]) -> list[str]:
    """The overlaps for people: the first files of each pair by name, the others as a number."""
    pairs: dict[object, list[Overlap]] = {}
    for each in overlaps:
        pairs.setdefault(each.pair, []).append(each)
    said = []
    for found in pairs.values():
        who = f"{_who(found[0].first)}, then by {_who(found[0].last)}"
        said += [f"{each.path} was touched by {who}" for each in found[:NAMED]]
        if len(found) > NAMED:
            rest = len(found) - NAMED
            said.append(f"{rest} more file{'s were' if rest > 1 else ' was'} touched by {who}")
    return said


def _who(touch: Touch) -> str:
    return f"{touch.agent or 'nobody named'} in {touch.name}"
