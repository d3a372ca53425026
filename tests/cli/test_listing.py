"""`imi list` and `imi status`: what git has beside what the server knows, with and without it."""

from __future__ import annotations

import os
import shutil
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import spool
from tests.cli.rooted import away, homes, origin, root
from tests.commandline import Imi
from tests.repositories import Git

__all__ = ["away", "homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")


def listed(imi: Imi, *options: str) -> dict[str, dict[str, Any]]:
    rows = imi.data("list", *options)["items"]
    return {row["name"]: row for row in rows}


def is_new(text: str) -> bool:
    return datetime.now(UTC) - datetime.fromisoformat(text) < timedelta(minutes=2)


def test_a_row_has_what_the_server_knows(imi: Imi, root: Path, origin: Path) -> None:
    login = imi.data("feat", "login", "--ticket", "PROJ-7")
    imi("claim", "login", "--agent", "claude-7")
    seen = "2026-02-11T10:30:00+00:00"
    report = ("--uncommitted", 3, "--ahead", 2, "--behind", 1, "--observed-at", seen)
    imi("work", "report", origin, "feat/login", *report)
    row = listed(imi)["feat-login"]
    claim = row.pop("claim")
    assert claim["agent_id"] == "claude-7"
    assert datetime.fromisoformat(row.pop("observed_at")) == datetime.fromisoformat(seen)
    assert is_new(row.pop("changed_at"))
    assert row == {
        "name": "feat-login",
        "project_id": login["project_id"],
        "path": str(root / "feat-login"),
        "host": os.uname().nodename,
        "state": "registered",
        "branch": "feat/login",
        "work_type": "feature",
        "status": "uncommitted",
        "ahead": 2,
        "behind": 1,
        "dirty": 3,
        "owner": "ada",
        "work_item_id": login["work_item_id"],
        "worktree_id": login["worktree_id"],
    }
    shown = imi("list").out
    assert "claude-7 until 20" in shown and "+2 -1" in shown
    age = (datetime.now(UTC) - datetime.fromisoformat(seen)).days
    assert f" {age}d" in shown


def test_what_nobody_reported_is_read_now(imi: Imi, git: Git, root: Path) -> None:
    imi("feat", "login")
    git.commit(root / "feat-login", "new")
    (root / "feat-login/untracked").touch()
    row = listed(imi)["feat-login"]
    assert (row["status"], row["ahead"], row["behind"], row["dirty"]) == ("uncommitted", 1, 0, 1)
    assert is_new(row["observed_at"])


def test_where_git_and_the_server_disagree(imi: Imi, git: Git, root: Path) -> None:
    for name in ("gone", "switched", "stays"):
        imi("feat", name)
    shutil.rmtree(root / "feat-gone")
    git(root / "feat-switched", "switch", "-q", "-c", "spike")
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/by-hand", str(root / "by hand\x1b[31m"))
    rows = listed(imi)
    assert {name: row["state"] for name, row in rows.items()} == {
        "trunk-main": "trunk",
        "feat-gone": "gone",
        "feat-switched": "registered",
        "feat-stays": "registered",
        "by hand\x1b[31m": "not registered",
    }
    assert rows["feat-gone"]["status"] is None
    assert "imi reconcile" in str(imi.error(3, "status", "gone")["hint"])
    assert (rows["feat-switched"]["branch"], rows["feat-switched"]["owner"]) == ("spike", "ada")
    assert rows["by hand\x1b[31m"]["status"] == "clean"
    shown = imi("list").out
    assert "not registered" in shown and "gone" in shown and "\x1b" not in shown


def test_a_worktree_that_git_forgot_is_gone_too(imi: Imi, git: Git, root: Path) -> None:
    imi("feat", "kept")
    imi("feat", "forgotten")
    shutil.rmtree(git(root / "feat-forgotten", "rev-parse", "--absolute-git-dir"))
    assert listed(imi)["feat-forgotten"]["state"] == "gone"


def test_another_clones_worktree_is_not_gone(imi: Imi, root: Path, origin: Path, tmp_path: Path) -> None:
    imi("feat", "here")
    (tmp_path / "second").mkdir()
    os.chdir(tmp_path / "second")
    os.chdir(imi.data("init", str(origin))["path"])
    imi("feat", "there")
    rows = listed(imi)
    assert (rows["feat-here"]["state"], rows["feat-there"]["state"]) == ("registered", "registered")
    assert "1 of them stand: imi status in a folder" in imi("list").err


def test_the_trunk_then_what_changed_last(imi: Imi, root: Path, origin: Path) -> None:
    for name in ("first", "second", "third"):
        imi("feat", name)
    imi("work", "report", origin, "feat/second", "--ahead", 1)
    names = [row["name"] for row in imi.data("list")["items"]]
    assert names == ["trunk-main", "feat-second", "feat-third", "feat-first"]


def test_merged_work_is_shown_as_merged(imi: Imi, root: Path) -> None:
    item = imi.data("feat", "done")["work_item_id"]
    imi(
        "work",
        "complete",
        item,
        "--type",
        "merged",
        "--commit",
        "9fceb02d0ae598e95dc970b74767f19372d61af8",
    )
    assert listed(imi)["feat-done"]["status"] == "merged"


def test_all_projects_on_every_host(imi: Imi, git: Git, root: Path, tmp_path: Path) -> None:
    imi("feat", "here")
    far = f"https://git.example.org/team/{uuid.uuid4()}"
    project = imi.data("projects", "register", far)
    item = imi.data("work", "start", project["id"], "feat/far")["id"]
    where = ("/srv/far/feat-far", "--branch", "feat/far", "--work-item", item)
    imi("worktrees", "register", project["id"], *where, "--host", "builder")
    imi("worktrees", "register", project["id"], "/srv/far/feat-lost")
    assert "feat-far" not in listed(imi)
    rows = listed(imi, "--all")
    assert {"feat-here", "feat-far", "feat-lost", "trunk-main"} <= set(rows)
    assert (rows["feat-far"]["project"], rows["feat-far"]["host"]) == (project["name"], "builder")
    assert (rows["feat-far"]["state"], rows["feat-lost"]["state"]) == ("registered", "gone")
    assert rows["feat-far"]["observed_at"] is None and rows["feat-far"]["status"] is None
    assert rows["trunk-main"]["project"] == root.name
    os.chdir("/")
    assert set(listed(imi, "--all")) == set(rows)
    assert "builder" in imi("list", "--all").out
    assert imi.error(3, "list")["code"] == "NOT_FOUND"


def test_without_a_server_git_is_read(imi: Imi, git: Git, root: Path, away: str) -> None:
    imi("feat", "login")
    git.commit(root / "feat-login", "new")
    data = imi.data("list")
    rows = {row["name"]: row for row in data["items"]}
    assert {name: row["state"] for name, row in rows.items()} == {"trunk-main": "trunk", "feat-login": None}
    assert (rows["feat-login"]["status"], rows["feat-login"]["ahead"]) == ("ahead", 1)
    assert rows["feat-login"]["owner"] is None and is_new(rows["feat-login"]["observed_at"])
    (note,) = data["notes"]
    assert away in note and "unknown" in note
    assert len(imi("list").err.splitlines()) == 1


def test_what_waits_is_told_before_it_is_listed(
    imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("IMI_API_URL", "http://127.0.0.1:9")
        imi("feat", "late")
    assert listed(imi)["feat-late"]["state"] == "registered"
    assert spool.waiting() == []


def test_a_project_that_the_server_does_not_know(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unheard").mkdir()
    git(tmp_path / "unheard", "clone", "-q", str(origin), "trunk-main")
    git(tmp_path / "unheard/trunk-main", "worktree", "add", "-q", "-b", "x", "../x")
    monkeypatch.chdir(tmp_path / "unheard")
    assert {name: row["state"] for name, row in listed(imi).items()} == {
        "trunk-main": "trunk",
        "x": "not registered",
    }
    git(tmp_path / "unheard/trunk-main", "remote", "remove", "origin")
    data = imi.data("list")
    assert "without a remote" in data["notes"][0] and len(data["items"]) == 2


def test_status_reads_and_reports(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    item = imi.data("feat", "login", "--ticket", "PROJ-7")["work_item_id"]
    login = root / "feat-login"
    head = git.commit(login, "new", message="Log in")
    (login / "new").write_text("changed")
    (login / "untracked").touch()
    imi("claim", "login", "--agent", "claude-7")
    for agent, path in (("claude-7", "a.py"), ("codex-2", "b.py"), ("claude-7", "c.py")):
        imi("work", "activity", item, "file_change", "--path", path, "--agent", agent)
    data = imi.data("status", "login")
    assert (data["name"], data["path"], data["branch"]) == ("feat-login", str(login), "feat/login")
    assert (data["status"], data["dirty"], data["untracked"]) == ("uncommitted", 2, 1)
    assert (data["ahead"], data["behind"], data["upstream"]) == (1, 0, None)
    assert (data["commit"]["hash"], data["commit"]["subject"]) == (head, "Log in")
    assert (data["stashes"], data["operation"], data["submodules"]) == (0, None, [])
    assert is_new(data["modified_at"]) and data["notes"] == []
    assert [each["agent_id"] for each in data["agents"]] == ["claude-7", "codex-2"]
    assert [each["path"] for each in data["activities"]] == ["c.py", "b.py", "a.py"]
    work = data["work"]
    assert (work["id"], work["owner_id"], work["claim"]["agent_id"]) == (item, "ada", "claude-7")
    assert work["links"]["tickets"][0]["plane_ticket_id"] == "PROJ-7"
    assert (work["uncommitted_files_count"], work["ahead_of_trunk"], work["last_commit_hash"]) == (2, 1, head)
    assert listed(imi)["feat-login"]["dirty"] == 2
    shown = imi("status", "login").out
    for text in (
        "Log in",
        "+1 -0 against main",
        "1 changed, 1 untracked",
        "claude-7 until",
        "b.py",
        "PROJ-7",
    ):
        assert text in shown


def test_status_says_what_git_is_in_the_middle_of(
    imi: Imi, git: Git, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    login = Path(imi.data("feat", "login")["path"])
    monkeypatch.chdir(login)
    git(login, "push", "-q", "-u", "origin", "feat/login")
    (login / "README").write_text("stashed")
    git(login, "stash")
    git.commit(login, "README", "ours")
    own = Path(git(login, "rev-parse", "--absolute-git-dir"))
    (own / "MERGE_HEAD").write_text(git(login, "rev-parse", "HEAD~1") + "\n")
    data = imi.data("status")
    assert (data["operation"], data["stashes"]) == ("merge", 1)
    assert data["upstream"] == {"name": "origin/feat/login", "ahead": 1, "behind": 0}
    shown = imi("status").out
    assert "merge" in shown and "+1 -0 against origin/feat/login" in shown
    git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(root / "loose"))
    loose = imi.data("status", "loose")
    assert (loose["branch"], loose["work"], loose["notes"]) == (None, None, [])


def test_status_without_a_server(imi: Imi, root: Path, away: str) -> None:
    imi("feat", "login")
    waited = len(spool.waiting())
    data = imi.data("status", "login")
    assert (data["status"], data["work"], data["agents"], data["activities"]) == ("clean", None, None, None)
    assert len(data["notes"]) == 1 and away in data["notes"][0]
    assert len(spool.waiting()) == waited + 1


def test_status_of_a_completed_work_item_still_names_it(imi: Imi, root: Path) -> None:
    item = imi.data("feat", "done")["work_item_id"]
    imi("work", "complete", item, "--type", "abandoned")
    assert imi.data("status", "done")["work"]["status"] == "abandoned"


def test_status_of_the_root_is_the_list(imi: Imi, root: Path) -> None:
    imi("feat", "login")
    assert [row["name"] for row in imi.data("status")["items"]] == ["trunk-main", "feat-login"]
    assert "feat-login" in imi("status").out
    assert imi.error(3, "status", "nothing")["code"] == "NOT_FOUND"
