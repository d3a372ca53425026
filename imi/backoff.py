"""How long to wait before the next try."""

import random


def backoff(failed: int, first: float, longest: float) -> float:
    """Seconds to wait after so many failures in a row, 1 or more: twice as long each time, with jitter."""
    return min(longest, first * 2.0 ** min(failed - 1, 30)) * random.uniform(0.5, 1)
