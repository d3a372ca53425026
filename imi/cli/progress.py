"""`imi work start`, `update` and `complete`: what whoever does the work reports."""

import socket
from typing import Annotated, Any

import typer

from imi.cli import work_reports
from imi.cli.arguments import (
    CompletionType,
    FencingToken,
    Metadata,
    Project,
    SourceType,
    WorkItem,
    WorkType,
    given,
)
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import note, record

app = group("The course of work items; commands of `imi work`.")

Owner = Annotated[str | None, typer.Option("--owner", help="Whose work it is.")]
Type = Annotated[WorkType | None, typer.Option("--type", help="What kind of work it is.")]
WorktreePath = Annotated[str | None, typer.Option(help="The folder that has the branch checked out.")]
Host = Annotated[
    str | None,
    typer.Option(help="The machine it is on.  [default with a path: this one]", show_default=False),
]


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
    git: work_reports.Git = None,
    uncommitted: work_reports.Uncommitted = None,
    ahead: work_reports.Ahead = None,
    behind: work_reports.Behind = None,
    commit: work_reports.Commit = None,
    message: work_reports.Message = None,
    observed_at: work_reports.ObservedAt = None,
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
    branch = api.get(path)["branch_name"] if git else ""
    state = work_reports.state(git, branch, uncommitted, ahead, behind, commit, message)
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
