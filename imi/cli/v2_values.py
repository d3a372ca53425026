"""Values of the old SQLite database, which may hold anything: what can be used of them, or why not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from imi.worktrees import git

LONGEST_NAME, LONGEST_PATH, LONGEST_METADATA = 255, 2048, 65536


class SkipError(Exception):
    """Why a row is passed over."""


def text(value: Any, what: str, longest: int = LONGEST_NAME) -> str:
    """A text as the API takes it, of at most `longest` characters."""
    if value is None or value == "":
        raise SkipError(f"it has no {what}")
    if not isinstance(value, str):
        raise SkipError(f"its {what} is no text")
    if len(value) > longest:
        raise SkipError(f"its {what} is longer than {longest} characters")
    if "\0" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise SkipError(f"its {what} holds a NUL, or bytes that are not UTF-8")
    return value


def optional(value: Any, what: str, longest: int = LONGEST_NAME) -> str | None:
    """A text, or None where there is none."""
    return None if value is None or value == "" else text(value, what, longest)


def branch_of(value: Any) -> str:
    """A branch's name, as git takes it."""
    name = text(value, "branch")
    if name.startswith("-"):
        raise SkipError("git takes no branch of that name: it starts with a dash")
    try:
        git.run(Path("/"), "check-ref-format", f"refs/heads/{name}")
    except git.GitError as error:
        raise SkipError(f"git takes no branch of that name ({error})") from None
    return name


def metadata_of(value: Any) -> dict[str, Any]:
    """A JSON object that was stored as text; none is an empty one."""
    document = optional(value, "metadata", LONGEST_METADATA)
    try:
        found = json.loads(document) if document else {}
        json.dumps(found, allow_nan=False)  # NaN and infinity, which json.loads takes
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise SkipError("its metadata is no JSON object")
    return found


def shown(value: Any) -> str:
    """What a report says of a value that may be anything."""
    if value is None:
        return ""
    start = value[:LONGEST_NAME] if isinstance(value, (str, bytes)) else value
    return str(start).encode(errors="surrogateescape").decode(errors="replace")
