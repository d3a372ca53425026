"""What git says of commits."""

from pathlib import Path

import pytest

from imi.worktrees import commits
from imi.worktrees.git import GitError
from tests.repositories import EMAIL, Git


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "clone")


def test_commits_by_their_hashes(git: Git, clone: Path) -> None:
    one = git.commit(clone, "a", message="\x1b[2J größe%00\n\nbody")
    two = git.commit(clone, "b")
    found = commits.read(clone, {one, two})
    assert (found[one].subject, found[two].subject) == ("\x1b[2J größe%00", "Add b")
    assert (found[one].author, found[one].author_email) == ("Ada", EMAIL)
    assert commits.read(clone, set()) == {}
    with pytest.raises(GitError):
        commits.read(clone, {one, "1" * 40})


def test_what_is_no_whole_commit_is_refused(git: Git, clone: Path) -> None:
    git(clone, "tag", "-a", "v1", "-m", "A tag")
    with pytest.raises(GitError, match="is no commit"):
        commits.read(clone, {git(clone, "rev-parse", "v1")})
    lines = git(clone, "cat-file", "-p", "HEAD").splitlines()
    for spoilt in ([*lines[:2], "committer a <a> 99999999999999999 +0000", "", "x"], [*lines[:2], "", "x"]):
        (clone / "spoilt").write_text("\n".join(spoilt) + "\n")
        made = git(clone, "hash-object", "-t", "commit", "-w", "--literally", "spoilt")
        with pytest.raises(GitError, match="has no time"):
            commits.read(clone, {made})


def test_divergence_is_gits_own_count(git: Git, clone: Path) -> None:
    git(clone, "switch", "-q", "-c", "side")
    git.commit(clone, "a")
    git.commit(clone, "b")
    git(clone, "switch", "-q", "main")
    git.commit(clone, "c")
    assert commits.divergence(clone, "main", "side") == (2, 1)
