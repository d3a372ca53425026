"""What git's own record of worktrees is brought up to, and what the server would be told, without a server."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import acts, backlinks, layout, names, reconcile, repairs
from imi.worktrees.repairs import Repaired
from tests.repositories import Git


@pytest.fixture
def shop(git: Git, tmp_path: Path) -> Path:
    """A project's folder with two tasks in it."""
    git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "shop/trunk-main")
    for name in "ab":
        path = str(tmp_path / f"shop/feat-{name}")
        git(tmp_path / "shop/trunk-main", "worktree", "add", "-q", "-b", f"feat/{name}", path)
    return tmp_path / "shop"


def repaired(root: Path, here: Path | None = None) -> Repaired:
    return repairs.repair(repairs.located(here or root), here or root)


def row(path: Path, branch: str | None, **other: Any) -> dict[str, Any]:
    """A worktree as the server has it."""
    return {
        "id": f"row-{path.name}",
        "project_id": "shop",
        "work_item_id": branch and f"item-{branch}",
        "name": path.name,
        "path": str(path),
        "branch_name": branch,
    } | other


def rows(root: Path) -> list[dict[str, Any]]:
    return [row(root / f"feat-{name}", f"feat/{name}") for name in "ab"]


def steps(found: Repaired, known: list[dict[str, Any]]) -> list[tuple[str, str]]:
    return [(each.action, each.path.name) for each in reconcile.compare(found, "shop", known)]


@pytest.mark.parametrize(
    ("branch", "folder", "expected"),
    [
        ("fix/a", "feat-a", "fix"),
        ("exp/a/b", "", "experiment"),
        ("pr/7", "", "review"),
        ("anything", "devops-a", "devops"),
        ("anything", "aiops-a", "aiops"),
        ("", "pr-7", "review"),
        ("fix", "elsewhere", "feature"),
        ("fix-a", "", "feature"),
    ],
)
def test_the_work_type_is_the_branchs_prefix_else_the_folders(
    branch: str, folder: str, expected: str
) -> None:
    assert names.work_type(branch, folder) == expected


def test_what_agrees_is_left_as_it_is(shop: Path) -> None:
    found = repaired(shop)
    assert (found.moved, found.linked, found.gone, found.left) == ({}, [], [], {})
    assert steps(found, rows(shop)) == []


def test_moves_within_and_out_of_the_root_are_found(shop: Path, git: Git, tmp_path: Path) -> None:
    (shop / "feat-a").rename(shop / "renamed")
    (tmp_path / "far").mkdir()
    (shop / "feat-b").rename(tmp_path / "far/b")
    found = repaired(shop, tmp_path / "far/b")
    assert found.moved == {shop / "feat-a": shop / "renamed", shop / "feat-b": tmp_path / "far/b"}
    assert steps(found, rows(shop)) == [("moved", "renamed"), ("moved", "b")]
    assert git(tmp_path / "far/b", "branch", "--show-current") == "feat/b"
    assert repaired(shop).moved == {}


def test_a_move_into_anothers_place_keeps_both_works(shop: Path) -> None:
    (shop / "feat-b").rename(shop / "third")
    (shop / "feat-a").rename(shop / "feat-b")
    found = repaired(shop)
    told = [each for step in reconcile.compare(found, "shop", rows(shop)) for each in step.reports]
    assert [kind for kind, _ in told] == ["removed", "removed", "worktree", "worktree"]
    assert all(body["completion"] is None for kind, body in told if kind == "removed")
    placed = {
        body["worktree"]["branch_name"]: body["worktree"]["name"] for kind, body in told if kind == "worktree"
    }
    assert placed == {"feat/a": "feat-b", "feat/b": "third"}


def test_two_copies_of_one_folder_are_for_people_to_judge(shop: Path, git: Git) -> None:
    shutil.copytree(shop / "feat-a", shop / "one")
    (shop / "feat-a").rename(shop / "two")
    found = repaired(shop)
    assert found.moved == {} and found.gone == []
    assert "may be any of" in found.left[shop / "feat-a"]
    assert steps(found, rows(shop)) == []
    git(shop / "trunk-main", "worktree", "prune")
    shutil.rmtree(shop / "one")
    assert repaired(shop).moved == {shop / "feat-a": shop / "two"}


def test_nothing_is_repaired_where_git_would_take_a_folder_from_another(shop: Path, git: Git) -> None:
    git(shop / "trunk-main", "worktree", "add", "-q", "-b", "feat/c", str(shop / "feat-c"))
    shutil.rmtree(shop / "feat-a")
    shutil.copytree(shop / "feat-b", shop / "feat-a")
    link = (shop / "feat-a/.git").read_bytes()
    (shop / "feat-c").rename(shop / "moved")
    found = repaired(shop)
    assert (shop / "feat-a/.git").read_bytes() == link
    assert (found.moved, found.gone) == ({}, [])
    assert set(found.left) == {shop / "feat-a", shop / "feat-c"}
    assert str(shop / "moved") in found.left[shop / "feat-c"]
    git(shop / "trunk-main", "worktree", "prune")
    shutil.rmtree(shop / "feat-a")
    found = repaired(shop)
    assert found.moved == {shop / "feat-c": shop / "moved"}
    assert [each.path.name for each in found.gone] == ["feat-a"]
    assert git(shop / "moved", "branch", "--show-current") == "feat/c"


def test_a_branch_that_goes_on_elsewhere_is_not_abandoned(shop: Path, git: Git) -> None:
    shutil.rmtree(shop / "feat-a")
    git(shop / "trunk-main", "worktree", "prune")
    git(shop / "trunk-main", "switch", "-q", "feat/a")
    (step,) = reconcile.compare(repaired(shop), "shop", rows(shop))
    assert step.action == "retired" and step.reports[0][1]["completion"] is None


def test_what_is_gone_is_forgotten_last(shop: Path) -> None:
    shutil.rmtree(shop / "feat-a")
    found = repaired(shop)
    assert [each.path for each in found.gone] == [shop / "feat-a"]
    assert len(layout.worktrees(found.project.repository)) == 3
    (step,) = reconcile.compare(found, "shop", rows(shop))
    assert step.reports[0][1]["completion"] == reconcile.ABANDONED
    assert repairs.forget(found) is None
    assert len(layout.worktrees(found.project.repository)) == 2


def test_the_trashs_worktrees_are_not_forgotten(shop: Path, git: Git) -> None:
    trash = shop / ".imi-trash"
    trash.mkdir()
    git(shop / "trunk-main", "worktree", "move", str(shop / "feat-a"), str(trash / "a"))
    (trash / "a").rename(trash / "moved")
    shutil.rmtree(shop / "feat-b")
    found = repaired(shop)
    assert [each.path.name for each in found.gone] == ["feat-b"]
    assert "trash" in str(repairs.forget(found))
    assert len(layout.worktrees(found.project.repository)) == 3


def test_names_that_are_taken_are_explained(shop: Path, tmp_path: Path) -> None:
    elsewhere = row(tmp_path / "other/feat-a", "feat/x")
    (tmp_path / "other/feat-a/.git").mkdir(parents=True)
    theirs = row(shop / "feat-b", "feat/b", project_id="theirs")
    found = [*reconcile.compare(repaired(shop), "shop", [elsewhere, theirs])]
    assert [(each.action, each.path.name) for each in found] == [("left", "feat-a"), ("left", "feat-b")]
    assert elsewhere["path"] in found[0].reason and "imi worktrees remove row-feat-b" in found[1].reason


def test_a_row_of_ones_own_name_is_left(shop: Path) -> None:
    known = rows(shop)
    known[0] |= {"name": "login", "work_item_id": None}
    assert steps(repaired(shop), known) == []
    known[0] |= {"name": "feat-a"}
    assert steps(repaired(shop), known) == [("adopted", "feat-a")]


def test_what_the_server_cannot_take_is_explained(shop: Path, git: Git) -> None:
    long = "feat/" + "/".join(["long" * 40] * 2)
    git(shop / "feat-a", "switch", "-q", "-c", long)
    (step,) = reconcile.compare(repaired(shop), "shop", [row(shop / "feat-b", "feat/b")])
    assert step.action == "left" and "255" in step.reason


def test_half_made_without_its_branch_is_found_by_its_folder(shop: Path, git: Git) -> None:
    own = shop / "trunk-main/.git/worktrees/feat-a"
    (own / "HEAD").write_text(git(shop / "feat-a", "rev-parse", "HEAD") + "\n")
    (own / "locked").write_text("initializing")
    found = repaired(shop)
    assert found.completed == [shop / "feat-a"]
    assert git(shop / "feat-a", "branch", "--show-current") == "feat/a"
    git(shop / "trunk-main", "branch", "-m", "feat/b", "renamed")
    (shop / "trunk-main/.git/worktrees/feat-b/HEAD").write_text(
        git(shop / "feat-a", "rev-parse", "HEAD") + "\n"
    )
    (shop / "trunk-main/.git/worktrees/feat-b/locked").write_text("initializing")
    assert "no branch that it would be of" in repaired(shop).left[shop / "feat-b"]


def test_one_that_is_being_made_is_left_to_its_maker(shop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (shop / "trunk-main/.git/worktrees/feat-a/locked").write_text("initializing")
    monkeypatch.setattr(acts, "PATIENCE", 0.1)
    with acts.lock(shop / "trunk-main/.git", "feat-a"):
        found = repaired(shop)
    assert found.completed == [] and "another imi" in found.left[shop / "feat-a"]
    assert steps(found, [row(shop / "feat-b", "feat/b")]) == []


def test_one_that_is_being_removed_is_left_to_its_remover(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aside = tmp_path / "far/aside"
    aside.parent.mkdir()
    (shop / "feat-a").rename(aside)
    lock, waited = acts.lock, []

    def finished(repository: Path, name: str) -> Any:
        if name == "feat-a" and not waited:
            waited.append(name)
            aside.rename(shop / "feat-a")  # what its holder did before it gave the lock back
        return lock(repository, name)

    monkeypatch.setattr(acts, "lock", finished)
    found = repaired(shop)
    assert waited and (found.gone, found.moved) == ([], {})


def test_what_the_user_locked_is_gits_own_matter(shop: Path, git: Git) -> None:
    git(shop / "trunk-main", "worktree", "lock", "--reason", "on a stick", str(shop / "feat-a"))
    shutil.rmtree(shop / "feat-a")
    found = repaired(shop)
    assert (found.gone, steps(found, rows(shop))) == ([], [])


def test_a_folder_of_another_repository_is_no_claim(shop: Path, git: Git, tmp_path: Path) -> None:
    git.clone(git.origin(tmp_path / "second.git"), tmp_path / "second/trunk-main")
    git(
        tmp_path / "second/trunk-main",
        "worktree",
        "add",
        "-q",
        "-b",
        "feat/a",
        str(tmp_path / "second/feat-a"),
    )
    (tmp_path / "second/feat-a").rename(shop / "stranger")
    shutil.rmtree(shop / "feat-a")
    project = layout.at(shop)
    broken = backlinks.broken(project, shop)
    assert (broken.moved, broken.unlinked, broken.left) == ({}, [], {})
    assert [each.path.name for each in repaired(shop).gone] == ["feat-a"]
