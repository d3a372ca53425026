"""How a command ends: its exit codes, and the failure that carries one."""

from __future__ import annotations

from typing import Any, NoReturn

FAILED, USAGE, NOT_FOUND, CONFLICT, UNREACHABLE = 1, 2, 3, 4, 5


class Failure(Exception):  # noqa: N818 - the sentence of a command that did not succeed
    """A command's end without success: `code` and `params` as in the API's errors, a sentence, what to do
    next, and the exit code (1 failed, 2 usage, 3 not found, 4 conflict or refused, 5 server unreachable)."""

    def __init__(
        self,
        code: str,
        message: str,
        hint: str | None = None,
        exit_code: int = FAILED,
        params: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.code, self.message, self.hint, self.exit_code = code, message, hint, exit_code
        self.params = params or {}


def usage(message: str, hint: str | None = None) -> NoReturn:
    """Refuse arguments that contradict each other or mean nothing: exit code 2."""
    raise Failure("USAGE", message, hint, USAGE)
