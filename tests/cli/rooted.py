"""A project's folder that the command line stands in, for the tests of worktree commands."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imi import __file__ as package
from tests.commandline import Imi
from tests.live import free_port
from tests.repositories import Git

numbers = count(1)


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """State and settings of the test's own; processes that it starts run this code."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("PYTHONPATH", str(Path(package).parents[1]))


@pytest.fixture
def origin(git: Git, tmp_path: Path) -> Path:
    """A bare repository of a name of its own, with one commit on main."""
    origin = git.origin(tmp_path / f"remotes/store-{next(numbers)}.git")
    git.clone(origin, tmp_path / "elsewhere/first")
    return origin


@pytest.fixture
def root(imi: Imi, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project's folder, registered with the server; the command line stands in it."""
    monkeypatch.chdir(tmp_path)
    root = Path(imi.data("init", str(origin))["path"])
    monkeypatch.chdir(root)
    return root


def unreachable(monkeypatch: pytest.MonkeyPatch) -> str:
    """From here on the server cannot be reached; its URL."""
    url = f"http://127.0.0.1:{free_port()}"
    monkeypatch.setenv("IMI_API_URL", url)
    return url


@pytest.fixture
def away(monkeypatch: pytest.MonkeyPatch) -> str:
    """The server cannot be reached by the test; its URL."""
    return unreachable(monkeypatch)


def items(imi: Imi, origin: Path) -> dict[str, Any]:
    """The project's work items by branch, of several the oldest."""
    listed = imi.data("work", "list", "--project", origin, "--active", "all", "--all")["items"]
    return {item["branch_name"]: item for item in listed}
