"""`imi trace`: from a ticket to the deploy and back."""

from typing import Annotated, Any, Literal

import typer

from imi.cli.arguments import OfProject
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.render import Column, moment, table

app = group("Follow a ticket, pull request, deploy, branch, commit or work item both ways.")

CHAIN = {
    "tickets": (
        Column("ticket", "plane_ticket_id", cut=True),
        Column("state", "ticket_state"),
        Column("title", "ticket_title", cut=True),
    ),
    "work_items": (
        Column("work item", "branch_name", cut=True),
        Column("status", "status"),
        Column("owner", "owner_id", cut=True),
        Column("id", "id"),
    ),
    "prs": (
        Column("pr", "pr_number"),
        Column("state", "pr_state"),
        Column("url", "pr_url", cut=True),
        Column("title", "pr_title", cut=True, wide=120),
    ),
    "deploys": (
        Column("deploy", "deploy_id", cut=True),
        Column("environment", "environment", cut=True),
        Column("commit", lambda deploy: deploy["commit_hash"][:12]),
        Column("deployed", lambda deploy: moment(deploy["deployed_at"])),
    ),
}


def _show(trace: dict[str, Any]) -> Any:
    from rich.console import Group

    parts: list[Any] = []
    for kind, columns in CHAIN.items():
        if rows := trace["chain"][kind]:
            parts += [table(rows, *columns), ""]
    return (
        Group(*parts[:-1])
        if parts
        else f"nothing is linked to {trace['entity']['type']} {trace['entity']['id']}"
    )


Kind = Literal["ticket", "pr", "deploy", "branch", "commit", "work"]


@command(app, "trace", example="imi trace ticket PROJ-123", show=_show)
def trace(
    api: Api,
    kind: Annotated[Kind, typer.Argument(help="What the id names.", metavar="KIND")],
    entity: Annotated[
        str,
        typer.Argument(
            metavar="ID",
            help="A ticket's id, a PR's number or URL, a deploy's id, a branch, a commit (7 digits or more), "
            "a work item's id.",
        ),
    ],
    project: OfProject = None,
    transitive: Annotated[
        bool, typer.Option("--transitive", help="Go on through shared tickets and pull requests.")
    ] = False,
) -> Any:
    """Show the work that something belongs to, and all of its tickets, pull requests and deploys."""
    return api.get(
        f"/trace/{'work_item' if kind == 'work' else kind}",
        id=entity,
        project_id=project and api.project_id(project),
        transitive=transitive or None,
    )
