"""Finding a project from wherever one stands, and the shapes that are one."""

from __future__ import annotations

from pathlib import Path

import pytest

from imi.worktrees import layout, names
from tests.repositories import Git


@pytest.fixture
def shop(git: Git, tmp_path: Path) -> Path:
    """A project's folder with a task's worktree in it."""
    git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "shop/trunk-main")
    git(tmp_path / "shop/trunk-main", "worktree", "add", "-q", "-b", "feat/a", str(tmp_path / "shop/feat-a"))
    return tmp_path / "shop"


@pytest.mark.parametrize("inside", ["", "trunk-main", "feat-a", "feat-a/src/deep", "sync/repo"])
def test_a_project_is_found_from_anywhere_in_it(shop: Path, tmp_path: Path, inside: str) -> None:
    (shop / inside).mkdir(parents=True, exist_ok=True)
    found = layout.find(shop / inside)
    assert (found.root, found.repository) == (shop, shop / "trunk-main/.git")
    assert (found.trunk, found.trunk_path) == ("main", shop / "trunk-main")
    assert (found.remote_name, found.remote) == ("origin", str(tmp_path / "origin.git"))
    assert [each.branch for each in found.worktrees] == ["main", "feat/a"]


@pytest.mark.parametrize("bare", [".bare", ".git", "shop.git"])
def test_bare_and_worktrees(git: Git, shop: Path, tmp_path: Path, bare: str) -> None:
    root = tmp_path / "bare-shop"
    git(tmp_path, "clone", "-q", "--bare", str(tmp_path / "origin.git"), str(root / bare))
    git(root / bare, "worktree", "add", "-q", str(root / "main"), "main")
    for place in (root, root / "main"):
        found = layout.find(place)
        assert (found.root, found.trunk, found.trunk_path) == (root, "main", root / "main")


def test_the_setting_wins_and_says_so_when_it_is_wrong(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_REPO_ROOT", str(shop))
    assert layout.find(tmp_path).root == shop
    monkeypatch.setenv("IMI_REPO_ROOT", str(tmp_path / "nowhere"))
    with pytest.raises(layout.NoProjectError, match="IMI_REPO_ROOT"):
        layout.find(shop)


def test_a_plain_clone_and_no_clone(git: Git, shop: Path, tmp_path: Path) -> None:
    git(tmp_path, "clone", "-q", str(tmp_path / "origin.git"), "plain")
    with pytest.raises(layout.PlainCloneError) as plain:
        layout.find(tmp_path / "plain")
    assert plain.value.folder == tmp_path / "plain"
    (tmp_path / "empty").mkdir()
    with pytest.raises(layout.NoProjectError):
        layout.find(tmp_path / "empty")


def test_a_trunk_by_what_the_remote_says(git: Git, shop: Path) -> None:
    trunk = shop / "trunk-main"
    git(trunk, "push", "-q", "origin", "main:refs/heads/release/1")
    git(trunk, "remote", "set-head", "origin", "release/1")
    assert layout.find(shop).trunk == "release/1"
    git(trunk, "remote", "remove", "origin")
    found = layout.find(shop)
    assert (found.trunk, found.remote_name, found.remote) == ("main", None, None)


def test_a_worktree_whose_folder_is_gone_is_prunable(git: Git, shop: Path) -> None:
    (shop / "feat-a").rename(shop / "moved")
    assert [each.prunable for each in layout.find(shop).worktrees] == [False, True]


def test_what_is_read_from_files_is_what_git_says(git: Git, shop: Path, tmp_path: Path) -> None:
    """The remote's URL however it is configured, and the trunk that the remote names."""
    trunk = shop / "trunk-main"
    git(trunk, "config", "--add", "remote.origin.url", "/second")
    git(trunk, "config", "remote.back.up.url", "short:shop")
    assert (
        layout.find(shop).remote == git(trunk, "remote", "get-url", "origin") == str(tmp_path / "origin.git")
    )
    git(trunk, "config", "--unset-all", "remote.origin.url")
    git(trunk, "config", "url.https://git.example.org/.insteadOf", "short:")
    found = layout.find(shop)
    assert (found.remote_name, found.remote) == ("back.up", "https://git.example.org/shop")
    git(trunk, "update-ref", "refs/remotes/back.up/next", "HEAD")
    assert found.trunk == "main"
    git(trunk, "symbolic-ref", "refs/remotes/back.up/HEAD", "refs/remotes/back.up/next")
    assert layout.find(shop).trunk == "next"
    git(trunk, "symbolic-ref", "--delete", "refs/remotes/back.up/HEAD")
    git(trunk, "remote", "remove", "back.up")
    assert (layout.find(shop).remote, layout.find(shop).trunk) == (None, "main")


@pytest.mark.parametrize(
    ("name", "good"),
    [
        *((name, True) for name in ("a", "a/b-c_1", "ü", "a.b", "a@b")),
        *(
            (name, False)
            for name in ("a.lock", "a..b", "a@{b", "a b", "a/", "a//b", "HEAD\n", "a^", "-a", "a/.b")
        ),
    ],
)
def test_branches_are_what_git_takes(name: str, good: bool) -> None:
    if good:
        assert names.checked_branch(name) == name
    else:
        with pytest.raises(names.NameRefusedError):
            names.checked_branch(name)
