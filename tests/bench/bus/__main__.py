"""make bench-bus: how fast the bus is, beside its own client without a database, and COPY.

Both sides of a ratio take turns in one run, on the same PostgreSQL and the same RabbitMQ, so that whatever else the
machine does meets both; a rate or a latency alone says as much about the machine.
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
from tests.bench.bus import rates, rebuild, running, wake
from tests.bench.bus.stage import Figure, Stage, staged
from tests.bench.load import BenchError

ROWS: dict[str, Callable[[Stage], Coroutine[Any, Any, list[Figure]]]] = {
    "intake": rates.taken_in,
    "ingest": rates.ingested,
    "relay": rates.relayed,
    "subscriptions": rates.followed,
    "publish": running.published,
    "mutation": running.mutated,
    "memory": running.remembered,
    "wake": wake.woken,
    "rebuild": rebuild.rebuilt,
}


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench.bus", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(ROWS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--full", action="store_true", help="a million messages where the memory is looked at"
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
