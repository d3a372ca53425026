"""imi monitor on a terminal: how soon a change is on the screen, what watching costs while nothing happens, and fifty
agents in a thousand worktrees. Processor time counts git's too.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

import httpx

from tests.bench.rows import Figure
from tests.bench.worktrees.stage import Stage, post

WRITES, PACE, IDLE = 100, 0.15, 30.0
AGENTS, CROWD, TURNS, STAY = 50, 1_000, 80, 10
PATIENCE = 300.0
TICKS = os.sysconf("SC_CLK_TCK")

SPIED = """
import sys, time
from imi.cli import run
from imi.worktrees.tree import Tree

judge, log = Tree.judge, open(sys.argv[1], "w", buffering=1)

def timed(self, raw):
    at = time.perf_counter()
    found = judge(self, raw)
    for _, path in raw:
        log.write(f"{at} {path}\\n")
    return found

Tree.judge = timed
sys.exit(run(["monitor"]))
"""


@dataclass(frozen=True)
class Shop:
    """A project whose worktrees the server knows, each held by one of the agents."""

    stage: Stage
    root: Path
    worktrees: list[Path]
    api: httpx.Client
    project_id: str

    def items(self) -> list[dict[str, Any]]:
        """The work items of this project."""
        query = {"project_id": self.project_id, "limit": "1000"}
        found: list[dict[str, Any]] = self.api.get("/work", params=query).json()["items"]
        return found

    @contextlib.contextmanager
    def monitored(self) -> Iterator[Terminal]:
        """`imi monitor` on a terminal, once the server has the state of every worktree from it."""
        before = {item["id"]: item["last_sync_at"] for item in self.items()}
        log = self.stage.home / "yielded"
        log.unlink(missing_ok=True)
        terminal = Terminal(self.root, self.stage.environment | {"TERM": "xterm-256color"}, log)
        try:
            wait(lambda: all(each["last_sync_at"] > before[each["id"]] for each in self.items()))
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A terminal of 100 columns and 30 lines, and when a file's name was first on it."""

    def __init__(self, root: Path, environment: dict[str, str], log: Path) -> None:
        self.log = log
        self.ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 100, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-c", SPIED, str(log)], cwd=root, env=environment,
            stdin=theirs, stdout=theirs, stderr=theirs,
        )  # fmt: skip
        os.close(theirs)
        self.shown: dict[str, float] = {}
        self.changed = threading.Condition()
        self.thread = threading.Thread(target=self._read)
        self.thread.start()

    def _read(self) -> None:
        rest = b""
        with contextlib.suppress(OSError):  # the process has ended
            while part := os.read(self.ours, 65536):
                now = time.perf_counter()
                rest = (rest + part)[-100_000:]
                with self.changed:
                    for name in re.findall(rb"new\d+\.", rest):
                        self.shown.setdefault(name.decode(), now)
                    self.changed.notify()

    def until(self, name: str) -> None:
        with self.changed:
            if not self.changed.wait_for(lambda: name in self.shown, PATIENCE):
                raise TimeoutError(f"{name} is not shown")

    def yielded(self) -> dict[str, float]:
        """When watchfiles told of a file."""
        found: dict[str, float] = {}
        for line in self.log.read_text().splitlines():
            at, _, path = line.partition(" ")
            found.setdefault(Path(path).name, float(at))
        return found

    def seconds(self) -> float:
        """Processor time until now, of it and of the processes it has waited for."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(") ")[2].split()
        return sum(int(each) for each in fields[11:15]) / TICKS

    def memory(self) -> float:
        """The most that was resident, in MB."""
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        fields = dict(line.split(":", 1) for line in text.splitlines())
        return int(fields["VmHWM"].split()[0]) / 1000

    def close(self) -> None:
        self.process.send_signal(signal.SIGINT)
        if self.process.wait(PATIENCE):
            raise RuntimeError(f"imi monitor has ended with {self.process.returncode}")
        self.thread.join()
        os.close(self.ours)


def wait(happened: Any) -> None:
    until = time.monotonic() + PATIENCE
    while not happened():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.1)


@contextlib.contextmanager
def shop(stage: Stage, name: str, count: int) -> Iterator[Shop]:
    """A project of so many worktrees, each claimed by an agent."""
    root = stage.tasks(name, count)
    with stage.api() as api:
        origin = {"remote_origin": str(stage.home / f"{name}.git")}
        project_id = api.get("/projects/by-origin", params=origin).json()["id"]
        worktrees = [root / f"feat-{number}" for number in range(count)]
        found = Shop(stage, root, worktrees, api, project_id)
        for number, item in enumerate(found.items()):
            post(api, f"/work/{item['id']}/claim", agent_id=f"agent-{number % AGENTS}", ttl_seconds=86_400)
        yield found


async def screen(stage: Stage) -> list[Figure]:
    """Files written one after the other, further apart than two drawings."""
    found = []
    with shop(stage, "screen", 100) as made:
        for turn in range(stage.rounds):
            with made.monitored() as terminal:
                names = [f"new{turn}{number:04}." for number in range(WRITES)]
                for number, name in enumerate(names):
                    (made.worktrees[number % 100] / name).write_text("x")
                    terminal.until(name)
                    await asyncio.sleep(PACE)
                told = terminal.yielded()
                found.append(
                    1000 * quantiles([terminal.shown[name] - told[name] for name in names], n=20)[-1]
                )
    return [Figure("from watchfiles' yield to the screen, p95, ms", "<", 10, found)]


async def idle(stage: Stage) -> list[Figure]:
    """A full screen, whose ages grow."""
    shares, most = [], []
    with shop(stage, "idle", 100) as made:
        for turn in range(stage.rounds):
            with made.monitored() as terminal:
                for number in range(30):
                    (made.worktrees[number] / f"new{turn}{number:04}.").write_text("x")
                terminal.until(f"new{turn}0029.")
                await asyncio.sleep(10)  # the batches, and what follows from them
                before, began = terminal.seconds(), time.monotonic()
                await asyncio.sleep(IDLE)
                shares.append(100 * (terminal.seconds() - before) / (time.monotonic() - began))
                most.append(terminal.memory())
    return [
        Figure(f"100 worktrees, {IDLE:.0f} s without a change: % of a processor", "<", 1, shares),
        Figure("the most memory it had, MB", "<", 80, most, ".0f"),
    ]


async def crowd(stage: Stage) -> list[Figure]:
    """Each agent writes a file a quarter of a second, ten in a worktree, then in the next of its twenty."""
    lags, shares, most = [], [], []
    with shop(stage, "crowd", CROWD) as made:
        for turn in range(stage.rounds):
            with made.monitored() as terminal:
                expected = {each["branch_name"]: each["uncommitted_files_count"] for each in made.items()}

                def work(agent: int, turn: int = turn) -> None:
                    for step in range(TURNS):
                        number = agent + AGENTS * (step // STAY % (CROWD // AGENTS))
                        (made.worktrees[number] / f"work{turn}-{step}").write_text("x")
                        time.sleep(0.25)

                before, began = terminal.seconds(), time.monotonic()
                with ThreadPoolExecutor(AGENTS) as threads:
                    list(threads.map(work, range(AGENTS)))
                ended = time.monotonic()
                shares.append(100 * (terminal.seconds() - before) / (ended - began))
                for number in range(AGENTS * TURNS // STAY):
                    expected[f"feat/{number}"] += STAY
                wait(
                    lambda expected=expected: (
                        {  # type: ignore[misc]
                            each["branch_name"]: each["uncommitted_files_count"] for each in made.items()
                        }
                        == expected
                    )
                )
                lags.append(time.monotonic() - ended)
                most.append(terminal.memory())
    what = f"{AGENTS} agents write {4 * AGENTS} files a second in {CROWD:,} worktrees"
    return [
        Figure(f"{what}: s from the last write until the server has every worktree's state", "<", 30, lags),
        Figure("the processor meanwhile, git's part with it, %", "<", 100, shares, ".0f"),
        Figure("the most memory it had, MB", "<", 160, most, ".0f"),
    ]
