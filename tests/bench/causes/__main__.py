"""make bench-log: how fast a long log is asked. Whatever else the machine does is in the figures; ratios are of one run."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections.abc import Callable, Coroutine
from datetime import date
from typing import Any

import uvloop

from tests.bench import report
from tests.bench.bus.stage import Figure
from tests.bench.causes import causation
from tests.bench.causes.stage import Stage, staged
from tests.bench.load import BenchError

ROWS: dict[str, Callable[[Stage], Coroutine[Any, Any, list[Figure]]]] = {
    "causation": causation.descended,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.causes", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=5)
    said = parser.parse_args()
    if unknown := set(said.names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return said


def main() -> int:
    """Measure and print."""
    said = arguments()
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.platform()}, {said.events:,} events\n")
    figures: list[Figure] = []
    try:
        with staged(said.events, said.rounds) as stage:
            for name in said.names or ROWS:
                figures += uvloop.run(ROWS[name](stage))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [[*each.row(), report.verdict(each.met)] for each in figures]
    print(report.table(["", "goal", "least", "median", "most", ""], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
