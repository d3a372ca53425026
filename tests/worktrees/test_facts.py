"""The facts of a worktree against real repositories of every layout."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import git as ask
from imi.worktrees.facts import Facts, read, unpushed
from imi.worktrees.layout import worktrees
from tests.repositories import EMAIL, Git

TRUNK = "refs/heads/main"


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "clone")


@pytest.fixture
def side(git: Git, clone: Path, tmp_path: Path) -> Path:
    """A worktree with a branch that has slashes and letters beyond ASCII."""
    folder = tmp_path / "feat größe\n"
    git(clone, "worktree", "add", "-q", "-b", "feat/größe/日本", str(folder))
    return folder


def fails(folder: Path, *arguments: str) -> None:
    """Run what stops halfway."""
    done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False)
    assert done.returncode != 0


def counts(facts: Facts) -> tuple[int, int]:
    return facts.dirty, facts.untracked


def test_a_fresh_worktree(git: Git, side: Path) -> None:
    facts = read(side, TRUNK)
    assert (facts.branch, facts.upstream, facts.upstream_ahead) == ("feat/größe/日本", None, None)
    assert (facts.ahead, facts.behind, counts(facts), facts.stashes) == (0, 0, (0, 0), 0)
    assert (facts.operation, facts.is_locked, facts.is_main, facts.submodules) == (None, False, False, ())
    commit = facts.commit
    assert commit is not None
    assert (commit.hash, commit.subject) == (git(side, "rev-parse", "HEAD"), "Add README")
    assert (commit.author, commit.author_email) == ("Ada", EMAIL)
    assert int(commit.committed_at.timestamp()) == int(git(side, "log", "-1", "--format=%ct"))
    assert commit.committed_at <= facts.observed_at


def test_files_are_counted_by_kind(git: Git, clone: Path) -> None:
    for name in ("staged", "changed", "both", "gone"):
        git.commit(clone, name)
    (clone / "staged").write_text("x")
    git(clone, "add", "staged")
    (clone / "changed").write_text("x")
    (clone / "both").write_text("x")
    git(clone, "add", "both")
    (clone / "both").write_text("y")
    (clone / "gone").unlink()
    (clone / "folder").mkdir()
    for name in ("one", "two\nlines"):
        (clone / "folder" / name).touch()
    assert counts(read(clone, TRUNK)) == (4, 2)


def test_ahead_and_behind_of_trunk_and_upstream(git: Git, clone: Path) -> None:
    git(clone, "switch", "-q", "-c", "side")
    git.commit(clone, "a")
    git(clone, "push", "-q", "-u", "origin", "side")
    git.commit(clone, "b")
    git(clone, "switch", "-q", "main")
    git.commit(clone, "c")
    git(clone, "switch", "-q", "side")
    git(clone, "config", "status.aheadBehind", "false")
    facts = read(clone, TRUNK)
    assert (facts.ahead, facts.behind) == (2, 1)
    assert (facts.upstream, facts.upstream_ahead, facts.upstream_behind) == ("origin/side", 1, 0)
    git(clone, "reset", "-q", "--hard", "HEAD~2")
    assert read(clone, TRUNK).upstream_behind == 1
    git(clone, "update-ref", "-d", "refs/remotes/origin/side")
    gone = read(clone, TRUNK)
    assert (gone.upstream, gone.upstream_ahead, gone.upstream_behind) == ("origin/side", None, None)


def test_without_a_trunk_nothing_is_ahead_of_it(git: Git, clone: Path) -> None:
    facts = read(clone, None)
    assert (facts.ahead, facts.behind) == (None, None)


def test_a_detached_head(git: Git, clone: Path, side: Path) -> None:
    git(side, "switch", "-q", "--detach")
    git.commit(side, "loose")
    facts = read(side, TRUNK)
    assert (facts.branch, facts.ahead, facts.behind) == (None, 1, 0)
    assert facts.commit is not None
    assert unpushed(clone, facts.commit.hash) == [(facts.commit.hash, "Add loose")]


def test_an_unborn_branch(git: Git, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "-b", "größe", "new")
    (tmp_path / "new/file").touch()
    facts = read(tmp_path / "new", TRUNK)
    assert (facts.branch, facts.commit, facts.ahead, facts.behind) == ("größe", None, None, None)
    assert counts(facts) == (0, 1)
    (entry,) = worktrees(tmp_path / "new")
    assert entry.branch == "größe"


def test_stashes_are_counted_for_their_branch(git: Git, clone: Path, side: Path) -> None:
    def stash(folder: Path, *more: str) -> None:
        (folder / "README").write_text("changed")
        git(folder, "stash", "push", "-q", *more)

    stash(clone)
    stash(side)
    stash(side, "-m", "On main: no, it is not")
    assert (read(clone, TRUNK).stashes, read(side, TRUNK).stashes) == (1, 2)
    git(side, "switch", "-q", "--detach")
    assert read(side, TRUNK).stashes == 0
    stash(side)
    assert read(side, TRUNK).stashes == 1
    git(side, "switch", "-q", "-c", "other")
    assert read(side, TRUNK).stashes == 0


@pytest.mark.parametrize(
    "operation, arguments",
    [
        ("rebase", ("rebase", "main")),
        ("rebase", ("rebase", "--apply", "main")),
        ("merge", ("merge", "main")),
        ("cherry-pick", ("cherry-pick", "main")),
        ("revert", ("revert", "--no-edit", "HEAD~1")),
        ("am", ("am", "patch")),
    ],
)
def test_an_operation_in_progress(
    git: Git, clone: Path, side: Path, operation: str, arguments: tuple[str, ...]
) -> None:
    git.commit(clone, "README", "theirs")
    git.commit(side, "README", "mine")
    git.commit(side, "README", "mine again")
    (side / "patch").write_text(git(clone, "format-patch", "-1", "--stdout") + "\n")
    fails(side, *arguments)
    facts = read(side, TRUNK)
    assert facts.operation == operation
    assert (facts.dirty > 0) == (operation != "am"), "files in conflict are dirty"
    assert read(clone, TRUNK).operation is None


def test_between_two_picks_the_operation_is_still_in_progress(git: Git, clone: Path, side: Path) -> None:
    for text in ("one", "two"):
        git.commit(clone, "README", text)
    git.commit(side, "README", "mine")
    fails(side, "cherry-pick", "main~1", "main")
    git.commit(side, "README", "resolved")
    assert read(side, TRUNK).operation == "cherry-pick or revert"


def test_a_bisection(git: Git, side: Path) -> None:
    git(side, "bisect", "start")
    assert read(side, TRUNK).operation == "bisect"


def test_what_sync_linked_counts_as_nothing(git: Git, clone: Path, tmp_path: Path) -> None:
    for name in (".env", "tracked"):
        (tmp_path / name).touch()
    git.commit(clone, "tracked")
    (clone / ".vscode").mkdir()
    git.commit(clone, ".vscode/settings.json")
    (clone / "tracked").unlink()
    (clone / ".vscode/settings.json").unlink()
    (clone / ".vscode").rmdir()
    (clone / ".vscode").symlink_to(tmp_path)
    for name in (".env", "tracked"):
        (clone / name).symlink_to(tmp_path / name)
    links = frozenset({".env", "tracked", ".vscode"})
    assert counts(read(clone, TRUNK, links)) == (0, 0)
    assert counts(read(clone, TRUNK, frozenset({".env"}))) == (2, 1)
    (clone / ".env").unlink()
    (clone / ".env").write_text("a secret of one's own")
    assert counts(read(clone, TRUNK, links)) == (0, 1), "a real file is work"
    git(clone, "add", "tracked")
    assert counts(read(clone, TRUNK, links)) == (1, 1), "what is staged is the user's"


def test_lists_worktrees_of_a_bare_repository(git: Git, clone: Path, tmp_path: Path) -> None:
    bare = tmp_path / "project/.bare"
    bare.parent.mkdir()
    git(tmp_path, "clone", "-q", "--bare", str(clone), str(bare))
    project = bare.parent
    git(bare, "worktree", "add", "-q", str(project / "trunk-main"), "main")
    git(bare, "worktree", "add", "-q", "-b", "fix/ß", str(project / "fix-a\nb"))
    git(bare, "worktree", "add", "-q", "--detach", str(project / "loose"))
    git(bare, "worktree", "lock", "--reason", "on a\nstick", str(project / "loose"))
    git(bare, "worktree", "lock", str(project / "trunk-main"))
    listed = {entry.path.name: entry for entry in worktrees(bare)}
    assert next(iter(listed)) == ".bare"
    assert listed[".bare"].bare
    assert (listed["fix-a\nb"].branch, listed["fix-a\nb"].locked) == ("fix/ß", None)
    assert (listed["loose"].branch, listed["loose"].locked) == (None, "on a\nstick")
    assert listed["trunk-main"].locked == ""
    facts = read(project / "loose", TRUNK)
    assert (facts.is_locked, facts.is_main, facts.branch) == (True, False, None)
    assert read(clone, TRUNK).is_main
    (project / "fix-a\nb/.git").unlink()
    assert {entry.path.name: entry for entry in worktrees(bare)}["fix-a\nb"].prunable
    with pytest.raises(ask.GitError):
        read(bare, TRUNK)


def test_unpushed_is_what_nothing_else_holds(git: Git, clone: Path) -> None:
    branch = "refs/heads/feat/größe"
    git(clone, "switch", "-q", "-c", "feat/größe")
    assert unpushed(clone, branch) == []
    git.commit(clone, "a", message="pushed")
    git(clone, "push", "-q", "origin", "feat/größe")
    git.commit(clone, "b", message="held by a branch")
    git(clone, "branch", "other")
    alone = git.commit(clone, "c", message="\x1b[2J größe%00\n\nbody")
    newest = git.commit(clone, "d", message="last")
    git(clone, "tag", "a-tag")
    assert unpushed(clone, branch) == [(newest, "last"), (alone, "\x1b[2J größe%00")]
    git(clone, "branch", "-q", "-D", "other")
    git(clone, "update-ref", "-d", "refs/remotes/origin/feat/größe")
    assert len(unpushed(clone, branch)) == 4
    git(clone, "switch", "-q", "main")
    git(clone, "merge", "-q", "--ff-only", branch)
    assert unpushed(clone, branch) == []


def test_a_repository_without_a_remote(git: Git, clone: Path, side: Path) -> None:
    git(clone, "remote", "remove", "origin")
    commit = git.commit(side, "a")
    assert unpushed(clone, "refs/heads/feat/größe/日本") == [(commit, "Add a")]
    facts = read(side, TRUNK)
    assert (facts.ahead, facts.upstream) == (1, None)


def test_a_shallow_clone(git: Git, clone: Path, tmp_path: Path) -> None:
    git.commit(clone, "a")
    git(clone, "push", "-q", "origin", "main")
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{tmp_path}/origin.git", "shallow")
    shallow = tmp_path / "shallow"
    git(shallow, "switch", "-q", "-c", "side")
    commit = git.commit(shallow, "b")
    assert (read(shallow, TRUNK).ahead, read(shallow, TRUNK).behind) == (1, 0)
    assert unpushed(shallow, "refs/heads/side") == [(commit, "Add b")]


def test_a_sparse_checkout_misses_nothing(git: Git, clone: Path) -> None:
    for name in ("in", "out"):
        (clone / name).mkdir()
        git.commit(clone, f"{name}/file")
    git(clone, "sparse-checkout", "set", "in")
    assert not (clone / "out").exists()
    assert counts(read(clone, TRUNK)) == (0, 0)
    (clone / "in/file").write_text("changed")
    assert counts(read(clone, TRUNK)) == (1, 0)


def test_no_filter_and_no_signing_program_runs(git: Git, clone: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git.commit(clone, ".gitattributes", "*.bin filter=lfs\n")
    git.commit(clone, "a.bin", "a pointer")
    (clone / "README").write_text("stashed")
    git(clone, "stash", "-q")
    for setting in ("filter.lfs.clean", "filter.lfs.process", "gpg.program", "core.fsmonitor"):
        git(clone, "config", setting, str(program))
    git(clone, "config", "filter.lfs.required", "true")
    git(clone, "config", "log.showSignature", "true")
    assert counts(read(clone, TRUNK)) == (0, 0)
    os.utime(clone / "a.bin", (1, 1))
    assert read(clone, TRUNK).stashes == 1
    assert unpushed(clone, TRUNK)
    assert not (tmp_path / "ran").exists()


def test_submodules_with_changes(git: Git, clone: Path, tmp_path: Path) -> None:
    git.clone(git.origin(tmp_path / "sub.git"), tmp_path / "sub")
    for name in ("größe", "clean", "moved"):
        git(
            clone,
            "-c",
            "protocol.file.allow=always",
            "submodule",
            "--quiet",
            "add",
            str(tmp_path / "sub"),
            name,
        )
    git(clone, "commit", "-q", "-m", "Add submodules")
    assert read(clone, TRUNK).submodules == ()
    (clone / "größe/new").touch()
    git.commit(clone / "moved", "a")
    facts = read(clone, TRUNK)
    assert facts.submodules == ("größe", "moved")
    assert counts(facts) == (1, 0), "another commit is a change of the worktree's own"
    assert read(clone / "größe", TRUNK).untracked == 1


def test_a_submodule_is_read_only_inside(git: Git, clone: Path, tmp_path: Path) -> None:
    other = git.clone(git.origin(tmp_path / "other.git"), tmp_path / "other")
    (other / "new").touch()
    (clone / "loop").symlink_to(".")
    (clone / "link").symlink_to(other)
    paths = ("../other", str(other), "link", "loop", ".git", ".", "")
    text = "".join(f'[submodule "{number}"]\npath = "{path}"\n' for number, path in enumerate(paths))
    git.commit(clone, ".gitmodules", text)
    assert read(clone, TRUNK).submodules == ()


def test_reading_costs_few_calls_and_writes_nothing(
    git: Git, clone: Path, side: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run: Callable[..., str] = ask.run
    calls: list[str] = []

    def counted(folder: Path, *arguments: str, **more: Any) -> str:
        calls.append(arguments[0])
        return run(folder, *arguments, **more)

    monkeypatch.setattr(ask, "run", counted)
    (index,) = (clone / ".git/worktrees").glob("*/index")
    (side / "README").touch()
    before = index.read_bytes()
    read(side, TRUNK)
    assert calls == ["config", "status", "rev-list", "rev-list"]
    assert index.read_bytes() == before


def test_a_folder_that_is_no_worktree(tmp_path: Path) -> None:
    with pytest.raises(ask.GitError, match="is not there"):
        read(tmp_path / "gone", TRUNK)
    with pytest.raises(ask.GitError, match="not a git repository"):
        read(tmp_path, TRUNK)
