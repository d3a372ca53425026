"""Topic patterns, all tried at once: what logic.topic_matches says of each, whatever the pattern is like."""

from __future__ import annotations

import re
from collections import Counter

KEPT = 1 << 26  # bits of steps that are kept


class Patterns:
    """Which of many patterns match a topic.

    A pattern is a row of places, one in front of each of its words and one behind the last, and a bit of one
    long number for each: it is set where the words read so far may have led. A word of the topic moves a bit
    on if it is the pattern's next or that is "*", and leaves it where "#" stands. So a topic costs a few
    operations on that number for each of its words: nothing is tried twice, and nothing is to be remembered.
    """

    def __init__(self) -> None:
        self.wanted: Counter[str] = Counter()
        self._clear()

    def _clear(self) -> None:
        self.places = 0
        self._first = self._last = 0
        self._any = self._stay = 0  # where "*" is next, and where "#" is
        self._literal: dict[str, list[int]] = {}  # where a word is next
        self._behind: dict[int, str] = {}  # the pattern of a last place
        self._placed: set[str] = set()
        self._steps: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self.wanted)

    def add(self, pattern: str) -> None:
        """One more wants this pattern."""
        self.wanted[pattern] += 1
        if pattern not in self._placed:
            self._place(pattern)

    def remove(self, pattern: str) -> None:
        """One fewer wants it. What nobody wants is cleared away when it is the larger part."""
        self.wanted[pattern] -= 1
        if not self.wanted[pattern]:
            del self.wanted[pattern]
        if len(self._placed) > 2 * len(self.wanted):
            self._clear()
            for each in self.wanted:
                self._place(each)

    def _place(self, pattern: str) -> None:
        place = steps = stay = 0
        for word in pattern.split("."):
            if word == "#":
                stay |= 1 << place
                continue
            if word == "*":
                steps |= 1 << place
            else:
                self._literal.setdefault(word, []).append(self.places + place)
            place += 1
        self._first |= 1 << self.places
        self._last |= 1 << self.places + place
        self._any |= steps << self.places
        self._stay |= stay << self.places
        self._behind[self.places + place] = pattern
        self._placed.add(pattern)
        self.places += place + 1
        self._steps.clear()

    def matching(self, topic: str) -> set[str]:
        """The patterns that match a topic."""
        words = topic.split(".")
        at = self._first if all(words) else 0
        for word in words:
            at = (at & self._step(word)) << 1 | at & self._stay
        places = re.finditer("1", f"{at & self._last:b}"[::-1])
        return {self._behind[each.start()] for each in places} & self.wanted.keys()

    def _step(self, word: str) -> int:
        """The places from which a word leads on."""
        if word not in self._literal:
            return self._any
        if word not in self._steps:
            if len(self._steps) * self.places > KEPT:
                self._steps.clear()
            bits = bytearray(self.places // 8 + 1)
            for place in self._literal[word]:
                bits[place >> 3] |= 1 << (place & 7)
            self._steps[word] = self._any | int.from_bytes(bits, "little")
        return self._steps[word]
