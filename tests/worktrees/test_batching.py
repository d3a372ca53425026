"""Batches: what a reporter hears of many changes. And the live view, on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

from imi.cli.live import View
from imi.worktrees import batching
from imi.worktrees.batching import Activity, Batcher
from imi.worktrees.watching import Change, Kind

ONE, TWO = Path("/w/one"), Path("/w/two")
DEADLINE = 20.0  # seconds


def change(path: str, kind: Kind = "modified", worktree: Path = ONE) -> Change:
    return Change(worktree, path, kind, datetime.now(UTC))


class Recorder:
    """A reporter that remembers, and that can be held up."""

    def __init__(self) -> None:
        self.batches: list[list[Activity]] = []  # that are not empty
        self.states: list[Path] = []
        self.sizes: list[int] = []  # of reports, in worktrees
        self.heard = threading.Condition()
        self.free = threading.Event()
        self.free.set()
        self.held = threading.Event()

    def report(self, batches: Mapping[Path, list[Activity]]) -> None:
        self.held.set()
        assert self.free.wait(DEADLINE)
        with self.heard:
            self.batches += filter(None, batches.values())
            self.states += batches
            self.sizes.append(len(batches))
            self.heard.notify_all()

    def until_states(self, count: int) -> None:
        with self.heard:
            assert self.heard.wait_for(lambda: len(self.states) >= count, DEADLINE)


def test_many_changes_of_a_file_are_one_activity() -> None:
    recorder = Recorder()
    with Batcher(recorder) as batcher:
        batcher.put([change("a", "added"), change("b")])
        batcher.put([change("a")])
        batcher.put([change("a", "deleted")])
        recorder.until_states(1)
    assert [(each.path, each.kind, each.changes) for each in recorder.batches[0]] == [
        ("b", "modified", 1),
        ("a", "deleted", 3),
    ]
    assert recorder.states == [ONE]


def test_a_flood_is_capped_and_counted_and_the_state_is_read_after_the_last_change() -> None:
    recorder = Recorder()
    recorder.free.clear()
    with Batcher(recorder) as batcher:
        batcher.put([change("first")])
        assert recorder.held.wait(DEADLINE)  # the server is slow from here on
        for start in range(0, 100_000, 1000):
            batcher.put([change(f"build/{number}") for number in range(start, start + 1000)])
        assert len(batcher.pending[ONE].files) == batching.PATHS
        recorder.free.set()
        recorder.until_states(2)
    assert recorder.states == [ONE, ONE]
    assert len(recorder.batches) == 2
    *told, left = recorder.batches[1]
    assert (left.path, left.kind, len(told) + left.changes) == (None, "left out", 100_000)


def test_what_never_rests_is_told_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "QUIET", 1000.0)
    monkeypatch.setattr(batching, "LATEST", 0.05)
    recorder = Recorder()
    with Batcher(recorder) as batcher:
        for count in (1, 2):
            batcher.put([change("a")])
            recorder.until_states(count)
        batcher.put([change("last")])
    assert [each.path for batch in recorder.batches for each in batch] == ["a", "a", "last"]


def test_the_end_tells_what_is_left_of_each_worktree(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "QUIET", 1000.0)
    monkeypatch.setattr(batching, "LATEST", 1000.0)
    recorder = Recorder()
    with Batcher(recorder) as batcher:
        batcher.put([change("a"), change("HEAD", "git", TWO)])
        batcher.put([change("", "git", Path("/w/three")), change("", "gone", Path("/w/three"))])
    assert sorted(recorder.states) == [ONE, TWO]
    assert [[each.path for each in batch] for batch in recorder.batches] == [["a"]]


def test_what_is_due_together_is_one_report(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batching, "QUIET", 1000.0)
    monkeypatch.setattr(batching, "LATEST", 1000.0)
    recorder = Recorder()
    with Batcher(recorder) as batcher:
        batcher.put([change("a", worktree=Path(f"/w/{number}")) for number in range(batching.WORKTREES + 1)])
    assert recorder.sizes == [batching.WORKTREES, 1]


def test_an_error_of_the_reporter_is_not_swallowed() -> None:
    class Broken(Recorder):
        def report(self, batches: Mapping[Path, list[Activity]]) -> None:
            raise RuntimeError(*batches)

    with pytest.raises(RuntimeError, match="/w/one"), Batcher(Broken()) as batcher:
        batcher.put([change("a")])


def test_in_a_pipe_each_change_is_a_line_that_no_terminal_obeys(capsys: pytest.CaptureFixture[str]) -> None:
    with View(lambda _: "claude-7", 0.5) as view:
        view.show([change("a\x1b[2J\nb", "added"), change("HEAD", "git")])
    (line,) = capsys.readouterr().out.splitlines()
    assert line.endswith("  one  claude-7  + a\\x1b[2J\\nb")


LIVE = """
from datetime import UTC, datetime
from pathlib import Path
from imi.cli.live import View
from imi.worktrees.watching import Change
names = ["old", "evil\\x1b]0;x\\x07", "d/" * 60 + "long.py", "caf\\udce9", "newest"]
with View(lambda worktree: None, 0.5, lambda: "watching") as view:
    view.say("evil\\x1b[2J " + "word " * 30)
    for name in names:
        view.show([Change(Path("/w/feat-with-a-name-that-is-longer-than-its-column"), name, "added", datetime.now(UTC))])
"""


def test_on_a_terminal_of_80_columns_the_newest_is_first() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {name: value for name, value in os.environ.items() if name not in ("COLUMNS", "NO_COLOR")}
    process = subprocess.Popen(
        [sys.executable, "-c", LIVE],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    drawn = b""
    try:
        while part := os.read(ours, 65536):
            drawn += part
    except OSError:  # the terminal is closed
        pass
    os.close(ours)
    assert process.wait(DEADLINE) == 0, drawn
    text = drawn.decode()
    assert "\x1b]" not in text
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line).rstrip() for line in text.splitlines()]
    table = lines[len(lines) - lines[::-1].index(next(x for x in lines[::-1] if "worktree" in x)) - 1 :]
    assert all(len(line) <= 80 for line in table)
    assert table[0].split() == ["worktree", "agent", "file", "age"]
    for row, part in zip(
        table[1:6], ["newest", "caf\\udce9", "long.py", "evil\\x1b]0;x\\x07", "old"], strict=True
    ):
        assert part in row
        assert row.endswith("0s")
    said = " ".join(table[6:9])
    assert (said.count("word"), "evil\\x1b[2J" in said, table[9]) == (30, True, "watching")
