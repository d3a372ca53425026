"""A real terminal: a shell in tmux, typed into and read from its screen."""

from __future__ import annotations

import shlex
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

PATIENCE = 60.0


class Terminal:
    """A pane of tmux with bash in it."""

    def __init__(self, socket: Path, pane: str) -> None:
        self.socket, self.pane = socket, pane
        self.count = 0

    def type(self, line: str) -> None:
        """Type a line and Enter."""
        tmux(self.socket, "send-keys", "-t", self.pane, "-l", "--", line)
        tmux(self.socket, "send-keys", "-t", self.pane, "Enter")

    def press(self, key: str) -> None:
        """Press a key as tmux calls it, such as C-c."""
        tmux(self.socket, "send-keys", "-t", self.pane, key)

    def screen(self) -> str:
        """What is on the screen, wrapped lines joined."""
        return tmux(self.socket, "capture-pane", "-p", "-J", "-t", self.pane)

    def until(self, *words: str) -> str:
        """Wait until all the words are on the screen; the screen."""
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.screen()
            if all(word in seen for word in words):
                return seen
            assert time.monotonic() < deadline, f"{words} did not come:\n{seen}"
            time.sleep(0.05)

    def run(self, line: str, code: int = 0) -> str:
        """Clear the screen, run a command, wait for its end with this exit code; what is on the screen."""
        self.count += 1
        end = f"END {self.count}: "
        self.type(f"clear; {line}; echo '{end}'$?")
        deadline = time.monotonic() + PATIENCE
        while True:
            seen = self.screen()
            ended = [each for each in seen.splitlines() if each.startswith(end)]
            if ended:
                assert ended == [f"{end}{code}"], seen
                return seen
            assert time.monotonic() < deadline, seen
            time.sleep(0.05)


@contextmanager
def terminals(folder: Path, environment: dict[str, str], count: int) -> Iterator[list[Terminal]]:
    """So many terminals of 120 columns and 40 lines, each with a bash in `folder` and this environment alone."""
    with TemporaryDirectory() as home:
        socket = Path(home) / "tmux"
        variables = [f"{name}={value}" for name, value in environment.items()]
        shell = shlex.join(["env", "-i", *variables, "PS1=$ ", "bash", "--norc", "--noprofile"])
        opened = []
        try:
            for number in range(count):
                size = ("-x", "120", "-y", "40", "-c", str(folder), "-s", f"t{number}")
                tmux(socket, "-f", "/dev/null", "new-session", "-d", *size, shell)
                opened.append(Terminal(socket, f"t{number}"))
            yield opened
        finally:
            tmux(socket, "kill-server")


def tmux(socket: Path, *arguments: str) -> str:
    """What tmux prints."""
    done = subprocess.run(
        ["tmux", "-S", str(socket), *arguments], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
