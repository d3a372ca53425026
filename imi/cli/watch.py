"""Watching the log: one stream after another, each from where the last one ended."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import stat
import sys
import threading
import time
from collections.abc import Iterator
from datetime import datetime
from typing import Any

from imi.backoff import backoff
from imi.cli.client import Api
from imi.cli.outcome import CONFLICT, Failure
from imi.cli.render import note, plain

FIRST, LONGEST = 0.25, 5.0  # seconds between two tries
PASSING = ("STOPPING", "OVERFLOW", "UNREACHABLE", "UNAVAILABLE")
SILENCE = 75.0  # seconds without even a heartbeat, after which the server is gone


def events(api: Api, event_type: str | None, workflow_id: str | None, after: int | None) -> Iterator[Any]:
    """Each event's message, for ever. The first connection must succeed; a lost one is made again."""
    import httpx

    found, failed = False, 0
    while True:
        try:
            for message in messages(api, event_type=event_type, workflow_id=workflow_id, after=after):
                if message["type"] == "error" and message["code"] not in PASSING:
                    raise _ended(message)
                if found and failed:
                    note("connected again")
                found, failed, after = True, 0, message["cursor"]
                if message["type"] == "event":
                    yield message
        except httpx.TransportError:
            pass
        except Failure as failure:
            if not found or failure.code not in PASSING:
                raise
        if not failed:
            note("the stream broke off; connecting again")
        failed += 1
        time.sleep(backoff(failed, FIRST, LONGEST))


def messages(api: Api, **query: Any) -> Iterator[Any]:
    """The messages of one stream until it ends."""
    import httpx

    timeout = httpx.Timeout(SILENCE, connect=5)
    with api.stream("/events/stream", timeout, **query) as answer:
        rest = b""
        for part in answer.iter_bytes():
            *lines, rest = (rest + part).split(b"\n")
            yield from (json.loads(line[6:]) for line in lines if line.startswith(b"data: "))


def end_with_reader() -> None:
    """End this process with whoever reads its output through a pipe: a quiet log would never tell."""
    try:
        output = sys.stdout.fileno()
    except OSError:  # not a file at all
        return
    if stat.S_ISFIFO(os.fstat(output).st_mode):
        reader = select.poll()
        reader.register(output, 0)  # an error is told unasked
        threading.Thread(target=lambda: (reader.poll(), os._exit(0)), daemon=True).start()


def line(message: Any) -> str:
    """An event for people: when, its cursor, what, by whom, its plain values; cut to a terminal's width."""
    event = message["data"]
    at = datetime.fromisoformat(event["timestamp"]).astimezone()
    form = "%H:%M:%S" if at.date() == datetime.now().astimezone().date() else "%Y-%m-%d %H:%M:%S"
    parts = [at.strftime(form), str(message["cursor"]), event["event_type"], who(event)]
    text = plain("  ".join([*parts, values(event["payload"])]))
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def who(event: Any) -> str:
    """Who did it, or else which program, and where."""
    source, context = event["source"] or {}, event["agent_context"] or {}
    meta = source.get("meta")
    actor = (meta.get("actor") if isinstance(meta, dict) else None) or context.get("name")
    return "@".join(
        str(each) for each in (actor or source.get("app") or source.get("type"), source.get("host")) if each
    )


FIRST_KEYS = ("name", "title", "task", "phase", "reason")
LAST_KEYS = ("id", "_at", "_hash")


def values(payload: dict[str, Any]) -> str:
    """What is no list or object, as key=value: what it is about first, what only identifies it last."""
    known = [
        (key, value)
        for key, value in payload.items()
        if isinstance(value, str | int | float) and value is not False and value != ""
    ]
    known.sort(key=lambda each: (each[0].endswith(LAST_KEYS), not each[0].endswith(FIRST_KEYS)))
    return " ".join(f"{key}={_word(value)}" for key, value in known)


def _word(value: Any) -> str:
    is_word = isinstance(value, str) and not re.search(r'[\s"]', value)
    return str(value) if is_word else json.dumps(value, ensure_ascii=False)


def _ended(message: Any) -> Failure:
    hints = {"GONE": f"go on with what is kept: --after {message['cursor']}"}
    return Failure(message["code"], message["message"], hints.get(message["code"]), CONFLICT)
