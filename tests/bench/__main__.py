"""make bench: how fast iMi is, beside what it stands on and what it stands in for.

Contenders take turns in short rounds on the same rows of the same PostgreSQL, so that whatever else the machine
does meets all of them; only ratios within a run mean anything. The load generator has its share of the same cores.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import sys
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

from tests.bench import report
from tests.bench.contenders import KEY, api_login, database, folder, imi, stories, tidy
from tests.bench.load import BenchError, Sample, pgbench, wrk
from tests.bench.operations import CLIENTS, OPERATIONS, P95, Data, Operation
from tests.bench.startup import starts

CONNECTIONS = 32


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one round of one contender")
    parser.add_argument("--only", metavar="NAME,…", help=", ".join(each.name for each in OPERATIONS))
    parser.add_argument("--skip-starts", action="store_true")
    return parser.parse_args()


@dataclass(frozen=True, slots=True)
class Bench:
    """The contenders by their URLs, `database` the owner's; and how long and how often."""

    database: str
    imi: str
    stories: str
    data: Data
    rounds: int
    seconds: int

    def measure(self, contender: str, name: str, connections: int, seconds: int) -> Sample:
        """One round of one HTTP contender."""
        return wrk(getattr(self, contender), name, self.data, KEY, connections, seconds)

    def together(self, operations: Sequence[Operation]) -> report.Samples:
        """All contenders in turn, after a round that does not count. Writes come last in each round."""
        api = asyncio.run(api_login(self.database))
        samples: report.Samples = {name: defaultdict(list) for name in ("imi", "stories", "function")}
        for number in range(self.rounds + 1):
            asyncio.run(tidy(self.database))
            how = CONNECTIONS, self.seconds
            found = [("imi", "empty", self.measure("imi", "empty", *how))]
            for each in operations:
                found.append(("imi", each.name, self.measure("imi", each.name, *how)))
                if each.stories:
                    found.append(("stories", each.name, self.measure("stories", each.name, *how)))
                found.append(("function", each.name, pgbench(api, each, self.data, *how)))
            for contender, name, sample in found if number else ():
                samples[contender][name].append(sample)
            print(f"round {number} of {self.rounds}", file=sys.stderr)
        return samples

    def crowded(self) -> dict[str, list[Sample]]:
        """iMi alone, with all clients at it."""
        samples: dict[str, list[Sample]] = defaultdict(list)
        for _ in range(self.rounds):
            asyncio.run(tidy(self.database))
            for name in ("empty", *P95):
                samples[name].append(self.measure("imi", name, CLIENTS, self.seconds))
        return samples


def main() -> int:
    """Measure and print."""
    said = arguments()
    chosen = [each for each in OPERATIONS if said.only is None or each.name in said.only.split(",")]
    data = Data()
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}"
    )
    print(
        f"{data.projects:,} projects, {10 * data.projects:,} work items, {50 * data.busy:,} of them in flight"
    )
    print(
        f"{said.rounds} rounds of {said.seconds} s, {CONNECTIONS} connections; median (least–most) of the rounds\n"
    )
    try:
        with folder() as home, database(home, data) as url, imi(home) as own, stories(url) as other:
            bench = Bench(url, own, other, data, said.rounds, said.seconds)
            samples = bench.together(chosen)
            print(report.throughput(samples), report.goals(samples), sep="\n\n", end="\n\n", flush=True)
            print(report.latencies(bench.crowded()), end="\n\n", flush=True)
        if not said.skip_starts:
            print(report.startup(starts(3)))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
