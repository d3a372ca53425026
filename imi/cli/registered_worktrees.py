"""`imi worktrees`: the registry's worktrees, on whatever host. What touches the folders is `imi feat`, `imi
remove` and the like."""

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, Limit, Metadata, Offset, OfProject, Project, Ternary, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.names import PROJECT, name_projects_of_page
from imi.cli.render import Column, moment, page, record

app = group("The registry's worktrees: what hosts have reported. No folder is touched.")

Worktree = Annotated[
    str, typer.Argument(metavar="WORKTREE", help="The worktree's id, from imi worktrees list.")
]
OfWork = Annotated[str | None, typer.Option("--work-item", metavar="ID", help="Its work item.")]
Branch = Annotated[str | None, typer.Option(help="The branch it has checked out.")]
COLUMNS = (
    Column("name", "name", cut=True),
    PROJECT,
    Column("branch", "branch_name", cut=True),
    Column("host", "host", cut=True),
    Column("path", "path", cut=True, wide=100),
    Column("accessed", lambda worktree: moment(worktree["last_accessed"]), wide=140),
    Column("removed", lambda worktree: moment(worktree["removed_at"]), rare=True),
    Column("id", "id", wide=120),
)


@command(
    app,
    "list",
    example="imi worktrees list --host ada-laptop",
    show=page(*COLUMNS),
    add=name_projects_of_page,
)
def list_(
    api: Api,
    project: OfProject = None,
    work_item: Annotated[str | None, typer.Option(metavar="ID", help="Of this work item only.")] = None,
    host: Annotated[str | None, typer.Option(help="On this machine only.")] = None,
    path: Annotated[str | None, typer.Option(help="In this folder only.")] = None,
    active: Annotated[
        Ternary, typer.Option(help="Those that exist, those that are removed, or both.")
    ] = "true",
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List worktrees, as their hosts last reported them."""
    return api.list(
        "/worktrees",
        everything,
        limit,
        offset,
        project_id=project and api.project_id(project),
        work_item_id=work_item,
        host=host,
        path=path,
        active=active,
    )


@command(
    app,
    "register",
    example="imi worktrees register PROJECT ~/code/imi/feat-user-auth --branch feat/user-auth",
    show=lambda worktree: worktree["id"],
)
def register(
    api: Api,
    project: Project,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="Its folder.")],
    name: Annotated[
        str | None, typer.Option(help="What to call it.  [default: the folder's]", show_default=False)
    ] = None,
    host: Annotated[
        str | None,
        typer.Option(help="The machine it is on.  [default: this one]", show_default=False),
    ] = None,
    branch: Branch = None,
    work_item: OfWork = None,
    metadata: Metadata = None,
) -> Any:
    """Report a worktree and print its id. The same folder again: the same id; what was empty is filled."""
    folder = path if host else path.absolute()
    body = given(
        project_id=api.project_id(project),
        name=name or folder.name,
        path=str(folder),
        host=host or socket.gethostname(),
        branch_name=branch,
        work_item_id=work_item,
        metadata=metadata,
    )
    return api.post("/worktrees", body)


@command(app, "update", example="imi worktrees update WORKTREE --path ~/src/imi/feat-user-auth", show=record)
def update(
    api: Api,
    worktree: Worktree,
    name: Annotated[str | None, typer.Option(help="What to call it.")] = None,
    path: Annotated[str | None, typer.Option(help="Where it has moved.")] = None,
    host: Annotated[str | None, typer.Option(help="The machine it is on.")] = None,
    branch: Branch = None,
    work_item: OfWork = None,
    accessed: Annotated[
        str | None, typer.Option(help="When it was last worked in, as 2026-02-11T10:30:00Z.")
    ] = None,
    metadata: Metadata = None,
) -> Any:
    """Change what is given, leave the rest. Metadata is replaced as a whole."""
    body = given(
        name=name,
        path=path,
        host=host,
        branch_name=branch,
        work_item_id=work_item,
        last_accessed=accessed,
        metadata=metadata,
    )
    return api.patch(f"/worktrees/{segment(worktree)}", body)


@command(
    app,
    "remove",
    example="imi worktrees remove 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
    show=lambda data: "reported as removed; its folder and its work item are as they were",
)
def remove(api: Api, worktree: Worktree) -> Any:
    """Report a worktree as removed. Its folder is not touched: that is what imi remove does."""
    return api.call("DELETE", f"/worktrees/{segment(worktree)}").data
