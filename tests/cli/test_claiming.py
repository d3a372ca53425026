"""`imi claim`, `release` and `run`: the lease on a worktree's work, real processes and signals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from imi.cli import running
from imi.worktrees import spool
from tests.cli.rooted import away, homes, origin, root
from tests.commandline import Imi, Live
from tests.repositories import Git

__all__ = ["away", "homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")
RUN = [sys.executable, "-m", "imi", "run", "--agent", "claude-7"]


@pytest.fixture
def login(imi: Imi, root: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A worktree that the command line stands in; the id of its work item."""
    made = imi.data("feat", "login")
    monkeypatch.chdir(made["path"])
    return str(made["work_item_id"])


def held(imi: Imi, item_id: str) -> dict[str, Any] | None:
    claim: dict[str, Any] | None = imi.data("work", "get", item_id)["claim"]
    return claim


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_claim_is_one_agents_until_it_is_released(imi: Imi, login: str, root: Path) -> None:
    ran = imi("claim", "--agent", "claude-7", "--ttl", "2h")
    assert ran.out.startswith("feat/login is held by claude-7 until ")
    claim = held(imi, login)
    assert claim and claim["agent_id"] == "claude-7"
    lasts = datetime.fromisoformat(claim["lease_until"]) - datetime.fromisoformat(claim["claimed_at"])
    assert round(lasts.total_seconds()) == 7200
    os.chdir(root)
    for words in (("claim", "login"), ("claim", "feat-login"), ("release", "feat/login")):
        refused = imi.error(4, *words, "--agent", "codex-2")
        assert "claude-7" in str(refused["message"]) and claim["lease_until"] in str(refused["message"])
    released = imi.data("release", "login", "--agent", "claude-7")
    assert (released["claim"], released["notes"]) == (None, [])
    assert held(imi, login) is None
    assert imi("release", "login").out == "feat/login is free\n"
    assert "claude-7" in {each["id"] for each in imi.data("agents", "list")["items"]}


def test_what_cannot_be_claimed_says_why(
    imi: Imi, git: Git, login: str, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "trunk" in str(imi.error(3, "claim", "trunk-main")["message"])
    git(root / "trunk-main", "worktree", "add", "-q", "-b", "fix/by-hand", str(root / "fix-by-hand"))
    assert "imi reconcile" in str(imi.error(3, "claim", "by-hand")["hint"])
    assert imi.error(3, "claim", "nothing")["code"] == "NOT_FOUND"
    for ttl in ("29s", "25h", "soon", "-5", "1d"):
        assert imi.error(2, "claim", f"--ttl={ttl}")["code"] == "USAGE"
    git(root / "trunk-main", "remote", "remove", "origin")
    assert "git remote add" in str(imi.error(3, "claim")["hint"])


def test_without_a_server_there_is_no_claim(imi: Imi, login: str, away: str) -> None:
    assert away in str(imi.error(5, "claim")["message"])
    assert imi.error(5, "release")["code"] == "UNREACHABLE"
    assert spool.waiting() == []


def test_a_worktree_that_waits_to_be_told_can_be_claimed(
    imi: Imi, root: Path, live: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setenv("IMI_API_URL", "http://127.0.0.1:9")
        imi("feat", "late")
    assert len(spool.waiting()) == 1
    assert imi.data("claim", "late")["branch_name"] == "feat/late"
    assert spool.waiting() == []


def test_run_holds_the_lease_and_tells_of_the_end(
    imi: Imi, login: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_WORK_ITEM", "another")
    inside = [sys.executable, "-m", "imi", "work", "get", login, "--json"]
    program = f"""
import json, os, subprocess, sys
got = json.loads(subprocess.check_output({inside}))["data"]
print(os.environ["IMI_AGENT"], os.environ["IMI_WORK_ITEM"], got["claim"]["agent_id"], sys.stdin.read())
print("to stderr", file=sys.stderr)
sys.exit(7)
"""
    command = [*RUN, "--", sys.executable, "-c", program]
    ran = subprocess.run(command, input="typed", capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (7, f"claude-7 {login} claude-7 typed\n"), ran.stderr
    assert ran.stderr == "to stderr\n"
    assert held(imi, login) is None
    (activity,) = imi.data("work", "activities", login)["items"]
    assert (activity["activity_type"], activity["agent_id"]) == ("command", "claude-7")
    assert activity["details"]["exit_code"] == 7
    assert activity["details"]["program"] == Path(sys.executable).name
    assert 0 < activity["details"]["seconds"] < 60
    assert f"{Path(sys.executable).name}, exit 7" in imi("work", "activities", login).out


def test_its_document_is_all_on_stdout(imi: Imi, login: str) -> None:
    command = [*RUN, "--json", "--", "sh", "-c", "echo out; exit 3"]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    document = json.loads(ran.stdout)
    assert (ran.returncode, document["success"], ran.stderr) == (3, False, "out\n")
    data = document["data"]
    assert (data["exit_code"], data["work_item_id"], data["notes"]) == (3, login, [])
    assert data["claim"]["agent_id"] == "claude-7"


def test_nothing_is_drawn_over_the_command(imi: Imi, login: str) -> None:
    ours, its = os.openpty()
    script = "echo begins >&2; sleep 2; echo ends >&2"
    subprocess.run([*RUN, "--", "sh", "-c", script], stderr=its, check=True)
    seen = os.read(ours, 65536)
    assert seen.partition(b"begins\r\n")[2] == b"ends\r\n", seen
    os.close(ours)
    os.close(its)


@pytest.mark.parametrize(("command", "code"), [("/nowhere/program", 127), ("/etc", 126)])
def test_what_cannot_be_run(imi: Imi, login: str, command: str, code: int) -> None:
    ran = imi("run", "--", command, code=code)
    assert "imi run: " in ran.err
    assert held(imi, login) is None


def test_run_is_refused_while_another_holds_it(imi: Imi, login: str, tmp_path: Path) -> None:
    imi("claim", "--agent", "codex-2")
    refused = imi("run", "--agent", "claude-7", "--", "touch", tmp_path / "ran", code=4)
    assert "codex-2" in refused.err
    assert not (tmp_path / "ran").exists()


def test_a_lease_that_was_held_before_is_held_afterwards(imi: Imi, login: str) -> None:
    imi("claim", "--ttl", "1m")
    short = held(imi, login)
    imi("run", "--ttl", "1h", "--", "true")
    kept = held(imi, login)
    assert short and kept and kept["fencing_token"] == short["fencing_token"]
    assert kept["lease_until"] > short["lease_until"]


def test_a_lease_is_prolonged_and_never_cut_short(imi: Imi, login: str) -> None:
    short = imi.data("claim", "--ttl", "1m")["claim"]
    long = imi.data("claim", "--ttl", "24h")["claim"]
    assert long["fencing_token"] == short["fencing_token"] and long["lease_until"] > short["lease_until"]
    imi("run", "--ttl", "1m", "--", "true")
    kept = imi.data("claim")["claim"]
    ends = [datetime.fromisoformat(each["lease_until"]) for each in (long, kept)]
    assert abs((ends[1] - ends[0]).total_seconds()) < 60


def test_a_lease_is_renewed_taken_again_and_lost(
    imi: Imi, login: str, live: Live, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewed a thousand times as often; the command waits until the test has seen everything."""
    monkeypatch.setattr(running, "SHARE", 3000)
    said: list[str] = []
    monkeypatch.setattr(running, "note", lambda text, style="": said.append(text))
    seen: list[str] = []

    def api(*words: str) -> Any:
        ran = subprocess.run(
            [sys.executable, "-m", "imi", *words, "--json"], capture_output=True, check=False
        )
        return json.loads(ran.stdout)["data"]

    def play() -> None:
        try:
            first = api("work", "get", login)["claim"]
            until(lambda: api("work", "get", login)["claim"]["lease_until"] > first["lease_until"])
            seen.append("renewed")
            api("work", "release", login, "--agent", "claude-7")
            until(lambda: any("taken again" in text for text in said))
            seen.append("again")

            def rob() -> bool:
                api("work", "release", login, "--agent", "claude-7")
                ran = subprocess.run(
                    [sys.executable, "-m", "imi", "work", "claim", login, "--agent", "codex-2"],
                    capture_output=True, check=False,
                )  # fmt: skip
                return ran.returncode == 0

            until(rob)
            until(lambda: any("THE LEASE IS LOST" in text and "codex-2" in text for text in said))
            seen.append("lost")
        finally:
            (tmp_path / "stop").touch()

    (tmp_path / "wait").write_text(
        f"touch {tmp_path}/started; until test -e {tmp_path}/stop; do sleep 0.02; done"
    )

    def watch() -> None:
        until((tmp_path / "started").exists)
        play()

    thread = threading.Thread(target=watch)
    thread.start()
    imi("run", "--agent", "claude-7", "--", "sh", tmp_path / "wait")
    thread.join()
    assert seen == ["renewed", "again", "lost"], said
    claim = held(imi, login)
    assert claim and claim["agent_id"] == "codex-2"  # it was not given back by who had lost it


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_the_command(imi: Imi, login: str, tmp_path: Path, number: signal.Signals) -> None:
    name = number.name.removeprefix("SIG")
    script = f"trap 'echo got; exit 9' {name}; touch {tmp_path}/ready; while :; do sleep 0.02; done"
    run = subprocess.Popen([*RUN, "--", "sh", "-c", script], stdout=subprocess.PIPE, text=True)
    until((tmp_path / "ready").exists)
    run.send_signal(number)
    assert run.communicate(timeout=60)[0] == "got\n"
    assert run.returncode == 9
    assert held(imi, login) is None


def test_what_ends_by_a_signal_exits_as_in_a_shell(imi: Imi, login: str) -> None:
    imi("run", "--", "sh", "-c", "kill -KILL $$", code=128 + 9)


def test_ctrl_c_is_the_commands(imi: Imi, login: str, tmp_path: Path) -> None:
    """A terminal sends it to all of its processes: the command ends, and imi run after it."""
    script = f"touch {tmp_path}/ready; sleep 600"
    run = subprocess.Popen([*RUN, "--", "sh", "-c", script], start_new_session=True)
    until((tmp_path / "ready").exists)
    os.killpg(run.pid, signal.SIGINT)
    assert run.wait(timeout=60) == 128 + signal.SIGINT
    assert held(imi, login) is None
    assert imi.data("work", "activities", login)["items"][0]["details"]["exit_code"] == 130


def test_killed_it_leaves_a_lease_that_ends_by_itself(imi: Imi, login: str, tmp_path: Path) -> None:
    run = subprocess.Popen(
        [*RUN, "--ttl", "30s", "--", "sh", "-c", f"echo $$ >{tmp_path}/pid; exec sleep 600"]
    )
    until(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text())
    run.kill()
    run.wait()
    os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)
    claim = held(imi, login)
    assert claim and claim["agent_id"] == "claude-7"
    lasts = datetime.fromisoformat(claim["lease_until"]) - datetime.fromisoformat(claim["claimed_at"])
    assert round(lasts.total_seconds()) == 30


def test_without_a_server_it_runs_unclaimed(
    imi: Imi, login: str, live: Live, away: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = "echo ${IMI_WORK_ITEM-none} $IMI_AGENT"
    ran = subprocess.run([*RUN, "--", "sh", "-c", script], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "none claude-7\n")
    assert len(ran.stderr.splitlines()) == 1 and "it is not claimed" in ran.stderr
    assert len(spool.waiting()) == 1
    monkeypatch.setenv("IMI_API_URL", live.url)
    imi("claim")
    assert spool.waiting() == []
    assert imi.data("work", "activities", login)["items"][0]["activity_type"] == "command"


def test_options_of_the_command_are_its_own(imi: Imi, login: str) -> None:
    ran = subprocess.run([*RUN, "--", "echo", "--json", "-h"], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stdout) == (0, "--json -h\n")
    assert imi.error(2, "run")["code"] == "USAGE"
