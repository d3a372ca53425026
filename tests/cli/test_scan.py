"""`imi projects scan` over real clones, its report held against git and against a second run."""

from __future__ import annotations

import socket
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import clones
from tests.commandline import Imi
from tests.repositories import EMAIL, Git

pytestmark = pytest.mark.usefixtures("live")
numbers = count(1)
HOST = socket.gethostname()


@pytest.fixture
def remote() -> str:
    return f"https://git.example.org/scan/repo-{next(numbers)}"


@pytest.fixture
def code(git: Git, tmp_path: Path, remote: str) -> Path:
    """A folder with one clone: feat/a ahead and behind, fix/b dirty in a worktree, done merged."""
    code = tmp_path / "code"
    clone = git.clone(git.origin(tmp_path / "origin.git"), code / "shop")
    git(clone, "remote", "set-url", "origin", remote)
    git(clone, "switch", "-q", "-c", "feat/a")
    git.commit(clone, "a1")
    git.commit(clone, "a2", message="The last one")
    git(clone, "switch", "-q", "main")
    git.commit(clone, "m1")
    git(clone, "worktree", "add", "-q", "-b", "fix/b", str(code / "shop-fix-b"))
    (code / "shop-fix-b/new").touch()
    git(clone, "branch", "done")
    return code


def branches(summary: dict[str, Any]) -> dict[str, str]:
    return {each["branch_name"]: each["action"] for clone in summary["clones"] for each in clone["branches"]}


def items(imi: Imi, remote: str) -> dict[str, Any]:
    listed = imi.data("work", "list", "--project", remote, "--active", "all", "--all")["items"]
    return {item["branch_name"]: item for item in listed}


def test_unfinished_branches_become_work_as_git_tells_it(imi: Imi, git: Git, code: Path, remote: str) -> None:
    summary = imi.data("projects", "scan", code)
    assert summary["projects"] == {"created": 1, "existing": 0}
    assert branches(summary) == {"feat/a": "created", "fix/b": "created", "done": "merged"}
    project = imi.data("projects", "get", remote)
    assert (project["name"], project["default_branch"]) == (remote.rpartition("/")[2], "main")
    assert project["trunk_path"] == str(code / "shop")
    found = items(imi, remote)
    assert set(found) == {"feat/a", "fix/b"}
    for name, item in found.items():
        counts = [
            int(git(code / "shop", "rev-list", "--count", each))
            for each in (f"main..{name}", f"{name}..main")
        ]
        assert [item["ahead_of_trunk"], item["behind_trunk"]] == counts
        assert item["last_commit_hash"] == git(code / "shop", "rev-parse", name)
        assert item["last_commit_message"] == git(code / "shop", "log", "-1", "--format=%s", name)
        assert (item["source"], item["owner_id"]) == ({"type": "manual", "ref": "scan"}, EMAIL)
        assert item["host"] == HOST
    a, b = found["feat/a"], found["fix/b"]
    assert (a["status"], a["work_type"], a["worktree_path"]) == ("diverged", "feature", None)
    assert (b["status"], b["work_type"], b["worktree_path"]) == (
        "uncommitted",
        "fix",
        str(code / "shop-fix-b"),
    )
    assert b["uncommitted_files_count"] == 1


def test_a_second_run_changes_nothing(imi: Imi, code: Path, remote: str) -> None:
    imi("projects", "scan", code)
    before, events = items(imi, remote), imi.data("stats")["total_events"]
    again = imi.data("projects", "scan", code)
    assert again["branches"] == {"created": 0, "updated": 0, "unchanged": 2, "merged": 1}
    assert items(imi, remote) == before, "neither updated_at nor last_sync_at"
    assert imi.data("stats")["total_events"] == events
    assert imi("projects", "scan", code).lines == [
        "projects: 0 created, 1 existing",
        "branches: 0 created, 0 updated, 2 unchanged, 1 merged",
    ]


def test_what_git_changed_is_updated(imi: Imi, git: Git, code: Path, remote: str) -> None:
    imi("projects", "scan", code)
    git(code / "shop", "merge", "-q", "feat/a")
    git(code / "shop", "worktree", "move", str(code / "shop-fix-b"), str(code / "moved"))
    git.commit(code / "moved", "b1")
    summary = imi.data("projects", "scan", code)
    assert branches(summary) == {"feat/a": "updated", "fix/b": "updated", "done": "merged"}
    found = items(imi, remote)
    assert (found["feat/a"]["ahead_of_trunk"], found["feat/a"]["status"]) == (0, "behind")
    assert found["fix/b"]["worktree_path"] == str(code / "moved")
    assert (found["fix/b"]["status"], found["fix/b"]["uncommitted_files_count"]) == ("uncommitted", 1)


@pytest.mark.parametrize(
    ("name", "work_type"),
    [
        ("feat/x", "feature"),
        ("fix/x", "fix"),
        ("exp/x", "experiment"),
        ("pr/12", "review"),
        ("devops/x", "devops"),
        ("aiops/x", "aiops"),
        ("exp", "feature"),
    ],
)
def test_the_type_is_the_branchs_prefix(
    imi: Imi, git: Git, code: Path, remote: str, name: str, work_type: str
) -> None:
    git(code / "shop", "branch", name, "feat/a")
    imi("projects", "scan", code)
    assert items(imi, remote)[name]["work_type"] == work_type


def test_work_that_has_ended_is_not_started_again(imi: Imi, git: Git, code: Path, remote: str) -> None:
    imi("projects", "scan", code)
    imi("work", "complete", items(imi, remote)["feat/a"]["id"], "--type", "merged")
    assert branches(imi.data("projects", "scan", code))["feat/a"] == "ended"
    git(code / "shop", "switch", "-q", "feat/a")
    git.commit(code / "shop", "more")
    assert branches(imi.data("projects", "scan", code))["feat/a"] == "created", "it has gone on since"


def test_what_another_machine_tracks_is_left_alone(imi: Imi, code: Path, remote: str) -> None:
    project = imi.data("projects", "register", remote)
    item = imi.data("work", "start", project["id"], "feat/a", "--host", "elsewhere")
    assert branches(imi.data("projects", "scan", code))["feat/a"] == "elsewhere"
    assert items(imi, remote)["feat/a"]["updated_at"] == item["updated_at"]


def test_a_newer_report_is_kept(imi: Imi, code: Path, remote: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project = imi.data("projects", "register", remote)
    item = imi.data("work", "start", project["id"], "feat/a")
    read = clones.read

    def read_and_be_overtaken(*arguments: Any) -> Any:
        answer = read(*arguments)
        imi("work", "update", item["id"], "--ahead", 77)
        return answer

    monkeypatch.setattr(clones, "read", read_and_be_overtaken)
    assert branches(imi.data("projects", "scan", code))["feat/a"] == "newer"
    assert items(imi, remote)["feat/a"]["ahead_of_trunk"] == 77


def test_two_clones_of_one_remote(imi: Imi, git: Git, code: Path, remote: str) -> None:
    git(code, "clone", "-q", str(code / "shop"), "again")
    git(code / "again", "remote", "set-url", "origin", remote + ".git")
    git(code / "again", "switch", "-q", "feat/a")
    summary = imi.data("projects", "scan", code)
    assert summary["projects"] == {"created": 1, "existing": 1}
    actions = {
        (Path(clone["path"]).name, each["branch_name"]): each["action"]
        for clone in summary["clones"]
        for each in clone["branches"]
    }
    assert actions["again", "feat/a"] == "created", "it is checked out there"
    assert actions["shop", "feat/a"] == "duplicate"
    assert items(imi, remote)["feat/a"]["worktree_path"] == str(code / "again")


def test_what_is_skipped_says_why(imi: Imi, git: Git, code: Path) -> None:
    git(code, "init", "-q", "lonely")
    (code / "broken/.git").mkdir(parents=True)
    git(code, "init", "-q", "odd")
    git(code / "odd", "remote", "add", "origin", "https://")
    summary = imi.data("projects", "scan", code)
    reasons = {Path(each["path"]).name: each["reason"] for each in summary["skipped"]}
    assert set(reasons) == {"lonely", "broken", "odd"}
    assert reasons["lonely"].startswith("no remote")
    assert reasons["broken"].startswith("git rev-parse: not a git repository")
    assert reasons["odd"] == "Not a git remote that iMi can tell apart"
    seen = imi("projects", "scan", code).out
    assert str(code / "lonely") in seen
    assert reasons["odd"] in seen


def test_a_branch_that_the_server_refuses_does_not_stop_the_others(
    imi: Imi, git: Git, code: Path, remote: str
) -> None:
    tip = git(code / "shop", "rev-parse", "feat/a")
    long = "/".join(["long" * 30] * 3)
    git(code / "shop", "update-ref", f"refs/heads/{long}", tip)
    git(code / "shop", "update-ref", b"refs/heads/\xff".decode(errors="surrogateescape"), tip)
    summary = imi.data("projects", "scan", code)
    assert branches(summary) == {
        "feat/a": "created",
        "fix/b": "created",
        "done": "merged",
        long: "refused",
        "\ufffd": "refused",
    }
    assert all(
        each["reason"]
        for clone in summary["clones"]
        for each in clone["branches"]
        if each["action"] == "refused"
    )
    assert set(items(imi, remote)) == {"feat/a", "fix/b"}


def test_a_key_that_may_not_write_ends_it(imi: Imi, code: Path) -> None:
    key = imi("keys", "create", "reader").out.strip()
    assert imi.error(4, "projects", "scan", code, "--api-key", key)["code"] == "FORBIDDEN"


def test_hostile_names_steer_no_terminal(imi: Imi, git: Git, code: Path) -> None:
    tip = git(code / "shop", "rev-parse", "feat/a")
    git(code / "shop", "update-ref", "refs/heads/x\u202e\u009b31m", tip)
    (code / "\x1b]0;owned\x07[bold]/.git").mkdir(parents=True)
    seen = imi("projects", "scan", code).out
    assert r"x\u202e\x9b31m" in seen
    assert r"\x1b]0;owned\x07[bold]" in seen
    assert all(c.isprintable() or c == "\n" for c in seen)


def test_work_update_reports_the_branch_in_a_clone(imi: Imi, git: Git, code: Path, remote: str) -> None:
    project = imi.data("projects", "register", remote)
    item = imi.data("work", "start", project["id"], "fix/b")
    (code / "shop-fix-b/folder").mkdir()
    reported = imi.data("work", "update", item["id"], "--git", code / "shop-fix-b/folder")
    assert (reported["status"], reported["uncommitted_files_count"]) == ("uncommitted", 1)
    assert reported["last_commit_hash"] == git(code / "shop", "rev-parse", "fix/b")
    other = imi.data("work", "start", project["id"], "nowhere")
    refused = imi.error(3, "work", "update", other["id"], "--git", code / "shop")
    assert refused["message"] == f"{code / 'shop'} has no branch nowhere"
    assert imi.error(1, "work", "update", item["id"], "--git", code.parent)["code"] == "GIT"


def test_a_folder_that_is_none(imi: Imi, tmp_path: Path) -> None:
    assert imi.error(2, "projects", "scan", tmp_path / "gone")["code"] == "USAGE"


def test_nothing_to_find(imi: Imi, tmp_path: Path) -> None:
    assert imi.data("projects", "scan", tmp_path) == {
        "projects": {"created": 0, "existing": 0},
        "branches": {"created": 0, "updated": 0, "unchanged": 0},
        "clones": [],
        "skipped": [],
    }
