"""What the rows stand on: an `imi up`, a home of their own, and projects made by `imi init`."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from tests.bench.contenders import IMI, ROOT, folder
from tests.bench.load import BenchError
from tests.live import running

FOLDERS, LINES = 40, 60


@dataclass(frozen=True)
class Stage:
    """`home` is where everything lies, `environment` what the commands run in. `full` asks for larger
    repositories too."""

    home: Path
    environment: dict[str, str]
    rounds: int
    full: bool
    _made: dict[int, Path] = field(default_factory=dict)

    def project(self, files: int) -> Path:
        """The root of a project of so many files, made once: leave it with its trunk alone."""
        if files not in self._made:
            origin = self.home / f"files-{files}.git"
            seed = self.home / f"seed-{files}"
            for number in range(files):
                file = seed / f"package{number % FOLDERS}/part{number % 7}/module{number}.py"
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(f"value = {number}\n" * LINES)
            self.git(self.home, "init", "-q", "--bare", "-b", "main", str(origin))
            self.git(seed, "init", "-q", "-b", "main")
            self.git(seed, "add", ".")
            self.git(seed, "commit", "-q", "-m", "Begin")
            self.git(seed, "push", "-q", str(origin), "main")
            self.imi(self.home, "init", str(origin))
            self._made[files] = self.home / origin.stem
        return self._made[files]

    def forget(self, trunk: Path, worktree: Path, branch: str) -> None:
        """Take a worktree and its branch away."""
        self.git(trunk, "worktree", "remove", "--force", str(worktree))
        self.git(trunk, "branch", "-q", "-D", branch)

    def configure(self, text: str) -> None:
        """Write config.toml."""
        file = Path(self.environment["XDG_CONFIG_HOME"]) / "iMi/config.toml"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def imi(self, place: Path, *arguments: str) -> float:
        """The seconds of one of iMi's commands."""
        return self.timed(place, *IMI, *arguments)

    def git(self, place: Path, *arguments: str) -> float:
        """The seconds of one of git's commands."""
        return self.timed(place, "git", *arguments)

    def timed(self, place: Path, *command: str) -> float:
        """The seconds from a command's start to its end. BenchError if it fails, or says anything is amiss."""
        began = time.perf_counter()
        done = subprocess.run(
            command, cwd=place, env=self.environment, capture_output=True, check=False, text=True
        )
        took = time.perf_counter() - began
        if done.returncode or done.stderr:
            raise BenchError(f"{' '.join(command)}: {done.returncode} {done.stderr}")
        return took


@contextlib.contextmanager
def staged(rounds: int, full: bool) -> Iterator[Stage]:
    """The server and the home, and nothing of them afterwards."""
    with folder() as home, running() as live:
        environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("IMI_", "GIT_", "PYTHON"))
        }
        environment |= {f"GIT_{role}_NAME": "ada" for role in ("AUTHOR", "COMMITTER")}
        environment |= {f"GIT_{role}_EMAIL": "ada@example.org" for role in ("AUTHOR", "COMMITTER")}
        environment |= {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "XDG_STATE_HOME": str(home / "state"),
            "GIT_CONFIG_NOSYSTEM": "1",
            "IMI_DATA_DIR": str(live.data_dir),
            "IMI_API_URL": live.url,
            "IMI_AGENT": "ada",
            "PYTHONPATH": str(ROOT),  # this code, whichever is installed,
            "PYTHONPYCACHEPREFIX": str(home / "compiled"),  # and compiled once, as an installed one is
        }
        yield Stage(home, environment, rounds, full)
