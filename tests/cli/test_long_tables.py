"""A long table is drawn by other means than a short one, and looks the same."""

from __future__ import annotations

import io
from typing import Any

import pytest

from imi.cli import render
from imi.cli.render import Column

ROWS: list[dict[str, Any]] = [
    {
        "name": f"feat-{'ü界' * (n % 5)}{n}",
        "status": ("clean", "ahead", None)[n % 3],
        "files": n * n,
        "rare": None,
    }
    for n in range(150)
]
COLUMNS = (
    Column("name", "name", cut=True),
    Column("status", "status"),
    Column("files", "files", right=True),
    Column("rare", "rare", rare=True),
    Column("owner", lambda row: "ada\x1b[31m", cut=True),
    Column("id", "files", wide=90),
)


def drawn(capsys: pytest.CaptureFixture[str], rows: list[dict[str, Any]] = ROWS) -> str:
    render.show_on_stdout(render.table(rows, *COLUMNS))
    return capsys.readouterr().out


def test_in_a_pipe_it_is_the_same(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = drawn(capsys)
    monkeypatch.setattr(render, "LONG", len(ROWS))
    assert quick == drawn(capsys)
    assert len(quick.splitlines()) == 151 and "\x1b" not in quick


@pytest.mark.parametrize("width", [10, 30, 40, 80, 120])
def test_on_a_terminal_it_fits(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    from rich.cells import cell_len
    from rich.console import Console

    shown = io.StringIO()
    console = Console(
        file=shown, width=width, highlight=False, markup=False, force_terminal=True, color_system=None
    )
    monkeypatch.setattr(render, "console", lambda stderr=False: console)
    console.print(render.table(ROWS, *COLUMNS))
    quick = shown.getvalue().splitlines()
    assert max(map(cell_len, quick)) <= width
    assert [line[:3] for line in quick[:3]] == ["nam", "fea", "fea"]
    assert any("…" in line for line in quick) is (width < 80)
    assert any(line.startswith("on a") for line in quick) is (width < 90)
