"""Log lines: one JSON object each, on stderr or at the end of a file."""

from __future__ import annotations

import logging
import sys
from contextvars import ContextVar
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import orjson

# What every line about one request (or one message) says besides: its id, and its correlation ids.
about: ContextVar[dict[str, Any] | None] = ContextVar("about", default=None)


class JsonLines(logging.StreamHandler[IO[str]]):
    """Writes a record: time, level, logger, message, what it is about, its own `fields`, its exception."""

    def format(self, record: logging.LogRecord) -> str:
        """The line of a record."""
        line = {
            "time": datetime.fromtimestamp(record.created, UTC),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **(about.get() or {}),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[0]:
            line["exception"] = logging.Formatter().formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


def configure(level: str, file: Path | None) -> None:
    """Send every log line of this process there. Raises OSError for a file that cannot be opened."""
    stream = file.open("a", encoding="utf-8") if file else sys.stderr
    logging.basicConfig(level=level, handlers=[JsonLines(stream)], force=True)
