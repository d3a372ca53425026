"""Real git repositories, away from the settings of whoever runs the tests."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

EMAIL = "ada@example.org"


class Git:
    """Runs git in a folder, as one committer."""

    def __call__(self, folder: Path, *arguments: str) -> str:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.removesuffix("\n")

    def commit(self, folder: Path, name: str, text: str = "", message: str = "") -> str:
        """Write a file, commit it, answer the commit."""
        (folder / name).write_text(text or name)
        self(folder, "add", "--", name)
        self(folder, "commit", "-q", "-m", message or f"Add {name}")
        return self(folder, "rev-parse", "HEAD")

    def origin(self, path: Path) -> Path:
        """A bare repository to clone from."""
        path.mkdir(parents=True)
        self(path, "init", "-q", "--bare", "-b", "main")
        return path

    def clone(self, origin: Path, path: Path) -> Path:
        """A clone with one commit on main, pushed; origin/HEAD known."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self(path.parent, "clone", "-q", str(origin), path.name)
        self(path, "switch", "-q", "-c", "main")
        self.commit(path, "README")
        self(path, "push", "-q", "-u", "origin", "main")
        self(path, "remote", "set-head", "origin", "main")
        return path


@pytest.fixture
def git(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Git:
    """git as a user without settings."""
    for name in list(os.environ):
        if name.startswith("GIT_"):
            monkeypatch.delenv(name)
    for role in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{role}_NAME", "Ada")
        monkeypatch.setenv(f"GIT_{role}_EMAIL", EMAIL)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    return Git()
