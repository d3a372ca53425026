"""`imi events`: the log, and the types of events."""

import json
from contextlib import suppress
from typing import Annotated, Any

import typer

from imi.cli import causation, event_list
from imi.cli.client import Api, segment
from imi.cli.command import Agent, ApiKey, ApiUrl, Debug, command, group, print_json
from imi.cli.outcome import NOT_FOUND, Failure, usage
from imi.cli.render import Column, record, table

app = group("Watch and list events, show one with its causes or effects, list event types.")


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


def _show_event(found: dict[str, Any]) -> Any:
    return record(found) if "event_id" in found else causation.draw(found)


@command(app, "show", example="imi events show 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10 --tree", show=_show_event)
def show(
    api: Api,
    event_id: causation.EventId,
    tree: Annotated[bool, typer.Option("--tree", help="What followed from it, as a tree.")] = False,
    ancestors: Annotated[bool, typer.Option("--ancestors", help="What led to it, as a tree.")] = False,
) -> Any:
    """Show an event (correlation_ids are its causes), or the tree of its effects or causes.

    In a tree each event stands once, where it is nearest: one with several causes says how many. Below ten
    steps the depth is a number.
    """
    if tree and ancestors:
        usage("--tree and --ancestors are two trees", "ask for one at a time")
    if ancestors:
        return causation.causes(api, event_id)
    return causation.effects(api, event_id) if tree else api.get(f"/events/{segment(event_id)}")


@app.command("tail", epilog="Example: imi events tail --type 'bmad.workflow.#' --after 0")
def tail(
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Of this type; * is one word, # zero or more.")
    ] = None,
    workflow: event_list.OfWorkflow = None,
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

    Each line is the time, the cursor, the type, who did it and where, and the plain values of the payload
    (--json has all of it). When the server restarts or the network breaks, it connects again and goes on
    after the last event: nothing is missed or shown twice.
    """
    if len(event_type or ()) > 1:
        usage("--type is one pattern", "leave some out, or ask with one that is wider")
    from imi.cli import watch
    from imi.cli.client import connect

    with (
        suppress(KeyboardInterrupt),
        connect(agent=agent, api_url=api_url, api_key=api_key, quiet=True) as api,
    ):
        watch.end_with_reader()
        for message in watch.events(api, event_type[0] if event_type else None, workflow, after):
            if as_json:
                print_json(message)
            else:
                typer.echo(watch.line(message))


app.add_typer(event_list.app)
app.add_typer(causation.app)
