"""`imi work`: what is happening, branch by branch."""

from typing import Annotated, Any

import typer

from imi.cli import claims, progress, work_reports
from imi.cli.arguments import Everything, Limit, Offset, OfProject, Status, Ternary, WorkItem, WorkType
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.names import PROJECT, name_projects, name_projects_of_page
from imi.cli.render import Column, age, page, record
from imi.cli.trace import tables

app = group("Work in flight: branches, their git state, and who holds them.")

BRANCH = Column("branch", "branch_name", cut=True)
STATUS = Column("status", "status")
COMMITS = Column("commits", lambda item: f"+{item['ahead_of_trunk']} -{item['behind_trunk']}")
FILES = Column("files", "uncommitted_files_count", right=True)
TYPE = Column("type", "work_type", wide=140)
OWNER = Column("owner", "owner_id", cut=True)
HOLDER = Column("holder", lambda item: item["claim"] and item["claim"]["agent_id"], cut=True, rare=True)
ID = Column("id", "id", wide=110)


@command(
    app,
    "list",
    example="imi work list --project git@github.com:33GOD/iMi.git --status ahead",
    show=page(BRANCH, PROJECT, STATUS, COMMITS, FILES, TYPE, OWNER, HOLDER, ID),
    add=name_projects_of_page,
)
def list_(
    api: Api,
    project: OfProject = None,
    owner: Annotated[str | None, typer.Option(help="Of this owner only.")] = None,
    work_type: Annotated[WorkType | None, typer.Option("--type", help="Of this type only.")] = None,
    status: Annotated[Status | None, typer.Option(help="In this state only.")] = None,
    active: Annotated[Ternary | None, typer.Option(help="Active ones, ended ones, or both.")] = None,
    source_ref: Annotated[str | None, typer.Option(help="From this ticket, command or assignment.")] = None,
    host: Annotated[str | None, typer.Option(help="On this machine only.")] = None,
    branch: Annotated[str | None, typer.Option(help="On this branch only.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List work items, newest first. The active ones, unless --status or --active asks for others."""
    return api.list(
        "/work",
        everything,
        limit,
        offset,
        project_id=project and api.project_id(project),
        owner_id=owner,
        work_type=work_type,
        status=status,
        active=active,
        source_ref=source_ref,
        host=host,
        branch_name=branch,
    )


@command(
    app,
    "inflight",
    example="imi work inflight --owner claude-7",
    show=page(
        BRANCH,
        PROJECT,
        STATUS,
        COMMITS,
        FILES,
        OWNER,
        HOLDER,
        Column("age", lambda item: age(item["age_seconds"]), right=True, wide=140),
        Column("seen", lambda item: age(item["observed_age_seconds"]), right=True, wide=140),
        ID,
    ),
    add=name_projects_of_page,
)
def inflight(
    api: Api,
    project: OfProject = None,
    owner: Annotated[str | None, typer.Option(help="Of this owner only.")] = None,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List the active work that is not clean. Uncommitted, ahead of its trunk, or behind it."""
    project_id = project and api.project_id(project)
    return api.list("/work/inflight", everything, limit, offset, project_id=project_id, owner_id=owner)


def _show_item(item: dict[str, Any]) -> Any:
    from rich.console import Group

    fields = {"id": item["id"], "project": item["project"]} | item
    fields["claim"] = claims.held(item["claim"]) if item["claim"] else None
    links = tables(fields.pop("links"))
    return Group(record(fields), *(["", *links] if links else []))


@command(
    app,
    "get",
    example="imi work get 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
    show=_show_item,
    add=lambda api, item: name_projects(api, [item]),
)
def get(api: Api, work_item: WorkItem) -> Any:
    """Show one work item, active or not: its state, who holds it, and all of its links."""
    return api.get(f"/work/{segment(work_item)}")


app.add_typer(progress.app)
app.add_typer(work_reports.app)
app.add_typer(claims.app)
