"""imi list, go, shell-init and --help: a project of a thousand worktrees, each known to the server.

Every command is a new process, timed from its start to its end. Alone: python -m tests.bench.worktrees.commands
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Protocol

import httpx
import uvloop

from tests.bench.contenders import ROOT, folder
from tests.bench.report import table
from tests.bench.rows import Figure
from tests.live import running

WORKTREES, TIMES = 1_000, 5


class Stage(Protocol):
    """What these rows need of the stage."""

    @property
    def rounds(self) -> int: ...

    @property
    def home(self) -> Path: ...

    @property
    def environment(self) -> dict[str, str]: ...

    def git(self, place: Path, *arguments: str) -> float: ...

    def imi(self, place: Path, *arguments: str) -> float: ...


def project(stage: Stage) -> Path:
    """The root of a project of a thousand worktrees; the server has a work item and facts of each."""
    origin, seed = stage.home / "thousand.git", stage.home / "thousand-seed"
    seed.mkdir()
    stage.git(stage.home, "init", "-q", "--bare", "-b", "main", str(origin))
    stage.git(seed, "init", "-q", "-b", "main")
    (seed / "README").write_text("a thousand\n")
    stage.git(seed, "add", ".")
    stage.git(seed, "commit", "-q", "-m", "Begin")
    stage.git(seed, "push", "-q", str(origin), "main")
    stage.imi(stage.home, "init", str(origin))
    root = stage.home / origin.stem
    key = (Path(stage.environment["IMI_DATA_DIR"]) / "admin.key").read_text().strip()
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=f"{stage.environment['IMI_API_URL']}/api/v1", headers=headers) as api:

        def send(method: str, path: str, /, **body: object) -> str:
            answer = api.request(method, path, json=body)
            answer.raise_for_status()
            return str(answer.json()["id"])

        project_id = send("POST", "/projects", remote_origin=str(origin))
        for number in range(WORKTREES):
            branch, path = f"feat/task-{number}", root / f"feat-task-{number}"
            stage.git(root / "trunk-main", "worktree", "add", "-q", "-b", branch, str(path))
            place = {"project_id": project_id, "branch_name": branch, "host": socket.gethostname()}
            item = send("POST", "/work", owner_id="ada", worktree_path=str(path), **place)
            seen = datetime.now(UTC).isoformat()
            send(
                "PATCH",
                f"/work/{item}/git-state",
                ahead_of_trunk=number % 7,
                behind_trunk=0,
                observed_at=seen,
            )
            send("POST", "/worktrees", work_item_id=item, name=path.name, path=str(path), **place)
    return root


async def commanded(stage: Stage) -> list[Figure]:
    """Milliseconds, the median of each round; the commands take turns, and a first round does not count."""
    root = project(stage)
    goals = {
        ("list",): 1000,
        ("go", "task-777"): 120,
        ("shell-init", "bash"): 120,
        ("--help",): 250,
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


@dataclass(frozen=True)
class Alone:
    """A stage for these rows only."""

    home: Path
    environment: dict[str, str]
    rounds: int = 5

    def git(self, place: Path, *arguments: str) -> float:
        return self._timed(place, "git", *arguments)

    def imi(self, place: Path, *arguments: str) -> float:
        return self._timed(place, sys.executable, "-m", "imi", *arguments)

    def _timed(self, place: Path, *command: str) -> float:
        began = time.perf_counter()
        subprocess.run(command, cwd=place, env=self.environment, check=True, capture_output=True)
        return time.perf_counter() - began


@contextmanager
def staged() -> Iterator[Alone]:
    with folder() as home, running() as live:
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("IMI_", "GIT_"))
        }
        committer = {f"GIT_{role}_NAME": "ada" for role in ("AUTHOR", "COMMITTER")}
        committer |= {f"GIT_{role}_EMAIL": "ada@example.org" for role in ("AUTHOR", "COMMITTER")}
        places = {"HOME": home, "XDG_STATE_HOME": home / "state", "XDG_CONFIG_HOME": home / "config"}
        found = {"IMI_DATA_DIR": str(live.data_dir), "IMI_API_URL": live.url, "PYTHONPATH": str(ROOT)}
        yield Alone(home, inherited | committer | {k: str(v) for k, v in places.items()} | found)


if __name__ == "__main__":
    with staged() as stage:
        figures = uvloop.run(commanded(stage))
    print(table(["", "goal", "least", "median", "most", ""], [each.row() for each in figures]))
