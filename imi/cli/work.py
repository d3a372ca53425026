"""`imi work`: what is happening, branch by branch."""

import socket
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli import claims
from imi.cli.arguments import (
    CompletionType,
    Everything,
    FencingToken,
    Limit,
    Metadata,
    Offset,
    OfProject,
    Project,
    SourceType,
    Status,
    Ternary,
    WorkItem,
    WorkType,
    given,
)
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import Column, age, note, page, record

app = group("Work in flight: branches, their git state, and who holds them.")

BRANCH = Column("branch", "branch_name", cut=True)
STATUS = Column("status", "status")
OWNER = Column("owner", "owner_id", cut=True)
ID = Column("id", "id")
COMMITS = Column("commits", lambda item: f"+{item['ahead_of_trunk']} -{item['behind_trunk']}", wide=100)
FILES = Column("files", "uncommitted_files_count", wide=100, right=True)

Owner = Annotated[str | None, typer.Option("--owner", help="Whose work it is.")]
Type = Annotated[WorkType | None, typer.Option("--type", help="What kind of work it is.")]
WorktreePath = Annotated[str | None, typer.Option(help="The folder that has the branch checked out.")]
Host = Annotated[
    str | None,
    typer.Option(help="The machine it is on.  [default with a path: this one]", show_default=False),
]


@command(
    app,
    "list",
    example="imi work list --project git@github.com:33GOD/iMi.git --status ahead",
    show=page(BRANCH, STATUS, COMMITS, FILES, Column("type", "work_type", wide=120), OWNER, ID),
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
    )


@command(
    app,
    "inflight",
    example="imi work inflight --owner claude-7",
    show=page(
        BRANCH,
        STATUS,
        COMMITS,
        FILES,
        OWNER,
        Column("age", lambda item: age(item["age_seconds"]), right=True, wide=100),
        Column("seen", lambda item: age(item["observed_age_seconds"]), right=True, wide=100),
        ID,
    ),
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


def _show_started(item: dict[str, Any]) -> str:
    note(f"{item['branch_name']}: {item['work_type']}, owner {item['owner_id']}")
    return str(item["id"])


@command(
    app,
    "start",
    example="imi work start PROJECT feat/login --source-type plane_ticket --source-ref PROJ-123",
    show=_show_started,
)
def start(
    api: Api,
    project: Project,
    branch: Annotated[str, typer.Argument(metavar="BRANCH", help="The branch it is done on.")],
    work_type: Type = None,
    source_type: Annotated[SourceType, typer.Option(help="Where it came from.")] = "manual",
    source_ref: Annotated[str | None, typer.Option(help="Its ticket, command or assignment.")] = None,
    owner: Owner = None,
    worktree_path: WorktreePath = None,
    host: Host = None,
    metadata: Metadata = None,
) -> Any:
    """Start work on a branch and print its id. Refused (exit 4) while other work holds that branch.

    The type is feature and the owner is who acts (--agent) unless you say otherwise.
    """
    body = given(
        project_id=api.project_id(project),
        branch_name=branch,
        work_type=work_type,
        source={"type": source_type, "ref": source_ref},
        owner_id=owner,
        worktree_path=worktree_path,
        host=_host(host, worktree_path),
        metadata=metadata,
    )
    return api.post("/work", body)


def _host(host: str | None, worktree_path: str | None) -> str | None:
    return host or (socket.gethostname() if worktree_path else None)


@command(app, "update", example="imi work update WORK_ITEM --git . --owner claude-8", show=record)
def update(
    api: Api,
    work_item: WorkItem,
    owner: Owner = None,
    work_type: Type = None,
    worktree_path: WorktreePath = None,
    host: Host = None,
    metadata: Metadata = None,
    git: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Report the state of the branch in this clone."),
    ] = None,
    uncommitted: Annotated[int | None, typer.Option(min=0, help="Report: files not committed.")] = None,
    ahead: Annotated[int | None, typer.Option(min=0, help="Report: commits the trunk has not.")] = None,
    behind: Annotated[int | None, typer.Option(min=0, help="Report: commits only the trunk has.")] = None,
    commit: Annotated[str | None, typer.Option(help="Report: the last commit.")] = None,
    message: Annotated[str | None, typer.Option(help="Report: the last commit's subject.")] = None,
    observed_at: Annotated[
        str | None, typer.Option(help="When the report was true. A later one is never overwritten.")
    ] = None,
    fencing_token: FencingToken = None,
) -> Any:
    """Change a work item, or report its git state. Only what is given changes."""
    path = f"/work/{segment(work_item)}"
    fields = given(
        owner_id=owner,
        work_type=work_type,
        worktree_path=worktree_path,
        host=_host(host, worktree_path),
        metadata=metadata,
    )
    state = {}
    if git:
        from imi.cli.scan import state_in

        state = state_in(git, api.get(path)["branch_name"])
    state |= given(
        has_uncommitted_changes=None if uncommitted is None else uncommitted > 0,
        uncommitted_files_count=uncommitted,
        ahead_of_trunk=ahead,
        behind_trunk=behind,
        last_commit_hash=commit,
        last_commit_message=message,
    )
    answer = api.patch(path, fields) if fields or not state else None
    if state:
        state |= given(observed_at=observed_at, fencing_token=fencing_token)
        answer = api.patch(f"{path}/git-state", state)
    return answer


@command(
    app,
    "complete",
    example="imi work complete WORK_ITEM --type merged --commit 9fceb02d --merged-by ada",
    show=lambda item: f"{item['branch_name']} is {item['completion_type']}",
)
def complete(
    api: Api,
    work_item: WorkItem,
    completion_type: Annotated[CompletionType, typer.Option("--type", help="How it ended.")],
    commit: Annotated[str | None, typer.Option(help="The merge commit.")] = None,
    merged_by: Annotated[str | None, typer.Option(help="Who merged it.")] = None,
    fencing_token: FencingToken = None,
) -> Any:
    """End a work item. Again is no error; ending it otherwise than it ended is refused (exit 4)."""
    body = given(
        completion_type=completion_type,
        merge_commit_hash=commit,
        merged_by=merged_by,
        fencing_token=fencing_token,
    )
    return api.post(f"/work/{segment(work_item)}/complete", body)


app.add_typer(claims.app)
