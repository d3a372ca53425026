"""`imi work report`, `activity` and `activities`: what scripts and hooks tell about work."""

import uuid
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, FencingToken, Limit, Metadata, Offset, Project, WorkItem, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.outcome import usage
from imi.cli.render import Column, moment, page, plain, record

app = group("Reports about work items; commands of `imi work`.")

Git = Annotated[
    Path | None,
    typer.Option(exists=True, file_okay=False, help="Report the state of the branch in this clone."),
]
Uncommitted = Annotated[int | None, typer.Option(min=0, help="Report: files not committed.")]
Ahead = Annotated[int | None, typer.Option(min=0, help="Report: commits the trunk has not.")]
Behind = Annotated[int | None, typer.Option(min=0, help="Report: commits only the trunk has.")]
Commit = Annotated[str | None, typer.Option(help="Report: the last commit.")]
Message = Annotated[str | None, typer.Option(help="Report: the last commit's subject.")]
ObservedAt = Annotated[
    str | None, typer.Option(help="When the report was true. A later one is never overwritten.")
]


def state(
    git: Path | None,
    branch: str,
    uncommitted: int | None,
    ahead: int | None,
    behind: int | None,
    commit: str | None,
    message: str | None,
) -> dict[str, Any]:
    """A git state as the API takes it: of the branch in the clone `git`, except for what is said."""
    found: dict[str, Any] = {}
    if git:
        from imi.cli.scan import state_in

        found = state_in(git, branch)
    return found | given(
        has_uncommitted_changes=None if uncommitted is None else uncommitted > 0,
        uncommitted_files_count=uncommitted,
        ahead_of_trunk=ahead,
        behind_trunk=behind,
        last_commit_hash=commit,
        last_commit_message=message,
    )


@command(app, "report", example="imi work report PROJECT feat/login --git .", show=record)
def report(
    api: Api,
    project: Project,
    branch: Annotated[str, typer.Argument(metavar="BRANCH", help="The branch of the active work.")],
    git: Git = None,
    uncommitted: Uncommitted = None,
    ahead: Ahead = None,
    behind: Behind = None,
    commit: Commit = None,
    message: Message = None,
    observed_at: ObservedAt = None,
    fencing_token: FencingToken = None,
) -> Any:
    """Report the git state of a branch's work, without knowing the work item's id."""
    reported = state(git, branch, uncommitted, ahead, behind, commit, message)
    if not reported:
        usage(
            "there is nothing to report", "give --git, or what is known: --uncommitted, --ahead, --behind, …"
        )
    reported |= given(observed_at=observed_at, fencing_token=fencing_token)
    named = {"project_id": api.project_id(project), "branch_name": branch}
    return api.patch("/work/git-state", named | reported)


def _what(activity: Any) -> str | None:
    """The file, or the program and how it ended."""
    program, code = (activity["details"].get(name) for name in ("program", "exit_code"))
    return activity["path"] or (program and f"{plain(program)}, exit {plain(code)}")


ACTIVITIES = (
    Column("at", lambda activity: moment(activity["occurred_at"])),
    Column("agent", "agent_id", cut=True),
    Column("did", "activity_type"),
    Column("what", _what, cut=True),
)


@command(
    app,
    "activities",
    example="imi work activities WORK_ITEM --window 86400",
    show=page(*ACTIVITIES),
)
def activities(
    api: Api,
    work_item: WorkItem,
    window: Annotated[
        int, typer.Option(min=1, max=604800, metavar="SECONDS", help="Within so many seconds up to now.")
    ] = 3600,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List what was done to a work item of late, newest first."""
    path = f"/work/{segment(work_item)}/activities"
    return api.list(path, everything, limit, offset, window_seconds=window)


@command(
    app,
    "activity",
    example="imi work activity WORK_ITEM file_change --path src/login.py --agent claude-7",
    show=lambda taken: taken["id"] if taken["new"] else f"{taken['id']} was reported before",
)
def activity(
    api: Api,
    work_item: WorkItem,
    activity_type: Annotated[
        str, typer.Argument(metavar="TYPE", help="What was done: file_change, commit, switch, …")
    ],
    path: Annotated[
        str | None, typer.Option(help="The file, from the project's root: imi conflicts compares these.")
    ] = None,
    details: Metadata = None,
    occurred_at: Annotated[
        str | None, typer.Option(help="When, as 2026-02-11T10:30:00Z.  [default: now]", show_default=False)
    ] = None,
    activity_id: Annotated[
        str | None,
        typer.Option("--id", metavar="UUID", help="Its id: the same again is skipped.  [default: a new one]"),
    ] = None,
) -> Any:
    """Report what --agent did in a work item, as a hook of an editor would. Prints the report's id."""
    body = given(
        id=activity_id or str(uuid.uuid4()),
        work_item_id=work_item,
        activity_type=activity_type,
        path=path,
        details=details,
        occurred_at=occurred_at,
    )
    return api.post("/activities", [body])["items"][0]
