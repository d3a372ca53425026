"""What the rows stand on: an `imi up`, a home of their own, and projects made by `imi init`."""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx

from tests.bench.contenders import IMI, ROOT, folder
from tests.bench.load import BenchError
from tests.live import running

FOLDERS, LINES = 40, 60
TRUNK = 100  # commits


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
            texts = {
                f"package{number % FOLDERS}/part{number % 7}/module{number}.py": f"value = {number}\n" * LINES
                for number in range(files)
            }
            self._made[files] = self._begun(f"files-{files}", texts)
        return self._made[files]

    def _begun(self, name: str, texts: dict[str, str]) -> Path:
        """The root of a new project of these files."""
        origin, seed = self.home / f"{name}.git", self.home / f"{name}-seed"
        for place, text in texts.items():
            file = seed / place
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git(self.home, "init", "-q", "--bare", "-b", "main", str(origin))
        self.git(seed, "init", "-q", "-b", "main")
        self.git(seed, "add", ".")
        self.git(seed, "commit", "-q", "-m", "Begin")
        self.git(seed, "push", "-q", str(origin), "main")
        self.imi(self.home, "init", str(origin))
        return self.home / name

    def tasks(self, name: str, count: int, known: bool = True) -> Path:
        """The root of a project of that name, of 50 files, and so many worktrees: feat-N on feat/N, each with a
        commit of its own on one of the trunk's last hundred. The server knows the facts of each, unless it is to
        know of none."""
        root = self._begun(name, {f"package{each % 10}/module{each}.py": "pass\n" for each in range(50)})
        for number in range(TRUNK):
            self.git(root / "trunk-main", "commit", "-q", "--allow-empty", "-m", f"Go on {number}")
        with self.api() as api:
            project_id = post(api, "/projects", remote_origin=str(self.home / f"{name}.git"))["id"]
            for number in range(count):
                branch, path = f"feat/{number}", root / f"feat-{number}"
                start = f"main~{number % TRUNK}"
                self.git(root / "trunk-main", "worktree", "add", "-q", "-b", branch, str(path), start)
                self.git(path, "commit", "-q", "--allow-empty", "-m", f"Begin {branch}")
                if not known:
                    continue
                place = {"project_id": project_id, "branch_name": branch, "host": socket.gethostname()}
                item = post(api, "/work", worktree_path=str(path), **place)["id"]
                seen = {
                    "ahead_of_trunk": 1,
                    "behind_trunk": number % TRUNK,
                    "observed_at": datetime.now(UTC).isoformat(),
                }
                api.patch(f"/work/{item}/git-state", json=seen).raise_for_status()
                post(api, "/worktrees", work_item_id=item, name=path.name, path=str(path), **place)
        return root

    def api(self) -> httpx.Client:
        """The server, for an administrator."""
        key = (Path(self.environment["IMI_DATA_DIR"]) / "admin.key").read_text().strip()
        headers = {"Authorization": f"Bearer {key}", "X-Agent-Id": "ada"}
        url = f"{self.environment['IMI_API_URL']}/api/v1"
        return httpx.Client(base_url=url, headers=headers, timeout=30)

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


def post(api: httpx.Client, path: str, /, **body: Any) -> Any:
    """What a POST answers."""
    answer = api.post(path, json=body)
    answer.raise_for_status()
    return answer.json()


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
