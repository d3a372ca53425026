"""python -m tests.bench.stream: how fast the log answers and streams."""

from __future__ import annotations

import argparse
import os
import platform
import sys
from datetime import date

import uvloop

from tests.bench import report
from tests.bench.stream import stream

ROWS = {"stream": stream.watched}


def main() -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.stream", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*ROWS, []], metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=3)
    said = parser.parse_args()
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}\n"
    )
    figures = [each for name in said.names or ROWS for each in uvloop.run(ROWS[name](said.rounds))]
    rows = [[*each.row(), report.verdict(each.met)] for each in figures]
    print(report.table(["", "goal", "least", "median", "most", ""], rows))
    return 0


if __name__ == "__main__":
    sys.exit(main())
