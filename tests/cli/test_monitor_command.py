"""`imi monitor` in a process of its own: real files, real git, a live server."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import pytest

from imi.worktrees import spool
from tests.cli.rooted import homes, origin, root, unreachable
from tests.commandline import Imi, Live
from tests.conftest import Database
from tests.live import free_port
from tests.postgres import wait_for
from tests.repositories import Git
from tests.serving import ADMIN

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")
DEADLINE = 60.0  # seconds


@pytest.fixture(autouse=True)
def tasks(live: Live, imi: Imi, root: Path) -> None:
    """The project has feat-login and feat-pay."""
    imi("feat", "login")
    imi("feat", "pay")


class Running:
    """A monitor, and what it has said: lines of JSON, or with `plain` of text, and on stderr."""

    def __init__(self, *arguments: str, plain: bool = False, within: tuple[str, ...] = ()) -> None:
        self.plain = plain
        command = [*within, sys.executable, "-m", "imi", "monitor", *arguments]
        self.process = subprocess.Popen(
            [*command, *([] if plain else ["--json"])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.said: list[Any] = []
        self.errors: list[str] = []
        self.changed = threading.Condition()
        self.threads = [
            threading.Thread(target=self._read, args=each)
            for each in ((self.process.stdout, self._line), (self.process.stderr, self.errors.append))
        ]
        for thread in self.threads:
            thread.start()
        self.until(lambda: "watching" in "".join(self.errors) if plain else bool(self.of("watching")))

    def _line(self, line: str) -> None:
        self.said.append(line if self.plain else json.loads(line))

    def _read(self, stream: Any, take: Callable[[str], None]) -> None:
        with stream:
            for line in stream:
                with self.changed:
                    take(line)
                    self.changed.notify_all()

    def until(self, happened: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(happened, DEADLINE), (self.said, self.errors)

    def of(self, kind: str) -> list[Any]:
        return [each for each in self.said if each["type"] == kind]

    def changes(self) -> list[tuple[str, str, str]]:
        return [(Path(each["worktree"]).name, each["change"], each["path"]) for each in self.of("change")]

    def end(self, number: int = signal.SIGINT) -> None:
        self.process.send_signal(number)
        assert self.process.wait(DEADLINE) == 0, self.errors
        for thread in self.threads:
            thread.join(DEADLINE)
        assert "Traceback" not in "".join(self.errors)


Start = Callable[..., Running]


@pytest.fixture
def start() -> Iterator[Start]:
    begun: list[Running] = []

    def begin(*arguments: str, **options: Any) -> Running:
        begun.append(Running(*arguments, **options))
        return begun[-1]

    yield begin
    for each in begun:
        if each.process.poll() is None:
            each.end()


Activities = Callable[[Path], list[dict[str, Any]]]


@pytest.fixture
def activities(database: Database) -> Activities:
    """What the server was told of a worktree, oldest first."""

    def find(worktree: Path) -> list[dict[str, Any]]:
        async def read() -> list[Any]:
            connection = await database.connect("superuser")
            rows = await connection.fetch(
                "select activities.* from imi.activities join imi.work_items on work_items.id = work_item_id"
                " where worktree_path = $1 order by occurred_at",
                str(worktree),
            )
            await connection.close()
            return rows

        return [dict(row) | {"details": json.loads(row["details"])} for row in wait_for(read())]

    return find


def until(happened: Callable[[], Any]) -> Any:
    """Wait for something to be true of the server; answers it."""
    end = time.monotonic() + DEADLINE
    while not (found := happened()):
        assert time.monotonic() < end
        time.sleep(0.05)
    return found


def item(imi: Imi, origin: Path, branch: str) -> dict[str, Any]:
    listed = imi.data("work", "list", "--project", origin, "--all")["items"]
    return next(each for each in listed if each["branch_name"] == branch)


def paths(found: list[dict[str, Any]]) -> set[str]:
    return {each["path"] for each in found}


def test_changes_are_shown_at_once_and_reported_in_batches(
    imi: Imi, root: Path, origin: Path, start: Start, activities: Activities
) -> None:
    held = item(imi, origin, "feat/pay")["id"]
    imi("work", "claim", held, "--agent", "claude-7")
    running = start()
    (watching,) = running.of("watching")
    folders = {str(root / name) for name in ("trunk-main", "feat-login", "feat-pay")}
    assert (set(watching["worktrees"]), watching["reports"]) == (folders, True)
    until(lambda: item(imi, origin, "feat/login")["last_sync_at"])  # it has asked who holds what
    (root / "feat-login/new").write_text("n")
    (root / "feat-pay/README").write_text("changed")
    (root / "trunk-main/stray").write_text("s")
    running.until(lambda: len(running.changes()) >= 3)
    assert set(running.changes()) == {
        ("feat-login", "added", "new"),
        ("feat-pay", "modified", "README"),
        ("trunk-main", "added", "stray"),
    }
    agents = {Path(each["worktree"]).name: each["agent_id"] for each in running.of("change")}
    assert agents == {"feat-login": "ada", "feat-pay": "claude-7", "trunk-main": "ada"}
    until(lambda: activities(root / "feat-login") and activities(root / "feat-pay"))
    (told,) = activities(root / "feat-pay")
    assert (told["agent_id"], told["activity_type"], told["path"]) == ("claude-7", "file_change", "README")
    assert told["details"] == {"change": "modified", "changes": 1}
    until(lambda: item(imi, origin, "feat/login")["uncommitted_files_count"] == 1)
    running.end()
    assert activities(root / "feat-login")[0]["agent_id"] == "ada"
    assert spool.waiting() == []


def test_commits_move_the_state(imi: Imi, git: Git, root: Path, origin: Path, start: Start) -> None:
    running = start()
    commit = git.commit(root / "feat-login", "done")
    until(lambda: item(imi, origin, "feat/login")["last_commit_hash"] == commit)
    assert item(imi, origin, "feat/login")["ahead_of_trunk"] == 1
    git(root / "feat-login", "switch", "-q", "-c", "feat/other")
    imi.data("work", "start", origin, "feat/other")
    commit = git.commit(root / "feat-login", "elsewhere")
    until(lambda: item(imi, origin, "feat/other")["last_commit_hash"] == commit)
    running.end()


def test_two_worktrees_in_one_file_are_warned_of_once(
    imi: Imi, git: Git, root: Path, origin: Path, start: Start, activities: Activities
) -> None:
    (root / "trunk-main/.git/info/exclude").write_text("*.pyc\n")
    running = start(plain=True)
    for _ in range(3):
        for name in ("feat-login", "feat-pay"):
            before = len(running.said)
            (root / name / "shared.pyc").write_text("x")
            (root / name / "shared.py").write_text("x" * (before + 1))
            running.until(
                lambda name=name, before=before: any(  # type: ignore[misc]
                    name in line and line.endswith("shared.py\n") for line in running.said[before:]
                )
            )
    until(lambda: imi.data("conflicts", "--project", origin)["items"])
    running.end()
    assert [line for line in running.errors if "warning" in line] == [
        "warning: shared.py was touched by ada in feat-login, then by ada in feat-pay\n"
    ]
    (conflict,) = imi.data("conflicts", "--project", origin)["items"]
    assert (conflict["path"], len(conflict["touches"])) == ("shared.py", 2)
    assert any(line.endswith("shared.pyc\n") for line in running.said)
    assert paths(activities(root / "feat-pay")) == {"shared.py"}


def test_a_warning_names_who_has_just_claimed(imi: Imi, root: Path, start: Start) -> None:
    running = start(plain=True)
    for name, agent in (("feat-login", "claude-7"), ("feat-pay", "codex-2")):
        imi("claim", name, "--agent", agent)
        (root / name / "shared.py").write_text(agent)
        running.until(lambda name=name: any(name in line for line in running.said))  # type: ignore[misc]
    who = "claude-7 in feat-login, then by codex-2 in feat-pay\n"
    running.until(lambda: f"warning: shared.py was touched by {who}" in running.errors)


def test_an_agent_on_another_host_is_warned_of(imi: Imi, root: Path, origin: Path, start: Start) -> None:
    theirs = imi.data(
        "work", "start", origin, "fix/far", "--host", "far-away", "--agent", "codex-2"
    )  # fmt: skip
    running = start()
    activity = {"id": str(uuid.uuid4()), "activity_type": "file_change", "path": "src/deep.py"}
    answer = httpx.post(
        f"{os.environ['IMI_API_URL']}/api/v1/activities",
        json=[activity | {"work_item_id": theirs["id"], "agent_id": "codex-2"}],
        headers={"X-API-Key": ADMIN},
    )
    assert answer.status_code == 202
    (root / "feat-login/src").mkdir()
    (root / "feat-login/src/deep.py").write_text("x")
    running.until(lambda: bool(running.of("warning")))
    (warning,) = running.of("warning")
    assert (warning["project"], warning["path"]) == (str(root), "src/deep.py")
    assert [(each["agent_id"], each["worktree"]) for each in warning["touches"]] == [
        ("codex-2", "fix/far on far-away"),
        ("ada", "feat-login"),
    ]
    running.end()


def test_worktrees_come_and_go(
    imi: Imi, git: Git, root: Path, origin: Path, start: Start, activities: Activities
) -> None:
    running = start()
    late = Path(imi.data("feat", "late")["path"])
    until(lambda: item(imi, origin, "feat/late")["last_sync_at"])  # it is watched
    (late / "new").write_text("n")
    running.until(lambda: ("feat-late", "added", "new") in running.changes())
    assert [each for each in running.changes() if each[0] == "feat-late"] == [("feat-late", "added", "new")]
    until(lambda: paths(activities(late)) == {"new"})
    git(root / "trunk-main", "worktree", "remove", "--force", str(late))
    (root / "feat-pay/last").write_text("l")
    running.until(lambda: ("feat-pay", "added", "last") in running.changes())
    running.end()
    assert running.of("note") == []


def test_a_flood_of_files_is_few_requests_and_the_last_state_is_right(
    imi: Imi, root: Path, origin: Path, live: Live, start: Start, activities: Activities
) -> None:
    def requests() -> float:
        text = httpx.get(f"{live.url}/metrics", headers={"X-API-Key": ADMIN}).text
        return sum(float(n) for n in re.findall(r"^imi_http_requests_total\S* (\S+)$", text, re.MULTILINE))

    running = start()
    until(lambda: item(imi, origin, "feat/pay")["last_sync_at"])
    before, began = requests(), time.monotonic()
    for number in range(10_000):
        (root / "feat-login" / f"built{number}").write_text("b")
    for number in range(0, 10_000, 2):
        (root / "feat-login" / f"built{number}").unlink()
    (root / "feat-login" / "done").write_text("d")
    running.until(lambda: ("feat-login", "added", "done") in running.changes())
    running.end()
    asked, lasted = requests() - before, time.monotonic() - began
    assert item(imi, origin, "feat/login")["uncommitted_files_count"] == 5001
    # at most two batches a second of six requests each, one a second for who holds what, and two of this test
    assert 0 < asked <= 13 * lasted + 20
    assert spool.waiting() == []
    told = activities(root / "feat-login")
    counted = sum(each["details"].get("changes", 0) + each["details"].get("left_out", 0) for each in told)
    assert counted >= 10_000
    assert len(told) <= 201 * (2 * lasted + 2)


class Gate:
    """A port that leads to a server while it is open, and is dead before."""

    def __init__(self, url: str) -> None:
        self.target = ("127.0.0.1", int(url.rpartition(":")[2]))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.ways: list[threading.Thread] = []

    def __enter__(self) -> Gate:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.ways.append(threading.Thread(target=self._accept))
        self.ways[0].start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        for way in self.ways:
            way.join(DEADLINE)

    def _accept(self) -> None:
        with self.listener, suppress(OSError):
            while True:
                self.ways.append(threading.Thread(target=self._lead, args=(self.listener.accept()[0],)))
                self.ways[-1].start()

    def _lead(self, ours: socket.socket) -> None:
        with ours, socket.create_connection(self.target) as theirs, suppress(OSError):
            while True:
                for source in select.select([ours, theirs], [], [])[0]:
                    if not (part := source.recv(65536)):
                        return
                    (theirs if source is ours else ours).sendall(part)


def test_the_server_comes_back(
    imi: Imi,
    root: Path,
    origin: Path,
    live: Live,
    start: Start,
    activities: Activities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(live.url)
    with monkeypatch.context() as patch:
        patch.setenv("IMI_API_URL", gate.url)
        running = start()
    for name in ("one", "two"):
        (root / "feat-login" / name).write_text("x")
        running.until(lambda name=name: ("feat-login", "added", name) in running.changes())  # type: ignore[misc]
        until(lambda name=name: f'"{name}"' in "".join(each.read_text() for each in spool.waiting()))  # type: ignore[misc]
    with gate:
        until(lambda: item(imi, origin, "feat/login")["uncommitted_files_count"] == 2)
        until(lambda: paths(activities(root / "feat-login")) == {"one", "two"})
        running.until(lambda: any("answers again" in each["message"] for each in running.of("note")))
        running.end()
    *away, again = (each["message"] for each in running.of("note"))
    assert len(away) == 2
    assert all("cannot be reached" in sentence for sentence in away)
    assert again == "the server answers again and has all reports"
    assert spool.waiting() == []
    assert len(activities(root / "feat-login")) == 2


def test_without_a_server_the_end_keeps_what_the_next_command_delivers_once(
    imi: Imi,
    root: Path,
    origin: Path,
    start: Start,
    activities: Activities,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with monkeypatch.context() as patch:
        unreachable(patch)
        running = start(plain=True)
        (root / "feat-login/offline").write_text("x")
        running.until(lambda: any("offline" in line for line in running.said))
        running.end()  # before the batch was due
    kept = spool.count()
    assert any(line.startswith(f"{kept} report") for line in running.errors)
    imi("feat", "login")
    assert spool.waiting() == []
    (told,) = activities(root / "feat-login")
    assert told["path"] == "offline"
    assert item(imi, origin, "feat/login")["uncommitted_files_count"] == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_the_end_tells_the_last_batch(root: Path, start: Start, activities: Activities, number: int) -> None:
    running = start()
    (root / "feat-login/last").write_text("x")
    running.until(lambda: bool(running.changes()))
    running.end(number)
    assert paths(activities(root / "feat-login")) == {"last"}


def configure(text: str) -> None:
    folder = Path(os.environ["XDG_CONFIG_HOME"]) / "iMi"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(text)


def test_the_settings_are_honoured(
    imi: Imi, git: Git, root: Path, origin: Path, start: Start, activities: Activities
) -> None:
    configure("[monitoring_settings]\nenabled = false\n")
    refused = imi.error(4, "monitor")
    assert "monitoring_settings.enabled is false" in str(refused["message"])
    configure("[monitoring_settings]\ntrack_agent_activity = false\n")
    running = start()
    (root / "feat-login/one").write_text("x")
    running.until(lambda: ("feat-login", "added", "one") in running.changes())
    until(lambda: item(imi, origin, "feat/login")["uncommitted_files_count"] == 1)
    running.end()
    configure("[monitoring_settings]\nwatch_file_changes = false\n")
    running = start()
    commit = git.commit(root / "feat-login", "two")
    until(lambda: item(imi, origin, "feat/login")["last_commit_hash"] == commit)
    running.end()
    assert running.changes() == []
    assert activities(root / "feat-login") == []


def test_one_reports_and_a_second_one_only_shows(
    imi: Imi, root: Path, start: Start, activities: Activities
) -> None:
    first = start()
    second = start()
    assert [each.of("watching")[0]["reports"] for each in (first, second)] == [True, False]
    (root / "feat-login/one").write_text("x")
    for each in (first, second):
        each.until(lambda each=each: bool(each.changes()))  # type: ignore[misc]
    until(lambda: activities(root / "feat-login"))
    assert imi.error(4, "monitor", "--daemon")["message"] == f"it runs already: process {first.process.pid}"
    first.end()
    (root / "feat-login/two").write_text("x")
    until(lambda: paths(activities(root / "feat-login")) == {"one", "two"})
    second.end()
    assert len(activities(root / "feat-login")) == 2


def background(*arguments: str) -> dict[str, Any]:
    """Run it in a process: it forks, which the tests' own process must not."""
    command = [sys.executable, "-m", "imi", "monitor", *arguments, "--json"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False, timeout=DEADLINE)
    assert ran.stderr == ""
    return dict(json.loads(ran.stdout))


def test_in_the_background(
    imi: Imi, root: Path, origin: Path, activities: Activities, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun = background("--daemon")["data"]
    log = Path(begun["log_file"])
    try:
        assert Path(f"/proc/{begun['pid']}/cwd").readlink() == Path("/")
        again = background("--daemon")["error"]
        assert (again["code"], again["hint"]) == ("CONFLICT", "end it: imi monitor --stop")
        for name in ("feat-login", "feat-pay"):
            (root / name / "both").write_text("x")
        until(lambda: activities(root / "feat-login"))
        until(lambda: "both was touched by" in log.read_text())
    finally:
        assert imi.data("monitor", "--stop") == {"pid": begun["pid"]}
    assert imi.data("monitor", "--stop") == {"pid": None}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["message"] for line in lines if line["level"] == "INFO"] == [
        "the monitor begins",
        "the monitor has ended",
    ]
    assert imi("monitor", "--stop").out == "no monitor runs\n"


def test_one_that_was_killed_is_in_nobodys_way(root: Path, imi: Imi) -> None:
    killed = background("--daemon")["data"]["pid"]
    os.kill(killed, signal.SIGKILL)
    until(lambda: imi.data("monitor", "--stop") == {"pid": None})
    again = background("--daemon")["data"]["pid"]
    assert again != killed
    assert imi.data("monitor", "--stop") == {"pid": again}


def test_what_goes_wrong_in_the_background_is_said_at_once(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_LOG_FILE", str(root / "no/such/folder/log"))
    assert "Cannot write the log" in background("--daemon")["error"]["message"]
    assert background("--stop")["data"] == {"pid": None}


def test_all_projects_of_this_machine(
    imi: Imi, git: Git, root: Path, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = git.origin(tmp_path / "remotes/other.git")
    git.clone(other, tmp_path / "elsewhere/second")
    monkeypatch.chdir(tmp_path)
    second = Path(imi.data("init", str(other))["path"])
    monkeypatch.chdir(second)
    imi("fix", "there")
    monkeypatch.chdir(tmp_path)
    running = start("--all")
    watching = set(running.of("watching")[0]["worktrees"])
    here = {str(second / "fix-there"), str(root / "feat-pay"), str(root / "trunk-main")}
    assert here <= watching
    (second / "fix-there/new").write_text("n")
    running.until(lambda: ("fix-there", "added", "new") in running.changes())
    running.end()
    unreachable(monkeypatch)
    monkeypatch.chdir(root)
    alone = start("--all")
    assert str(root / "feat-pay") in alone.of("watching")[0]["worktrees"]
    alone.end()
    assert "worktrees of other projects are not known" in alone.of("note")[0]["message"]


def test_what_the_server_cannot_be_told_is_said(
    git: Git, root: Path, start: Start, activities: Activities
) -> None:
    trunk = root / "trunk-main"
    git(trunk, "worktree", "add", "-q", "-b", "feat/by-hand", str(root / "feat-by-hand"))
    running = start()
    running.until(lambda: bool(running.of("note")))
    (root / "feat-by-hand/new").write_text("x")
    running.until(lambda: bool(running.changes()))
    running.end()
    (said,) = running.of("note")
    assert said["message"].startswith("feat-by-hand: the server has no work in progress on its branch")
    git(trunk, "remote", "remove", "origin")
    nameless = start()
    (root / "feat-login/new").write_text("x")
    nameless.until(lambda: bool(nameless.changes()))
    nameless.end()
    assert "without a remote" in nameless.of("note")[0]["message"]
    assert (activities(root / "feat-login"), spool.waiting()) == ([], [])


FEW = ("unshare", "-Ur", "sh", "-c", 'echo 8 > /proc/sys/user/max_inotify_watches && exec "$@"', "sh")


def test_out_of_watches_it_says_so_and_goes_on(root: Path, start: Start, activities: Activities) -> None:
    if not shutil.which("unshare") or subprocess.run([*FEW, "true"], check=False).returncode:
        pytest.skip(
            "NOT TESTED: imi monitor out of inotify watches; it needs user namespaces (root has them)"
        )
    for number in range(10):
        (root / f"feat-login/d{number}").mkdir()
    running = start(within=FEW)
    (root / "feat-login/d7/new").write_text("x")
    running.until(lambda: ("feat-login", "added", "d7/new") in running.changes())
    running.end()
    assert "fs.inotify.max_user_watches" in running.of("note")[0]["message"]
    assert paths(activities(root / "feat-login")) == {"d7/new"}


def test_what_is_refused(imi: Imi, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert imi.error(2, "monitor", "--daemon", "--stop")["code"] == "USAGE"
    monkeypatch.chdir(tmp_path)
    assert imi.error(3, "monitor")["code"] == "NOT_FOUND"
    assert imi.error(3, "monitor", "--stop")["code"] == "NOT_FOUND"
