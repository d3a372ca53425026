"""Log lines: one JSON object each, on stderr or at the end of a file.

A line that cannot be written is lost; nothing that is logged fails because of that.
"""

from __future__ import annotations

import logging
import sys
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson

# What every line about one request (or one message) says besides: its id, and its correlation ids.
about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)


class JsonLines(logging.StreamHandler[IO[str]]):
    """Writes time, level, logger, message, what it is about, a record's own `fields`, and its exception."""

    failed = False

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        fields = dict(getattr(record, "fields", {}))
        if record.exc_info and record.exc_info[0]:
            fields["exception"] = logging.Formatter().formatException(record.exc_info)
        return line(record.levelname, record.name, record.getMessage(), fields)

    def handleError(self, record: logging.LogRecord | None) -> None:  # noqa: N802
        """Say on stderr that a line is lost: the first time, if stderr can be written to."""
        first, self.failed = not self.failed, True
        with suppress(Exception):
            if first:
                sys.stderr.write(f"Cannot write the log, lines are lost: {sys.exc_info()[1]}\n")


def line(level: str, logger: str, message: str, fields: dict[str, Any]) -> str:
    """A line, without its end; what JSON has no form for is shown as text."""
    head = {"time": datetime.now(UTC), "level": level, "logger": logger, "message": message}
    return orjson.dumps({**head, **(about.get() or {}), **fields}, default=str).decode()


def note(logger: logging.Logger, message: str, fields: dict[str, Any]) -> None:
    """What logger.info does, without its 30 µs: for what happens thousands of times a second."""
    if not logger.isEnabledFor(logging.INFO):
        return
    for handler in logging.root.handlers:
        if isinstance(handler, JsonLines):
            try:
                handler.stream.write(line("INFO", logger.name, message, fields) + "\n")
                handler.flush()
            except Exception:
                handler.handleError(None)
            return
    logger.info(message, extra={"fields": fields})


def configure(level: str, file: Path | None) -> None:
    """Send every log line of this process there. Raises OSError for a file that cannot be opened."""
    stream = file.open("a", encoding="utf-8") if file else sys.stderr
    logging.basicConfig(level=level, handlers=[JsonLines(stream)], force=True)
