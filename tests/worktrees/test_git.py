"""What imi.worktrees.git answers, against git itself and against repositories that mean harm."""

from pathlib import Path

import pytest

from imi.worktrees import commits, uncommitted
from imi.worktrees import git as ask
from imi.worktrees.git import GitError
from imi.worktrees.layout import worktrees
from tests.repositories import EMAIL, Git


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "clone")


def test_a_name_cannot_pass_for_an_option(git: Git, clone: Path) -> None:
    commit = git(clone, "rev-parse", "HEAD")
    git(clone, "update-ref", "refs/heads/--output=here", commit)
    names = [ref.name for ref in ask.refs(clone, "refs/heads")]
    assert names == ["refs/heads/--output=here", "refs/heads/main"]
    assert commits.divergence(clone, "refs/heads/main", "refs/heads/--output=here") == (0, 0)
    assert not list(clone.glob("here*"))


def test_refs_survive_hostile_subjects_and_paths(git: Git, clone: Path, tmp_path: Path) -> None:
    git.commit(clone, "x", message="\x1b[2J subject%00\n\nbody")
    folder = tmp_path / "a\nb \x1b[31m"
    git(clone, "worktree", "add", "-q", "-b", "side", str(folder))
    main, side = ask.refs(clone, "refs/heads")
    assert main.subject == side.subject == "\x1b[2J subject%00"
    assert main.committer_email == EMAIL
    assert {each.branch: each.path for each in worktrees(clone)} == {"main": clone, "side": folder}


def test_text_that_is_not_utf8_keeps_its_bytes(git: Git, clone: Path, tmp_path: Path) -> None:
    folder = Path(str(tmp_path) + "/\udcff")
    git(clone, "worktree", "add", "-q", "-b", "side", str(folder))
    assert worktrees(clone)[1].path == folder
    assert uncommitted.count(folder) == 0


def test_a_hooks_environment_does_not_redirect(
    git: Git, clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (clone / "new").touch()
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "origin.git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "index"))
    assert ask.common_dir(clone) == clone / ".git"
    assert uncommitted.count(clone) == 1


def test_a_repositorys_settings_start_no_program(git: Git, clone: Path, tmp_path: Path) -> None:
    program = tmp_path / "monitor"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git(clone, "config", "core.fsmonitor", str(program))
    uncommitted.count(clone)
    ask.refs(clone, "refs/heads")
    assert not (tmp_path / "ran").exists()


def test_a_broken_clone_inside_another_is_broken(git: Git, clone: Path) -> None:
    inner = clone / "inner"
    (inner / ".git").mkdir(parents=True)
    with pytest.raises(GitError, match="not a git repository"):
        ask.common_dir(inner)


def test_every_worktree_has_the_same_common_dir(git: Git, clone: Path, tmp_path: Path) -> None:
    git(clone, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    assert ask.common_dir(tmp_path / "side") == ask.common_dir(clone) == clone / ".git"
    assert ask.top_level(tmp_path / "side") == tmp_path / "side"


def test_failures_say_gits_reason(git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(GitError, match=r"^git rev-parse: not a git repository"):
        ask.top_level(tmp_path)
    with pytest.raises(GitError, match="is not there"):
        ask.top_level(tmp_path / "gone")
    (tmp_path / "file").touch()
    with pytest.raises(GitError, match="Not a directory"):
        ask.top_level(tmp_path / "file")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(GitError, match="git is not installed"):
        ask.top_level(tmp_path)


def test_remotes_come_as_the_user_spells_them_elsewhere(git: Git, clone: Path) -> None:
    git(clone, "remote", "set-url", "origin", "short:org/repo")
    git(clone, "config", "url.https://git.example.org/.insteadOf", "short:")
    git(clone, "remote", "add", "back.up", "/else/where")
    assert list(ask.remotes(clone)) == ["origin", "back.up"]
    assert ask.remote_url(clone, "origin") == "https://git.example.org/org/repo"
