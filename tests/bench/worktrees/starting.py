"""Commands that do next to nothing: what the program itself costs."""

from __future__ import annotations

from statistics import median

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage

TIMES = 5
GOALS = {"--help": 250, "version": 250}


async def started(stage: Stage) -> list[Figure]:
    """Milliseconds from the shell to the end, the median of each round."""
    found: dict[str, list[float]] = {name: [] for name in GOALS}
    for turn in range(stage.rounds + 1):
        for name, values in found.items():
            took = [1000 * stage.imi(stage.home, name) for _ in range(TIMES)]
            if turn:
                values.append(median(took))
    return [Figure(f"`imi {name}`, ms", "<", GOALS[name], values, ".0f") for name, values in found.items()]
