"""Watching the log: one stream after another, each from where the last one ended."""

from __future__ import annotations

import json
import shutil
import sys
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


def line(message: Any) -> str:
    """An event for people: when, its cursor, what, from whom, its payload; cut to a terminal's width."""
    event = message["data"]
    at = datetime.fromisoformat(event["timestamp"]).astimezone()
    source = event["source"]
    parts = [source.get("app") or source.get("type"), source.get("host")] if isinstance(source, dict) else []
    place = "@".join(str(each) for each in parts if each)
    payload = json.dumps(event["payload"], ensure_ascii=False)
    text = plain(f"{at:%H:%M:%S}  {message['cursor']}  {event['event_type']}  {place}  {payload}")
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(text)
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _ended(message: Any) -> Failure:
    hints = {"GONE": f"go on with what is kept: --after {message['cursor']}"}
    return Failure(message["code"], message["message"], hints.get(message["code"]), CONFLICT)
