"""`imi shell-init`: in real shells, with folders whose names are hostile."""

from __future__ import annotations

import os
import pty
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.cli.rooted import away, homes
from tests.commandline import Imi
from tests.repositories import Git

__all__ = ["away", "homes"]
pytestmark = pytest.mark.usefixtures("away")
Run = Callable[..., subprocess.CompletedProcess[str]]

SHELLS = {"bash": ["bash", "--norc", "-c"], "zsh": ["zsh", "-f", "-c"], "fish": ["fish", "--no-config", "-c"]}
CODE = {"bash": "$?", "zsh": "$?", "fish": "$status"}
HOSTILE = "-my 'pro\nject\" $HOME `id` \\ (x)"


@pytest.fixture(params=SHELLS)
def shell(request: pytest.FixtureRequest) -> str:
    name = str(request.param)
    if not shutil.which(name):
        pytest.skip(f"NOT TESTED: {name} is not installed, so nobody knows that imi shell-init {name} works")
    return name


@pytest.fixture
def called(tmp_path: Path) -> Path:
    """What the program was called with, a line each call."""
    return tmp_path / "called"


@pytest.fixture
def program(tmp_path: Path, called: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """This imi, which also writes down its arguments, in a folder with a hostile name."""
    program = tmp_path / "bin 'dir'\n\"$x\" \\/imi"
    program.parent.mkdir()
    words = shlex.join([sys.executable, "-m", "imi"])
    program.write_text(f'#!/bin/sh\necho "$@" >>{shlex.quote(str(called))}\nexec {words} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setattr(sys, "argv", [str(program)])
    return program


@pytest.fixture
def root(git: Git, tmp_path: Path) -> Path:
    """A project's folder with a hostile name."""
    git.clone(git.origin(tmp_path / "remotes/store.git"), tmp_path / "elsewhere")
    root = tmp_path / HOSTILE
    root.mkdir()
    git(root, "clone", "-q", str(tmp_path / "remotes/store.git"), "trunk-main")
    return root


@pytest.fixture
def run(imi: Imi, program: Path, shell: str, root: Path, tmp_path: Path) -> Run:
    """`run(command)`: the shell's, in the project's folder, with the function."""
    file = tmp_path / f"init.{shell}"
    file.write_text(imi("shell-init", shell).out)

    def run(commands: str) -> subprocess.CompletedProcess[str]:
        words = [*SHELLS[shell], f"source {shlex.quote(str(file))}\n{commands}"]
        return subprocess.run(words, cwd=root, capture_output=True, text=True, check=False, timeout=120)

    return run


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_it_goes_there(run: Run, root: Path) -> None:
    ran = run("imi go trunk; pwd")
    assert (ran.stdout, ran.stderr) == (f"{root / 'trunk-main'}\n", "")


def test_a_new_worktree_is_gone_to_and_only_success_moves(run: Run, root: Path, shell: str) -> None:
    ran = run(f"imi feat login; echo {CODE[shell]}; pwd; imi go qqq; echo {CODE[shell]}; pwd")
    there = root / "feat-login"
    assert ran.stdout == f"0\n{there}\n3\n{there}\n"
    assert "no worktree fits qqq" in ran.stderr


def test_what_is_asked_for_on_stdout_comes_as_it_is(run: Run, root: Path) -> None:
    ran = run("imi go trunk --json; imi go --help; imi version; pwd")
    assert ran.stdout.startswith('{"success": true')
    assert "Usage: imi go" in ran.stdout and "imi 3" in ran.stdout
    assert ran.stdout.endswith(f"\n{root}\n")


def test_arguments_arrive_whole(run: Run, called: Path, shell: str) -> None:
    ran = run(f"imi go 'a  b' '$x' '*'; echo {CODE[shell]}; imi; echo {CODE[shell]}")
    assert called.read_text() == "go a  b $x *\n\n"
    assert ran.stdout.splitlines() == ["2", "2"]


def test_doctor_can_know_of_it(run: Run, shell: str) -> None:
    ran = run(f"{sys.executable} -c 'import os; print(os.environ[\"IMI_SHELL\"])'; imi go main")
    assert (ran.stdout, ran.stderr) == (f"{shell}\n", "")


def test_it_reconciles_once_an_hour(run: Run, called: Path, root: Path, tmp_path: Path) -> None:
    def times() -> int:
        return called.read_text().splitlines().count("reconcile --quiet")

    run("imi version; imi go qqq")
    assert times() == 0
    run("imi go trunk")
    until(lambda: times() == 1)
    stamp = tmp_path / "XDG_STATE_HOME/iMi/reconciled"
    run("imi go trunk; imi go trunk")
    before = stamp.stat().st_mtime
    os.utime(stamp, (before - 3700, before - 3700))
    run("imi go trunk")
    until(lambda: times() == 2)
    run("imi go trunk")
    assert stamp.stat().st_mtime > before - 60
    assert times() == 2


def test_a_person_sees_nothing_of_that(
    imi: Imi, program: Path, called: Path, shell: str, root: Path, tmp_path: Path
) -> None:
    """On a terminal, with job control; closing it at once does not end the reconcile."""
    file = tmp_path / "init"
    file.write_text(imi("shell-init", shell).out)
    words = [
        *SHELLS[shell][:-1],
        "-i",
        "-c",
        f"source {shlex.quote(str(file))}; imi go trunk; echo end",
    ]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(root)
        os.execvp(words[0], words)
    shown = b""
    while True:
        try:
            piece = os.read(terminal, 4096)
        except OSError:  # Linux's way to say that it is over
            piece = b""
        if not piece:
            break
        shown += piece
    os.close(terminal)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, shown
    until(lambda: "reconcile --quiet" in called.read_text())
    words_shown = shown.replace(b"\r", b"").decode()
    assert words_shown.endswith("end\n")
    assert "[1]" not in words_shown and "reconcile" not in words_shown and "onitor" not in words_shown


COMPLETED = {
    "bash": "COMP_WORDS=(imi {words}); COMP_CWORD={last}; __imi_complete; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
    "zsh": "compadd() {{ print -l -- ${{(P)2}} }}; _files() {{ print files }}; words=(imi {words} ''); "
    "words=(imi {words}); CURRENT=$(({last} + 1)); __imi_complete",
    "fish": "complete -C 'imi {words}'",
}


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("fea", ["feat"]),
        ("work cl", ["claim"]),
        ("go t", ["trunk-main"]),
        ("status feat-l", ["feat-login"]),
        ("go --js", ["--json"]),
    ],
)
def test_it_completes(run: Run, git: Git, root: Path, shell: str, words: str, found: list[str]) -> None:
    for name in ("feat-login", "feat-l$(touch pwned)", "feat-l a"):
        git(root / "trunk-main", "worktree", "add", "-q", "--detach", str(root / name))
    ran = run(COMPLETED[shell].format(words=words, last=len(words.split())))
    assert [line.partition("\t")[0] for line in ran.stdout.splitlines()] == found, ran.stderr
    assert not [*root.rglob("pwned")]


def test_another_shell_is_refused(imi: Imi) -> None:
    assert imi.error(2, "shell-init", "tcsh")["code"] == "USAGE"


def test_it_loads_little() -> None:
    """It runs whenever a shell starts: neither what asks the server nor what draws."""
    program = """
import sys
from imi.cli import run
code = run(["shell-init", "bash"])
sys.exit(code or ", ".join({"httpx", "rich", "imi.cli.client", "imi.worktrees.layout"} & {*sys.modules}) or 0)
"""
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ran.returncode, ran.stderr) == (0, "")
