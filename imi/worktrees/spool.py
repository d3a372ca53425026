"""Reports that the server has not had yet: one file each, in the order they were made.

A report is written here and flushed to the disk before it is sent, and taken away after the server's answer,
so that a kill at any moment loses none. Sent twice it counts once: its UUID is the Idempotency-Key.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imi.worktrees import disk

PATIENCE = 30.0


@dataclass(frozen=True, slots=True)
class Report:
    """What happened, when, and who did it. `body` is what its kind needs (report.py)."""

    id: str
    at: str
    actor: str
    kind: str
    body: dict[str, Any]


def made(actor: str, kind: str, body: dict[str, Any]) -> Report:
    """A report of what has just been seen."""
    return Report(str(uuid.uuid4()), datetime.now(UTC).isoformat(), actor, kind, body)


def state() -> Path:
    """Where imi keeps what it knows of this machine: below XDG_STATE_HOME, else ~/.local/state."""
    home = os.environ.get("XDG_STATE_HOME", "")
    base = Path(home) if home.startswith("/") else Path.home() / ".local/state"
    return base / "iMi"


def folder() -> Path:
    """Where the reports are."""
    return state() / "spool"


def put(report: Report) -> Path:
    """Keep a report; it is on the disk when this returns. OSError if it cannot be."""
    home = folder()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    file = home / f"{time.time_ns():020}-{report.id}.json"
    disk.write(file, file.with_suffix(".new"), asdict(report))
    return file


def waiting() -> list[Path]:
    """The files of the reports that wait, oldest first."""
    return sorted(folder().glob("*.json"))


def read(file: Path) -> Report:
    """The report in a file. ValueError if it is none."""
    try:
        report = Report(**json.loads(file.read_bytes() if file.is_file() else b""))
    except (TypeError, RecursionError):
        raise ValueError(f"{file} is no report") from None
    texts = (report.id, report.at, report.actor, report.kind)
    if not isinstance(report.body, dict) or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{file} is no report")
    return report


def done(file: Path) -> None:
    """Take a report away: the server has it."""
    file.unlink(missing_ok=True)


def refuse(file: Path) -> Path:
    """Lay aside a report that the server will never take."""
    aside = file.with_suffix(".refused")
    file.rename(aside)
    return aside


@contextmanager
def delivering() -> Iterator[bool]:
    """Only one process delivers at a time; False when another still does after half a minute."""
    home = folder()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as opened:
        yield disk.take(opened, PATIENCE)
