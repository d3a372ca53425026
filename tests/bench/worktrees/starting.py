"""Commands that do next to nothing: what the program itself costs."""

from __future__ import annotations

from tests.bench.rows import Figure
from tests.bench.worktrees.commands import taking_turns
from tests.bench.worktrees.stage import Stage

GOALS = {("--help",): 250, ("go", "feat-7"): 120, ("shell-init", "bash"): 120, ("version",): 250}


async def started(stage: Stage) -> list[Figure]:
    """In a project of ten worktrees."""
    return taking_turns(stage, stage.tasks("ten", 10), "", GOALS)
