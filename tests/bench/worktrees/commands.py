"""imi list and go: a project of a thousand worktrees, each known to the server."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import median

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage

WORKTREES, TIMES = 1_000, 5
GOALS = {("list",): 1000, ("go", "feat-777"): 120}


async def commanded(stage: Stage) -> list[Figure]:
    """In a project of a thousand worktrees."""
    root = stage.tasks("thousand", WORKTREES)
    return taking_turns(stage, root, f", {WORKTREES:,} worktrees", GOALS)


def taking_turns(
    stage: Stage, place: Path, where: str, goals: Mapping[tuple[str, ...], float]
) -> list[Figure]:
    """Milliseconds from the start to the end, the median of each round; the commands take turns, and a first
    round does not count."""
    found: dict[tuple[str, ...], list[float]] = {words: [] for words in goals}
    for turn in range(stage.rounds + 1):
        took: dict[tuple[str, ...], list[float]] = {words: [] for words in goals}
        for _ in range(TIMES):
            for words, values in took.items():
                values.append(1000 * stage.imi(place, *words))
        for words, values in took.items():
            found[words] += [median(values)] if turn else []
    return [
        Figure(f"`imi {' '.join(words)}`{where}, ms", "<", goal, found[words], ".0f")
        for words, goal in goals.items()
    ]
