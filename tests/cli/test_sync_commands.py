"""`imi sync`, and the links that a new worktree has from the start."""

from __future__ import annotations

import os
from itertools import count
from pathlib import Path

import pytest

from tests.commandline import Imi
from tests.live import free_port
from tests.repositories import Git

numbers = count(1)


@pytest.fixture(autouse=True)
def homes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and reports of this test, and no server: sync asks none."""
    for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "IMI_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / name))
    monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setenv("IMI_AGENT", "ada")


@pytest.fixture
def root(imi: Imi, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project of a trunk and feat-x, with a shared .env; the command line stands in its root."""
    origin = git.origin(tmp_path / f"remotes/shop-{next(numbers)}.git")
    git.clone(origin, tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    root = Path(imi.data("init", str(origin))["path"])
    monkeypatch.chdir(root)
    imi("feat", "x")
    (root / "sync/repo").mkdir(parents=True)
    (root / "sync/repo/.env").write_text("shared")
    return root


def configure(tmp_path: Path, text: str) -> None:
    (tmp_path / "XDG_CONFIG_HOME/iMi").mkdir(parents=True, exist_ok=True)
    (tmp_path / "XDG_CONFIG_HOME/iMi/config.toml").write_text(text)


def linked(root: Path) -> list[str]:
    return sorted(each.parent.name for each in root.glob("*/.env") if each.is_symlink())


def test_in_a_worktree_it_is_this_one_and_else_all(imi: Imi, root: Path) -> None:
    os.chdir(root / "feat-x")
    done = imi.data("sync")
    made = {"path": str(root / "feat-x"), "name": "feat-x", "linked": [".env"], "backups": {}, "refused": {}}
    assert done == {"worktrees": [made], "notes": []}
    assert linked(root) == ["feat-x"]
    assert imi("sync").out == "feat-x: nothing new\n"
    assert [each["name"] for each in imi.data("sync", "--all")["worktrees"]] == ["trunk-main", "feat-x"]
    assert linked(root) == ["feat-x", "trunk-main"]
    imi("fix", "y")
    (root / "fix-y/.env").unlink()
    os.chdir(root)
    assert imi("sync").out == "trunk-main: nothing new\nfeat-x: nothing new\nfix-y: linked .env\n"


def test_it_says_what_was_in_the_way(imi: Imi, root: Path) -> None:
    (root / "feat-x/.env").write_text("mine")
    ran = imi("sync")
    assert ran.err == "feat-x: .env was in the way and is now .env.backup\n"
    assert (root / "feat-x/.env.backup").read_text() == "mine"


def test_it_says_what_the_settings_do_not_name(imi: Imi, root: Path) -> None:
    (root / "sync/repo/notes.txt").touch()
    (root / "sync/repo/.vscode").mkdir()
    assert imi("sync").err == "sync/repo/notes.txt is not linked: symlink_files does not name it\n"


def test_what_it_refuses_is_a_failure(imi: Imi, root: Path, tmp_path: Path) -> None:
    configure(tmp_path, 'symlink_files = ["../\\u001b[31m", ".env"]\n')
    ran = imi("sync", code=1)
    assert "was not linked: it leads out of the worktree" in ran.err and "\x1b" not in ran.err
    assert linked(root) == ["feat-x", "trunk-main"]
    configure(tmp_path, "[sync_settings]\nlocal_sync_path = '../..'\n")
    assert imi.error(1, "sync")["code"] == "CONFIG"


def test_worktrees_that_are_gone_are_passed_over(imi: Imi, root: Path) -> None:
    (root / "feat-x").rename(root / "away")
    assert imi.data("sync")["notes"] == ["feat-x is gone: imi reconcile"]
    os.chdir(root.parent)
    assert imi.error(3, "sync")["code"] == "NOT_FOUND"


def test_a_new_worktree_has_its_links(imi: Imi, git: Git, root: Path) -> None:
    git.commit(root / "trunk-main", ".env", "committed")
    ran = imi("feat", "new")
    assert "feat-new: git tracks .env" in ran.err
    assert linked(root) == ["feat-new"]
    (root / "feat-new/.env").unlink()
    imi("feat", "new")
    assert linked(root) == ["feat-new"], "what a killed making left out"
    (root / "feat-new/.env").unlink()
    (root / "feat-new/.env").write_text("mine")
    assert "in the way" not in imi("feat", "new").err
    assert (root / "feat-new/.env").read_text() == "mine", "only imi sync moves what is there"


def test_init_links_the_trunk(imi: Imi, root: Path) -> None:
    imi("init")
    assert linked(root) == ["trunk-main"]


def test_sync_that_is_off_links_only_when_asked(imi: Imi, root: Path, tmp_path: Path) -> None:
    configure(tmp_path, "[sync_settings]\nenabled = false\n")
    imi("feat", "new")
    imi("init")
    assert linked(root) == []
    imi("sync")
    assert linked(root) == ["feat-new", "feat-x", "trunk-main"]
