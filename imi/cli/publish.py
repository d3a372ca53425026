"""`imi publish`: an event from a skill or a script that is not Python."""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.client import is_uuid
from imi.cli.command import command, group
from imi.cli.outcome import FAILED, UNREACHABLE, Failure, usage
from imi.cli.refusals import EXIT, keyless

app = group("Publish events.")

SHAPE = 'such as --payload \'{"workflow_id": "…"}\''


@command(
    app,
    "publish",
    example="imi publish bmad.workflow.completed --payload @done.json",
    show=lambda data: data["event_id"],
)
def publish(
    event_type: Annotated[str, typer.Argument(metavar="TYPE", help="What happened; see imi events types.")],
    payload: Annotated[
        str, typer.Option(metavar="JSON|@FILE|-", help="A JSON object, a file that holds it, or - for stdin.")
    ],
    caused_by: Annotated[
        list[str] | None,
        typer.Option(metavar="UUID", help="An event that caused this one; as often as there are causes."),
    ] = None,
) -> Any:
    """Publish an event and print its id. To RabbitMQ if IMI_RABBITMQ_URL is set, else to the server over
    HTTP."""
    for cause in caused_by or ():
        if not is_uuid(cause):
            usage(f"--caused-by {cause} is no UUID", "an event's id is one; imi events tail shows them")
    document = _parsed(_read(payload))
    from imi import config, connection
    from imi.bloodbank.publish import PublishError, publish_event

    try:
        event_id = asyncio.run(publish_event(event_type, document, caused_by))
    except ValueError as error:
        usage(str(error), f"see imi events types {event_type}, or imi publish --help")
    except PublishError as error:
        away = error.code == "UNREACHABLE"
        exit_code = UNREACHABLE if away else EXIT.get(error.status or 0, FAILED)
        hint = None
        if error.status == 401:
            settings = config.load()
            hint = keyless(settings, connection.find(settings))
        raise Failure(error.code, str(error), hint or error.hint, exit_code) from None
    return {"event_id": str(event_id)}


def _read(payload: str) -> bytes:
    try:
        if payload == "-":
            return sys.stdin.buffer.read()
        if payload.startswith("@"):
            return Path(payload[1:]).read_bytes()
    except OSError as error:
        raise Failure("UNREADABLE", f"cannot read {payload.removeprefix('@')}: {error.strerror}") from None
    return payload.encode(errors="surrogateescape")


def _parsed(text: bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        usage("--payload is not JSON", SHAPE)
