"""What goes wrong with a worktree, as the end of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from imi.cli.outcome import CONFLICT, NOT_FOUND, USAGE, Failure
from imi.config import ConfigError
from imi.worktrees import layout, names
from imi.worktrees.git import GitError

ENDS: dict[type[names.LayoutError], tuple[str, int]] = {
    layout.NoProjectError: ("NOT_FOUND", NOT_FOUND),
    names.NameRefusedError: ("USAGE", USAGE),
    layout.PlainCloneError: ("REFUSED", CONFLICT),
    names.TakenError: ("CONFLICT", CONFLICT),
}


@contextmanager
def failures() -> Iterator[None]:
    """Raises as a Failure whatever says that something cannot be done here."""
    try:
        yield
    except names.LayoutError as error:
        code, exit_code = ENDS[type(error)]
        raise Failure(code, error.message, error.hint, exit_code) from None
    except ConfigError as error:
        raise Failure("CONFIG", str(error)) from None
    except GitError as error:
        raise Failure("GIT", str(error)) from None
