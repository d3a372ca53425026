"""python -m tests.bench.log: how fast the event log is read, at a million events and with --full at ten million.

All sizes take turns in one run on the same PostgreSQL, so that whatever else the machine does meets them all.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Coroutine
from datetime import date
from typing import Any

import uvloop

from tests.bench import report
from tests.bench.bus.stage import Figure
from tests.bench.load import BenchError
from tests.bench.log import partitions, reading
from tests.bench.log.stage import Stage, staged

ROWS: dict[str, Callable[[Stage], Coroutine[Any, Any, list[Figure]]]] = {
    "read": reading.read,
    "partitions": partitions.compared,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.log", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--full", action="store_true", help="ten million events too: 9 GB, and minutes to make them"
    )
    said = parser.parse_args()
    if unknown := set(said.names) - set(ROWS):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    return said


def main() -> int:
    """Measure and print."""
    said = arguments()
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}\n"
    )
    figures: list[Figure] = []
    try:
        with staged(said.rounds, said.full) as stage:
            for name in said.names or ROWS:
                began = time.monotonic()
                figures += uvloop.run(ROWS[name](stage))
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    rows = [[*each.row(), report.verdict(each.met)] for each in figures]
    print(report.table(["", "goal", "least", "median", "most", ""], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
