"""`imi reconcile`: real git, folders moved and removed by hand, and a live server."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from imi.worktrees import acts, delivery, layout, repairs, spool
from imi.worktrees.report import text
from tests.cli.rooted import homes, items, origin, root, unreachable
from tests.commandline import Imi, Live
from tests.repositories import Git

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")
HOST = socket.gethostname()


def add(git: Git, root: Path, folder: str | Path, *options: str) -> Path:
    """A worktree that is made by hand."""
    path = root / folder
    git(root / "trunk-main", "worktree", "add", "-q", *options, "--", str(path))
    return path


def rows(imi: Imi, origin: Path) -> dict[str, Any]:
    listed = imi.data("worktrees", "list", "--project", origin, "--all")["items"]
    return {row["path"]: row for row in listed}


def events(imi: Imi) -> int:
    return int(imi.data("stats")["total_events"])


def reconciled(imi: Imi, kind: str = "actions") -> list[tuple[str, str]]:
    return sorted((each["action"], each["name"]) for each in imi.data("reconcile")[kind])


def nothing_more(imi: Imi, root: Path) -> None:
    """Once more changes nothing: no event, no report, nothing of git's."""

    def state() -> list[Any]:
        own = root / "trunk-main/.git/worktrees"
        kept = sorted((str(file), file.read_bytes()) for file in own.rglob("*") if file.is_file())
        return [events(imi), kept, sorted(spool.folder().iterdir()), sorted(root.iterdir())]

    before = state()
    again = imi.data("reconcile")
    assert (again["actions"], again["delivered"]) == ([], 0)
    assert state() == before
    assert imi("reconcile", "--quiet").out == ""


def test_what_was_added_removed_and_moved_by_hand_is_put_right(
    imi: Imi, git: Git, root: Path, origin: Path
) -> None:
    for name in ("gone", "moved"):
        imi("feat", name)
    before = items(imi, origin)
    git.commit(root / "feat-moved", "work")
    (root / "feat-moved/untracked").write_text("mine")
    added = add(git, root, "fix-added", "-b", "fix/added")
    shutil.rmtree(root / "feat-gone")
    (root / "feat-moved").rename(root / "elsewhere")
    ran = imi("reconcile")
    lines = {line.split()[0]: line for line in ran.lines[1:]}
    assert sorted(lines) == ["adopted", "moved", "retired"]
    assert f"it was {root / 'feat-moved'}" in lines["moved"] and str(root / "elsewhere") in lines["moved"]
    assert "the branch stays" in lines["retired"] and "fix-added" in lines["adopted"]
    assert git(root / "elsewhere", "status", "--porcelain") == "?? untracked"
    assert "feat/gone" in git(root / "trunk-main", "branch", "--list", "feat/gone")
    listed = [each.path for each in layout.at(root).worktrees]
    assert sorted(listed) == sorted([root / "trunk-main", root / "elsewhere", added])
    assert set(rows(imi, origin)) == {str(root / "elsewhere"), str(added)}
    after = items(imi, origin)
    assert after["feat/gone"]["status"] == "abandoned"
    assert after["feat/gone"]["completion_evidence"]["rule"] == "reconcile"
    moved = after["feat/moved"]
    assert (moved["id"], moved["active"]) == (before["feat/moved"]["id"], True)
    assert (moved["worktree_path"], moved["uncommitted_files_count"]) == (str(root / "elsewhere"), 1)
    assert moved["ahead_of_trunk"] == 1
    fix = after["fix/added"]
    assert (fix["work_type"], fix["worktree_path"], fix["host"]) == ("fix", str(added), HOST)
    assert fix["source"] == {"type": "manual", "ref": "reconcile"}
    assert fix["last_commit_hash"] == git(added, "rev-parse", "HEAD")
    nothing_more(imi, root)
    assert imi("reconcile").out == "nothing to do\n"


def test_offline_git_is_repaired_and_the_server_hears_of_it_later(
    imi: Imi, git: Git, root: Path, origin: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("gone", "moved"):
        imi("feat", name)
    add(git, root, "exp-added", "-b", "exp/added")
    unreachable(monkeypatch)
    shutil.rmtree(root / "feat-gone")
    (root / "feat-moved").rename(root / "elsewhere")
    ran = imi("reconcile")
    assert len(ran.err.splitlines()) == 1 and "kept for the next command" in ran.err
    assert sorted(line.split()[0] for line in ran.lines[1:]) == ["moved", "retired"]
    assert git(root / "elsewhere", "status", "--porcelain") == ""
    kept = spool.count()
    assert kept == 3, "removed, moved, and how the moved one stands"
    ran = imi("reconcile")
    assert ran.out == "nothing to do\n" and spool.count() == kept
    monkeypatch.setenv("IMI_API_URL", live.url)
    data = imi.data("reconcile")
    assert data["delivered"] == kept
    assert [(each["action"], each["name"]) for each in data["actions"]] == [("adopted", "exp-added")]
    after = items(imi, origin)
    assert (after["feat/gone"]["status"], after["feat/moved"]["active"]) == ("abandoned", True)
    assert set(rows(imi, origin)) == {str(root / "elsewhere"), str(root / "exp-added")}
    nothing_more(imi, root)


def test_the_trunk_and_the_trash_are_nobodys_work(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    imi("feat", "thrown")
    (root / ".imi-trash").mkdir()
    git(root, "-C", "trunk-main", "worktree", "move", str(root / "feat-thrown"), str(root / ".imi-trash/1"))
    git(root, "-C", "trunk-main", "worktree", "lock", str(root / ".imi-trash/1"))
    listed = rows(imi, origin)
    imi("worktrees", "update", listed[str(root / "feat-thrown")]["id"], "--path", root / ".imi-trash/1")
    before = rows(imi, origin)
    nothing_more(imi, root)
    assert rows(imi, origin) == before
    shutil.rmtree(root / ".imi-trash/1")
    nothing_more(imi, root)


def test_a_detached_worktree_has_no_work_item(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    path = add(git, root, "pr-7", "--detach")
    assert reconciled(imi) == [("adopted", "pr-7")]
    assert items(imi, origin) == {}
    row = rows(imi, origin)[str(path)]
    assert (row["branch_name"], row["work_item_id"]) == (None, None)
    nothing_more(imi, root)
    git(path, "switch", "-q", "-c", "anything")
    assert reconciled(imi) == [("adopted", "pr-7")]
    assert items(imi, origin)["anything"]["work_type"] == "review", "as its folder begins"
    nothing_more(imi, root)


def test_another_branch_in_a_folder_is_other_work(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    imi("feat", "a")
    git(root / "feat-a", "switch", "-q", "-c", "fix/b")
    assert reconciled(imi) == [("adopted", "feat-a"), ("switched", "feat-a")]
    found = items(imi, origin)
    assert (found["feat/a"]["active"], found["fix/b"]["work_type"]) == (True, "fix")
    nothing_more(imi, root)
    git(root / "feat-a", "switch", "-q", "feat/a")
    imi("reconcile")
    assert items(imi, origin)["feat/a"]["id"] == found["feat/a"]["id"]
    nothing_more(imi, root)


def test_folders_that_changed_places(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    for name in ("a", "b"):
        imi("feat", name)
        git.commit(root / f"feat-{name}", f"only-{name}")
    before = items(imi, origin)
    (root / "feat-a").rename(root / "t")
    (root / "feat-b").rename(root / "feat-a")
    (root / "t").rename(root / "feat-b")
    imi("reconcile")
    assert git(root / "feat-a", "branch", "--show-current") == "feat/b"
    assert (
        git(root / "feat-a", "status", "--porcelain") == git(root / "feat-b", "status", "--porcelain") == ""
    )
    found = rows(imi, origin)
    assert found[str(root / "feat-a")]["work_item_id"] == before["feat/b"]["id"]
    assert found[str(root / "feat-b")]["work_item_id"] == before["feat/a"]["id"]
    assert all(each["active"] for each in items(imi, origin).values())
    nothing_more(imi, root)


def test_git_worktree_move_moves_the_work(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path
) -> None:
    imi("feat", "a")
    before = items(imi, origin)["feat/a"]
    git(root / "trunk-main", "worktree", "move", str(root / "feat-a"), str(tmp_path / "outside"))
    assert reconciled(imi) == [("moved", "outside")]
    assert items(imi, origin)["feat/a"]["id"] == before["id"]
    assert set(rows(imi, origin)) == {str(tmp_path / "outside")}
    nothing_more(imi, root)
    (tmp_path / "outside").rename(tmp_path / "further")
    assert reconciled(imi) == [("moved", "further")], "it was looked for beside where it was"
    nothing_more(imi, root)


def test_a_folder_is_found_from_inside_of_it(
    imi: Imi, git: Git, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "a")
    (tmp_path / "far").mkdir()
    (root / "feat-a").rename(tmp_path / "far/away")
    monkeypatch.chdir(tmp_path / "far/away")
    assert reconciled(imi) == [("moved", "away")]
    nothing_more(imi, root)


def test_a_copy_is_left_alone(imi: Imi, git: Git, root: Path) -> None:
    imi("feat", "a")
    shutil.copytree(root / "feat-a", root / "copy")
    assert reconciled(imi, "left") == [("left", "copy")]
    assert git(root / "trunk-main", "worktree", "list").count("\n") == 1
    nothing_more(imi, root)


def test_a_moved_project_is_linked_again(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "a")
    before = items(imi, origin)["feat/a"]
    root = root.rename(tmp_path / "renamed")
    monkeypatch.chdir(root / "feat-a")
    assert reconciled(imi) == [("moved", "feat-a")]
    assert git(root / "feat-a", "status", "--porcelain") == ""
    found = items(imi, origin)["feat/a"]
    assert (found["id"], found["worktree_path"]) == (before["id"], str(root / "feat-a"))
    nothing_more(imi, root)
    (root / "trunk-main").rename(root / "trunk-new")
    assert reconciled(imi) == [("linked", "feat-a")]
    assert git(root / "feat-a", "status", "--porcelain") == ""


def test_a_copied_project_takes_nothing_from_the_first(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "a")
    before = rows(imi, origin)
    link = (root / "feat-a/.git").read_bytes()
    shutil.copytree(root, tmp_path / "second", symlinks=True)
    monkeypatch.chdir(tmp_path / "second")
    assert reconciled(imi, "actions") == []
    assert ("left", "feat-a") in reconciled(imi, "left")
    assert (root / "feat-a/.git").read_bytes() == link
    assert rows(imi, origin) == before
    nothing_more(imi, tmp_path / "second")


def test_bare_and_worktrees(
    imi: Imi, git: Git, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare, shop = tmp_path / "bare/.bare", tmp_path / "bare"
    git(tmp_path, "clone", "-q", "--bare", str(origin), str(bare))
    git(bare, "worktree", "add", "-q", str(shop / "trunk-main"), "main")
    git(bare, "worktree", "add", "-q", "-b", "devops/a", str(shop / "devops-a"))
    monkeypatch.chdir(shop)
    assert reconciled(imi) == [("adopted", "devops-a")]
    shop = shop.rename(tmp_path / "moved")
    monkeypatch.chdir(shop / "devops-a")
    assert reconciled(imi) == [("moved", "devops-a"), ("moved", "trunk-main")]
    assert git(shop / "devops-a", "status", "--porcelain") == ""
    assert [row["path"] for row in rows(imi, origin).values()] == [str(shop / "devops-a")]
    assert imi.data("reconcile")["actions"] == []


@pytest.mark.parametrize("name", ["fix-über", "exp-a\nb", "pr-\x1b[31m", "-f", os.fsdecode(b"fix-\xff")])
def test_any_name_is_adopted_and_steers_no_terminal(
    imi: Imi, git: Git, root: Path, origin: Path, name: str
) -> None:
    path = add(git, root, name, "-b", "feat/ü日本")
    ran = imi("reconcile")
    assert all(character.isprintable() or character == "\n" for character in ran.out)
    assert rows(imi, origin)[text(path)]["branch_name"] == "feat/ü日本"
    nothing_more(imi, root)
    shutil.rmtree(path)
    assert reconciled(imi) == [("retired", text(Path(name)))]
    nothing_more(imi, root)


def test_a_making_that_was_killed_is_completed(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    path = add(git, root, "feat-half", "--no-checkout", "-b", "feat/half")
    own = root / "trunk-main/.git/worktrees/feat-half"
    (own / "locked").write_text("initializing")
    (own / "index.lock").touch()
    begun = root / "trunk-main/.git/worktrees/feat-begun"
    shutil.copytree(own, begun)
    (begun / "gitdir").write_text(f"{root / 'feat-begun'}/.git\n")
    (root / "feat-begun").mkdir()
    assert reconciled(imi) == [
        ("adopted", "feat-half"),
        ("completed", "feat-half"),
        ("forgotten", "feat-begun"),
    ]
    assert git(path, "status", "--porcelain") == ""
    assert (path / "README").is_file() and not (root / "feat-begun").exists()
    assert list(items(imi, origin)) == ["feat/half"]
    nothing_more(imi, root)


KILLED = """
import os, signal, sys
from imi import cli

name, left = sys.argv[1], int(sys.argv[2])
writes = ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.symlink")

def count(event, arguments):
    global left
    acts = event in writes
    acts |= event == "open" and isinstance(arguments[2], int) and bool(arguments[2] & (os.O_WRONLY | os.O_RDWR))
    acts |= event == "subprocess.Popen" and arguments[1][1] not in ("-c", b"-c")  # git that writes
    acts |= event == "socket.connect"
    if acts:
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)

sys.addaudithook(count)
sys.exit(cli.run(["feat", name, "--ticket", "PROJ-7"]))
"""


def test_a_making_killed_at_any_step_is_put_right(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    step, there = 0, set()
    while True:
        name = f"cut{step}"
        command = [sys.executable, "-c", KILLED, name, str(step)]
        done = subprocess.run(command, cwd=root, capture_output=True, check=False)
        assert done.returncode in (0, -signal.SIGKILL), done.stderr
        step += 1
        if not done.returncode:
            break
        there.add((root / f"feat-{name}").exists())
        imi("reconcile")
        nothing_more(imi, root)
        made = imi.data("feat", name, "--ticket", "PROJ-7")
        assert git(Path(made["path"]), "status", "--porcelain", "--branch") == f"## feat/{name}"
        assert (root / f"feat-{name}/README").is_file()
    assert step > 8 and there == {False, True}
    found = items(imi, origin)
    assert sorted(found) == sorted(f"feat/cut{number}" for number in range(step))
    assert all(item["active"] for item in found.values()) and spool.waiting() == []
    assert len(rows(imi, origin)) == step


def test_what_may_only_be_away_is_kept(imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    path = add(git, root, disk / "fix-a", "-b", "fix/a")
    imi("reconcile")
    git.commit(path, "staged")
    (path / "new").touch()
    git(path, "add", "new")
    disk.rename(tmp_path / "unplugged")
    left = imi.data("reconcile")["left"]
    assert [each["name"] for each in left] == ["fix-a"] and "unmounted" in left[0]["reason"]
    git(root / "trunk-main", "worktree", "prune")
    nothing_more(imi, root)
    assert items(imi, origin)["fix/a"]["active"]
    (tmp_path / "unplugged").rename(disk)
    assert reconciled(imi) == [("returned", "fix-a")]
    assert git(path, "status", "--porcelain") == "A  new"
    nothing_more(imi, root)
    shutil.rmtree(disk)
    (left,) = imi.data("reconcile")["left"]
    drop = left["reason"].partition("for good: ")[2]
    subprocess.run(drop, shell=True, check=True, cwd=root / "trunk-main")
    (left,) = imi.data("reconcile")["left"]
    imi(*left["reason"].partition("imi ")[2].split())
    assert rows(imi, origin) == {}
    nothing_more(imi, root)


def test_a_disk_that_is_there_again_without_the_folder(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    add(git, root, disk / "fix-a", "-b", "fix/a")
    imi("reconcile")
    shutil.rmtree(disk)
    imi("reconcile")
    disk.mkdir()
    assert reconciled(imi) == [("retired", "fix-a")]
    nothing_more(imi, root)


def test_commits_that_nothing_else_holds_are_kept(imi: Imi, git: Git, root: Path) -> None:
    path = add(git, root, "loose", "--detach")
    commit = git.commit(path, "only-here")
    shutil.rmtree(path)
    (left,) = imi.data("reconcile")["left"]
    assert f"git branch NAME {commit}" in left["reason"]
    nothing_more(imi, root)
    git(root / "trunk-main", "branch", "saved", commit)
    assert reconciled(imi) == [("forgotten", "loose")]
    nothing_more(imi, root)


def test_a_link_that_was_lost_is_made_again(imi: Imi, git: Git, root: Path) -> None:
    imi("feat", "a")
    (root / "feat-a/mine").touch()
    (root / "feat-a/.git").unlink()
    assert reconciled(imi) == [("linked", "feat-a")]
    assert git(root / "feat-a", "status", "--porcelain") == "?? mine"
    nothing_more(imi, root)
    shutil.rmtree(root / "feat-a")
    (root / "feat-a").mkdir()
    assert reconciled(imi, "left") == [("left", "feat-a")]


def test_conflicts_on_the_server_are_explained(
    imi: Imi, git: Git, root: Path, origin: Path, tmp_path: Path
) -> None:
    imi("feat", "a")
    other = imi.data("projects", "register", f"{origin}-renamed")
    taken = imi.data("worktrees", "register", other["id"], root / "feat-b")
    add(git, root, "feat-b", "-b", "feat/b")
    add(git, root, tmp_path / "feat-a", "-b", "feat/c")
    before = events(imi)
    left = {each["path"]: each["reason"] for each in imi.data("reconcile")["left"]}
    assert f"imi worktrees remove {taken['id']}" in left[str(root / "feat-b")]
    assert (
        str(root / "feat-a") in left[str(tmp_path / "feat-a")] and "rename" in left[str(tmp_path / "feat-a")]
    )
    assert events(imi) == before and not list(spool.folder().glob("*.refused"))
    imi("worktrees", "remove", taken["id"])
    assert reconciled(imi) == [("adopted", "feat-b")]


def test_work_that_another_host_goes_on_with_is_not_abandoned(imi: Imi, root: Path, origin: Path) -> None:
    imi("feat", "a")
    item = items(imi, origin)["feat/a"]
    project = imi.data("projects", "get", origin)["id"]
    imi("worktrees", "register", project, "/srv/feat-a", "--host", "elsewhere", "--work-item", item["id"])
    shutil.rmtree(root / "feat-a")
    assert reconciled(imi) == [("retired", "feat-a")]
    assert items(imi, origin)["feat/a"]["active"]
    assert list(rows(imi, origin)) == ["/srv/feat-a"]
    nothing_more(imi, root)


def test_a_second_clones_worktrees_are_its_own(
    imi: Imi, root: Path, origin: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "a")
    (tmp_path / "two").mkdir()
    monkeypatch.chdir(tmp_path / "two")
    second = Path(imi.data("init", str(origin))["path"])
    monkeypatch.chdir(second)
    imi("feat", "b")
    before = rows(imi, origin)
    nothing_more(imi, second)
    monkeypatch.chdir(root)
    nothing_more(imi, root)
    assert rows(imi, origin) == before and len(before) == 2


def test_a_report_that_was_refused_is_named(imi: Imi, root: Path, origin: Path) -> None:
    imi("worktrees", "register", origin, "/elsewhere/feat-x")
    imi("feat", "x")
    (aside,) = spool.folder().glob("*.refused")
    assert imi.data("reconcile")["refused"] == [str(aside)]
    assert str(aside) in imi("reconcile").out
    assert imi("reconcile", "--quiet").out == ""


def test_quiet_speaks_when_something_was_done(imi: Imi, git: Git, root: Path) -> None:
    add(git, root, "feat-a", "-b", "feat/a")
    ran = imi("reconcile", "--quiet")
    assert ran.lines[1].split()[:2] == ["adopted", "feat-a"]
    ran = imi("reconcile", "--quiet")
    assert (ran.out, ran.err) == ("", "")


@pytest.mark.parametrize("subject", [b"gr\xfc\xdfe", b"x" * 70_000], ids=["latin-1", "long"])
def test_a_subject_that_the_server_would_not_take_hinders_nothing(
    imi: Imi, git: Git, root: Path, origin: Path, subject: bytes
) -> None:
    path = add(git, root, "fix-old", "-b", "fix/old")
    head = git(path, "cat-file", "commit", "HEAD").encode().partition(b"\n\n")[0]
    (path / "commit").write_bytes(head + b"\n\n" + subject + b"\n")  # git itself would make it UTF-8
    git(path, "reset", "-q", "--hard", git(path, "hash-object", "-t", "commit", "-w", "commit"))
    (path / "commit").unlink()
    imi("reconcile")
    item = items(imi, origin)["fix/old"]
    assert item["last_commit_message"] == subject.decode(errors="replace")[:65_536]
    assert item["last_commit_hash"] == git(path, "rev-parse", "HEAD")
    nothing_more(imi, root)


def test_a_key_that_is_refused_keeps_the_reports(imi: Imi, root: Path, origin: Path) -> None:
    imi("feat", "a")
    (root / "feat-a").rename(root / "b")
    ran = imi("reconcile", "--api-key", "wrong")
    assert "moved" in ran.out and "kept for the next command" in ran.err
    assert spool.count() == 2
    imi("reconcile")
    assert items(imi, origin)["feat/a"]["worktree_path"] == str(root / "b")
    nothing_more(imi, root)


def test_a_project_that_is_not_active_stays_so(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    imi("projects", "remove", imi.data("projects", "get", origin)["id"])
    add(git, root, "feat-a", "-b", "feat/a")
    ran = imi("reconcile")
    assert "not active" in ran.err and ran.out == "nothing to do\n"
    assert imi.data("projects", "get", origin)["active"] is False
    imi("init")
    assert reconciled(imi) == [("adopted", "feat-a")]


def test_outside_of_a_project(imi: Imi, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert imi.error(3, "reconcile")["code"] == "NOT_FOUND"


def test_without_a_remote_git_is_repaired(
    imi: Imi, git: Git, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    imi("feat", "a")
    git(root / "trunk-main", "remote", "remove", "origin")
    (root / "feat-a").rename(root / "b")
    ran = imi("reconcile")
    assert "moved" in ran.out and "without a remote" in ran.err
    assert spool.waiting() == []


def run(root: Path, *command: str) -> subprocess.CompletedProcess[str]:
    whole = [sys.executable, "-m", "imi", *command]
    return subprocess.run(whole, cwd=root, capture_output=True, text=True, check=False)


def test_two_at_once_do_everything_once(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    for name in ("gone", "moved"):
        imi("feat", name)
    shutil.rmtree(root / "feat-gone")
    (root / "feat-moved").rename(root / "moved")
    add(git, root, "fix-a", "-b", "fix/a")
    with ThreadPoolExecutor(2) as threads:
        ran = list(threads.map(lambda _: run(root, "reconcile"), range(2)))
    assert [each.returncode for each in ran] == [0, 0], [each.stderr for each in ran]
    lines = [line.split()[0] for each in ran for line in each.stdout.splitlines()]
    assert sorted(lines) == sorted(["action", "retired", "moved", "adopted", "nothing"])
    assert set(rows(imi, origin)) == {str(root / "moved"), str(root / "fix-a")}
    nothing_more(imi, root)


def test_beside_a_worktree_that_is_being_made(imi: Imi, git: Git, root: Path, origin: Path) -> None:
    commands = [("feat", "a"), ("reconcile", "--quiet"), ("fix", "b"), ("reconcile",)]
    with ThreadPoolExecutor(4) as threads:
        ran = list(threads.map(lambda command: run(root, *command), commands))
    assert [each.returncode for each in ran] == [0] * 4, [each.stderr for each in ran]
    imi("reconcile")
    assert set(items(imi, origin)) == {"feat/a", "fix/b"}
    assert set(rows(imi, origin)) == {str(root / "feat-a"), str(root / "fix-b")}
    assert git(root / "feat-a", "status", "--porcelain") == git(root / "fix-b", "status", "--porcelain") == ""
    assert not list(spool.folder().glob("*.refused"))
    nothing_more(imi, root)


@pytest.mark.parametrize("step", ["deliver", "tell_all", "forget"])
def test_a_reconcile_that_was_cut_short_is_done_by_the_next(
    imi: Imi, git: Git, root: Path, origin: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    for name in ("gone", "moved"):
        imi("feat", name)
    shutil.rmtree(root / "feat-gone")
    (root / "feat-moved").rename(root / "moved")
    add(git, root, "fix-a", "-b", "fix/a")

    def cut(*_: object) -> None:
        raise RuntimeError("cut short")

    with monkeypatch.context() as patch:
        patch.setattr(repairs if step == "forget" else delivery, step, cut)
        assert imi.error(1, "reconcile")["code"] == "INTERNAL"
    imi("reconcile")
    assert set(rows(imi, origin)) == {str(root / "moved"), str(root / "fix-a")}
    found = items(imi, origin)
    assert (found["feat/gone"]["status"], found["feat/moved"]["worktree_path"]) == (
        "abandoned",
        str(root / "moved"),
    )
    nothing_more(imi, root)


def test_a_lock_that_another_holds_is_waited_for(
    imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(acts, "PATIENCE", 0.1)
    repository = layout.at(root).repository
    with acts.lock(repository, "reconcile"):
        assert "another imi" in str(imi.error(1, "reconcile")["message"])
    assert reconciled(imi) == []
