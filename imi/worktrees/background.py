"""One monitor a user and project reports, whether in a terminal or in the background: a lock says which.

The kernel lets go of the lock when the process ends, however it ends, so a pid in the file counts only while
the lock is held.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from typing import IO

from imi.cli.outcome import CONFLICT, FAILED, Failure
from imi.worktrees import disk, spool

PATIENCE = 20.0  # seconds that --stop waits; the last batch may take some
DETACHED = "\0"


class Seat:
    """The place of the monitor of `what` (a project's root, or all): whoever holds it reports."""

    def __init__(self, what: str) -> None:
        name = hashlib.sha256(os.fsencode(what)).hexdigest()[:16] if what != "all" else what
        home = spool.state() / "monitor"
        self.what, self.pid_file, self.log_file = what, home / f"{name}.pid", home / f"{name}.log"
        self.held: IO[str] | None = None

    def take(self) -> bool:
        """Whether this process holds it, now or already. OSError when there is nowhere to write."""
        if self.held:
            return True
        opened = self._take()
        if opened is None:
            return False
        self.held = opened
        self.sign()
        return True

    def sign(self) -> None:
        """Write this process's id into the file."""
        if self.held:
            self.held.seek(0)
            self.held.truncate()
            self.held.write(f"{os.getpid()}\n{self.what}\n")
            self.held.flush()

    def leave(self) -> None:
        """Let another have it."""
        if self.held:
            self.held.truncate(0)
            self.held.close()
            self.held = None

    def pid(self) -> int | None:
        """The process that holds it; None if none does."""
        free = self._take()
        if free:
            free.close()
            return None
        with contextlib.suppress(OSError, ValueError):
            return int(self.pid_file.read_text(errors="replace").partition("\n")[0])
        return None

    def stop(self) -> int | None:
        """End the monitor that holds it, wait, and answer its pid; None if there was none. Failure if it does
        not end."""
        pid = self.pid()
        if pid is None:
            return None
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        except PermissionError:
            raise Failure("REFUSED", f"process {pid} is another user's", exit_code=CONFLICT) from None
        until = time.monotonic() + PATIENCE
        while self.pid() == pid:
            if time.monotonic() > until:
                raise Failure("REFUSED", f"process {pid} has not ended in {PATIENCE:.0f} s", f"kill -9 {pid}")
            time.sleep(0.05)
        return pid

    def _take(self) -> IO[str] | None:
        self.pid_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        opened = self.pid_file.open("a+")
        if disk.take(opened):
            return opened
        opened.close()
        return None


def detach(seat: Seat, run: Callable[[Callable[[], None]], int]) -> int:
    """Run in a process of its own, without a terminal; its pid, once it has called what `run` is given: it
    works. What it raises before that is raised here. The caller holds the seat, which goes over to it."""
    ours, theirs = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        try:
            os.close(ours)
            _child(seat, run, theirs)
        finally:
            os._exit(FAILED)  # nothing of the caller's is to go on here
    os.close(theirs)
    if seat.held:
        seat.held.close()  # the child has it too
        seat.held = None
    with os.fdopen(ours) as said:
        text = said.read()
    if text == DETACHED:
        return pid
    os.waitpid(pid, 0)
    code, message, hint, exit_code = (
        json.loads(text) if text else ("FAILED", "it ended at once", None, FAILED)
    )
    raise Failure(code, message, hint, exit_code)


def _child(seat: Seat, run: Callable[[Callable[[], None]], int], told: int) -> None:
    os.setsid()
    os.chdir("/")  # no worktree is in use by it
    nothing = os.open(os.devnull, os.O_RDWR)
    for stream in (0, 1, 2):
        os.dup2(nothing, stream)
    seat.sign()
    saying = [told]

    def say(text: str) -> None:
        while saying:
            os.write(saying[0], text.encode())
            os.close(saying.pop())

    try:
        code = run(lambda: say(DETACHED))
    except Failure as failure:
        code = failure.exit_code
        say(json.dumps([failure.code, failure.message, failure.hint, code]))
    os._exit(code)
