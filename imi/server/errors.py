"""Errors: one form over HTTP, and what a failure below means in it."""

from __future__ import annotations

import asyncio
from typing import Any

import asyncpg
import orjson
from aiohttp import web

from imi.database import DatabaseError

# No such schema, function or table; no such login, or another password than a restore made for it.
UNREADY = ("3F000", "42883", "42P01", "28")
# By the SQLSTATE, its first three characters, or its class: the most exact wins.
STATES = {
    "23505": 409,
    **dict.fromkeys(("23502", "23503", "23514", "22", "54"), 400),
    **dict.fromkeys(("25006", "42501"), 403),
    **dict.fromkeys(
        ("40001", "40P01", "55P03", "57014", "25P03", "25P04", "53", "57P", "08", "0A000", "XX000", *UNREADY),
        503,
    ),
}
MEANING = {
    400: ("VALIDATION_ERROR", "A value is malformed or out of range"),
    403: ("FORBIDDEN", "The key does not allow this"),
    409: ("CONFLICT", "Another row stands in the way"),
    503: ("UNAVAILABLE", "The database is away or overloaded"),
}
NOT_READY = "It is not migrated to this release, or being restored: wait, or run `imi db migrate`, or restart"
AWAY = (DatabaseError, asyncpg.InterfaceError, asyncpg.InternalClientError, asyncio.TimeoutError, OSError)


class ApiError(Exception):
    """An answer that is an error: {"detail": {code, message, params[, hint]}} with its status and headers."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        params: dict[str, Any] | None = None,
        hint: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = headers or {}
        self.detail: dict[str, Any] = {"code": code, "message": message, "params": params or {}}
        if hint:
            self.detail["hint"] = hint

    def body(self) -> bytes:
        """The document to send."""
        return orjson.dumps({"detail": self.detail})


def invalid(path: str, message: str) -> ApiError:
    """400 for one place of a request: a parameter's name, or a path into the body."""
    return invalids([{"path": path, "message": message}])


def invalids(errors: list[dict[str, str]]) -> ApiError:
    """400 that names every place."""
    where = errors[0]["path"] or "the body"
    return ApiError(400, "VALIDATION_ERROR", f"{where} {errors[0]['message']}", {"errors": errors})


def unavailable(hint: str | None = None) -> ApiError:
    """503: try again in a second."""
    return ApiError(503, *MEANING[503], hint=hint, headers={"Retry-After": "1"})


def translate(error: BaseException, request_id: str) -> ApiError:
    """What any exception means to the caller. PostgreSQL's own words stay in the log: they quote rows."""
    if isinstance(error, ApiError):
        return error
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        if state.startswith("IM") and state[2:].isdigit():
            return raised(error, int(state[2:]))
        if status := next((STATES[state[:n]] for n in (5, 3, 2) if state[:n] in STATES), None):
            if status == 503:
                return unavailable(NOT_READY if state.startswith(UNREADY) else None)
            code, message = MEANING[status]
            constraint = getattr(error, "constraint_name", None)
            code = "INVALID_REFERENCE" if state == "23503" else code
            return ApiError(status, code, message, {"constraint": constraint} if constraint else None)
    elif isinstance(error, AWAY):
        return unavailable()
    elif isinstance(error, web.RequestPayloadError):
        return invalid("", "broke off or does not decode")
    return ApiError(500, "INTERNAL_ERROR", "Something went wrong here", {"request_id": request_id})


def raised(error: asyncpg.PostgresError, status: int) -> ApiError:
    """What logic.fail said."""
    said = orjson.loads(getattr(error, "detail", None) or "{}")
    code = said.get("code") or MEANING.get(status, ("ERROR",))[0]
    headers = {"Retry-After": "1"} if status in (429, 503) else None
    return ApiError(status, code, error.args[0], said.get("params"), getattr(error, "hint", None), headers)
