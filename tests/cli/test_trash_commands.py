"""`imi remove`, `restore`, `trash list` and `gc`: real git, a live server, and neither loses anything."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import spool
from tests.cli.rooted import homes, origin, root, unreachable
from tests.commandline import Imi, Live
from tests.repositories import Git

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")


def items(imi: Imi, origin: Path) -> list[dict[str, Any]]:
    """The project's work items, the newest first."""
    return list(imi.data("work", "list", "--project", origin, "--active", "all", "--all")["items"])


def squash(git: Git, root: Path, name: str) -> str:
    """Commit in a worktree, and bring it to the trunk in one commit, pushed."""
    git.commit(root / f"feat-{name}", f"{name}-1")
    git.commit(root / f"feat-{name}", f"{name}-2")
    trunk = root / "trunk-main"
    git(trunk, "merge", "-q", "--squash", f"feat/{name}")
    git(trunk, "commit", "-q", "-m", f"{name} (#1)")
    git(trunk, "push", "-q", "origin", "main")
    return git(trunk, "rev-parse", "HEAD")


def test_a_claimed_worktree_stays_and_a_forced_one_comes_back(
    imi: Imi, git: Git, root: Path, origin: Path
) -> None:
    made = imi.data("feat", "login", "--ticket", "PROJ-7")
    path = root / "feat-login"
    (path / "new").write_text("mine")
    imi("work", "claim", made["work_item_id"], "--agent", "claude-7")
    refused = imi.error(4, "remove", "login")
    assert refused == {
        "code": "REFUSED",
        "message": "feat-login stays: 1 file is untracked; claude-7 claims it",
        "hint": "imi remove feat-login --force moves it to the trash all the same, whole",
    }
    data = imi.data("remove", "feat/login", "--force")
    trashed = Path(data.pop("trash"))
    assert data == {
        "name": "feat-login",
        "path": str(path),
        "branch": "feat/login",
        "state": "empty",
        "test": None,
        "forced": ["1 file is untracked", "claude-7 claims it"],
        "notes": [],
    }
    assert trashed.parent == root / ".imi-trash" and (trashed / "new").read_text() == "mine"
    (item,) = items(imi, origin)
    assert (item["completion_type"], item["active"], item["claim"]) == ("abandoned", False, None)
    assert item["completion_evidence"] == {"rule": "git", "state": "empty"}
    assert imi.data("worktrees", "list", "--project", origin)["items"] == []
    restored = imi.data("restore", "login")
    assert (restored["path"], restored["branch"], restored["notes"]) == (str(path), "feat/login", [])
    assert (path / "new").read_text() == "mine" and not trashed.exists()
    new, old = items(imi, origin)
    assert new["id"] == restored["work_item_id"] != old["id"] == item["id"]
    assert (new["active"], new["source"], new["owner_id"]) == (True, old["source"], old["owner_id"])
    assert new["source"] == {"type": "plane_ticket", "ref": "PROJ-7"}
    (there,) = imi.data("worktrees", "list", "--project", origin)["items"]
    assert (there["path"], there["work_item_id"]) == (str(path), new["id"])


def test_the_old_owner_and_type_come_back_whoever_restores(
    imi: Imi, root: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_AGENT", "claude-7")
    imi("exp", "idea")
    monkeypatch.setenv("IMI_AGENT", "ada")
    imi("remove", "idea")
    imi("restore", "idea")
    new, old = items(imi, origin)
    assert (new["owner_id"], new["work_type"]) == ("claude-7", "experiment") and new["id"] != old["id"]


def test_a_squash_is_found_and_told(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    imi("feat", "login")
    commit = squash(git, root, "login")
    ran = imi("remove", "login")
    assert (
        ran.out
        == "feat-login is in the trash (merged, by same tree); it comes back with: imi restore feat-login\n"
    )
    (item,) = items(imi, origin)
    assert (item["status"], item["completion_evidence"]) == ("merged", {"rule": "git", "test": "same tree"})
    imi("feat", "more")
    squash(git, root, "more")
    commit = git(root / "trunk-main", "rev-parse", "HEAD")
    git.commit(root / "trunk-main", "more-1", "changed since")
    assert imi.data("remove", "more")["test"] == "patch-id"
    assert items(imi, origin)[0]["merge_commit_hash"] == commit


def test_the_pull_requests_link_says_merged(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    made = imi.data("feat", "login")
    git.commit(root / "feat-login", "reworked by the host")
    assert "1 commit is unpushed" in str(imi.error(4, "remove", "login")["message"])
    url = "https://github.com/33GOD/market/pull/1"
    imi("links", "pr", made["work_item_id"], url, "--state", "merged", "--merge-commit", "1" * 40)
    assert imi.data("remove", "login")["test"] == "pull request"
    (item,) = items(imi, origin)  # what completed it first stands
    assert (item["completion_type"], item["merge_commit_hash"]) == ("merged", "1" * 40)


def test_without_a_server_it_is_told_later_once(
    imi: Imi, git: Git, root: Path, origin: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "login", "--ticket", "PROJ-9")
    unreachable(monkeypatch)
    (root / "feat-login/new").write_text("mine")
    message = str(imi.error(4, "remove", "login")["message"])
    assert "1 file is untracked; who claims it is unknown" in message
    lines = imi("remove", "login", "--force").err.splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "who claims it is unknown",
        "the server at http",
        "--force went over",
    ]
    assert "kept for the next command" in lines[1]
    assert imi("restore", "login").out == f"{root / 'feat-login'}\n"
    kept = [(spool.read(file)[0].kind, file.read_bytes()) for file in spool.waiting()]
    assert [kind for kind, _ in kept] == ["removed", "worktree"]
    monkeypatch.setenv("IMI_API_URL", live.url)
    imi("gc")
    assert spool.waiting() == []
    new, old = found = items(imi, origin)
    assert (old["status"], new["active"]) == ("abandoned", True)
    for _, content in kept:  # the answers were lost on the way
        (spool.folder() / f"00-{len(content)}.json").write_bytes(content)
    imi("gc")
    assert (items(imi, origin), spool.waiting()) == (found, [])


def test_what_is_not_there_or_never_goes(imi: Imi, root: Path) -> None:
    assert imi.error(3, "remove", "nothing")["code"] == "NOT_FOUND"
    assert imi.error(3, "restore", "nothing")["code"] == "NOT_FOUND"
    refused = imi.error(4, "remove", "trunk-main", "--force")
    assert (refused["message"], refused["hint"]) == ("trunk-main stays: it is the trunk's worktree", None)
    assert imi.data("trash", "list")["items"] == []
    assert imi("trash", "list").out == "the trash is empty\n"


def test_the_trash_is_listed(imi: Imi, root: Path) -> None:
    for name in ("one", "two"):
        imi("feat", name)
        (root / f"feat-{name}/new").write_bytes(os.urandom(5000))
        assert "1 file is untracked" in imi("remove", name, "--force").err
    data = imi.data("trash", "list")
    assert [item["name"] for item in data["items"]] == ["feat-two", "feat-one"]
    item = data["items"][0]
    assert (item["branch"], item["state"], item["forced"]) == ("feat/two", "empty", ["1 file is untracked"])
    moments = [datetime.fromisoformat(item[key]) for key in ("removed_at", "expires_at")]
    assert moments[1] - moments[0] == timedelta(days=7)
    assert data["size"] == sum(item["size"] for item in data["items"]) > 10000
    lines = imi("trash", "list").lines
    assert lines[0].split()[:6] == ["name", "branch", "state", "age", "size", "expires"]
    assert lines[1].split()[:4] == ["feat-two", "feat/two", "no", "commits"]


def test_a_shell_inside_is_told_where_it_stands(
    imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "login")
    with subprocess.Popen(["sleep", "600"], cwd=root / "feat-login") as shell:
        try:
            message = imi.error(4, "remove", "login")["message"]
            assert message == f"feat-login stays: process {shell.pid} (sleep) is inside"
            monkeypatch.chdir(root / "feat-login")
            assert imi.data("remove", "login", "--force")["notes"] == [
                f"this folder is in the trash now: cd {root}"
            ]
        finally:
            shell.kill()
    monkeypatch.chdir(root)


def test_a_killed_removal_is_mended_by_the_next_command(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    made = imi.data("feat", "login")
    path = root / "feat-login"
    trashed = Path(imi.data("remove", "login")["trash"])
    trashed.rename(path)  # as a restore that was killed leaves it
    assert subprocess.run(["git", "status"], cwd=path, capture_output=True, check=False).returncode == 0
    assert str(path) not in git(root / "trunk-main", "worktree", "list")
    data = imi.data("remove", "login")
    assert data["notes"] == ["the removal of feat-login was interrupted; it is in its place"]
    assert not path.exists() and len(imi.data("trash", "list")["items"]) == 1
    assert imi.data("restore", "login")["notes"] == []
    assert git(path, "status", "--porcelain", "--branch") == "## feat/login"
    assert items(imi, origin)[0]["id"] != made["work_item_id"]


def race(root: Path, *commands: list[str]) -> list[subprocess.CompletedProcess[str]]:
    def run(arguments: list[str]) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imi", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(len(commands)) as threads:
        return list(threads.map(run, commands))


def test_of_two_who_remove_one_name_one_wins(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    imi("feat", "raced")
    (root / "feat-raced/new").write_text("mine")
    ran = race(root, *[["remove", "raced", "--force"]] * 4)
    codes = Counter(each.returncode for each in ran)
    assert codes[0] == 1 and codes[3] + codes[4] == 3, ran
    assert all("raced" in each.stderr for each in ran if each.returncode)
    (entry,) = imi.data("trash", "list")["items"]
    assert (Path(entry["trash"]) / "new").read_text() == "mine"
    ran = race(root, *[["restore", "raced"]] * 4)
    codes = Counter(each.returncode for each in ran)
    assert codes[0] == 1 and codes[3] + codes[4] == 3, ran
    assert (root / "feat-raced/new").read_text() == "mine"
    assert git(root / "feat-raced", "status", "--porcelain") == "?? new"
    assert imi.data("trash", "list")["items"] == [] and spool.waiting() == []
    assert [item["active"] for item in items(imi, origin)] == [True, False]


def test_remove_and_feat_of_one_name_take_turns(imi: Imi, git: Git, root: Path) -> None:
    imi("feat", "raced")
    (root / "feat-raced/new").write_text("mine")
    ran = race(root, ["remove", "raced", "--force"], ["feat", "raced"], ["feat", "raced"])
    assert [each.returncode for each in ran] == [0, 0, 0], ran
    (entry,) = imi.data("trash", "list")["items"]
    assert (Path(entry["trash"]) / "new").read_text() == "mine"
    if (root / "feat-raced").exists():  # feat came last
        assert git(root / "feat-raced", "status", "--porcelain") == ""


def test_gc_takes_what_nobody_needs(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    made = {name: imi.data("feat", name) for name in ("done", "open", "fresh", "dirty", "mine")}
    for name in ("done", "dirty", "mine"):
        squash(git, root, name)
    git.commit(root / "feat-open", "file")
    (root / "feat-dirty/new").write_text("new")
    imi("work", "claim", made["mine"]["work_item_id"])
    data = imi.data("gc")
    assert data["done"] is False
    assert {item["name"]: (item["action"], item["reasons"]) for item in data["items"]} == {
        "feat-done": ("remove", []),
        "feat-open": ("keep", ["it is not merged", "1 commit is unpushed"]),
        "feat-fresh": ("keep", ["it has no commits yet"]),
        "feat-dirty": ("keep", ["1 file is untracked"]),
        "feat-mine": ("keep", ["ada claims it"]),
    }
    assert imi("gc").lines[-1] == "1 to remove; nothing was: say --yes"
    assert (root / "feat-done").is_dir()
    today = imi.data("gc", "--older-than", "14d", "--yes")["items"]
    assert {item["action"] for item in today} == {"keep"}
    with subprocess.Popen(["sleep", "600"], cwd=root / "feat-done") as inside:
        try:
            assert imi("gc", "--yes").lines[-1] == "nothing to remove"
        finally:
            inside.kill()
    data = imi.data("gc", "--yes")
    assert [item["name"] for item in data["items"] if item["action"] == "removed"] == ["feat-done"]
    assert not (root / "feat-done").exists()
    assert [item["name"] for item in imi.data("trash", "list")["items"]] == ["feat-done"]
    done = {item["branch_name"]: item["completion_type"] for item in items(imi, origin)}
    assert (done["feat/done"], done["feat/open"]) == ("merged", None)
    assert imi.data("gc", "--older-than", "1s")["items"]


def test_gc_removes_nothing_without_the_server(
    imi: Imi, git: Git, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("done", "other"):
        imi("feat", name)
        squash(git, root, name)
    unreachable(monkeypatch)
    ran = imi("gc", "--yes")
    assert "who claims it is unknown" in ran.out and "nothing to remove" in ran.out
    assert ran.err == "who claims it is unknown: the server cannot be reached\n"
    assert (root / "feat-done").is_dir()


def test_without_a_remote(imi: Imi, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git.origin(tmp_path / "bare/.bare")
    git(tmp_path, "init", "-q", "-b", "main", "seed")
    git.commit(tmp_path / "seed", "README")
    git(tmp_path / "seed", "push", "-q", str(tmp_path / "bare/.bare"), "main")
    git(tmp_path / "bare/.bare", "worktree", "add", "-q", str(tmp_path / "bare/trunk-main"), "main")
    monkeypatch.chdir(tmp_path / "bare")
    imi("feat", "x")
    git.commit(tmp_path / "bare/feat-x", "file")
    assert "1 commit is unpushed" in str(imi.error(4, "remove", "x")["message"])
    (note,) = imi.data("remove", "x", "--force")["notes"]
    assert "without a remote" in note
    assert imi.data("restore", "x")["branch"] == "feat/x"
    assert spool.waiting() == []


def test_hostile_names_reach_no_terminal(imi: Imi, git: Git, root: Path) -> None:
    branch, folder = "feat/\u202eevil", root / "feat-\x1b[31m\nevil"
    git(root / "trunk-main", "worktree", "add", "-q", "-b", branch, str(folder))
    (folder / "\x1b[2Jnew\n").write_text("mine")
    shown = imi("gc").out
    refused = imi("remove", "--", branch, code=4)
    assert "1 file is untracked" in refused.err
    shown += refused.err + imi("remove", "--force", "--", folder.name).out
    listed = imi("trash", "list")
    restored = imi("restore", "--", branch)
    shown += listed.out + listed.err + restored.out + restored.err
    assert "evil" in shown and all(line.isprintable() for line in shown.split("\n"))
    assert (folder / "\x1b[2Jnew\n").read_text() == "mine"
    imi("remove", "--", "--force", code=3)


def test_a_clock_that_was_set_back_hides_no_removal(
    imi: Imi, root: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return datetime.now(tz) + timedelta(hours=5)

    with monkeypatch.context() as patch:
        patch.setattr(spool, "datetime", Ahead)
        imi("feat", "login")
    imi("remove", "login")
    (item,) = items(imi, origin)
    assert item["status"] == "abandoned"
    assert imi("reconcile").out == "nothing to do\n"
