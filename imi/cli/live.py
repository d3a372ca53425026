"""The live view of `imi monitor`: the files that changed last, who works there, and how long ago."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from imi.cli.render import age, console, plain

if TYPE_CHECKING:
    from rich.console import RenderableType

    from imi.worktrees.watching import Change

KEPT = 500  # files that are remembered; the terminal's height decides how many are seen
FRAME = 0.05  # seconds between two drawings at least
DONE = {"added": "+", "modified": "~", "deleted": "-"}


class View:
    """Used as a context. On a terminal a table, newest first, drawn again at once when something changed, and
    when ages have grown, looked at every `interval` seconds; in a pipe a line a change. `agent` says who
    works in a worktree."""

    def __init__(self, agent: Callable[[Path], str | None], interval: float) -> None:
        self.agent, self.interval = agent, interval
        self.files: dict[tuple[Path, str], Change] = {}  # the newest last
        self.changed = threading.Condition()
        self.dirty = self.ended = False
        self.drawer: threading.Thread | None = None

    def __enter__(self) -> View:
        if sys.stdout.isatty():
            self.drawer = threading.Thread(target=self._draw, name="imi-live", daemon=True)
            self.drawer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        if self.drawer:
            with self.changed:
                self.ended = True
                self.changed.notify()
            self.drawer.join()

    def show(self, changes: Iterable[Change]) -> None:
        """Show these changes of files; of git's state nothing is shown."""
        shown = [change for change in changes if change.kind in DONE]
        if self.drawer is None:
            sys.stdout.writelines(f"{self.line(change)}\n" for change in shown)
            sys.stdout.flush()
            return
        with self.changed:
            for change in shown:
                self.files.pop((change.worktree, change.path), None)
                self.files[change.worktree, change.path] = change
            for key in list(self.files)[: max(0, len(self.files) - KEPT)]:
                del self.files[key]
            self.dirty = bool(shown) or self.dirty
            self.changed.notify()

    def line(self, change: Change) -> str:
        """A change as one line: when, worktree, agent, what, file."""
        at = change.moment.astimezone()
        who = self.agent(change.worktree) or "-"
        return plain(f"{at:%H:%M:%S}  {change.worktree.name}  {who}  {DONE[change.kind]} {change.path}")

    def rows(self, room: int) -> list[tuple[str, str, str, str]]:
        """The newest changes as worktree, agent, file and age; as many as there is room for."""
        now = datetime.now(UTC)
        with self.changed:
            newest = list(self.files.values())[: -max(1, room) - 1 : -1]
        return [
            (
                plain(change.worktree.name),
                plain(self.agent(change.worktree)),
                f"{DONE[change.kind]} {_tail(plain(change.path))}",
                age(max(0.0, (now - change.moment).total_seconds())),
            )
            for change in newest
        ]

    def _draw(self) -> None:
        from rich.live import Live

        terminal = console()
        drawn: object = None
        with Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                with self.changed:
                    if not self.dirty and not self.ended:
                        self.changed.wait(self.interval)
                    self.dirty, ended = False, self.ended
                rows = self.rows(terminal.height - 2)
                if (rows, terminal.size) != drawn:
                    drawn = rows, terminal.size
                    live.update(_table(rows), refresh=True)
                if ended:
                    return
                time.sleep(FRAME)


def _table(rows: Iterable[tuple[str, ...]]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=True)
    table.add_column("worktree", ratio=3)
    table.add_column("agent", ratio=2)
    table.add_column("file", ratio=6)
    table.add_column("age", justify="right", width=4)
    for row in rows:
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in row))
    return table


def _tail(path: str) -> str:
    """A path that fits: of a long one its end, which tells more than its beginning."""
    return path if len(path) <= 34 else f"…{path[-33:]}"
