"""`imi events`: what travels over the bus."""

import json
from contextlib import suppress
from typing import Annotated, Any

import typer

from imi.cli.command import Agent, ApiKey, ApiUrl, Debug, command, group, print_json
from imi.cli.outcome import NOT_FOUND, Failure
from imi.cli.render import Column, table

app = group("Events: as they come, their types, and what each one's payload holds.")


def _show(found: Any) -> Any:
    if isinstance(found, list):
        return table(
            found, Column("event type", "event_type"), Column("description", "description", cut=True)
        )
    return json.dumps(found, indent=2, ensure_ascii=False)


@command(app, "types", example="imi events types bmad.workflow.started", show=_show)
def types(
    event_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="The schema of this type's payload.")
    ] = None,
) -> Any:
    """List the event types that iMi knows, or show the JSON Schema of one. Needs no server."""
    from imi.bloodbank import schemas

    if event_type is None:
        return schemas.types()
    found = schemas.schema(event_type)
    if found is None:
        raise Failure(
            "NOT_FOUND", f"no schema describes {event_type}", "imi events types lists them", NOT_FOUND
        )
    return found


@app.command("tail", epilog="Example: imi events tail --type 'bmad.workflow.#' --after 0")
def tail(
    event_type: Annotated[
        str | None, typer.Option("--type", help="Of these types; * is one word, # zero or more.")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this workflow, or caused by this event.")
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(
            min=0,
            metavar="CURSOR",
            help="From here on; 0: from the beginning.  [default: now]",
            show_default=False,
        ),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each event.")] = False,
    debug: Debug = False,
    agent: Agent = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Show events as they come, until Ctrl-C.

    Each line is the time, the cursor, the type, who sent it, and the payload. When the server restarts or the
    network breaks, it connects again and goes on after the last event: nothing is missed or shown twice.
    """
    from imi.cli import tail as stream
    from imi.cli.client import connect

    with (
        suppress(KeyboardInterrupt),
        connect(agent=agent, api_url=api_url, api_key=api_key, quiet=True) as api,
    ):
        for message in stream.events(api, event_type, workflow, after):
            if as_json:
                print_json(message)
            else:
                typer.echo(stream.line(message))
