"""Reports that the server has not had yet: a file for what was told at once, in the order they were made.

Reports are written here and flushed to the disk before they are sent, and taken away after the server's
answers to all of a file, so that a kill at any moment loses none. Sent twice one counts once: its UUID is the
Idempotency-Key.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterator, Sequence
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


def put(reports: Sequence[Report]) -> None:
    """Keep reports, at least one; they are on the disk when this returns. OSError if they cannot be."""
    home = folder()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    _write(home / f"{time.time_ns():020}-{reports[0].id}.json", reports)


def waiting() -> list[Path]:
    """The files of the reports that wait, oldest first."""
    return sorted(folder().glob("*.json"))


def count() -> int:
    """How many reports wait; a file that holds none counts as one."""
    total = 0
    for file in waiting():
        try:
            total += len(read(file))
        except (ValueError, OSError):
            total += 1
    return total


def read(file: Path) -> list[Report]:
    """The reports in a file, in the order they were made. ValueError if it holds anything else."""
    try:
        reports = [Report(**each) for each in json.loads(file.read_bytes() if file.is_file() else b"")]
        for each in reports:
            _check(each)
    except (TypeError, AttributeError, RecursionError):
        raise ValueError(f"{file} holds no reports") from None
    return reports


def _check(report: Report) -> None:
    uuid.UUID(report.id)
    texts = (report.at, report.actor, report.kind)
    if not isinstance(report.body, dict) or not all(isinstance(each, str) for each in texts):
        raise ValueError(f"{report.id} is no report")


def leave(file: Path, reports: Sequence[Report]) -> None:
    """Leave only these of a file's reports in it; without any it goes."""
    if reports:
        _write(file, reports)
    else:
        file.unlink(missing_ok=True)


def refuse(file: Path, report: Report | None = None) -> Path:
    """Lay aside a file that holds no reports, or the one of its reports that the server will never take."""
    if report is None or len(read(file)) == 1:
        return file.rename(file.with_suffix(".refused"))
    aside = file.with_name(f"{file.stem.partition('-')[0]}-{report.id}.refused")
    _write(aside, [report])
    return aside


def _write(file: Path, reports: Sequence[Report]) -> None:
    disk.write(file, file.with_suffix(".new"), [asdict(each) for each in reports])


@contextmanager
def delivering() -> Iterator[bool]:
    """Only one process delivers at a time; False when another still does after half a minute."""
    home = folder()
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    with (home / "lock").open("w") as opened:
        yield disk.take(opened, PATIENCE)
