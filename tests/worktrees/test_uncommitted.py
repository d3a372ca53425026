"""What is not committed, as imi counts it, against git itself; what no filter may do is in test_harm.py."""

from pathlib import Path

import pytest

from imi.worktrees import uncommitted
from tests.repositories import Git


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "clone")


def test_each_file_counts_once(git: Git, clone: Path) -> None:
    git.commit(clone, "old", "a text long enough to be recognised when it moves\n" * 4)
    git(clone, "mv", "old", "new")
    (clone / "README").write_text("changed")
    (clone / "folder").mkdir()
    for name in ("one", "two words", "line\nbreak"):
        (clone / "folder" / name).touch()
    (clone / ".gitignore").write_text("*.log\n")
    (clone / "x.log").touch()
    listed = git(clone, "status", "--porcelain", "-z", "--untracked-files=all", "--no-renames").split("\0")
    assert uncommitted.count(clone) == 6
    assert len([entry for entry in listed if entry]) == 7, "a rename without -M is two entries"


def test_untracked_files_count_whatever_the_repository_says(git: Git, clone: Path) -> None:
    git(clone, "config", "status.showUntrackedFiles", "no")
    (clone / "new").touch()
    assert uncommitted.count(clone) == 1


def test_reading_writes_nothing(git: Git, clone: Path) -> None:
    (clone / "README").touch()
    before = (clone / ".git/index").read_bytes()
    uncommitted.count(clone)
    assert (clone / ".git/index").read_bytes() == before
