"""imi reconcile over a thousand worktrees, the interpreter's start and the server's part included.

Each round is a repository of its own: first all are new to the server, then nothing is to be done, then one was
added, one removed and one moved by hand.
"""

from __future__ import annotations

import shutil

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage

WORKTREES, SECONDS = 1_000, 5.0


async def reconciled(stage: Stage) -> list[Figure]:
    """Seconds of the command in each of the three cases."""
    first, idle, changed = [], [], []
    for turn in range(stage.rounds):
        root = stage.tasks(f"moved{turn}", WORKTREES, known=False)
        first.append(stage.imi(root, "reconcile"))
        idle.append(stage.imi(root, "reconcile"))
        stage.git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/added", "../fix-added")
        shutil.rmtree(root / "feat-0")
        (root / "feat-1").rename(root / "elsewhere")
        changed.append(stage.imi(root, "reconcile"))
    what = f"imi reconcile of {WORKTREES} worktrees"
    return [
        Figure(f"{what}, nothing to do, s", "<", SECONDS, idle),
        Figure(f"{what}, one added, one gone, one moved, s", "<", SECONDS, changed),
        Figure(f"{what}, all new to the server, s", "<", SECONDS, first),
    ]
