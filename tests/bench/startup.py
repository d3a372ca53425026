"""How long it takes until iMi answers: the server on a new and on an existing data directory, and the help."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from tests.bench.contenders import IMI, folder, imi


def timed(work: Callable[[], object]) -> float:
    """The seconds that the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def up(home: Path) -> float:
    """The seconds from starting `imi up` to its first healthy answer."""
    began = time.perf_counter()
    with imi(home):
        return time.perf_counter() - began


def starts(times: int) -> dict[str, list[float]]:
    """Seconds of each start, under what it is."""
    found: dict[str, list[float]] = {"new": [], "existing": [], "help": [], "python": []}
    for _ in range(times):
        with folder() as home:
            found["new"].append(up(home))
            found["existing"].append(up(home))
        for name, command in (("help", [*IMI, "--help"]), ("python", [sys.executable, "-c", "pass"])):
            for _ in range(3):
                found[name].append(timed(lambda: subprocess.run(command, capture_output=True, check=True)))  # noqa: B023
    return found
