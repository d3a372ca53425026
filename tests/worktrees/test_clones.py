"""Finding clones, and what is read from each, against git itself."""

import shutil
from pathlib import Path

import pytest

from imi.worktrees import clones
from imi.worktrees import git as ask
from imi.worktrees.clones import Clone
from tests.repositories import Git


def inspect(folder: Path) -> Clone:
    return clones.inspect(ask.common_dir(folder), folder)


def read(root: Path) -> tuple[list[Clone], dict[str, str]]:
    found, skipped = clones.read(root, lambda label, done, total: None)
    return found, {path.name: reason for path, reason in skipped}


@pytest.fixture
def clone(git: Git, tmp_path: Path) -> Path:
    return git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "code/clone")


def test_the_state_of_each_branch_is_gits_own(git: Git, clone: Path, tmp_path: Path) -> None:
    git(clone, "switch", "-q", "-c", "feat/a")
    git.commit(clone, "a1")
    tip = git.commit(clone, "a2", message="Second\n\nwith a body")
    git(clone, "switch", "-q", "main")
    git.commit(clone, "m1")
    git(clone, "worktree", "add", "-q", "-b", "fix/b", str(tmp_path / "b"))
    (tmp_path / "b/README").write_text("changed")
    (tmp_path / "b/new").touch()
    git(clone, "branch", "done")
    a = {branch.name: branch for branch in inspect(clone).branches}
    assert set(a) == {"feat/a", "fix/b", "done"}
    for branch in a.values():
        ahead, behind = (
            int(git(clone, "rev-list", "--count", each))
            for each in (f"main..{branch.name}", f"{branch.name}..main")
        )
        assert (branch.ahead, branch.behind) == (ahead, behind)
    assert (a["feat/a"].ahead, a["feat/a"].behind) == (2, 1)
    assert (a["feat/a"].commit, a["feat/a"].subject, a["feat/a"].worktree) == (tip, "Second", None)
    assert a["fix/b"].uncommitted == len(git(tmp_path / "b", "status", "--porcelain").splitlines()) == 2
    assert a["fix/b"].worktree == tmp_path / "b"
    assert [name for name, branch in a.items() if branch.is_merged] == ["done"], "what is dirty is not merged"


def test_the_trunk_is_the_newer_of_local_and_remote(git: Git, clone: Path, tmp_path: Path) -> None:
    git(clone, "branch", "side")
    git.commit(clone, "not-pushed")
    assert inspect(clone).branches[0].behind == 1, "a commit on main that is not pushed counts"
    git(clone, "push", "-q")
    other = tmp_path / "other"
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "other")
    git.commit(other, "fetched")
    git(other, "push", "-q")
    git(clone, "fetch", "-q")
    assert inspect(clone).branches[0].behind == 2, "a commit that is fetched and not merged counts"
    git.commit(clone, "diverges")
    assert inspect(clone).branches[0].behind == 2, "when they diverge the remote's is the trunk"


@pytest.mark.parametrize(
    ("branches", "head", "trunk"),
    [
        (["develop", "main"], "develop", "develop"),
        (["develop", "main"], None, "main"),
        (["master", "topic"], None, "master"),
        (["only"], None, "only"),
    ],
)
def test_the_trunk_is_what_the_remote_says_else_a_usual_name(
    git: Git, tmp_path: Path, branches: list[str], head: str | None, trunk: str
) -> None:
    origin = git.origin(tmp_path / "origin.git")
    git(tmp_path, "clone", "-q", str(origin), "clone")
    clone = tmp_path / "clone"
    for branch in branches:
        git(clone, "switch", "-q", "-c", branch)
        git.commit(clone, branch)
        git(clone, "push", "-q", "-u", "origin", branch)
    if head:
        git(clone, "remote", "set-head", "origin", head)
    found = inspect(clone)
    assert found.trunk == trunk
    assert {branch.name for branch in found.branches} == {*branches} - {trunk}
    git(clone, "switch", "-q", trunk)
    assert inspect(clone).trunk_path == clone


def test_no_trunk_is_said(git: Git, tmp_path: Path) -> None:
    git.origin(tmp_path / "origin.git")
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "clone")
    for branch in ("one", "two"):
        git(tmp_path / "clone", "switch", "-q", "-c", branch)
        git.commit(tmp_path / "clone", branch)
    with pytest.raises(ask.GitError, match="no trunk among its branches: name it with `git remote set-head"):
        inspect(tmp_path / "clone")


def test_a_clone_without_a_commit_is_still_a_clone(git: Git, tmp_path: Path) -> None:
    git.origin(tmp_path / "origin.git")
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "clone")
    found = inspect(tmp_path / "clone")
    assert (found.trunk, found.branches) == (None, ())


def test_which_remote_names_the_project(git: Git, clone: Path) -> None:
    git(clone, "remote", "add", "mirror", "https://example.org/mirror")
    assert inspect(clone).remote.endswith("/origin.git")
    git(clone, "remote", "rename", "origin", "upstream")
    with pytest.raises(ask.GitError, match="2 remotes and none is called origin"):
        inspect(clone)
    git(clone, "remote", "remove", "mirror")
    assert inspect(clone).remote.endswith("/origin.git")
    git(clone, "remote", "set-url", "upstream", "../../origin.git")
    assert inspect(clone).remote == str(clone.parents[1] / "origin.git")
    git(clone, "remote", "set-url", "upstream", "host:org/repo")
    assert inspect(clone).remote == "host:org/repo"


def test_a_bare_repository_has_no_folder_of_its_own(git: Git, clone: Path, tmp_path: Path) -> None:
    git(tmp_path / "code", "clone", "-q", "--bare", str(clone), "bare.git")
    bare = tmp_path / "code/bare.git"
    git(bare, "worktree", "add", "-q", "-b", "exp/z", str(tmp_path / "code/z"))
    found = inspect(bare)
    assert (found.trunk, found.trunk_path) == ("main", None)
    assert [branch.worktree for branch in found.branches] == [tmp_path / "code/z"]


def test_a_worktree_that_was_deleted_is_not_read(git: Git, clone: Path, tmp_path: Path) -> None:
    git(clone, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side").rename(tmp_path / "moved")
    assert inspect(clone).branches[0].worktree is None


def test_a_copied_clone_does_not_have_the_worktrees_of_the_first(
    git: Git, clone: Path, tmp_path: Path
) -> None:
    git(clone, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    (tmp_path / "side/new").touch()
    copy = shutil.copytree(clone, tmp_path / "copy")
    assert [(b.worktree, b.uncommitted) for b in inspect(clone).branches] == [(tmp_path / "side", 1)]
    assert [(b.worktree, b.uncommitted) for b in inspect(copy).branches] == [(None, 0)]


def test_each_clone_is_found_once_in_order(git: Git, clone: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    for name in ("nested/deep", "another"):
        git(code, "clone", "-q", str(tmp_path / "origin.git"), name)
    git(clone, "worktree", "add", "-q", "-b", "side", str(code / "side"))
    git(code, "clone", "-q", str(clone), str(clone / "inside"))
    for hidden in (".cache/x", "node_modules/y"):
        git(code, "clone", "-q", str(clone), hidden)
    git(code, "clone", "-q", "--bare", str(clone), "mirror.git")
    (code / "loop").symlink_to(code)
    found, skipped = read(code)
    assert [each.path.relative_to(code).as_posix() for each in found] == [
        "another",
        "clone",
        "clone/inside",
        "mirror.git",
        "nested/deep",
    ]
    assert skipped == {}


def test_what_cannot_be_registered_says_why(git: Git, clone: Path, tmp_path: Path) -> None:
    code = tmp_path / "code"
    (code / "empty/.git").mkdir(parents=True)
    git(code, "init", "-q", "lonely")
    git(code, "clone", "-q", str(clone), "corrupt")
    for name in (code / "corrupt/.git/objects").glob("??/*"):
        name.unlink()
    found, skipped = read(code)
    assert [each.path.name for each in found] == ["clone"]
    assert set(skipped) == {"empty", "lonely", "corrupt"}
    assert skipped["empty"].startswith("git rev-parse: not a git repository")
    assert skipped["lonely"] == "no remote: give it one with `git remote add origin URL`"
    assert "object" in skipped["corrupt"]


def test_a_folder_that_cannot_be_read_says_so(tmp_path: Path) -> None:
    assert read(tmp_path / "gone") == ([], {"gone": "No such file or directory"})
