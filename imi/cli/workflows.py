"""`imi workflows`: what BMAD's workflows are doing, as their events tell it."""

from typing import Annotated, Any

import typer

from imi.cli import event_list
from imi.cli.arguments import Everything, Limit, Offset, Ternary
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import Column, moment, page, record, table

app = group("Workflows: their phase and agent, as their events tell it.")

COLUMNS = (
    Column("workflow", "workflow_id"),
    Column("project", "project_name", cut=True),
    Column("phase", "current_phase", cut=True),
    Column("agent", "current_agent", cut=True),
    Column("changed", lambda workflow: moment(workflow["updated_at"]), wide=100),
    Column("completed", lambda workflow: moment(workflow["completed_at"]), wide=120, rare=True),
)


@command(
    app,
    "list",
    example="imi workflows list --phase architecture --completed false",
    show=page(*COLUMNS),
)
def list_(
    api: Api,
    phase: Annotated[str | None, typer.Option(help="In this phase only.")] = None,
    project_name: Annotated[
        str | None, typer.Option(help="Of the project of this name, whole and in its spelling.")
    ] = None,
    current_agent: Annotated[str | None, typer.Option(help="That this agent has.")] = None,
    completed: Annotated[Ternary, typer.Option(help="Completed ones, running ones, or both.")] = "all",
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List workflows, last changed first."""
    return api.list(
        "/workflows",
        everything,
        limit,
        offset,
        phase=phase,
        project_name=project_name,
        agent=current_agent,
        completed=None if completed == "all" else completed,
    )


def _show(workflow: dict[str, Any]) -> Any:
    from rich.console import Group

    fields = dict(workflow)
    events = fields.pop("events", None)
    if events is None:
        return record(fields)
    return Group(record(fields), "", table(events, *event_list.COLUMNS))


@command(app, "show", example="imi workflows show 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b19 --events", show=_show)
def show(
    api: Api,
    workflow: Annotated[str, typer.Argument(metavar="ID", help="The workflow's id.")],
    events: Annotated[
        bool, typer.Option("--events", help="Add all of its events, in the log's own order.")
    ] = False,
) -> Any:
    """Show one workflow. Some of its events: imi events list --workflow ID."""
    path = f"/workflows/{segment(workflow)}"
    found = api.get(path)
    if events:
        found["events"], _ = event_list.read_all(api, f"{path}/events")
    return found
