"""Several calls at once, each in a thread; a single one needs none, and no import of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Given = TypeVar("Given")
Answer = TypeVar("Answer")

Progress = Callable[[str, int, int], None]
"""Is told what is under way, how much is done, and of how much."""


def quietly(label: str, done: int, total: int) -> None:
    """Tells nobody."""


def run(call: Callable[[Given], Answer], items: Sequence[Given], at_once: int = 4) -> Generator[Answer]:
    """Calls with each item, so many at once; the answers, and what is raised, in the items' order."""
    if len(items) < 2:
        yield from map(call, items)
        return
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(at_once) as threads:
        yield from threads.map(call, items)
