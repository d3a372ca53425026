"""How answers look to people: tables, records, notes and one progress bar.

Text from the registry is other people's: it is drawn as plain text, never as markup, and every character
that could steer a terminal is shown as its escape instead. On a terminal a table fits its width; in a pipe
each row is one whole line.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.progress import Progress

STYLES = {
    "clean": "green",
    "uncommitted": "yellow",
    "ahead": "cyan",
    "behind": "magenta",
    "diverged": "red",
    **dict.fromkeys(("merged", "abandoned", "superseded", "inactive"), "dim"),
}

LONG = 100
"""A table of more rows than these is drawn the quick way."""


def plain(value: Any) -> str:
    """A value as text that no terminal obeys: control and direction characters become their escapes."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def age(seconds: Any) -> str:
    """Seconds in the largest fitting unit: 42s, 7m, 3h, 12d."""
    if seconds is None:
        return "never"
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60)):
        if seconds >= size:
            return f"{int(seconds // size)}{unit}"
    return f"{int(seconds)}s"


def moment(text: Any) -> str:
    """An RFC 3339 time in this machine's zone, to the minute."""
    if not text:
        return "-"
    return f"{datetime.fromisoformat(text).astimezone():%Y-%m-%d %H:%M}"


@dataclass(frozen=True)
class Column:
    """A table's column: its title, and the row's key or a function of the row. One that may be `cut` gives up
    its room when the terminal is narrow; one that is `wide` shows only from that many columns on, one that is
    `rare` only if some row has something there."""

    title: str
    value: str | Callable[[Mapping[str, Any]], Any]
    cut: bool = False
    wide: int = 0
    right: bool = False
    rare: bool = False

    def text(self, row: Mapping[str, Any]) -> str:
        """The cell of a row."""
        return plain(row.get(self.value) if isinstance(self.value, str) else self.value(row))


def console(stderr: bool = False) -> Console:
    """The terminal, or a pipe without a width."""
    from rich.console import Console

    stream = sys.stderr if stderr else sys.stdout
    return Console(
        file=stream,
        width=None if stream.isatty() else 10_000,
        highlight=False,
        markup=False,
        emoji=False,
        soft_wrap=False,
    )


def table(rows: Sequence[Mapping[str, Any]], *columns: Column) -> RenderableType:
    """The rows as a table, and below it the columns for which the terminal is too narrow."""
    from rich.console import Group
    from rich.table import Table
    from rich.text import Text

    room = console().width
    columns = tuple(c for c in columns if not c.rare or any(c.text(row) != "-" for row in rows))
    shown = [column for column in columns if column.wide <= room]
    hidden = ", ".join(column.title for column in columns if column not in shown)
    below = [f"on a wider terminal also: {hidden}"] if hidden else []
    if len(rows) > LONG:
        return Group(_long(rows, shown, room), *below)
    drawn = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, header_style="bold")
    for column in shown:
        # Rich takes room from the columns that may wrap; their text then does not, but ends in an ellipsis.
        drawn.add_column(column.title, no_wrap=not column.cut, justify="right" if column.right else "left")
    for row in rows:
        texts = (column.text(row) for column in shown)
        drawn.add_row(*(Text(t, STYLES.get(t, ""), no_wrap=True, overflow="ellipsis") for t in texts))
    return Group(drawn, *below) if below else drawn


def _long(rows: Sequence[Mapping[str, Any]], shown: Sequence[Column], room: int) -> RenderableType:
    """The same for many rows in one piece: rich's own table takes half a second for a thousand."""
    from rich.cells import cell_len, set_cell_size
    from rich.text import Text

    cells = [[column.title for column in shown], *([column.text(row) for column in shown] for row in rows)]
    widths = [max(map(cell_len, column)) for column in zip(*cells, strict=True)]
    while sum(widths) + 2 * (len(widths) - 1) > room:
        able = [n for n, column in enumerate(shown) if column.cut and widths[n] > cell_len(column.title)]
        if not able:
            break
        widths[max(able, key=widths.__getitem__)] -= 1
    drawn = Text(no_wrap=True, overflow="ellipsis")
    for number, row in enumerate(cells):
        for column, cell, width in zip(shown, row, widths, strict=True):
            fitting = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1) + "…"
            gap = " " * (width - cell_len(fitting))
            style = STYLES.get(cell, "") if number else "bold"
            drawn.append(gap if column.right else "").append(fitting, style)
            drawn.append(("  " if column.right else gap + "  ") if column is not shown[-1] else "")
        drawn.append("\n" if row is not cells[-1] else "")
    return drawn


def page(*columns: Column) -> Callable[[Mapping[str, Any]], Any]:
    """Draws a list's page: its table, and below it how much more there is."""

    def draw(data: Mapping[str, Any]) -> Any:
        from rich.console import Group

        items, total = data["items"], data["total"]
        if not items:
            return "none"
        if len(items) == total:
            return table(items, *columns)
        first, last = data["offset"] + 1, data["offset"] + len(items)
        return Group(table(items, *columns), f"{first} to {last} of {total}; all of them: --all")

    return draw


def record(data: Mapping[str, Any]) -> RenderableType:
    """One resource: a line a field."""
    from rich.table import Table
    from rich.text import Text

    grid = Table.grid(padding=(0, 2))
    grid.add_column(no_wrap=True, style="bold")
    grid.add_column(overflow="fold")
    for name, value in data.items():
        grid.add_row(name, Text(plain(value), style=STYLES.get(str(value), "")))
    return grid


def show_on_stdout(drawn: Any) -> None:
    """Print what a command's `show` made of its data: text (made plain), or by rich; None is silent."""
    if isinstance(drawn, str):
        sys.stdout.write("\n".join(plain(line) for line in drawn.split("\n")) + "\n")
    elif drawn is not None and sys.stdout.isatty():
        console().print(drawn)
    elif drawn is not None:  # without the spaces that fill the last column
        printer = console()
        with printer.capture() as printed:
            printer.print(drawn)
        sys.stdout.write("".join(f"{line.rstrip()}\n" for line in printed.get().splitlines()))


def note(text: str, style: str = "") -> None:
    """A sentence on stderr, beside the answer."""
    if sys.stderr.isatty() and style:
        console(stderr=True).print(plain(text), style=style, soft_wrap=True)
    else:
        sys.stderr.write("\n".join(plain(line) for line in text.split("\n")) + "\n")


def note_all(data: Mapping[str, Any]) -> None:
    """The sentences of a command's data, on stderr."""
    for sentence in data["notes"]:
        note(sentence)


class Bar:
    """A progress bar on stderr for whatever lasts over a second; nothing in a pipe or with --json."""

    def __init__(self, enabled: bool) -> None:
        self.enabled = enabled and sys.stderr.isatty()
        self.state: tuple[str, int, int | None] = ("working", 0, None)
        self.progress: Progress | None = None
        self.lock = threading.Lock()
        self.timer = threading.Timer(1, self._appear)

    def __enter__(self) -> Bar:
        if self.enabled:
            self.timer.daemon = True
            self.timer.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.end()

    def end(self) -> None:
        """Leave the terminal to others."""
        self.timer.cancel()
        with self.lock:
            self.enabled = False
            if self.progress:
                self.progress.stop()

    def show(self, label: str, done: int, total: int | None) -> None:
        """Say what is under way, and how much of it is done."""
        with self.lock:
            self.state = (label, done, total)
            if self.progress:
                task = self.progress.task_ids[0]
                self.progress.update(task, description=plain(label), completed=done, total=total)

    def _appear(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
        )
        with self.lock:
            if self.enabled:
                label, done, total = self.state
                self.progress = Progress(*columns, console=console(stderr=True), transient=True)
                self.progress.add_task(plain(label), completed=done, total=total)
                self.progress.start()
