"""The trash with real git: what goes in comes back exactly, whatever happens in between."""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imi import __file__ as package
from imi.worktrees import layout, spool, trash, trash_entries, trash_mending
from imi.worktrees.names import NameRefusedError, TakenError
from imi.worktrees.reasons import Known, Process
from tests.repositories import Git


@pytest.fixture(autouse=True)
def untouched(git: Git, monkeypatch: pytest.MonkeyPatch) -> None:
    """Looking at a worktree does not touch its index."""
    monkeypatch.setenv("GIT_OPTIONAL_LOCKS", "0")


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    """A project with a remote, its trunk, and feat-login."""
    root = tmp_path / "shop"
    git.clone(git.origin(tmp_path / "remotes/shop.git"), root / "trunk-main")
    (root / "trunk-main/.git/info/exclude").write_text("node_modules/\n.env\n")
    add(git, root)
    return root


def add(git: Git, root: Path, name: str = "login") -> Path:
    path = root / f"feat-{name}"
    git(root / "trunk-main", "worktree", "add", "-q", "-b", f"feat/{name}", str(path), "main")
    return path


def remove(
    path: Path,
    force: bool = True,
    known: Known = Known(),  # noqa: B008 - it is frozen
    running: Callable[[], Sequence[Process]] = list,
) -> trash.Removed:
    against = (lambda standing: ()) if force else trash.unforced
    return trash.remove(layout.at(path.parent), path, "ada", lambda branch: known, against, running)


def refused(path: Path, **given: Any) -> list[str]:
    with pytest.raises(trash.RefusedError) as error:
        remove(path, **{"force": False} | given)
    assert path.is_dir()
    return error.value.reasons


def restore(root: Path, name: str = "feat-login") -> trash.Restored:
    return trash.restore(layout.at(root), name, "ada", lambda record: None)


def held(root: Path) -> list[trash_entries.Entry]:
    found, notes = trash_entries.read(layout.at(root))
    assert notes == []
    return found


def tidy(git: Git, root: Path) -> None:
    """All that git ever throws away is thrown away, and nothing is missing."""
    trunk = root / "trunk-main"
    git(trunk, "worktree", "prune", "--expire=now")
    git(trunk, "gc", "--quiet", "--prune=now")
    assert "missing" not in git(trunk, "fsck", "--full")


def content(folder: Path) -> dict[bytes, tuple[int, object]]:
    """Every file, folder and link below a worktree, but git's own file: mode, and what is in it."""
    found: dict[bytes, tuple[int, object]] = {}
    for at, folders, files in os.walk(os.fsencode(folder)):
        for name in (*folders, *files):
            whole = os.path.join(at, name)  # noqa: PTH118 - names that are not UTF-8
            mode = os.lstat(whole).st_mode
            inside: object = None
            if stat.S_ISLNK(mode):
                inside = os.readlink(whole)  # noqa: PTH115
            elif stat.S_ISREG(mode) and name != b".git":
                inside = Path(os.fsdecode(whole)).read_bytes()
            found[os.path.relpath(whole, os.fsencode(folder))] = (mode, inside)
    return found


def state(git: Git, folder: Path) -> dict[str, object]:
    """All of a worktree: its files, and what git keeps of it, byte for byte."""
    own = Path(git(folder, "rev-parse", "--absolute-git-dir"))
    inner = {key: value for key, value in content(own).items() if key != b"gitdir"}
    return {
        "files": content(folder),
        **{f"git {os.fsdecode(key)}": value for key, value in inner.items()},
        "status": subprocess.check_output(
            ["git", "status", "--porcelain=v2", "--branch", "--ignored", "-z"], cwd=folder
        ),
        "index": git(folder, "ls-files", "--stage", "--debug", "-z"),
        "branches": git(folder, "for-each-ref", "refs/heads", "refs/stash", "refs/bisect"),
        "stashes": git(folder, "stash", "list"),
        "worktrees": git(folder, "worktree", "list", "--porcelain"),
    }


def fill(git: Git, folder: Path) -> None:
    """Work of every kind."""
    git.commit(folder, "committed")
    git.commit(folder, "changed")
    (folder / "stashed").write_text("stashed")
    git(folder, "stash", "push", "-q", "--include-untracked", "-m", "later")
    (folder / "staged").write_text("staged only")
    git(folder, "add", "staged")
    (folder / "staged").write_text("and changed again")
    (folder / "changed").write_text("changed")
    (folder / "planned").write_text("planned")
    git(folder, "add", "--intent-to-add", "planned")
    (folder / "new\n\x1b[31mname").write_text("untracked")
    Path(os.fsdecode(os.fsencode(folder) + b"/latin\xe9")).write_text("bytes")
    (folder / "empty").mkdir()
    (folder / "run.sh").write_text("#!/bin/sh\n")
    (folder / "run.sh").chmod(0o755)
    (folder / "link").symlink_to("../trunk-main")
    (folder / "dangling").symlink_to("/nowhere")
    (folder / "node_modules/deep").mkdir(parents=True)
    (folder / "node_modules/deep/index.js").write_text("ignored")
    (folder / ".env").write_text("SECRET=1")
    os.mkfifo(folder / "node_modules/pipe")


def test_all_of_it_comes_back(git: Git, root: Path) -> None:
    path = root / "feat-login"
    fill(git, path)
    before, inode = state(git, path), (path / ".env").stat().st_ino
    removed = remove(path)
    entry = removed.entry
    assert not path.exists() and (entry.folder / ".env").stat().st_ino == inode  # renamed, not copied
    assert [each.path for each in layout.at(root).worktrees] == [root / "trunk-main"]
    assert git(entry.folder, "branch", "--show-current") == "feat/login"  # git answers in there, too
    tidy(git, root)
    assert state(git, entry.folder)["index"] == before["index"]
    restored = restore(root)
    assert (restored.path, restored.branch, restored.notes) == (path, "feat/login", [])
    assert state(git, path) == before
    assert git(path, "show", ":staged") == "staged only"
    assert held(root) == [] and list((root / ".imi-trash").iterdir()) == []
    assert git(path, "for-each-ref", "refs/imi") == ""


def stop(folder: Path, *arguments: str) -> None:
    """Run git, which stops halfway."""
    assert subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    "operation", ["rebase", "autostash", "am", "merge", "cherry-pick", "revert", "bisect"]
)
def test_an_operation_in_progress_comes_back(git: Git, root: Path, operation: str) -> None:
    trunk, path = root / "trunk-main", root / "feat-login"
    git.commit(path, "first")
    git.commit(path, "file", "ours\n")
    git.commit(trunk, "file", "theirs\n")
    git.commit(trunk, "file", "theirs again\n")
    if operation in ("rebase", "autostash"):
        if operation == "autostash":
            (path / "README").write_text("changed")
        stop(path, "rebase", "--autostash", "main")
    elif operation == "am":
        patch = git(trunk, "format-patch", "-1", "--stdout", "main")
        (path / "patch").write_text(f"{patch}\n")
        stop(path, "am", "patch")
    elif operation == "revert":
        git.commit(path, "file", "ours again\n")
        stop(path, "revert", "HEAD~1")
    elif operation == "bisect":
        git(path, "bisect", "start", "HEAD", "HEAD~2")
    else:
        stop(path, operation, "main")
    assert any("in progress" in each for each in refused(path))
    before = state(git, path)
    removed = remove(path)
    assert removed.entry.record.branch == "feat/login"
    git(trunk, "worktree", "add", "-q", str(root / "elsewhere"), "feat/login")  # the branch is free
    git(trunk, "worktree", "remove", str(root / "elsewhere"))
    tidy(git, root)
    restore(root)
    assert state(git, path) == before
    abort = (
        ["bisect", "reset"]
        if operation == "bisect"
        else [operation.replace("autostash", "rebase"), "--abort"]
    )
    git(path, *abort)
    assert git(path, "branch", "--show-current") == "feat/login"
    assert (path / "README").read_text() == ("changed" if operation == "autostash" else "README")


def test_a_detached_heads_commits_are_kept(git: Git, root: Path) -> None:
    path = root / "feat-login"
    git(path, "switch", "-q", "--detach")
    commit = git.commit(path, "only here")
    assert refused(path) == ["1 commit is unpushed"]
    before = state(git, path)
    remove(path)
    tidy(git, root)
    assert restore(root).branch is None
    assert state(git, path) == before and git(path, "rev-parse", "HEAD") == commit


def test_an_old_commit_that_is_broken_does_not_break_git(git: Git, root: Path) -> None:
    path = root / "feat-login"
    git(path, "switch", "-q", "--detach")
    commit = git.commit(path, "only here")
    git(path, "reset", "-q", "--hard", "HEAD~1")  # only the reflog knows it
    whole = git(path, "cat-file", "commit", "HEAD").replace(git(path, "rev-parse", "HEAD^{tree}"), "1" * 40)
    (path / "broken").write_text(f"{whole}\n")
    broken = git(path, "hash-object", "-t", "commit", "-w", "--literally", "broken")
    (path / "broken").unlink()
    (Path(git(path, "rev-parse", "--absolute-git-dir")) / "ORIG_HEAD").write_text(f"{broken}\n")
    remove(path)
    tidy(git, root)
    restore(root)
    assert git(path, "cat-file", "-t", commit) == "commit"


def test_a_bisect_that_began_on_a_commit(git: Git, root: Path) -> None:
    path = root / "feat-login"
    git.commit(path, "one")
    git.commit(path, "two")
    git(path, "switch", "-q", "--detach")
    git(path, "bisect", "start", "HEAD", "HEAD~2")
    before = state(git, path)
    assert remove(path).entry.record.branch is None
    restore(root)
    assert state(git, path) == before


def test_what_git_does_not_find_is_not_touched(git: Git, root: Path) -> None:
    path = root / "feat-login"
    (path / ".git").unlink()
    with pytest.raises(TakenError, match="does not find feat-login"):
        remove(path)
    assert (path / "README").is_file() and held(root) == []


def test_what_was_moved_out_of_the_trash_by_hand(git: Git, root: Path) -> None:
    path = root / "feat-login"
    fill(git, path)
    before = state(git, path)
    remove(path).entry.folder.rename(path)
    git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(root / "deep/feat-login"))
    assert trash_mending.mend(layout.at(root)) == [
        "the removal of feat-login was interrupted; it is in its place"
    ]
    after = state(git, path)
    assert (after["files"], after["status"]) == (before["files"], before["status"])
    assert git(root / "deep/feat-login", "status", "--porcelain") == ""
    assert held(root) == [] and trash_mending.mend(layout.at(root)) == []


def test_a_branch_without_a_commit_comes_back(git: Git, root: Path) -> None:
    path = root / "feat-login"
    git(path, "switch", "-q", "--orphan", "fresh")
    (path / "staged").write_text("staged")
    git(path, "add", "staged")
    before = state(git, path)
    remove(path)
    tidy(git, root)
    git(root / "trunk-main", "branch", "fresh", "main")
    with pytest.raises(TakenError, match="another branch now"):
        restore(root)
    git(root / "trunk-main", "branch", "-D", "fresh")
    restore(root)
    assert state(git, path) == before


def test_settings_of_one_worktree_come_back(git: Git, root: Path) -> None:
    path = root / "feat-login"
    (path / "inner").mkdir()
    git.commit(path, "inner/file")
    git(path, "sparse-checkout", "set", "nowhere")
    git(path, "config", "--worktree", "user.name", "Grace")
    git(path, "worktree", "lock", "--reason", "on a stick\n", str(path))
    assert not (path / "inner").exists()
    before = state(git, path)
    assert refused(path) == ["1 commit is unpushed", "it is locked: on a stick"]
    remove(path)
    tidy(git, root)
    restore(root)
    assert state(git, path) == before and git(path, "config", "user.name") == "Grace"


@pytest.mark.parametrize("is_taken", [False, True])
def test_submodules_come_back(git: Git, root: Path, tmp_path: Path, is_taken: bool) -> None:
    path, library = root / "feat-login", git.clone(git.origin(tmp_path / "lib.git"), tmp_path / "lib")
    file = ("-c", "protocol.file.allow=always")
    git(path, *file, "submodule", "--quiet", "add", str(library), "vendor/lib")
    git(path, "commit", "-q", "-m", "Add lib")
    (path / "vendor/lib/new").write_text("in the submodule")
    assert refused(path) == ["submodules have changes: vendor/lib", "1 commit is unpushed"]
    before = state(git, path)
    inner = git(path / "vendor/lib", "status", "--porcelain")
    remove(path)
    if is_taken:  # git's name for the worktree
        git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(tmp_path / "other/feat-login"))
    tidy(git, root)
    restore(root)
    after = state(git, path)
    assert (after["files"], after["index"], after["status"]) == (
        before["files"],
        before["index"],
        before["status"],
    )
    assert git(path / "vendor/lib", "status", "--porcelain") == inner == "?? new"
    if is_taken:
        assert git(tmp_path / "other/feat-login", "status", "--porcelain") == ""
    else:
        assert after == before


def test_a_branch_that_was_deleted_is_made_again(git: Git, root: Path) -> None:
    path = root / "feat-login"
    commit = git.commit(path, "work")
    before = state(git, path)
    remove(path)
    git(root / "trunk-main", "branch", "-D", "feat/login")
    tidy(git, root)
    assert restore(root).notes == ["feat/login was gone and is there again"]
    assert state(git, path) == before and git(path, "rev-parse", "feat/login") == commit


@pytest.mark.parametrize("case", ["moved", "elsewhere", "below"])
def test_a_branch_that_went_on_is_left_alone(git: Git, root: Path, tmp_path: Path, case: str) -> None:
    path, other = root / "feat-login", tmp_path / "other"
    commit = git.commit(path, "work")
    (path / "staged").write_text("staged")
    git(path, "add", "staged")
    before = state(git, path)
    remove(path)
    trunk = root / "trunk-main"
    if case == "below":
        git(trunk, "branch", "-D", "feat/login")
        git(trunk, "branch", "feat/login/more", "main")
    else:
        git(trunk, "worktree", "add", "-q", str(other), "feat/login")
        if case == "moved":
            git.commit(other, "more")
            git(trunk, "worktree", "remove", str(other))
    refs = git(trunk, "for-each-ref", "refs/heads")
    tidy(git, root)
    restored = restore(root)
    assert restored.branch is None and "no branch is checked out" in restored.notes[1]
    wanted = {
        "moved": "has moved since",
        "elsewhere": f"is checked out in {other}",
        "below": "cannot be made again",
    }
    assert wanted[case] in restored.notes[0] and f"detached at {commit[:12]}" in restored.notes[0]
    after = state(git, path)
    assert (after["files"], after["index"]) == (before["files"], before["index"])
    assert git(path, "rev-parse", "HEAD") == commit and git(path, "branch", "--show-current") == ""
    assert git(trunk, "for-each-ref", "refs/heads") == refs


def test_one_name_again_and_again(git: Git, root: Path) -> None:
    path = root / "feat-login"
    for text in ("first", "second"):
        if not path.exists():
            git(root / "trunk-main", "worktree", "add", "-q", str(path), "feat/login")
        (path / "file").write_text(text)
        remove(path)
    first, second = held(root)
    assert first.folder != second.folder and first.record.id != second.record.id
    restore(root, "login")
    assert (path / "file").read_text() == "second"
    with pytest.raises(TakenError, match="is there"):
        restore(root)
    remove(path)
    restore(root, first.folder.name)
    assert (path / "file").read_text() == "first"
    add(git, root, "other")
    remove(root / "feat-other")
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/other", str(root / "fix-other"))
    remove(root / "fix-other")
    with pytest.raises(NameRefusedError, match=r"feat-other, fix-other"):
        restore(root, "other")
    assert restore(root, "fix/other").path == root / "fix-other"


def test_every_reason_is_named_at_once(git: Git, root: Path) -> None:
    path = root / "feat-login"
    git.commit(path, "file")
    (path / "file").write_text("stash me")
    git(path, "stash", "push", "-q")
    (path / "file").write_text("changed")
    (path / "new").write_text("new")
    (path / "new too").write_text("new")
    git(path, "worktree", "lock", str(path))
    Path(git(path, "rev-parse", "--git-path", "index.lock")).touch()
    claim = {"claim": {"agent_id": "claude-7"}, "links": {"prs": []}}
    running = [
        Process(7, "vim", str(path / "deep")),
        Process(8, "sh", str(root)),
        Process(9, "sh", f"{path}-2"),
    ]
    assert refused(path, known=Known(claim), running=lambda: running) == [
        "1 file is uncommitted",
        "2 files are untracked",
        "1 stash is of feat/login",
        "1 commit is unpushed",
        "claude-7 claims it",
        "process 7 (vim) is inside",
        "a git command is at work in it, or was killed: index.lock is there",
        "it is locked",
    ]
    assert held(root) == []


def test_a_process_inside_is_found(git: Git, root: Path) -> None:
    from imi.worktrees.reasons import processes

    path = root / "feat-login"
    (path / "node_modules").mkdir()
    with subprocess.Popen(["sleep", "600"], cwd=path / "node_modules") as sleeping:
        try:
            assert refused(path, running=processes) == [f"process {sleeping.pid} (sleep) is inside"]
        finally:
            sleeping.kill()
    os.chdir(path)
    try:
        assert remove(path, force=False, running=processes).entry.record.forced == []
    finally:
        os.chdir(root)


def test_what_is_no_reason(git: Git, root: Path) -> None:
    path = root / "feat-login"
    (path / "node_modules").mkdir()
    (path / "node_modules/index.js").write_text("ignored")
    (root / "sync/repo").mkdir(parents=True)
    (root / "sync/repo/.mise.toml").write_text("shared")
    (path / ".mise.toml").symlink_to("../sync/repo/.mise.toml")
    claim = {"id": "x", "source": {}, "owner_id": "ada", "work_type": "feature"}
    claim |= {"claim": {"agent_id": "ada"}, "links": {"prs": []}}  # one's own
    removed = remove(path, force=False, known=Known(claim))
    assert (removed.entry.record.state, removed.entry.record.forced) == ("empty", [])
    assert (removed.entry.folder / "node_modules/index.js").read_text() == "ignored"


def test_a_squashed_branch_has_nothing_unpushed(git: Git, root: Path) -> None:
    trunk, path = root / "trunk-main", root / "feat-login"
    git.commit(path, "one")
    git.commit(path, "two")
    assert refused(path) == ["2 commits are unpushed"]
    git(trunk, "merge", "-q", "--squash", "feat/login")
    git(trunk, "commit", "-q", "-m", "Login (#7)")
    squash = git(trunk, "rev-parse", "HEAD")
    git.commit(trunk, "one", "changed since")
    record = remove(path, force=False).entry.record
    assert (record.state, record.test, record.merge_commit) == ("merged", "patch-id", squash)
    (report,) = spool.read(spool.waiting()[-1])
    assert report.body["completion"] == {
        "completion_type": "merged",
        "merge_commit_hash": squash,
        "evidence": {"rule": "git", "test": "patch-id"},
    }


def test_a_merge_that_only_the_remote_or_the_link_knows(git: Git, root: Path) -> None:
    trunk, path = root / "trunk-main", root / "feat-login"
    git.commit(path, "one")
    git(path, "push", "-q", "origin", "feat/login:main")
    git(trunk, "fetch", "-q")
    git.commit(trunk, "local")  # the local trunk has diverged
    assert remove(path, force=False).entry.record.test == "ancestor"
    other = add(git, root, "other")
    git.commit(other, "two")
    item = {"id": "x", "source": {}, "owner_id": "ada", "work_type": "feature", "claim": None}
    when = (datetime.now(UTC) + timedelta(seconds=1)).isoformat()
    known = Known(item | {"links": {"prs": [{"pr_state": "merged", "updated_at": when}]}})
    assert remove(other, force=False, known=known).entry.record.test == "pull request"


@pytest.mark.parametrize(
    "completed", [{}, {"completion_type": "merged", "completed_at": "2020-01-02T00:00:00Z"}]
)
def test_a_pull_request_has_no_commit_that_was_made_after_its_merge(
    git: Git, root: Path, completed: dict[str, str]
) -> None:
    path = root / "feat-login"
    git.commit(path, "one")
    link = {
        "pr_state": "merged",
        "updated_at": "2999-01-01T00:00:00Z" if completed else "2020-01-02T00:00:00Z",
    }
    known = Known({"id": "x", "claim": None, "links": {"prs": [link]}} | completed)
    assert refused(path, known=known) == ["1 commit is unpushed"]


def test_commits_of_a_submodule_that_no_remote_has(git: Git, root: Path, tmp_path: Path) -> None:
    inner = git.origin(tmp_path / "remotes/inner.git")
    git.clone(inner, tmp_path / "inner")
    trunk, path = root / "trunk-main", root / "feat-login"
    allowed = ("-c", "protocol.file.allow=always", "submodule", "--quiet")
    git(trunk, *allowed, "add", str(inner), "sub")
    git(trunk, "commit", "-q", "-m", "Submodule")
    git(path, "reset", "-q", "--hard", "main")
    git(path, *allowed, "update", "--init")
    git.commit(path / "sub", "only here")
    git(path, "commit", "-q", "-a", "-m", "Point")
    git(trunk, "merge", "-q", "feat/login")
    assert refused(path) == ["submodules have unpushed commits: sub"]
    git(path / "sub", "push", "-q", "origin", "HEAD:refs/heads/side")
    git(path / "sub", "fetch", "-q")
    (path / "sub/f").write_text("stashed")
    git(path / "sub", "stash", "push", "-q", "-u")
    assert refused(path) == ["submodules have unpushed commits: sub"]
    git(path / "sub", "stash", "drop", "-q")
    assert remove(path, force=False)


def test_changes_that_git_was_told_not_to_look_at(git: Git, root: Path) -> None:
    path = root / "feat-login"
    for flag in ("--assume-unchanged", "--skip-worktree"):
        (path / f"f{flag}").write_text("one\n")
        git(path, "add", ".")
    git(path, "commit", "-q", "-m", "Files")
    git(path, "push", "-q", "origin", "feat/login")
    for flag in ("--assume-unchanged", "--skip-worktree"):
        git(path, "update-index", flag, "--", f"f{flag}")
    (path / "f--skip-worktree").touch()
    (path / "f--assume-unchanged").write_text("two\n")
    before = git(path, "ls-files", "-v")
    assert refused(path) == ["1 file that git was told not to look at is changed"]
    (path / "f--skip-worktree").write_text("three\n")
    assert refused(path) == ["2 files that git was told not to look at are changed"]
    assert git(path, "ls-files", "-v") == before
    for flag in ("--assume-unchanged", "--skip-worktree"):
        (path / f"f{flag}").unlink()
    git(path, "checkout-index", "f--assume-unchanged")  # as in a sparse checkout, the other is away
    assert remove(path, force=False)


def test_what_is_never_removed(git: Git, root: Path, tmp_path: Path) -> None:
    trunk, path = root / "trunk-main", root / "feat-login"
    assert refused(trunk, force=True) == ["it is the trunk's worktree"]
    git(trunk, "worktree", "add", "-q", "--detach", str(path / "node_modules/inner"))
    assert refused(path, force=True) == [f"another worktree is inside: {path / 'node_modules/inner'}"]
    git(trunk, "worktree", "remove", str(path / "node_modules/inner"))
    trunk.rename(root / "plain")
    git(root / "plain", "switch", "-q", "-c", "side")
    git(root / "plain", "worktree", "repair", str(path))
    path.rename(root / "trunk-login")
    git(root / "plain", "worktree", "repair", str(root / "trunk-login"))
    main = "it is git's main worktree, which holds the repository"
    assert refused(root / "plain", force=True) == [main]


@pytest.mark.skipif(
    not Path("/dev/shm").is_dir() or Path("/dev/shm").stat().st_dev == Path("/tmp").stat().st_dev,
    reason="NOT TESTED: a worktree on another file system than the trash; it needs a /dev/shm of its own",
)
def test_another_file_system(git: Git, root: Path) -> None:
    away = Path("/dev/shm") / f"imi-{os.getpid()}"
    git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(away))
    try:
        with pytest.raises(trash.RefusedError, match="another file system"):
            trash.remove(layout.at(root), away, "ada", lambda branch: Known(), lambda standing: (), list)
        assert away.is_dir() and held(root) == []
    finally:
        git(root / "trunk-main", "worktree", "remove", "--force", str(away))


def test_a_trash_that_cannot_be_made(git: Git, root: Path) -> None:
    path = root / "feat-login"
    before = state(git, path)
    (root / ".imi-trash").write_text("in the way")
    with pytest.raises(trash.GitError, match="cannot be written: File exists"):
        remove(path)
    assert state(git, path) == before


def test_relative_worktrees_stay_relative(git: Git, root: Path) -> None:
    """As git 2.48 writes them with worktree.useRelativePaths; older ones do not read them."""
    path = root / "feat-login"
    entry = remove(path).entry
    entry.changed(is_relative=True)
    restore(root)
    own = root / "trunk-main/.git/worktrees/feat-login"
    assert (path / ".git").read_text() == "gitdir: ../trunk-main/.git/worktrees/feat-login\n"
    assert (own / "gitdir").read_text() == "../../../../feat-login/.git\n"
    assert git(path, "status", "--porcelain") == ""


def test_what_cannot_be_moved_stays_as_it_is(git: Git, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "feat-login"
    fill(git, path)
    before, rename = state(git, path), Path.rename

    def busy(self: Path, target: Path) -> Path:
        if self == path:
            raise OSError(16, "Device or resource busy")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", busy)
    with pytest.raises(trash.GitError, match="busy"):
        remove(path)
    assert state(git, path) == before and held(root) == []


def expired(root: Path, **fields: Any) -> None:
    held(root)[0].changed(**fields)


def test_what_is_old_expires(git: Git, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "feat-login"
    git(path, "switch", "-q", "--detach")
    commit = git.commit(path, "only here")
    (path / "node_modules/cache").mkdir(parents=True)
    (path / "node_modules/cache/file").write_text("read-only")
    (path / "node_modules/cache").chmod(0o500)
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    (path / "node_modules/link").symlink_to(outside)
    entry = remove(path).entry
    assert trash.expire(layout.at(root)) == []
    monkeypatch.setattr(trash_entries, "KEPT", timedelta(0))
    (said,) = trash.expire(layout.at(root))
    assert "although 1 commit is unpushed" in said and f"refs/imi/kept/{entry.record.id}" in said
    assert list((root / ".imi-trash").iterdir()) == [] and (outside / "file").read_text() == "mine"
    assert not entry.own(layout.at(root)).exists()
    tidy(git, root)
    assert git(root / "trunk-main", "rev-parse", f"refs/imi/kept/{entry.record.id}") == commit
    assert git(root / "trunk-main", "for-each-ref", "refs/imi/trash") == ""


def test_the_draft_of_a_record_that_was_never_written_goes_some_day(git: Git, root: Path) -> None:
    (root / ".imi-trash").mkdir()
    for name, age in (("old", trash_entries.KEPT + timedelta(hours=1)), ("young", timedelta(0))):
        draft = root / f".imi-trash/{name}.new"
        draft.touch()
        os.utime(draft, (draft.stat().st_mtime - age.total_seconds(),) * 2)
    assert trash.expire(layout.at(root)) == []
    assert [each.name for each in (root / ".imi-trash").iterdir()] == ["young.new"]


def test_a_full_trash_lets_the_oldest_go(git: Git, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = layout.at(root)
    for number in range(4):
        path = add(git, root, str(number))
        (path / "big").write_bytes(os.urandom(2**20))
        (path / "again").hardlink_to(path / "big")
        remove(path)
    sizes = [trash_entries.measured(project, each).record.size for each in held(root)]
    assert all(size and 2**20 <= size < 1.5 * 2**20 for size in sizes)
    monkeypatch.setattr(trash_entries, "BUDGET", 3 * 2**20)
    said = trash.expire(project)
    assert [each.split(",")[0] for each in said] == ["feat-0", "feat-1"]
    assert [each.record.name for each in held(root)] == ["feat-2", "feat-3"]
    monkeypatch.setattr(trash_entries, "BUDGET", 0)
    trash.expire(project)
    assert [each.record.name for each in held(root)] == ["feat-3"]  # never what was removed last


def test_what_was_deleted_by_hand_is_explained(git: Git, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = root / "feat-login"
    entry = remove(path).entry
    shutil.rmtree(entry.folder)
    assert trash_mending.mend(layout.at(root)) == []
    with pytest.raises(layout.NoProjectError):
        restore(root)
    git(root / "trunk-main", "worktree", "add", "-q", str(path), "feat/login")
    before = state(git, path)
    monkeypatch.setattr(trash_entries, "KEPT", timedelta(0))
    assert len(trash.expire(layout.at(root))) == 1
    assert held(root) == [] and state(git, path) == before


@pytest.mark.parametrize(
    "wrong",
    [
        {"removed_at": "2020-01-01T00:00:00"}, {"removed_at": 5}, {"place": 5}, {"size": "x"}, {"expired": "x"},
        {"forced": 5}, {"work": 5},
    ],
)  # fmt: skip
def test_a_record_with_wrong_values_is_named_and_deletes_nothing(
    git: Git, root: Path, wrong: dict[str, Any]
) -> None:
    entry = remove(root / "feat-login").entry
    entry.file.write_text(json.dumps(json.loads(entry.file.read_bytes()) | wrong))
    project = layout.at(root)
    assert trash_entries.read(project)[0] == []
    assert "no record" in trash_mending.mend(project)[0] and "no record" in trash.expire(project)[0]
    assert any(entry.folder.iterdir())


def test_a_file_that_is_no_record_is_named(git: Git, root: Path) -> None:
    (root / ".imi-trash").mkdir()
    (root / ".imi-trash/feat-x.json").write_text('{"id": 1}')
    entry = remove(root / "feat-login").entry
    record = json.loads(entry.file.read_text())
    entry.file.with_stem("feat-y").write_text(json.dumps(record | {"id": "../.."}))
    found, notes = trash_entries.read(layout.at(root))
    assert [each.record for each in found] == [entry.record]
    assert [note.split(" ")[0] for note in notes] == [str(root / f".imi-trash/feat-{x}.json") for x in "xy"]
    assert trash_mending.mend(layout.at(root)) == notes


def test_a_project_that_was_moved_as_a_whole(git: Git, root: Path) -> None:
    fill(git, root / "feat-login")
    before = state(git, root / "feat-login")
    remove(root / "feat-login")
    moved = root.rename(root.with_name("moved"))
    restore(moved)
    after = state(git, moved / "feat-login")
    assert after["files"] == before["files"] and after["index"] == before["index"]


KILLED = """
import os, signal, sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from imi.worktrees import trash_entries, layout, trash
from imi.worktrees.reasons import Known

task, root, left = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
project = layout.at(root)
writes = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "shutil.rmtree")

def count(event, arguments):
    global left
    acts = event in writes
    acts |= event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    acts |= event == "subprocess.Popen" and arguments[1][1] not in ("-c", b"-c")  # git that writes
    if acts:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
if task == "remove":
    trash.remove(project, root / "feat-login", "ada", lambda branch: Known(), lambda standing: (), list)
elif task == "restore":
    trash.restore(project, "feat-login", "ada", lambda record: None)
else:
    trash_entries.KEPT = timedelta(0)
    trash.expire(project)
"""


def killed(task: str, root: Path, step: int) -> bool:
    """Run a task that is killed before its write number `step`; False when it came to its end before."""
    environment = os.environ | {"PYTHONPATH": str(Path(package).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", KILLED, task, str(root), str(step)],
        env=environment,
        capture_output=True,
        check=False,
    )
    assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
    return done.returncode != 0


def reports() -> list[str]:
    return [report.kind for file in spool.waiting() for report in spool.read(file)]


def told() -> list[str]:
    """The kinds of the reports that wait, each id once; then none wait."""
    found = {report.id: report.kind for file in spool.waiting() for report in spool.read(file)}
    for file in spool.waiting():
        spool.leave(file, [])
    return list(found.values())


@pytest.mark.parametrize("operation", ["plain", "rebase"])
def test_a_removal_killed_at_any_step_loses_nothing(git: Git, root: Path, operation: str) -> None:
    path = prepared(git, root, operation)
    before, step, seen = state(git, path), 0, set()
    while killed("remove", root, step):
        step += 1
        said = trash_mending.mend(layout.at(root))
        assert trash_mending.mend(layout.at(root)) == []
        seen.add(path.exists())
        if path.exists():
            assert told() == [] and held(root) == []
        else:
            assert told() == ["removed"]
            restore(root)
            assert told() == ["worktree"]
        assert len(said) <= 1
        assert state(git, path) == before
        assert {each.suffix for each in (root / ".imi-trash").glob("*")} <= {".new"}  # a draft of the record
    assert seen == {True, False} and step > 10
    assert [each.folder.is_dir() for each in held(root)] == [True] and told() == ["removed"]


@pytest.mark.parametrize("operation", ["plain", "rebase"])
def test_a_restore_killed_at_any_step_loses_nothing(git: Git, root: Path, operation: str) -> None:
    path = prepared(git, root, operation)
    before, step, seen = state(git, path), 0, set()
    remove(path)
    told()
    while killed("restore", root, step):
        step += 1
        trash_mending.mend(layout.at(root))
        assert trash_mending.mend(layout.at(root)) == []
        seen.add(path.exists())
        if path.exists():
            assert told() == ["worktree"]
            assert state(git, path) == before and held(root) == []
            remove(path)
            assert told() == ["removed"]
        else:
            assert told() == []
            assert len(held(root)) == 1
    assert seen == {True, False} and step > 5
    assert state(git, path) == before and held(root) == []
    assert told() == ["worktree"]


def test_an_expiry_killed_at_any_step_goes_on(git: Git, root: Path) -> None:
    step, path = 0, root / "feat-login"
    git(path, "switch", "-q", "--detach")
    commit = git.commit(path, "only here")
    while True:
        entry = remove(path).entry
        if not killed("expire", root, step):
            break
        step += 1
        said = trash_mending.mend(layout.at(root))
        assert trash_mending.mend(layout.at(root)) == []
        if entry.folder.exists():
            assert said == []
            restore(root)
        else:
            assert said in (
                ["the deletion of feat-login, which had expired, was interrupted; it is done"],
                [],
            )
            assert (
                list((root / ".imi-trash").iterdir())
                == []
                == list((root / "trunk-main/.git/imi-trash").iterdir())
            )
            assert git(root / "trunk-main", "for-each-ref", "refs/imi/trash") == ""
            git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(path), commit)
        assert git(path, "rev-parse", "HEAD") == commit
    assert step > 5 and list((root / ".imi-trash").iterdir()) == []


def prepared(git: Git, root: Path, operation: str) -> Path:
    path = root / "feat-login"
    if operation == "rebase":
        git.commit(path, "file", "ours\n")
        git.commit(root / "trunk-main", "file", "theirs\n")
        stop(path, "rebase", "main")
        (path / "untracked").write_text("mine")
    else:
        fill(git, path)
    return path
