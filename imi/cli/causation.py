"""`imi events descendants` and `ancestors`: what followed from an event, and what led to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

import typer

from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import Column, moment, plain, table

DRAWN = 10  # steps of a tree that are drawn
CUT = (
    "there is more: a tree ends at 100 steps, 100,000 events or 32 MiB, or at --max-depth; "
    "go on with a later id"
)
COLUMNS = (
    Column("depth", "depth", right=True),
    Column("time", lambda event: moment(event["timestamp"])),
    Column("id", "event_id"),
    Column("event type", "event_type", cut=True),
)

app = group("Causes and effects; commands of `imi events`.")

EventId = Annotated[str, typer.Argument(metavar="ID", help="The event's id.")]
Shape = Literal["tree", "flat", "graph", "mermaid"]
Format = Annotated[
    Shape,
    typer.Option(
        "--format",
        help="tree: each event below its nearest cause; flat: by depth; graph: each cause with its effect; "
        "mermaid: that graph as a flowchart.",
    ),
]
MaxDepth = Annotated[int, typer.Option(min=0, max=100, help="The most steps from the event.")]


class Causes(dict[str, Any]):
    """A tree of ancestors."""


def effects(api: Api, event_id: str) -> Any:
    """The tree of an event's descendants."""
    return _read(api, event_id, "descendants", "tree", None)


def causes(api: Api, event_id: str) -> Any:
    """The tree of an event's ancestors."""
    return _read(api, event_id, "ancestors", "tree", None)


def _read(api: Api, event_id: str, which: str, output: str, max_depth: int | None) -> Any:
    path = f"/events/{segment(event_id)}/{which}"
    if output == "mermaid":
        return api.text(path, format=output, max_depth=max_depth)
    found = api.get(path, format=output, max_depth=max_depth)
    return Causes(found) if (which, output) == ("ancestors", "tree") else found


def tree(root: dict[str, Any], towards_causes: bool) -> str:
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
        lines.append(CUT)
    return "\n".join(lines)


def _ids(node: dict[str, Any]) -> Iterator[str]:
    yield node["event"]["event_id"]
    for child in node["children"]:
        yield from _ids(child)


def draw(found: Any) -> Any:
    """What was read, in the format it was asked in."""
    if isinstance(found, str):
        return found.rstrip("\n")
    if "children" in found:
        return tree(found, isinstance(found, Causes))
    return _flat(found) if "items" in found else _graph(found)


def _flat(found: dict[str, Any]) -> Any:
    rows = [item["event"] | {"depth": item["depth"]} for item in found["items"]]
    return _cut(found, table(rows, *COLUMNS))


def _graph(found: dict[str, Any]) -> Any:
    """The nodes, and below them the edges."""
    drawn = [table(found["nodes"], *COLUMNS)]
    if found["edges"]:
        drawn += ["", table(found["edges"], Column("cause", "source"), Column("effect", "target"))]
    return _cut(found, *drawn)


def _cut(found: dict[str, Any], *drawn: Any) -> Any:
    from rich.console import Group

    return Group(*drawn, *([CUT] if found["truncated"] else []))


@command(
    app,
    "descendants",
    example="imi events descendants 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10 --format mermaid",
    show=draw,
)
def descendants(api: Api, event_id: EventId, output: Format = "tree", max_depth: MaxDepth = 100) -> Any:
    """Show what followed from an event: what it caused, what those caused, and so on."""
    return _read(api, event_id, "descendants", output, max_depth)


@command(
    app,
    "ancestors",
    example="imi events ancestors 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10 --max-depth 3",
    show=draw,
)
def ancestors(api: Api, event_id: EventId, output: Format = "tree", max_depth: MaxDepth = 100) -> Any:
    """Show what led to an event: what caused it, what caused those, and so on.

    A tree also names the causes that are not in the log; the other formats leave them out.
    """
    return _read(api, event_id, "ancestors", output, max_depth)
