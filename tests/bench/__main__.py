"""make bench: how fast iMi is, beside what it stands on and what it stands in for.

Contenders take turns in short rounds on the same rows of the same PostgreSQL, so that whatever else the machine
does meets all of them; only ratios within a run mean anything. The load generator has its share of the same cores.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
from collections import defaultdict
from datetime import date

from tests.bench import report
from tests.bench.contenders import KEY, database, folder, imi, stories, tidy
from tests.bench.load import BenchError, Sample, pgbench, wrk
from tests.bench.operations import CLIENTS, OPERATIONS, P95, Data, Operation
from tests.bench.startup import starts

CONNECTIONS = 32


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=3, help="of one round of one contender")
    parser.add_argument(
        "--only", default="", metavar="NAME,…", help=", ".join(each.name for each in OPERATIONS)
    )
    parser.add_argument("--skip-starts", action="store_true")
    return parser.parse_args()


def main() -> int:
    """Measure and print."""
    said = arguments()
    chosen = [each for each in OPERATIONS if not said.only or each.name in said.only.split(",")]
    data = Data()
    print(f"{date.today()}, {os.cpu_count()} cores, {platform.system()} {platform.release()}, "
          f"Python {platform.python_version()}; {data.projects:,} projects, {10 * data.projects:,} work items\n")  # fmt: skip
    try:
        with folder() as home, database(home, data) as url, imi(home) as own, stories(url) as other:
            samples = rounds(said, chosen, data, {"imi": own, "stories": other, "function": url})
            print(
                f"{CONNECTIONS} connections, {said.rounds} rounds of {said.seconds} s; median (least–most) of the rounds\n"
            )
            print(report.throughput(samples), report.goals(samples), sep="\n\n", end="\n\n", flush=True)
            crowd: dict[str, list[Sample]] = defaultdict(list)
            for _ in range(said.rounds):
                tidy(url)
                for name in ("empty", *P95):
                    crowd[name].append(wrk(own, name, data, KEY, CLIENTS, said.seconds))
            print(report.latencies(crowd), end="\n\n", flush=True)
        if not said.skip_starts:
            print(report.startup(starts(3)))
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def rounds(
    said: argparse.Namespace, chosen: list[Operation], data: Data, urls: dict[str, str]
) -> report.Samples:
    """One short round to warm up, then those that count. Writes come last in each."""
    samples: report.Samples = {name: defaultdict(list) for name in urls}
    for number in range(said.rounds + 1):
        tidy(urls["function"])
        seconds = said.seconds if number else 1
        turn: list[tuple[str, str, Sample]] = [
            ("imi", "empty", wrk(urls["imi"], "empty", data, KEY, CONNECTIONS, seconds))
        ]
        for operation in chosen:
            turn.append(
                ("imi", operation.name, wrk(urls["imi"], operation.name, data, KEY, CONNECTIONS, seconds))
            )
            if operation.stories:
                turn.append(
                    (
                        "stories",
                        operation.name,
                        wrk(urls["stories"], operation.name, data, KEY, CONNECTIONS, seconds),
                    )
                )
            turn.append(
                ("function", operation.name, pgbench(urls["function"], operation, data, CONNECTIONS, seconds))
            )
        for contender, name, sample in turn if number else ():
            samples[contender][name].append(sample)
        print(f"round {number} of {said.rounds}", file=sys.stderr)
    return samples


if __name__ == "__main__":
    sys.exit(main())
