"""imi reconcile over a thousand worktrees, the interpreter's start and the server's part included.

Each round is a repository of its own: first all are new to the server, then nothing is to be done, then one was
added, one removed and one moved by hand.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Protocol

import uvloop

from imi import __file__ as package
from tests.bench.report import table
from tests.bench.rows import Figure
from tests.live import Live, running

WORKTREES, FILES, SECONDS = 1_000, 10, 5.0


class Stage(Protocol):
    """What this row needs of the stage."""

    @property
    def rounds(self) -> int: ...


def git(folder: Path, *arguments: str) -> None:
    settings = ("-c", "user.name=ada", "-c", "user.email=ada@example.org")
    subprocess.run(["git", *settings, *arguments], cwd=folder, check=True, capture_output=True)


def made(base: Path, worktrees: int) -> Path:
    """A project's folder: its trunk, and so many worktrees that nobody has reported."""
    trunk = base.resolve() / "shop/trunk-main"
    trunk.mkdir(parents=True)
    git(trunk, "init", "-q", "-b", "main")
    for number in range(FILES):
        (trunk / f"module{number}.py").write_text("pass\n")
    git(trunk, "add", ".")
    git(trunk, "commit", "-q", "-m", "start")
    git(base, "clone", "-q", "--bare", str(trunk), str(base / "origin.git"))
    git(trunk, "remote", "add", "origin", str(base / "origin.git"))
    for number in range(worktrees):
        git(trunk, "worktree", "add", "-q", "-b", f"feat/{number}", f"../feat-{number}")
    return trunk.parent


def timed(live: Live, root: Path, expected: int) -> float:
    """The seconds of one command, which must say what it was expected to do, in so many lines."""
    environment = os.environ | {
        "PYTHONPATH": str(Path(package).parents[1]),
        "IMI_DATA_DIR": str(live.data_dir),
        "IMI_API_URL": live.url,
        "XDG_STATE_HOME": str(root.parent / "state"),
        "XDG_CONFIG_HOME": str(root.parent / "config"),
    }
    began = time.perf_counter()
    ran = subprocess.run(
        [sys.executable, "-m", "imi", "reconcile"],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    took = time.perf_counter() - began
    lines = [] if ran.stdout == "nothing to do\n" else ran.stdout.splitlines()[1:]
    assert (len(lines), ran.stderr) == (expected, ""), ran
    return took


async def reconciled(stage: Stage) -> list[Figure]:
    """Seconds of the command in each of the three cases."""
    first, idle, changed = [], [], []
    with running() as live:
        for _ in range(stage.rounds):
            with tempfile.TemporaryDirectory() as folder:
                root = made(Path(folder), WORKTREES)
                first.append(timed(live, root, WORKTREES))
                idle.append(timed(live, root, 0))
                git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/added", "../fix-added")
                shutil.rmtree(root / "feat-0")
                (root / "feat-1").rename(root / "elsewhere")
                changed.append(timed(live, root, 3))
    what = f"imi reconcile of {WORKTREES} worktrees"
    return [
        Figure(f"{what}, nothing to do, s", "<", SECONDS, idle),
        Figure(f"{what}, one added, one gone, one moved, s", "<", SECONDS, changed),
        Figure(f"{what}, all new to the server, s", "<", SECONDS, first),
    ]


class Rounds:
    """A stage of nothing but rounds."""

    def __init__(self, rounds: int) -> None:
        self.rounds = rounds


if __name__ == "__main__":
    figures = uvloop.run(reconciled(Rounds(int((*sys.argv[1:], "3")[0]))))
    print(table(["", "goal", "least", "median", "most", ""], [each.row() for each in figures]))
