"""`imi trace`: from a ticket to the deploy and back."""

from typing import Annotated, Any, Literal

import typer

from imi.cli.arguments import OfProject
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.names import PROJECT, name_projects
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
        PROJECT,
        Column("status", "status"),
        Column("owner", "owner_id", cut=True),
        Column("id", "id", wide=100),
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


def tables(chain: dict[str, Any]) -> list[Any]:
    """A table for each kind of which there is something, with empty lines between them."""
    parts: list[Any] = []
    for kind, columns in CHAIN.items():
        if rows := chain.get(kind):
            parts += ["", table(rows, *columns)]
    return parts[1:]


def _show(trace: dict[str, Any]) -> Any:
    from rich.console import Group

    parts = tables(trace["chain"])
    entity = trace["entity"]
    return Group(*parts) if parts else f"nothing is linked to {entity['type']} {entity['id']}"


Kind = Literal["ticket", "pr", "deploy", "branch", "commit", "work"]


def _name_projects(api: Api, trace: dict[str, Any]) -> None:
    name_projects(api, trace["chain"]["work_items"])


@command(app, "trace", example="imi trace ticket PROJ-123", show=_show, add=_name_projects)
def trace(
    api: Api,
    kind: Annotated[
        Kind,
        typer.Argument(help="What the id names: ticket, pr, deploy, branch, commit or work.", metavar="KIND"),
    ],
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
