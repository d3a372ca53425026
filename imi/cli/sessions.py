"""`imi sessions`: which agent works on which workflow."""

from typing import Annotated, Any, Literal

import typer

from imi.cli.arguments import Everything, Limit, Offset
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.render import Column, moment, page

app = group("Agents' sessions on workflows, as the events tell them.")

SessionStatus = Literal["active", "completed", "blocked"]
COLUMNS = (
    Column("session", "session_id"),
    Column("agent type", "agent_type", cut=True),
    Column("status", "status"),
    Column("last active", lambda session: moment(session["last_active_at"]), wide=80),
    Column("started", lambda session: moment(session["started_at"]), wide=140),
    Column("checkpoint", "checkpoint_id", cut=True, wide=160, rare=True),
    Column("workflow", "workflow_id", wide=120),
)


@command(app, "list", example="imi sessions list --status blocked --agent-type letta", show=page(*COLUMNS))
def list_(
    api: Api,
    status: Annotated[SessionStatus | None, typer.Option(help="In this state only.")] = None,
    agent_type: Annotated[
        str | None, typer.Option(help="Of agents of this type only, such as letta.")
    ] = None,
    workflow: Annotated[str | None, typer.Option(metavar="ID", help="On this workflow only.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List sessions, last active first."""
    return api.list(
        "/agent-sessions",
        everything,
        limit,
        offset,
        status=status,
        agent_type=agent_type,
        workflow_id=workflow,
    )
