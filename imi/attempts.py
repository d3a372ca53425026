"""What somebody may do only so often."""

from __future__ import annotations

import math
import time
from typing import Any

MOST, WINDOW = 20, 60.0  # attempts, in this many seconds
MOST_KEPT = 10_000


class Attempts:
    """The times of each address's attempts in the last minute."""

    def __init__(self) -> None:
        self._at: dict[str, list[float]] = {}

    def wait(self, address: str) -> int:
        """The seconds until this address may try again; 0: now."""
        now = time.monotonic()
        recent = self._recent(address, now)
        return math.ceil(recent[0] + WINDOW - now) if len(recent) >= MOST else 0

    def add(self, address: str) -> None:
        """Count one."""
        now = time.monotonic()
        keep(self._at, address, [*self._recent(address, now), now])

    def _recent(self, address: str, now: float) -> list[float]:
        return [at for at in self._at.get(address, ()) if at > now - WINDOW]


def keep(kept: dict[str, Any], name: str, value: Any) -> None:
    """Keep the value as the newest, and no more than so many."""
    kept.pop(name, None)
    kept[name] = value
    if len(kept) > MOST_KEPT:
        del kept[next(iter(kept))]
