"""What the server's refusals mean to a command: a sentence, what to do, and the exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from imi.cli.adminkey import file_in
from imi.cli.outcome import CONFLICT, FAILED, NOT_FOUND, UNREACHABLE, USAGE, Failure

if TYPE_CHECKING:
    from imi.config import Settings
    from imi.connection import Connection

EXIT = {
    **dict.fromkeys((400, 413, 415), USAGE),
    **dict.fromkeys((401, 403, 409, 410, 429), CONFLICT),
    404: NOT_FOUND,
    503: UNREACHABLE,
}
HINTS = {
    401: "give a key: --api-key or IMI_API_KEY; `imi up` writes one to its data directory (IMI_DATA_DIR)",
    429: "wait a minute and try again",
    503: "the server is there, but not its database; try again in a moment",
}


def keyless(settings: Settings, found: Connection) -> str | None:
    """What to do when this server wants a key and none was found; None if one was."""
    if found.key:
        return None
    file = file_in(settings.data_dir)
    if found.here:
        looked = f"there is no {file} that you may read"
        return f"IMI_API_KEY is not set, and {looked}: set it, or IMI_DATA_DIR to the server's data directory"
    looked = f"{file} is for a server on this machine only"
    return f"IMI_API_KEY is not set, and {looked}: set it; an admin there makes one: imi keys create NAME"


def refusal(status: int, detail: dict[str, Any], keyless: str | None) -> Failure:
    """The failure that an answer's `detail` tells; `keyless` is what to do when a key is missing. KeyError or
    TypeError when it is not one of iMi's."""
    code, message = detail["code"], detail["message"]
    params = detail.get("params") or {}
    return Failure(
        str(code),
        f"{message}{_facts(params)}",
        (keyless if status == 401 else None) or detail.get("hint") or _scope(params) or HINTS.get(status),
        EXIT.get(status, FAILED),
        params,
    )


def _scope(params: dict[str, Any]) -> str | None:
    """What to do about a key whose scope is too narrow."""
    needed = params.get("needed")
    return (
        f"give one with --api-key; an admin makes it: imi keys create NAME --scope {needed}"
        if needed
        else None
    )


def _facts(params: dict[str, Any]) -> str:
    """The error's params in words: ` (name: value; …)`, or all places of a bad request where the message can
    name but one."""
    errors = params.get("errors")
    if isinstance(errors, list):
        if len(errors) == 1:
            return ""
        facts = [f"{e.get('path') or 'body'}: {e.get('message')}" for e in errors if isinstance(e, dict)]
    else:
        facts = [f"{name}: {text(value)}" for name, value in params.items()]
    return f" ({'; '.join(facts)})" if facts else ""


def text(value: Any) -> str:
    """A value as itself if it is text, else as JSON."""
    return value if isinstance(value, str) else json.dumps(value)
