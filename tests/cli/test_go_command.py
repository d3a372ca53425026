"""`imi go`: what a few letters find, here and on the whole machine."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from imi.worktrees import known_projects, spool
from tests.cli.rooted import homes, origin, root
from tests.commandline import Imi
from tests.repositories import Git

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")


@pytest.fixture
def many(imi: Imi, git: Git, root: Path) -> Path:
    for name in ("login", "login-page", "ui/cart"):
        imi("feat", name)
    imi("fix", "cart")
    imi("exp", "other", "--branch", "exp/zebra")
    git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(root / "looking around"))
    return root


FITS = {
    "feat-login": "feat-login",  # the whole name, though another begins with it
    "FEAT-LOGIN": "feat-login",
    "feat/login": "feat-login",  # the whole branch
    "login": "feat-login",  # the whole task
    "login-": "feat-login-page",
    "feat-ui": "feat-ui-cart",
    "main": "trunk-main",
    "zebra": "exp-other",  # within its branch
    "around": "looking around",
    "lgnpg": "feat-login-page",  # in their order
    "cart": "fix-cart",  # the whole task beats the end of another
}


def test_the_best_fit_wins(imi: Imi, many: Path) -> None:
    for query, folder in (FITS | {f"{many.name}/looking": "looking around"}).items():
        ran = imi("go", query)
        assert (ran.out, ran.err) == (f"{many / folder}\n", ""), query
    assert imi("go", many.name).out == f"{many}\n"
    assert imi("go", many / "fix-cart").out == f"{many / 'fix-cart'}\n"


def test_equal_fits_are_ambiguous(imi: Imi, many: Path) -> None:
    ran = imi("go", "log", code=4)
    assert ran.out == ""
    assert str(many / "feat-login") in ran.err and str(many / "feat-login-page") in ran.err
    assert str(many / "fix-cart") not in ran.err
    assert imi.error(4, "go", "log")["code"] == "CONFLICT"


def test_nothing_fits(imi: Imi, many: Path) -> None:
    assert imi.error(3, "go", "qqq")["code"] == "NOT_FOUND"
    assert imi.error(3, "go", "niam")["code"] == "NOT_FOUND"


def test_without_a_query_it_is_the_root(imi: Imi, many: Path) -> None:
    os.chdir(many / "feat-login")
    assert imi("go").out == f"{many}\n"
    os.chdir("/")
    assert imi.error(3, "go")["code"] == "NOT_FOUND"


def test_other_projects_are_found_from_everywhere(
    imi: Imi, git: Git, many: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    second = git.origin(tmp_path / "remotes/beacon.git")
    git.clone(second, tmp_path / "elsewhere/second")
    monkeypatch.chdir(tmp_path)
    beacon = Path(imi.data("init", str(second))["path"])
    monkeypatch.chdir(beacon)
    imi("feat", "login")
    assert imi("go", "login").out == f"{beacon / 'feat-login'}\n"  # this project comes first
    assert imi("go", "zebra").out == f"{many / 'exp-other'}\n"
    assert imi("go", "beacon").out == f"{beacon}\n"
    monkeypatch.chdir("/")
    assert imi("go", "login", code=4).err.count("feat-login") == 2
    assert imi("go", "beacon/login").out == f"{beacon / 'feat-login'}\n"
    beacon.rename(tmp_path / "moved")
    assert imi.error(3, "go", "beacon")["code"] == "NOT_FOUND"
    assert [path for path, _ in known_projects.projects()] == [many]


def test_a_folder_that_is_gone_is_no_answer(imi: Imi, many: Path) -> None:
    (many / "feat-login").rename(many / "elsewhere")
    assert imi("go", "feat-login").out == f"{many / 'feat-login-page'}\n"


def test_what_is_known_of_the_machine_may_be_lost(imi: Imi, many: Path, tmp_path: Path) -> None:
    file = spool.state() / "projects"
    file.write_bytes(b"garbage\0\xff")
    assert imi("go", "login").out == f"{many / 'feat-login'}\n"
    assert [path for path, _ in known_projects.projects()] == [many]  # and was written again
    file.unlink()
    os.chdir("/")
    assert imi.error(3, "go", "login")["code"] == "NOT_FOUND"


def test_it_asks_no_server(root: Path) -> None:
    """Nor does it load what asking takes, or drawing: it is to be quick."""
    program = """
import sys
from imi.cli import run
code = run(["go", "main"])
sys.exit(code or ", ".join({"httpx", "rich", "imi.cli.client"} & {*sys.modules}) or 0)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout, ran.stderr) == (0, f"{root / 'trunk-main'}\n", "")


def test_a_plain_clone_says_what_to_do(imi: Imi, git: Git, origin: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(origin), "plain")
    os.chdir(tmp_path / "plain")
    assert "--adopt" in str(imi.error(4, "go", "x")["hint"])
