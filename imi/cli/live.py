"""The live view of `imi monitor`: the files that changed last, who works there, and warnings."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from imi.cli.render import age, console, note, plain
from imi.worktrees.overlaps import Overlap, sentences

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

    from imi.worktrees.watching import Change

KEPT = 500  # files that are remembered; the terminal's height decides how many are seen
SAID = 6  # warnings and notes that are seen at most
FRAME = 0.05  # seconds between two drawings at least
DONE = {"added": "+", "modified": "~", "deleted": "-"}
WARNING, NOTE = "yellow", "dim"


class View:
    """Used as a context. On a terminal a table, newest first, drawn again at once when something changed, and
    when ages have grown, looked at every `interval` seconds; in a pipe a line a change, and warnings and
    notes on stderr. `agent` says who works in a worktree, `title` what is watched."""

    def __init__(
        self, agent: Callable[[Path], str | None], interval: float, title: Callable[[], str] = str
    ) -> None:
        self.agent, self.interval, self.title = agent, interval, title
        self.files: dict[tuple[Path, str], Change] = {}  # the newest last
        self.said: deque[tuple[str, str]] = deque(maxlen=SAID)  # sentence, style
        self.changed = threading.Condition()
        self.dirty = self.ended = False
        self.drawer: threading.Thread | None = None

    def __enter__(self) -> View:
        if sys.stdout.isatty():
            self.dirty = True
            self.drawer = threading.Thread(target=self._draw, name="imi-live", daemon=True)
            self.drawer.start()
        else:
            note(self.title())
        return self

    def __exit__(self, *exception: object) -> None:
        if self.drawer:
            with self.changed:
                self.ended = True
                self.changed.notify()
            self.drawer.join()
            self.drawer = None

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

    def warn(self, overlaps: Iterable[Overlap]) -> None:
        """Say that two have touched the same files."""
        for sentence in sentences(overlaps):
            self._say(f"warning: {sentence}", WARNING)

    def say(self, sentence: str) -> None:
        """Say what went wrong, or is well again."""
        self._say(sentence, NOTE)

    def _say(self, sentence: str, style: str) -> None:
        if self.drawer is None:
            note(sentence, style=style)
            return
        with self.changed:
            self.said.append((plain(f"{datetime.now().astimezone():%H:%M:%S}  {sentence}"), style))
            self.dirty = True
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
                f"{DONE[change.kind]} {plain(change.path)}",
                age(max(0.0, (now - change.moment).total_seconds())),
            )
            for change in newest
        ]

    def _draw(self) -> None:
        from rich.live import Live
        from rich.text import Text

        terminal = console()
        drawn: object = None
        with Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                with self.changed:
                    if not self.dirty and not self.ended:
                        self.changed.wait(self.interval)
                    self.dirty, ended = False, self.ended
                    said = list(self.said)
                title = plain(self.title())
                lines = [
                    line
                    for sentence, style in said
                    for line in Text(sentence, style).wrap(terminal, terminal.width)
                ]
                rows = self.rows(terminal.height - 3 - len(lines))
                if (rows, said, title, terminal.size) != drawn:
                    drawn = rows, said, title, terminal.size
                    live.update(_screen(rows, lines, title, terminal.width), refresh=True)
                if ended:
                    return
                sleep(FRAME)


def _screen(rows: Iterable[tuple[str, ...]], lines: Iterable[Text], title: str, width: int) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(_table(rows, width), *lines, Text(title, NOTE, no_wrap=True, overflow="ellipsis"))


def _table(rows: Iterable[tuple[str, ...]], width: int) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold", expand=True)
    table.add_column("worktree", ratio=3)
    table.add_column("agent", ratio=2)
    table.add_column("file", ratio=6)
    table.add_column("age", justify="right", width=4)
    room = (width - 10) * 6 // 11 - 4  # the file's column, without its mark and what is between columns
    for worktree, agent, file, since in rows:
        cells = (worktree, agent, f"{file[:2]}{_tail(file[2:], max(8, room))}", since)
        table.add_row(*(Text(cell, no_wrap=True, overflow="ellipsis") for cell in cells))
    return table


def _tail(path: str, room: int) -> str:
    """A path that fits: of a long one its end, which tells more than its beginning."""
    from rich.cells import cell_len

    if cell_len(path) <= room:
        return path
    start = max(0, len(path) - room)
    while cell_len(path[start:]) > room - 1:
        start += 1
    return f"…{path[start:]}"
