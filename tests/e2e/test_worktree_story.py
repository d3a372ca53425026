"""A task from its first folder to its trace, typed into real terminals: two agents, a monitor, a real remote."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from imi import __file__ as package
from tests.live import Live, running
from tests.repositories import Git, git
from tests.terminal import Terminal, terminals

__all__ = ["git"]


@pytest.fixture
def live() -> Iterator[Live]:
    with running() as server:
        yield server


@pytest.fixture
def shop(git: Git, tmp_path: Path) -> Path:
    origin = git.origin(tmp_path / "remotes/shop.git")
    git.clone(origin, tmp_path / "first")
    return origin


@pytest.fixture
def desk(live: Live, shop: Path, tmp_path: Path) -> Iterator[list[Terminal]]:
    """Three terminals in one folder."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "imi").write_text(f'#!/bin/sh\nexec {sys.executable} -m imi "$@"\n')
    (programs / "imi").chmod(0o755)
    desk = tmp_path / "desk"
    desk.mkdir()
    environment = {
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path(package).parents[1]),
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
        "TERM": "screen-256color",
        "IMI_API_URL": live.url,
        "IMI_DATA_DIR": str(live.data_dir),
        "IMI_AGENT": "ada",
        **{name: value for name, value in os.environ.items() if name.startswith("GIT_")},
    }
    with terminals(desk, environment, 3) as opened:
        yield opened


def test_from_the_folder_to_the_trace(desk: list[Terminal], shop: Path) -> None:
    ada, codex, watcher = desk
    ada.run(f"imi init {shop} && cd shop && ls")
    assert "feat/login" in ada.run('cd "$(imi feat login --ticket SHOP-7)" && git branch --show-current')

    watcher.type("cd shop && imi monitor")
    watcher.until("watching 2 worktrees")
    ada.run("echo 'def login(): ...' > account.py")
    watcher.until("feat-login", "account.py")

    codex.run('export IMI_AGENT=codex-2; cd shop && cd "$(imi feat signup)"')
    watcher.until("watching 3 worktrees")
    codex.run("echo 'def signup(): ...' > account.py")
    watcher.until("feat-signup", "warning", "account.py")

    ada.run("cd .. && imi claim feat-login --agent claude-7")
    assert "claude-7" in codex.run("imi claim feat-login", code=4)
    refused = ada.run("imi remove feat-login", code=4)
    assert "1 file is untracked" in refused and "claude-7 claims it" in refused

    ada.run("imi release feat-login --agent claude-7")
    ada.run("git -C feat-login add . && git -C feat-login commit -qm 'Log in'")
    assert "1 commit is unpushed" in ada.run("imi remove feat-login", code=4)
    ada.run("git -C trunk-main merge -q --squash feat/login && git -C trunk-main commit -qm 'Log in (#7)'")
    assert "merged, by same tree" in ada.run("imi remove feat-login")
    traced = ada.run("imi trace ticket SHOP-7")
    assert all(word in traced for word in ("SHOP-7", "feat/login", "merged"))
    assert "feat-login" in ada.run("imi trash list")
    watcher.press("C-c")
    watcher.run("true")
