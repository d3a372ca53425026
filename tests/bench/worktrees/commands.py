"""imi list, go and shell-init: a project of a thousand worktrees, each known to the server."""

from __future__ import annotations

from statistics import median

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage

WORKTREES, TIMES = 1_000, 5


async def commanded(stage: Stage) -> list[Figure]:
    """Milliseconds, the median of each round; the commands take turns, and a first round does not count."""
    root = stage.tasks("listed", WORKTREES)
    goals = {
        ("list",): 1000,
        ("go", "feat-777"): 120,
        ("shell-init", "bash"): 120,
        ("version",): None,
    }
    found: dict[tuple[str, ...], list[float]] = {words: [] for words in goals}
    for turn in range(stage.rounds + 1):
        took: dict[tuple[str, ...], list[float]] = {words: [] for words in goals}
        for _ in range(TIMES):
            for words, values in took.items():
                values.append(1000 * stage.imi(root, *words))
        for words, values in took.items():
            found[words] += [median(values)] if turn else []
    return [
        Figure(f"`imi {' '.join(words)}`, {WORKTREES:,} worktrees, ms", "<", goal, found[words], ".0f")
        for words, goal in goals.items()
        if goal
    ] + [Figure("`imi version` beside them, ms", "<", 250, found[("version",)], ".0f")]
