"""`imi init`, `feat`, …, `review`: real git, a live server, and what it is told with and without one."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path

import pytest

from imi import cli
from imi.worktrees import settings, spool
from tests.cli.rooted import homes, items, origin, root, unreachable
from tests.commandline import Imi, Live
from tests.repositories import Git

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")


def test_init_clones_into_the_layout_and_registers(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    assert root.name == origin.stem
    assert [each.name for each in root.iterdir()] == ["trunk-main"]
    project = imi.data("projects", "get", origin)
    assert (project["default_branch"], project["trunk_path"]) == ("main", str(root / "trunk-main"))
    again = imi.data("init")
    assert (again["path"], again["created"], again["project_id"]) == (str(root), False, project["id"])
    os.chdir(root.parent)
    assert imi.error(4, "init", str(origin))["code"] == "CONFLICT"


def test_a_failed_clone_leaves_nothing(imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert imi.error(1, "init", f"file://{tmp_path}/nowhere.git")["code"] == "GIT"
    assert not (tmp_path / "nowhere").exists()
    assert imi.error(3, "init", "nowhere")["code"] == "NOT_FOUND"


def test_a_clone_that_was_killed_is_cleared(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """git waits for ssh, which never answers; imi is killed there, and then git too."""
    monkeypatch.chdir(tmp_path)
    root, started = tmp_path / origin.stem, tmp_path / "started"
    slow = tmp_path / "slow"
    slow.write_text(f"#!/bin/sh\ntouch '{started}'; exec sleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("GIT_SSH", str(slow))
    running = subprocess.Popen(
        [sys.executable, "-m", "imi", "init", f"host:{origin}"], start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not started.exists():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    assert "another imi" in str(imi.error(4, "init", origin)["message"])
    running.kill()
    running.wait()
    assert "another imi" in str(imi.error(4, "init", origin)["message"]), "git is still at it"
    (root / ".imi-clone/rest").write_text("what a kill left")
    os.killpg(running.pid, signal.SIGKILL)
    while True:
        assert time.monotonic() < until
        if (ran := cli.run(["init", str(origin)])) == 0:
            break
        assert ran == 4
    assert [each.name for each in root.iterdir()] == ["trunk-main"]
    assert git(root / "trunk-main", "status", "--porcelain") == ""


def test_what_killed_clones_left_is_no_obstacle(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    root = tmp_path / origin.stem
    (root / ".imi-clone").mkdir(parents=True)
    (root / ".imi-clone/lock").touch()
    git(tmp_path, "clone", "-q", str(origin), str(root / ".imi-clone/clone"))
    made = imi.data("init", origin)
    assert (made["created"], "killed clone" in made["notes"][0]) == (True, True)
    (root / ".imi-clone").mkdir()  # killed when only this was left to remove
    assert imi.error(4, "init", origin)["code"] == "CONFLICT"
    assert imi.data("init", root.name)["created"] is False
    assert [each.name for each in root.iterdir()] == ["trunk-main"]
    mine = tmp_path / "nowhere"
    mine.mkdir()
    imi.error(1, "init", f"file://{tmp_path}/gone/nowhere.git")
    assert list(mine.iterdir()) == []


def test_of_two_who_clone_at_once_one_wins(origin: Path, tmp_path: Path) -> None:
    def clone(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imi", "init", str(origin)]
        return subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(3) as threads:
        ran = list(threads.map(clone, range(3)))
    assert sorted(each.returncode for each in ran) == [0, 4, 4], [each.stderr for each in ran]
    assert [each.name for each in (tmp_path / origin.stem).iterdir()] == ["trunk-main"]


def test_feat_makes_a_worktree_a_work_item_and_the_tickets_link(
    imi: Imi, git: Git, root: Path, origin: Path
) -> None:
    ran = imi("feat", "user-auth", "--ticket", "PROJ-7")
    path = root / "feat-user-auth"
    assert (ran.out, ran.err) == (f"{path}\n", "")
    assert git(path, "branch", "--show-current") == "feat/user-auth"
    assert (path / "README").is_file()
    item = items(imi, origin)["feat/user-auth"]
    assert (item["work_type"], item["worktree_path"]) == ("feature", str(path))
    assert item["source"] == {"type": "plane_ticket", "ref": "PROJ-7"}
    links = imi.data("work", "get", item["id"])["links"]
    assert [link["plane_ticket_id"] for link in links["tickets"]] == ["PROJ-7"]
    again = imi.data("feat", "user-auth")
    assert (again["created"], again["path"], again["work_item_id"]) == (False, str(path), item["id"])
    assert len(items(imi, origin)) == 1


@pytest.mark.parametrize(
    ("kind", "work_type"),
    [("fix", "fix"), ("aiops", "aiops"), ("devops", "devops"), ("exp", "experiment")],
)
def test_each_kind_has_its_prefix(imi: Imi, root: Path, origin: Path, kind: str, work_type: str) -> None:
    made = imi.data(kind, "ui/über")
    assert (made["name"], made["branch"]) == (f"{kind}-ui-über", f"{kind}/ui/über")
    assert items(imi, origin)[made["branch"]]["work_type"] == work_type


def test_where_a_branch_begins(imi: Imi, git: Git, root: Path, tmp_path: Path) -> None:
    first = tmp_path / "elsewhere/first"
    old = git(first, "rev-parse", "HEAD")
    git(first, "switch", "-q", "-c", "feat/theirs")
    theirs = git.commit(first, "theirs")
    git(first, "push", "-q", "origin", "feat/theirs")
    git(first, "switch", "-q", "main")
    newest = git.commit(first, "newest")
    git(first, "push", "-q", "origin", "main")

    def head(*arguments: str) -> str:
        return git(Path(imi.data("feat", *arguments)["path"]), "rev-parse", "HEAD")

    assert head("fresh") == newest  # fetched first
    assert head("early", "--from", old[:10]) == old
    assert head("theirs") == theirs
    assert git(root / "feat-theirs", "rev-parse", "--abbrev-ref", "@{upstream}") == "origin/feat/theirs"
    assert imi.error(4, "feat", "theirs", "--from", "main")["code"] == "CONFLICT"
    unpushed = git.commit(root / "trunk-main", "unpushed")
    git(root / "trunk-main", "pull", "-q", "--rebase")
    assert head("on-top") == git(root / "trunk-main", "rev-parse", "HEAD") != unpushed
    assert imi.error(2, "feat", "lost", "--from", "--all")["code"] == "USAGE"


@pytest.mark.parametrize(
    "name", ["", "../up", "a/../b", ".git", "a\x1b[31m", "a b~", "x.lock", "a//b", "ü" * 120]
)
def test_bad_names_reach_nothing(imi: Imi, git: Git, root: Path, name: str) -> None:
    assert imi.error(2, "feat", name)["code"] == "USAGE"
    assert imi.error(2, "feat", "good", "--branch", f"feat/{name}" * 3)["code"] == "USAGE"
    imi("feat", "--", "-f", code=2)
    imi("feat", "good", "--branch", "-d", code=2)
    assert [each.name for each in root.iterdir()] == ["trunk-main"]
    assert git(root / "trunk-main", "branch", "--format=%(refname)") == "refs/heads/main"


def test_what_is_in_the_way_stays(imi: Imi, git: Git, root: Path) -> None:
    (root / "feat-mine").mkdir()
    (root / "feat-mine/file").write_text("mine")
    assert imi.error(4, "feat", "mine")["code"] == "CONFLICT"
    assert (root / "feat-mine/file").read_text() == "mine"
    imi("feat", "a/b")
    assert "feat/a/b" in str(imi.error(4, "feat", "a-b")["message"])
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/by-hand", str(root / "somewhere"))
    ran = imi("fix", "by-hand")
    assert ran.out == f"{root / 'somewhere'}\n"
    assert "fix/by-hand is checked out in" in ran.err


@pytest.mark.parametrize("kind", ["pull", "merge-requests"])
def test_review_takes_the_requests_head(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path, kind: str
) -> None:
    first = tmp_path / "elsewhere/first"
    git(first, "switch", "-q", "-c", "proposal")
    head = git.commit(first, "proposal")
    git(first, "push", "-q", "origin", f"proposal:refs/{kind}/12/head")
    made = imi.data("review", 12)
    assert (made["name"], made["branch"]) == ("pr-12", "pr/12")
    assert git(root / "pr-12", "rev-parse", "HEAD") == head
    assert items(imi, origin)["pr/12"]["work_type"] == "review"
    git(root / "trunk-main", "fetch", "-q", "--prune")
    unpushed = git(root / "pr-12", "rev-list", "HEAD", "--not", "--remotes")
    assert unpushed == ""
    assert "'x' is not a whole number" in str(imi.error(2, "review", "x")["message"])
    assert "no pull request 13" in str(imi.error(1, "review", 13)["message"])


def test_a_plain_clone_is_adopted_only_when_told(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clone = tmp_path / "plain"
    git(tmp_path, "clone", "-q", str(origin), "plain")
    (clone / "untracked").write_text("mine")
    git(clone, "worktree", "add", "-q", "-b", "inner", str(clone / "wt/inner"))
    git(clone, "worktree", "add", "-q", "-b", "outer", str(tmp_path / "outer"))
    monkeypatch.chdir(clone)
    refusal = imi.error(4, "init")
    assert "trunk-BRANCH" in str(refusal["message"]) and "imi init --adopt" in str(refusal["hint"])
    assert imi.error(4, "feat", "x")["code"] == "REFUSED"
    git(clone, "switch", "-q", "-c", "other")
    assert "other" in str(imi.error(4, "init", "--adopt")["message"])
    git(clone, "switch", "-q", "main")
    assert imi.data("init", "--adopt")["path"] == str(clone)
    assert [each.name for each in clone.iterdir()] == ["trunk-main"]
    trunk = clone / "trunk-main"
    assert (trunk / "untracked").read_text() == "mine"
    for folder in (trunk / "wt/inner", tmp_path / "outer"):
        assert git(folder, "status", "--porcelain") == ""
    monkeypatch.chdir(clone)
    assert imi.data("feat", "x")["path"] == str(clone / "feat-x")


def test_an_adoption_that_was_killed_goes_on(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "clone", "-q", str(origin), "plain")
    (tmp_path / "plain").rename(tmp_path / "plain.imi-adopt")
    monkeypatch.chdir(tmp_path)
    assert imi.data("init", "--adopt", "plain")["path"] == str(tmp_path / "plain")
    assert git(tmp_path / "plain/trunk-main", "status", "--porcelain") == ""


def test_two_who_make_one_name_get_one_worktree(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    def make(_: int) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "imi", "feat", "raced"]
        return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)

    with ThreadPoolExecutor(4) as threads:
        ran = list(threads.map(make, range(4)))
    assert [each.returncode for each in ran] == [0] * 4, [each.stderr for each in ran]
    assert {each.stdout for each in ran} == {f"{root / 'feat-raced'}\n"}
    assert git(root / "feat-raced", "status", "--porcelain") == ""
    assert list(items(imi, origin)) == ["feat/raced"]
    assert spool.waiting() == []


def test_a_making_that_was_killed_is_completed(
    imi: Imi, git: Git, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A filter stops git in the middle of the checkout; git is killed there."""
    trunk = root / "trunk-main"
    git.commit(trunk, ".gitattributes", "slow filter=slow\n")
    git.commit(trunk, "slow", "text\n")
    git.commit(trunk, "zuletzt")
    started = tmp_path / "started"
    git(trunk, "config", "filter.slow.smudge", f"touch '{started}'; exec sleep 600")
    running = subprocess.Popen(
        [sys.executable, "-m", "imi", "feat", "cut"], cwd=root, start_new_session=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    until = time.monotonic() + 60
    while not started.exists():
        assert running.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    os.killpg(running.pid, signal.SIGKILL)
    running.wait()
    git(trunk, "config", "--unset", "filter.slow.smudge")
    assert not (root / "feat-cut/zuletzt").exists()
    made = imi.data("feat", "cut")
    assert "half made" in made["notes"][0]
    assert git(root / "feat-cut", "status", "--porcelain") == ""
    assert git(root / "feat-cut", "branch", "--show-current") == "feat/cut"
    assert (root / "feat-cut/zuletzt").is_file()


def test_without_a_server_git_goes_on_and_the_report_comes_later_once(
    imi: Imi, root: Path, origin: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable(monkeypatch)
    monkeypatch.setenv("IMI_AGENT", "claude-7")
    ran = imi("feat", "offline", "--ticket", "PROJ-9")
    assert ran.out == f"{root / 'feat-offline'}\n"
    assert len(ran.err.splitlines()) == 1 and "kept for the next command" in ran.err
    imi("fix", "offline")
    kept = [file.read_bytes() for file in spool.waiting()]
    assert len(kept) == 2
    monkeypatch.setenv("IMI_API_URL", live.url)
    monkeypatch.setenv("IMI_AGENT", "ada")
    imi("exp", "online")
    assert spool.waiting() == []
    found = items(imi, origin)
    assert {name: item["owner_id"] for name, item in found.items()} == {
        "feat/offline": "claude-7", "fix/offline": "claude-7", "exp/online": "ada",
    }  # fmt: skip
    before = imi.data("work", "get", found["feat/offline"]["id"])
    (spool.folder() / "00-again.json").write_bytes(kept[0])  # its answer was lost on the way
    imi("exp", "online")
    assert items(imi, origin) == found
    assert imi.data("work", "get", found["feat/offline"]["id"]) == before


@pytest.mark.parametrize("ticket", ["", "T" * 300, "T\n", "\x1b[2J", "\udcff"])
def test_a_ticket_that_none_can_be_called_is_refused(imi: Imi, root: Path, ticket: str) -> None:
    assert "PROJ-123" in (imi.error(2, "feat", "x", "--ticket", ticket)["hint"] or "")
    assert not (root / "feat-x").exists()


def test_a_report_that_the_server_refuses_is_laid_aside(imi: Imi, root: Path, origin: Path) -> None:
    imi("worktrees", "register", origin, "/elsewhere/feat-x")
    ran = imi("feat", "x")
    assert "the server refused a report: Another worktree" in ran.err and "Remove that one first" in ran.err
    assert spool.waiting() == []
    (aside,) = spool.folder().glob("*.refused")
    assert str(aside) in ran.err


def test_a_folder_that_has_another_branch_now_has_that_ones_work(
    imi: Imi, git: Git, root: Path, origin: Path
) -> None:
    imi("feat", "login")
    git(root / "trunk-main", "worktree", "remove", "../feat-login")
    made = imi.data("feat", "login", "--branch", "feat/two", "--ticket", "T-2")
    assert made["work_item_id"] == items(imi, origin)["feat/two"]["id"]
    tickets = imi.data("work", "get", made["work_item_id"])["links"]["tickets"]
    assert [each["plane_ticket_id"] for each in tickets] == ["T-2"]


UNSENDABLE = {
    "body": {"body": None},
    "kind": {"kind": ["git_state"]},
    "id": {"id": 5},
    "time": {"at": 5},
    "list": {"kind": "activities", "body": {"remote": "REMOTE", "branch": "BRANCH", "activities": 5}},
    "name": {"kind": "git_state", "body": {"remote": "/\udcff", "git_state": {}}},
}


@pytest.mark.parametrize("case", UNSENDABLE)
def test_a_report_that_nobody_can_send_holds_up_no_other(
    imi: Imi, root: Path, origin: Path, case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "first")
    unsent = asdict(spool.made("ada", "git_state", {})) | UNSENDABLE[case]
    said = json.dumps([unsent]).replace("REMOTE", str(origin)).replace("BRANCH", "feat/first")
    (spool.folder() / "00-unsent.json").write_text(said)
    ran = imi("feat", "second")
    (aside,) = spool.folder().glob("00*.refused")
    assert f"kept as {aside}" in ran.err
    assert spool.waiting() == [] and "feat/second" in items(imi, origin)


def test_a_full_disk_leaves_no_half_report(imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    unreachable(monkeypatch)
    imi("feat", "first")
    kept = sorted(spool.folder().iterdir())
    monkeypatch.setattr(spool.os, "fsync", full)
    assert "No space left" in imi("feat", "second").err
    assert sorted(spool.folder().iterdir()) == kept


def test_a_home_that_is_no_folder_has_no_settings(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CONFIG_HOME", raising=False)
    monkeypatch.setenv("HOME", "/dev/null")
    assert settings.load() == settings.Config()


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda file: file.symlink_to("nowhere")])
def test_what_is_no_file_in_the_spool_is_laid_aside(
    imi: Imi, root: Path, make: Callable[[Path], object]
) -> None:
    imi("feat", "first")
    make(spool.folder() / "00-odd.json")
    assert "00-odd.refused" in imi("feat", "second").err
    assert spool.waiting() == []


def test_a_spool_that_cannot_be_written_is_a_note(
    imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unreachable(monkeypatch)
    imi("feat", "waits")
    (spool.folder() / "lock").unlink()
    (spool.folder() / "lock").mkdir()
    assert "cannot write to" in imi("remove", "waits", "--force").err
    assert not (root / "feat-waits").exists()


def test_an_unreachable_remote_is_a_note(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    origin.rename(origin.with_name("gone.git"))
    made = imi.data("feat", "x")
    assert made["created"] and "nothing was fetched" in made["notes"][0]


def test_without_a_remote_only_git_is_done(
    imi: Imi, git: Git, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git.origin(tmp_path / "bare/.bare")
    git(tmp_path, "init", "-q", "-b", "main", "seed")
    git.commit(tmp_path / "seed", "README")
    git(tmp_path / "seed", "push", "-q", str(tmp_path / "bare/.bare"), "main")
    git(tmp_path / "bare/.bare", "worktree", "add", "-q", str(tmp_path / "bare/main"), "main")
    monkeypatch.chdir(tmp_path / "bare/main")
    made = imi.data("feat", "x")
    assert made["path"] == str(tmp_path / "bare/feat-x")
    assert "without a remote" in made["notes"][0] and made["work_item_id"] is None
    monkeypatch.chdir(tmp_path / "bare")
    assert imi.data("feat", "x")["created"] is False
    monkeypatch.chdir(tmp_path)
    assert imi.error(3, "feat", "x")["code"] == "NOT_FOUND"
    monkeypatch.setenv("IMI_REPO_ROOT", str(tmp_path / "bare"))
    assert imi.data("feat", "x")["created"] is False


def test_a_report_whose_answer_was_lost_counts_once(
    imi: Imi, root: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after the server had it, while somebody else ends the work: its repeat begins no other."""
    with monkeypatch.context() as patch:
        patch.setattr(spool, "leave", lambda file, reports: None)
        made = imi.data("feat", "login", "--ticket", "PROJ-7")
    imi("work", "complete", made["work_item_id"], "--type", "abandoned")
    before = imi.data("stats")["total_events"]
    assert len(spool.waiting()) == 1
    assert imi.data("reconcile")["delivered"] == 1
    (item,) = imi.data("work", "list", "--project", origin, "--active", "all")["items"]
    assert (item["id"], imi.data("stats")["total_events"]) == (made["work_item_id"], before)
