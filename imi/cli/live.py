"""The live view of `imi monitor`: the files that changed last, who works there, and warnings."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from time import sleep
from typing import TYPE_CHECKING

from imi.cli.render import age, console, note, plain
from imi.worktrees.overlaps import Overlap, sentences

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions
    from rich.segment import Segment
    from rich.style import Style

    from imi.worktrees.watching import Change

KEPT = 500  # files that are remembered; the terminal's height decides how many are seen
SAID = 6  # warnings and notes that are seen at most
FRAME = 0.05  # seconds between two drawings at least
DONE = {"added": "+", "modified": "~", "deleted": "-"}
HEADER, WARNING, NOTE = "bold", "yellow", "dim"


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
        elif title := self.title():
            note(title)
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
        from rich.style import Style
        from rich.text import Text

        styles = {name: Style.parse(name) for name in (HEADER, WARNING, NOTE)}
        terminal = console()
        drawn: object = None
        size = terminal.size
        with Live(console=terminal, auto_refresh=False, vertical_overflow="crop") as live:
            while True:
                with self.changed:
                    if not self.dirty and not self.ended:
                        self.changed.wait(self.interval)
                    self.dirty, ended = False, self.ended
                    said = list(self.said)
                title = plain(self.title())
                width = terminal.width
                below: list[tuple[str, Style | None]] = [
                    (line.plain.rstrip(), styles[style])
                    for sentence, style in said
                    for line in Text(sentence).wrap(terminal, width)
                ]
                below = [*below[-(terminal.height // 2) :], (_fit(title, width), styles[NOTE])]
                rows = self.rows(terminal.height - 2 - len(below))
                if terminal.size != size:
                    terminal.clear()  # what was drawn lies elsewhere now
                if (rows, below, terminal.size) != drawn:
                    size = terminal.size
                    drawn = rows, below, size
                    table = [(_row(row, width), None) for row in rows]
                    head = (_row(("worktree", "agent", "  file", "age"), width), styles[HEADER])
                    live.update(Screenful([head, *table, *below]), refresh=True)
                if ended:
                    return
                sleep(FRAME)


class Screenful:
    """The lines of one drawing, each a text and its style. Rich's own tables take thirty times as long to
    draw, each second anew."""

    def __init__(self, lines: list[tuple[str, Style | None]]) -> None:
        self.lines = lines

    def __rich_console__(self, terminal: Console, options: ConsoleOptions) -> Iterator[Segment]:
        from rich.segment import Segment

        for text, style in self.lines:
            yield Segment(text, style)
            yield Segment.line()


def _row(cells: tuple[str, str, str, str], width: int) -> str:
    """A line of the table: worktree, agent, file and age in their columns."""
    room = max(11, width - 10)  # without the ages and what is between columns
    worktree, agent = room * 3 // 11, room * 2 // 11
    file = room - worktree - agent
    mark, path = cells[2][:2], cells[2][2:]
    shown = (_fit(cells[0], worktree), _fit(cells[1], agent), _fit(mark + _tail(path, file - 2), file))
    return "  ".join((*shown, cells[3].rjust(4)))


def _fit(text: str, width: int) -> str:
    """The text in so many of the terminal's cells."""
    from rich.cells import cell_len, set_cell_size

    if cell_len(text) > width:
        text = f"{set_cell_size(text, width - 1)}…"
    return set_cell_size(text, width)


def _tail(path: str, room: int) -> str:
    """A path that fits: of a long one its end, which tells more than its beginning."""
    from rich.cells import cell_len

    if cell_len(path) <= room:
        return path
    start = max(0, len(path) - room)
    while cell_len(path[start:]) > room - 1:
        start += 1
    return f"…{path[start:]}"
