"""`imi events list`: the log, a page of it or all that matches; and reading it for other commands."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

from imi.cli import watch
from imi.cli.arguments import Limit, Offset
from imi.cli.client import PAGE, Api
from imi.cli.command import command, group
from imi.cli.outcome import usage
from imi.cli.render import Column, moment, table

app = group("The log; commands of `imi events`.")

COLUMNS = (
    Column("time", lambda event: moment(event["timestamp"])),
    Column("id", "event_id", wide=80),
    Column("event type", "event_type", cut=True),
    Column("by", watch.who, cut=True, wide=100),
    Column("payload", lambda event: watch.values(event["payload"]), cut=True, wide=120),
)

OfWorkflow = Annotated[
    str | None,
    typer.Option("--workflow", metavar="ID", help="Of this workflow, or directly caused by this event."),
]
Time = "as 2026-02-11T10:30:00Z"


def read_all(api: Api, path: str, after: int = 0, **query: Any) -> tuple[list[Any], int]:
    """All events of a path from the cursor on, in the log's order, and the cursor behind them."""
    found: list[Any] = []
    while True:
        reply = api.call("GET", path, limit=PAGE, after=after, **query)
        after = int(reply.headers["X-Next-Cursor"])
        found += reply.data
        api.bar.show("reading", len(found), None)
        if not reply.data:
            return found, after


def _show(data: dict[str, Any]) -> Any:
    from rich.console import Group

    items, below = data["items"], []
    if data["total"] is not None:
        below.append(f"{data['total']} match")
    if data["next_cursor"] is not None:
        below.append(f"what comes after these: --after {data['next_cursor']}")
    elif len(items) == data["limit"]:
        below.append(f"the next ones: --offset {data['offset'] + data['limit']}; all of them: --all")
    return Group(table(items, *COLUMNS) if items else "none", *below)


@command(
    app,
    "list",
    example="imi events list --type 'imi.work.#' --start-time 2026-02-11T10:30:00Z --order asc",
    show=_show,
)
def list_(
    api: Api,
    event_type: Annotated[
        str | None, typer.Option("--type", help="Of this type; * is one word, # zero or more.")
    ] = None,
    workflow: OfWorkflow = None,
    caused_by: Annotated[
        str | None, typer.Option(metavar="ID", help="Directly caused by this event.")
    ] = None,
    start_time: Annotated[str | None, typer.Option(help=f"Not before this time, {Time}.")] = None,
    end_time: Annotated[str | None, typer.Option(help=f"Not after this time, {Time}.")] = None,
    order: Annotated[
        Literal["desc", "asc"] | None,
        typer.Option(help="Newest or oldest first.  [default: desc]", show_default=False),
    ] = None,
    after: Annotated[
        int | None,
        typer.Option(min=0, metavar="CURSOR", help="From here on, in the log's own order; 0: the beginning."),
    ] = None,
    count: Annotated[bool, typer.Option("--count", help="Count all that match.")] = False,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Annotated[
        bool, typer.Option("--all", help="All that match, in the log's own order.")
    ] = False,
) -> Any:
    """List events by time, newest first. Those to come: imi events tail.

    The log's own order is the order in which it took them in: with --after nothing is missed or comes twice,
    and the next cursor is told. The document is {items, total, offset, limit, next_cursor}: total is null
    without --count or --all, next_cursor without --after or --all.
    """
    query: dict[str, Any] = {
        "event_type": event_type,
        "workflow_id": workflow,
        "correlation_id": caused_by,
        "start_time": start_time,
        "end_time": end_time,
    }
    if (everything or after is not None) and (order or offset):
        usage("--all and --after read in the log's own order", "leave out --order and --offset")
    if everything:
        items, cursor = read_all(api, "/events", after or 0, **query)
        return _page(items, len(items), 0, len(items), cursor)
    reply = api.call(
        "GET",
        "/events",
        **query,
        order=order,
        after=after,
        limit=limit,
        offset=offset or None,
        count=count or None,
    )
    told = [reply.headers.get(name) for name in ("X-Total-Count", "X-Next-Cursor")]
    total, next_cursor = (None if each is None else int(each) for each in told)
    return _page(reply.data, total, offset, limit, next_cursor)


def _page(items: list[Any], total: int | None, offset: int, limit: int, cursor: int | None) -> dict[str, Any]:
    return {"items": items, "total": total, "offset": offset, "limit": limit, "next_cursor": cursor}
