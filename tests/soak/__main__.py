"""make soak: every fault at full size, or those that are named; a table as Markdown."""

from __future__ import annotations

import argparse
import time

from tests.rabbitmq import broker
from tests.soak.scenarios import SCENARIOS
from tests.soak.world import play


def main() -> None:
    """Run them one after another; a count that is not right ends it."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("scenarios", nargs="*", metavar="SCENARIO", help=", ".join(SCENARIOS))
    parser.add_argument("--small", action="store_true", help="the size that make test runs")
    arguments = parser.parse_args()
    if unknown := set(arguments.scenarios) - set(SCENARIOS):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    print("| scenario | published | stored | handled once | dead letters | sent again | unacked | seconds |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    with broker() as node:
        for name in arguments.scenarios or SCENARIOS:
            scenario, small, full = SCENARIOS[name]
            began = time.monotonic()
            row = play(node, scenario, small if arguments.small else full)
            counts = (row.published, row.stored, row.handled, row.dead, row.repeats, row.unacked)
            seconds = round(time.monotonic() - began)
            print(
                f"| {row.scenario} | {' | '.join(f'{each:,}' for each in (*counts, seconds))} |", flush=True
            )


if __name__ == "__main__":
    main()
