"""Whether a branch is merged, on real histories: each way that work reaches a trunk, and each that it does not."""

from collections.abc import Callable
from pathlib import Path

import pytest

from imi.worktrees import git as ask
from imi.worktrees.merged import judge
from tests.repositories import Git

BRANCH = "refs/heads/feat/größe"
TRUNK = "refs/heads/main"
LINES = "".join(f"line {number}\n" for number in range(40))


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    """A clone with a long file in the trunk and the branch checked out."""
    clone = git.clone(git.origin(tmp_path / "origin.git"), tmp_path / 'a "clone": \\ größe')
    git.commit(clone, "text", LINES)
    git(clone, "switch", "-q", "-c", "feat/größe")
    return clone


def work(git: Git, clone: Path) -> None:
    """Two commits on the branch."""
    git.commit(clone, "text", LINES.replace("line 20", "mine 20"))
    git.commit(clone, "new", "text\n")


def on_trunk(git: Git, clone: Path) -> None:
    git(clone, "switch", "-q", "main")


def squash(git: Git, clone: Path) -> str:
    on_trunk(git, clone)
    git(clone, "merge", "-q", "--squash", BRANCH)
    git(clone, "commit", "-q", "-m", "Squashed")
    return git(clone, "rev-parse", "HEAD")


def rebase(git: Git, clone: Path) -> None:
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "cherry-pick", f"main..{BRANCH}")


def test_a_merge_commit(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "merge", "-q", "--no-ff", "--no-edit", BRANCH)
    merge = git(clone, "rev-parse", "HEAD")
    git.commit(clone, "later")
    verdict = judge(clone, BRANCH, TRUNK)
    assert (verdict.state, verdict.test, verdict.commit) == ("merged", "ancestor", merge)
    assert judge(clone, git(clone, "rev-parse", BRANCH), TRUNK) == verdict


def test_a_merge_that_was_reverted_is_in_the_history(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    git(clone, "merge", "-q", "--no-ff", "--no-edit", BRANCH)
    git(clone, "revert", "--no-edit", "-m", "1", "HEAD")
    assert judge(clone, BRANCH, TRUNK).test == "ancestor"


def test_a_squash_that_was_reverted_is_found_by_its_patch(git: Git, clone: Path) -> None:
    work(git, clone)
    commit = squash(git, clone)
    git(clone, "revert", "--no-edit", "HEAD")
    verdict = judge(clone, BRANCH, TRUNK)
    assert (verdict.state, verdict.test, verdict.commit) == ("merged", "patch-id", commit)


def test_a_fast_forward_is_told_from_a_branch_without_commits(git: Git, clone: Path) -> None:
    assert judge(clone, BRANCH, TRUNK).state == "empty"
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "switch", "-q", "feat/größe")
    git(clone, "merge", "-q", "--ff-only", "main")
    assert judge(clone, BRANCH, TRUNK).state == "empty"
    work(git, clone)
    on_trunk(git, clone)
    git(clone, "merge", "-q", "--ff-only", BRANCH)
    git.commit(clone, "later")
    verdict = judge(clone, BRANCH, TRUNK)
    assert (verdict.state, verdict.test) == ("merged", "ancestor")
    assert verdict.commit == git(clone, "rev-parse", BRANCH)


def test_a_branch_that_was_reset_to_the_trunk_is_empty(git: Git, clone: Path) -> None:
    work(git, clone)
    git(clone, "reset", "-q", "--hard", "main")
    assert judge(clone, BRANCH, TRUNK).state == "empty"


def test_a_branch_without_a_reflog_can_be_judged(git: Git, clone: Path) -> None:
    git(clone, "reflog", "expire", "--expire=all", "--all")
    assert judge(clone, BRANCH, TRUNK).state == "empty"
    (clone / ".git/logs/refs/heads/feat/größe").unlink()
    assert judge(clone, BRANCH, TRUNK).state == "empty"


def test_a_squash(git: Git, clone: Path) -> None:
    work(git, clone)
    squash(git, clone)
    assert judge(clone, BRANCH, TRUNK).test == "same tree"
    git.commit(clone, "other")
    assert judge(clone, BRANCH, TRUNK).test == "merge adds nothing"


def test_a_squash_that_the_trunk_wrote_over_later(git: Git, clone: Path) -> None:
    work(git, clone)
    commit = squash(git, clone)
    git.commit(clone, "text", LINES.replace("line 20", "theirs 20"))
    git.commit(clone, "new", "another text\n")
    verdict = judge(clone, BRANCH, TRUNK)
    assert (verdict.state, verdict.test, verdict.commit) == ("merged", "patch-id", commit)


def test_a_rebase(git: Git, clone: Path) -> None:
    work(git, clone)
    rebase(git, clone)
    assert judge(clone, BRANCH, TRUNK).test == "merge adds nothing"
    git.commit(clone, "text", LINES.replace("line 20", "theirs 20"))
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


def test_half_a_rebase_is_open(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "cherry-pick", f"{BRANCH}~1")
    assert judge(clone, BRANCH, TRUNK).state == "open"


def test_commits_after_the_squash_are_open(git: Git, clone: Path) -> None:
    work(git, clone)
    squash(git, clone)
    git(clone, "switch", "-q", "feat/größe")
    git.commit(clone, "text", LINES.replace("line 20", "mine again"))
    assert judge(clone, BRANCH, TRUNK).state == "open"


def test_a_branch_that_merged_the_trunk_and_was_squashed(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    git.commit(clone, "text", LINES.replace("line 20", "theirs 20"))
    git(clone, "switch", "-q", "feat/größe")
    git(clone, "merge", "-q", "--no-edit", "-X", "ours", "main")
    squash(git, clone)
    git(clone, "switch", "-q", "feat/größe")
    assert judge(clone, BRANCH, TRUNK).test == "same tree"
    git(clone, "merge", "-q", "--no-edit", "main")
    assert judge(clone, BRANCH, TRUNK).test == "same tree"


def test_what_a_merge_on_the_branch_changed_counts(git: Git, clone: Path) -> None:
    git.commit(clone, "new", "text\n")
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "switch", "-q", "feat/größe")
    git(clone, "merge", "-q", "--no-commit", "main")
    git.commit(clone, "only-in-the-merge")
    on_trunk(git, clone)
    git(clone, "cherry-pick", f"{BRANCH}^1")
    assert judge(clone, BRANCH, TRUNK).state == "open"


def test_work_that_the_branch_took_back_is_open(git: Git, clone: Path) -> None:
    git.commit(clone, "new", "text\n")
    git(clone, "revert", "--no-edit", "HEAD")
    assert judge(clone, BRANCH, TRUNK).state == "open"
    on_trunk(git, clone)
    git.commit(clone, "other")
    assert judge(clone, BRANCH, TRUNK).state == "open"


def test_empty_commits_are_no_work(git: Git, clone: Path) -> None:
    git(clone, "commit", "-q", "--allow-empty", "-m", "Nothing")
    on_trunk(git, clone)
    git.commit(clone, "other")
    assert judge(clone, BRANCH, TRUNK).state == "empty"
    git(clone, "switch", "-q", "feat/größe")
    work(git, clone)
    assert judge(clone, BRANCH, TRUNK).state == "open"
    rebase_without_the_empty = git(clone, "rev-list", "--reverse", "-2", BRANCH).split()
    on_trunk(git, clone)
    git(clone, "cherry-pick", *rebase_without_the_empty)
    git.commit(clone, "new", "another text\n")
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


def test_unrelated_histories(git: Git, clone: Path) -> None:
    git(clone, "switch", "-q", "--orphan", "alone")
    git.commit(clone, "new", "text\n")
    assert judge(clone, "refs/heads/alone", TRUNK).state == "open"
    on_trunk(git, clone)
    git.commit(clone, "new", "text\n")
    git.commit(clone, "new", "another text\n")
    assert judge(clone, "refs/heads/alone", TRUNK).test == "patch-id", "the same patch stands in both"


def binary(clone: Path, variant: int) -> None:
    (clone / "image").write_bytes(b"\0\1\2" + bytes([variant]))


def mode(clone: Path, variant: int) -> None:
    (clone / "text").chmod(0o755)


def white_space(clone: Path, variant: int) -> None:
    (clone / "text").write_text(LINES.replace("line 20", "  " * variant + "line 20"))


@pytest.mark.parametrize("change", [binary, mode, white_space])
def test_changes_that_are_not_lines(git: Git, clone: Path, change: Callable[[Path, int], None]) -> None:
    change(clone, 1)
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "Change")
    assert judge(clone, BRANCH, TRUNK).state == "open"
    rebase(git, clone)
    git(clone, "revert", "--no-edit", "HEAD")
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


@pytest.mark.parametrize("change", [binary, white_space])
def test_a_similar_change_is_not_the_same(git: Git, clone: Path, change: Callable[[Path, int], None]) -> None:
    for branch, variant in (("feat/größe", 1), ("main", 2)):
        git(clone, "switch", "-q", branch)
        change(clone, variant)
        git(clone, "add", ".")
        git(clone, "commit", "-q", "-m", "Change")
    assert judge(clone, BRANCH, TRUNK).state == "open"


def test_a_submodules_commit(git: Git, clone: Path) -> None:
    def point(commit: str) -> None:
        git(clone, "update-index", "--add", "--cacheinfo", f"160000,{commit},sub")
        git(clone, "commit", "-q", "-m", "Point")

    (clone / ".gitmodules").write_text('[submodule "sub"]\npath = sub\nurl = ../sub\nignore = all\n')
    git(clone, "add", ".gitmodules")
    point("1" * 40)
    assert judge(clone, BRANCH, TRUNK).state == "open"
    squash(git, clone)
    point("2" * 40)
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


def test_work_that_was_taken_back_after_a_merge_of_the_trunk(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "switch", "-q", "feat/größe")
    tip = git(clone, "rev-parse", "HEAD")
    git(clone, "merge", "-q", "--no-edit", "main")
    git(clone, "checkout", "-q", "main", "--", ".")
    git(clone, "rm", "-q", "--", *git(clone, "diff", "--name-only", "main").split("\n"))
    git(clone, "commit", "-q", "-m", "Take it back")
    assert git(clone, "diff", "main") == ""
    assert judge(clone, BRANCH, TRUNK).state == "open"
    git(clone, "reset", "-q", "--hard", tip)
    git(clone, "merge", "-q", "--no-commit", "main")  # or the merge itself loses it
    git(clone, "read-tree", "--reset", "-u", "main")
    git(clone, "commit", "-q", "-m", "Merge")
    assert git(clone, "diff", "main") == "" and judge(clone, BRANCH, TRUNK).state == "open"


def test_a_squash_that_the_branch_took_in(git: Git, clone: Path) -> None:
    work(git, clone)
    squash(git, clone)
    git(clone, "switch", "-q", "feat/größe")
    git(clone, "merge", "-q", "--no-edit", "main")
    assert judge(clone, BRANCH, TRUNK).test == "same tree"
    on_trunk(git, clone)
    git.commit(clone, "other")
    git(clone, "switch", "-q", "feat/größe")
    git(clone, "merge", "-q", "--no-edit", "main")
    assert judge(clone, BRANCH, TRUNK).test == "same tree"


def test_the_link_is_asked_last(git: Git, clone: Path) -> None:
    work(git, clone)
    on_trunk(git, clone)
    assert judge(clone, BRANCH, TRUNK, is_link_merged=True).test == "pull request"
    squash(git, clone)
    assert judge(clone, BRANCH, TRUNK, is_link_merged=True).test == "same tree"


def test_the_search_is_bounded(git: Git, clone: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    work(git, clone)
    squash(git, clone)
    git.commit(clone, "text", LINES.replace("line 20", "theirs 20"))
    git.commit(clone, "new", "another text\n")
    monkeypatch.setattr("imi.worktrees.merged.LIMIT", 2)
    assert judge(clone, BRANCH, TRUNK).state == "open"
    monkeypatch.setattr("imi.worktrees.merged.LIMIT", 3)
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


def test_the_search_goes_on_after_its_first_chunk(
    git: Git, clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("imi.worktrees.merged.CHUNK", 1)
    work(git, clone)
    rebase(git, clone)
    git.commit(clone, "text", LINES.replace("line 20", "theirs 20"))
    assert judge(clone, BRANCH, TRUNK).test == "patch-id"


def test_a_shallow_clone(git: Git, clone: Path, tmp_path: Path) -> None:
    work(git, clone)
    git(clone, "push", "-q", "origin", BRANCH)
    squash(git, clone)
    git(clone, "push", "-q", "origin", "main")
    git(
        tmp_path, "clone", "-q", "--depth=1", "--no-single-branch", f"file://{tmp_path}/origin.git", "shallow"
    )
    branch = "refs/remotes/origin/feat/größe"
    assert judge(tmp_path / "shallow", branch, TRUNK).test == "same tree"
    git.commit(clone, "other")
    git(clone, "push", "-q", "origin", "main")
    git(tmp_path / "shallow", "fetch", "-q", "--depth=1", "origin")
    verdict = judge(tmp_path / "shallow", branch, "refs/remotes/origin/main")
    assert verdict.state == "open", "the history that shows the squash was cut off"


def test_nothing_is_written_and_no_driver_or_filter_runs(git: Git, clone: Path, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    git.commit(clone, "text", LINES.replace("line 5\n", "mine 5\n"))
    on_trunk(git, clone)
    git.commit(clone, "text", LINES.replace("line 35\n", "theirs 35\n"))
    (clone / ".git/info/attributes").write_text("text merge=x filter=x diff=x\n")
    for setting in ("merge.x.driver", "filter.x.clean", "diff.x.command", "diff.x.textconv", "diff.external"):
        git(clone, "config", setting, str(program))
    git(clone, "config", "merge.renormalize", "true")
    before = git(clone, "count-objects", "-v")
    assert judge(clone, BRANCH, TRUNK).state == "open", "a blanked driver would take the trunk's side"
    assert not (tmp_path / "ran").exists()
    assert git(clone, "count-objects", "-v") == before


def test_a_missing_object_is_an_error(git: Git, clone: Path) -> None:
    with pytest.raises(ask.GitError, match="rev-parse"):
        judge(clone, "refs/heads/gone", TRUNK)
