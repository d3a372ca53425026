"""What a monitor watches, what it warns of, and who of several reports: real git, no server."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from imi import __file__ as package
from imi.cli.outcome import UNREACHABLE, Failure
from imi.cli.render import Bar
from imi.config import ConfigError
from imi.worktrees import layout, overlaps, present, spool
from imi.worktrees.background import Seat
from imi.worktrees.batching import Activity
from imi.worktrees.monitor import Monitor
from imi.worktrees.overlaps import Overlap, Overlaps, Touch, sentences
from imi.worktrees.reporter import LONGEST, Reporter
from imi.worktrees.roster import Roster
from imi.worktrees.watching import Change
from tests.repositories import Git

SHOP = Path("/shop/.bare")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


def touch(place: str, agent: str | None, seconds: float = 0) -> Touch:
    return Touch(f"/shop/{place}", place, agent, NOON + timedelta(seconds=seconds))


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    """A project with feat-login."""
    root = tmp_path.resolve() / "shop"
    trunk = git.clone(git.origin(tmp_path / "shop.git"), root / "trunk-main")
    git(trunk, "worktree", "add", "-q", "-b", "feat/login", str(root / "feat-login"))
    return root


@pytest.fixture
def roster(root: Path) -> Roster:
    roster = Roster([layout.at(root)])
    assert sorted(roster.look()[0]) == [root / "feat-login", root / "trunk-main"]
    return roster


def test_two_worktrees_and_two_agents_overlap_within_the_window() -> None:
    seen = Overlaps()
    assert seen.touch(SHOP, "a", touch("feat-login", "ada")) == []
    assert seen.touch(SHOP, "a", touch("feat-login", "ada", 1)) == []
    assert seen.touch(SHOP, "b", touch("feat-pay", "ada", 1)) == []
    assert seen.touch(Path("/other"), "a", touch("feat-pay", "ada", 1)) == []
    (own,) = seen.touch(SHOP, "a", touch("feat-pay", "ada", 2))
    assert (own.first.name, own.last.name) == ("feat-login", "feat-pay")
    assert seen.touch(SHOP, "b", touch("feat-pay", "codex-2", 3)) == []
    (handed,) = seen.among(SHOP, "b", [touch("feat-pay", "codex-2", 3), touch("feat-pay", "ada", 1)])
    assert (handed.first.agent, handed.last.agent) == ("ada", "codex-2")
    assert seen.touch(SHOP, "b", touch("feat-login", "ada", 62)) != []
    assert seen.touch(SHOP, "c", touch("feat-login", "ada", 0)) == []
    assert seen.touch(SHOP, "c", touch("feat-pay", "ada", 61)) == []


def test_an_overlap_is_told_once_a_window_whoever_saw_it() -> None:
    seen = Overlaps()
    seen.touch(SHOP, "a", touch("feat-login", "ada"))
    assert len(seen.touch(SHOP, "a", touch("feat-pay", "claude-7", 10))) == 1
    assert seen.touch(SHOP, "a", touch("feat-login", "ada", 20)) == []
    known = [touch("feat-pay", "claude-7", 10), touch("feat-login", "ada", 20)]
    assert seen.among(SHOP, "a", known) == []
    far = Touch("0198", "fix/far on far-away", "codex-2", NOON + timedelta(seconds=21))
    (theirs,) = seen.among(SHOP, "a", [*known, far])
    assert (theirs.first.name, theirs.last.name) == ("feat-login", "fix/far on far-away")
    assert seen.among(SHOP, "a", [*known, far]) == []
    assert len(seen.touch(SHOP, "a", touch("feat-pay", "claude-7", 75))) == 1


def test_of_many_in_one_file_each_is_told_with_the_one_before() -> None:
    seen, crowd = Overlaps(), [touch(f"feat-{number}", "ada", number) for number in range(50)]
    again = [touch(f"feat-{number}", "ada", 50 + number) for number in range(50)]
    found = [each for one in [*crowd, *again] for each in seen.touch(SHOP, "a", one)]
    assert [(each.first, each.last) for each in found] == [*pairwise([*crowd, again[0]])]
    assert seen.among(SHOP, "a", reversed(again)) == []


def test_two_agents_of_one_worktree_are_told_whoever_came_between() -> None:
    handed = [
        touch("feat-pay", "codex-2", 0),
        touch("feat-login", "ada", 1),
        touch("feat-pay", "claude-7", 2),
    ]
    found = [(each.first.agent, each.last.agent) for each in Overlaps().among(SHOP, "a", handed)]
    assert found == [("codex-2", "ada"), ("codex-2", "claude-7")]


def test_who_ignores_a_file_does_not_come_between_two_who_do_not(
    git: Git, roster: Roster, root: Path
) -> None:
    names = ["feat-pay", "feat-built", "feat-login"]
    for name in names[:2]:
        git(root / "trunk-main", "worktree", "add", "-q", "-b", name, str(root / name))
    roster.look()
    (root / "feat-built/.gitignore").write_text("out\n")
    monitor = Monitor(Away(), roster, lambda: True, True, None)  # type: ignore[arg-type]
    screen = monitor.screen = Recorder()
    monitor.noticed([Change(root / name, "out", "modified", datetime.now(UTC)) for name in names])
    assert screen.warned == ["out was touched by ada in feat-pay, then by ada in feat-login"]


def test_of_many_files_the_first_are_named() -> None:
    seen = Overlaps()
    for path in "abcde":
        seen.touch(SHOP, path, touch("feat-login", "ada"))
    found = [each for path in "abcde" for each in seen.touch(SHOP, path, touch("feat-pay", None, 1))]
    who = "touched by ada in feat-login, then by nobody named in feat-pay"
    assert sentences(found) == [*(f"{path} was {who}" for path in "abc"), f"2 more files were {who}"]


def test_what_is_remembered_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(overlaps, "KEPT", 10)
    seen = Overlaps()
    for number in range(100):
        seen.touch(SHOP, str(number), touch("feat-login", "ada"))
        seen.touch(SHOP, str(number), touch("feat-pay", "ada"))
    assert (len(seen.touches), len(seen.told)) == (10, 10)


def test_a_worktree_is_watched_once_git_has_filled_it(git: Git, roster: Roster, root: Path) -> None:
    late = root / "feat-late"
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "feat/late", str(late))
    locked = root / "trunk-main/.git/worktrees/feat-late/locked"
    locked.write_text("initializing\n")
    assert roster.look() == ([], [])
    locked.unlink()
    assert roster.look() == ([late], [])
    locked.write_text("on a disk that is not always there")
    assert roster.look() == ([], [])
    assert roster.watched[late].branch == "feat/late"


def test_a_worktree_that_is_gone_may_come_back(git: Git, roster: Roster, root: Path) -> None:
    away = root / "away"
    (root / "feat-login").rename(away)
    roster.lost(root / "feat-login")
    assert roster.look() == ([], [root / "feat-login"])
    assert roster.look() == ([], [])
    away.rename(root / "feat-login")
    assert roster.look() == ([root / "feat-login"], [])
    (root / "feat-login").rename(away)
    roster.lost(root / "feat-login")
    away.rename(root / "feat-login")
    assert roster.look() == ([root / "feat-login"], [])
    shutil.rmtree(root / "feat-login")
    git(root / "trunk-main", "worktree", "prune")
    assert roster.look() == ([], [root / "feat-login"])


def test_projects_by_the_paths_of_their_worktrees(git: Git, tmp_path: Path, root: Path) -> None:
    other = tmp_path.resolve() / "other"
    git.clone(git.origin(tmp_path / "other.git"), other / "trunk-main")
    plain = git.clone(git.origin(tmp_path / "plain.git"), tmp_path / "plain")
    roster = Roster([layout.at(root)])
    (refused,) = roster.widen([other / "trunk-main", root / "feat-login", plain, tmp_path / "nothing"])
    assert str(plain) in refused
    roster.look()
    assert set(roster.watched) == {other / "trunk-main", root / "feat-login", root / "trunk-main"}


class Recorder:
    """A screen that remembers."""

    def __init__(self) -> None:
        self.warned: list[str] = []

    def warn(self, overlaps: list[Overlap]) -> None:
        self.warned += sentences(overlaps)

    def say(self, sentence: str) -> None:
        raise AssertionError(sentence)


class Away:
    """An API that is never there, and how often it was asked."""

    actor = "ada"
    bar = Bar(enabled=False)

    def __init__(self) -> None:
        self.asked = 0

    def get(self, path: str, **query: Any) -> Any:
        self.asked += 1
        raise Failure("UNREACHABLE", "the server is away", exit_code=UNREACHABLE)


def spooled() -> list[tuple[str, Any]]:
    return [(report.kind, report.body) for file in spool.waiting() for report in spool.read(file)]


def test_away_from_the_server_activities_are_kept_and_each_state_once(
    git: Git, roster: Roster, root: Path
) -> None:
    said: list[str] = []
    reporter = Reporter(Away(), roster, lambda: True, True, said.append)  # type: ignore[arg-type]
    login = root / "feat-login"
    for number in range(3):
        (login / f"new{number}").write_text("n")
        reporter.report({login: [Activity(login, f"new{number}", "added", NOON, 1)]})
    reporter.report({root / "trunk-main": []})
    assert [kind for kind, _ in spooled()] == ["activities", "git_state", "activities", "activities"]
    reporter.stop()
    reporter.close()
    kind, body = spooled()[-1]
    assert (kind, body["git_state"]["uncommitted_files_count"]) == ("git_state", 3)
    assert said == [
        "the server is away; 2 reports are kept for the next command or `imi reconcile`",
        "5 reports wait for the server",
    ]


def test_of_several_worktrees_the_activities_go_first_and_one_that_is_broken_hides_no_other(
    git: Git, roster: Roster, root: Path
) -> None:
    names = ["feat-broken", "feat-login", "feat-pay"]
    for name in ("feat-broken", "feat-pay"):
        git(root / "trunk-main", "worktree", "add", "-q", "-b", name, str(root / name))
    roster.look()
    (root / "feat-broken/.git").write_text("x")
    said: list[str] = []
    api = Away()
    reporter = Reporter(api, roster, lambda: True, True, said.append)  # type: ignore[arg-type]
    reporter.holders.ids = {root / "trunk-main/.git": "0198"}
    reporter.report({root / name: [Activity(root / name, "new", "added", NOON, 1)] for name in names})
    assert [kind for kind, _ in spooled()] == ["activities", "activities", "git_state", "git_state"]
    branches = [body.get("branch") or body["git_state"]["branch_name"] for _, body in spooled()]
    assert branches == ["feat/login", "feat-pay"] * 2
    assert [sentence.partition(":")[0] for sentence in said][:1] == ["feat-broken"]
    assert api.asked == 2  # once who holds what, once in the delivery: each may be a wait


def test_settings_that_break_while_it_reads_and_a_stop_that_waits_for_no_answer(
    git: Git, roster: Roster, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "feat-broken", str(root / "feat-broken"))
    roster.look()
    (root / "feat-broken/.git").write_text("x")

    def read(*_: object) -> Any:
        raise ConfigError("config.toml is no TOML")

    monkeypatch.setattr(present, "read", read)
    said: list[str] = []
    api = Away()
    reporter = Reporter(api, roster, lambda: True, True, said.append)  # type: ignore[arg-type]
    reporter.holders.ids = {root / "trunk-main/.git": "0198"}
    reporter.stop()
    names = ["feat-broken", "feat-login"]
    reporter.report({root / name: [Activity(root / name, "new", "added", NOON, 1)] for name in names})
    assert said[0] == "feat-broken: config.toml is no TOML"
    assert [kind for kind, _ in spooled()] == ["activities", "git_state"]
    assert api.asked == 1  # by the delivery


def test_during_a_rebase_work_counts_for_the_branch(git: Git, roster: Roster, root: Path) -> None:
    reporter = Reporter(Away(), roster, lambda: True, True, lambda _: None)  # type: ignore[arg-type]
    login = root / "feat-login"
    git(login, "checkout", "-q", "--detach")
    reporter.report({login: [Activity(login, "README", "modified", NOON, 2)]})
    ((kind, body),) = spooled()
    assert (kind, body["branch"], body["activities"][0]["path"]) == ("activities", "feat/login", "README")


def test_what_a_path_may_be(git: Git, roster: Roster, root: Path) -> None:
    reporter = Reporter(Away(), roster, lambda: True, True, lambda _: None)  # type: ignore[arg-type]
    login = root / "feat-login"
    (login / ".gitignore").write_text("*.o\n")
    long = "d/" * LONGEST + "file"
    wanted = [os.fsdecode(b"caf\xe9"), "-option\n\x1b[2J", long, "src.o", "README"]
    batch = [Activity(login, path, "modified", NOON, 1) for path in wanted]
    reporter.report({login: [*batch, Activity(login, None, "left out", NOON, 7)]})
    told = json.loads(json.dumps(spooled()[0][1]))["activities"]
    assert [each.get("path") for each in told] == ["caf\ufffd", "-option\n\x1b[2J", None, "README", None]
    assert told[2]["details"]["end_of_path"] == long[-LONGEST:]
    assert told[4]["details"] == {"left_out": 7}
    assert len({each["id"] for each in told}) == 5


def test_only_whoever_holds_the_seat_reports(tmp_path: Path) -> None:
    first, second = Seat("/shop"), Seat("/shop")
    assert (first.pid(), first.stop()) == (None, None)
    assert (first.take(), first.take(), second.take()) == (True, True, False)
    assert (second.pid(), Seat("/other").pid()) == (os.getpid(), None)
    first.leave()
    assert (second.pid(), second.take(), first.take()) == (None, True, False)
    second.leave()


HOLD = """
import sys
from imi.worktrees.background import Seat
seat = Seat("/shop")
print(seat.take(), flush=True)
sys.stdin.read()
"""


def test_a_seat_is_free_when_its_holder_was_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(Path(package).parents[1]))
    command = [sys.executable, "-c", HOLD]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout
        assert holder.stdout.readline() == "True\n"
        seat = Seat("/shop")
        assert (seat.take(), seat.pid()) == (False, holder.pid)
        holder.kill()
        holder.wait()
        assert seat.pid() is None
        assert str(holder.pid) in seat.pid_file.read_text()  # which nobody believes
        assert seat.take()
        seat.leave()
