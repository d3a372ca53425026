"""`imi events`: what travels over the bus."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Annotated, Any

import typer

from imi.cli.client import Api, segment
from imi.cli.command import Agent, ApiKey, ApiUrl, Debug, command, group, print_json
from imi.cli.outcome import NOT_FOUND, Failure, usage
from imi.cli.render import Column, moment, plain, record, table

DRAWN = 10  # steps of a tree that are drawn

app = group("Watch events, show one with its causes or effects, list event types.")


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


def _tree(root: dict[str, Any], towards_causes: bool) -> str:
    """A causation tree, a line an event: ids stand first, so that nothing pushes them off the screen."""
    lines = []
    shown = set(_ids(root))

    def draw(node: dict[str, Any], before: str, branch: str) -> None:
        event, depth = node["event"], node["depth"]
        causes = event["correlation_ids"]
        name = plain(event["event_type"]) + (f" ({len(causes)} causes)" if len(causes) > 1 else "")
        place = branch if depth <= DRAWN else f"({depth}) "
        lines.append(f"{moment(event['timestamp'])}  {plain(event['event_id'])}  {before}{place}{name}")
        unknown = []
        if towards_causes and not root["truncated"]:
            unknown = [each for each in causes if each not in shown]
        within = before + {"": "", "├─ ": "│  ", "└─ ": "   "}[branch] if depth < DRAWN else before
        below: list[Any] = [*node["children"], *unknown]
        for child in below:
            way = "└─ " if child is below[-1] else "├─ "
            if isinstance(child, str):
                lines.append(f"{'':16}  {plain(child)}  {within}{way}not in the log")
            else:
                draw(child, within, way)

    draw(root, "", "")
    if root["truncated"]:
        lines.append(
            "there is more: a tree ends at 100 steps, 100,000 events or 32 MiB; go on with a later id"
        )
    return "\n".join(lines)


def _ids(node: dict[str, Any]) -> Iterator[str]:
    yield node["event"]["event_id"]
    for child in node["children"]:
        yield from _ids(child)


class Causes(dict[str, Any]):
    """A tree of ancestors."""


def _show_event(found: dict[str, Any]) -> Any:
    return record(found) if "event_id" in found else _tree(found, isinstance(found, Causes))


@command(app, "show", example="imi events show 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10 --tree", show=_show_event)
def show(
    api: Api,
    event_id: Annotated[str, typer.Argument(metavar="ID", help="The event's id.")],
    tree: Annotated[bool, typer.Option("--tree", help="What followed from it, as a tree.")] = False,
    ancestors: Annotated[bool, typer.Option("--ancestors", help="What led to it, as a tree.")] = False,
) -> Any:
    """Show an event (correlation_ids are its causes), or the tree of its effects or causes.

    In a tree each event stands once, where it is nearest: one with several causes says how many. Below ten
    steps the depth is a number.
    """
    if tree and ancestors:
        usage("--tree and --ancestors are two trees", "ask for one at a time")
    path = f"/events/{segment(event_id)}"
    if ancestors:
        return Causes(api.get(f"{path}/ancestors"))
    return api.get(f"{path}/descendants" if tree else path)


@app.command("tail", epilog="Example: imi events tail --type 'bmad.workflow.#' --after 0")
def tail(
    event_type: Annotated[
        list[str] | None, typer.Option("--type", help="Of this type; * is one word, # zero or more.")
    ] = None,
    workflow: Annotated[
        str | None, typer.Option(metavar="ID", help="Of this workflow, or directly caused by this event.")
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
