"""What bench-bus and bench-log have in common: a PostgreSQL of their own, figures that are judged, and the command line."""

from __future__ import annotations

import argparse
import contextlib
import operator
import os
import platform
import sys
import time
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import date
from statistics import median
from typing import Any, TypeVar

import uvloop

from imi.database import deploy, embedded
from tests.bench.contenders import folder
from tests.bench.load import BenchError
from tests.bench.report import table, verdict
from tests.conftest import TEMPLATE
from tests.postgres import Server, wait_for

SIGNS: dict[str, Callable[[float, float], bool]] = {"≥": operator.ge, "≤": operator.le, "<": operator.lt}
Stage = TypeVar("Stage")


@dataclass(frozen=True, slots=True)
class Figure:
    """One line of the table: a value for each round, and the goal that their median should meet."""

    what: str
    sign: str
    goal: float
    values: Sequence[float]
    form: str = ".2f"

    @property
    def met(self) -> bool:
        return SIGNS[self.sign](median(self.values), self.goal)

    def row(self) -> list[str]:
        shown = [f"{chosen(self.values):{self.form}}" for chosen in (min, median, max)]
        return [self.what, f"{self.sign} {self.goal:,g}", *shown, verdict(self.met)]


def ratios(turns: Sequence[tuple[float, float]]) -> list[float]:
    return [ours / theirs for ours, theirs in turns]


@contextlib.contextmanager
def server() -> Iterator[Server]:
    """A PostgreSQL with a migrated template, and nothing of it afterwards."""
    with folder() as home:
        cluster, users = embedded.join(home)
        try:
            made = Server(Server(embedded.url(cluster)).url_of("postgres"))
            made.run(f"create database {TEMPLATE}")
            wait_for(deploy.migrate(made.url_of(TEMPLATE)))
            yield made
        finally:
            embedded.leave(cluster, users)


def main(
    program: str,
    about: str | None,
    full: str,
    rows: dict[str, Callable[[Stage], Coroutine[Any, Any, list[Figure]]]],
    staged: Callable[[int, bool], AbstractContextManager[Stage]],
) -> int:
    """Measure the rows that the command line names, all on one stage, and print them."""
    parser = argparse.ArgumentParser(prog=f"python -m {program}", description=about)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(rows))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help=full)
    said = parser.parse_args()
    if unknown := set(said.names) - set(rows):
        parser.error(f"no such row: {', '.join(sorted(unknown))}")
    print(
        f"{date.today()}, {os.cpu_count()} cores, {platform.platform()}, Python {platform.python_version()}\n"
    )
    figures: list[Figure] = []
    try:
        with staged(said.rounds, said.full) as stage:
            for name in said.names or rows:
                began = time.monotonic()
                figures += uvloop.run(rows[name](stage))
                print(f"{name}: {time.monotonic() - began:.0f} s", file=sys.stderr)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 1
    print(table(["", "goal", "least", "median", "most", ""], [each.row() for each in figures]))
    return 0
