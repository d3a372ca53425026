"""`imi init`, `feat`, `fix`, `aiops`, `devops`, `exp` and `review`: a folder a task."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.outcome import usage
from imi.worktrees import create, layout, names
from imi.worktrees.create import Made

app = group("Worktrees: one folder a task.")


def show(data: dict[str, Any]) -> str:
    """The path alone on stdout, for `cd "$(imi feat login)"`; all else on stderr."""
    from imi.cli.render import note_all

    note_all(data)
    return str(data["path"])


def finished(api: Api, made: Made, kind: str | None = None, ticket: str | None = None) -> dict[str, Any]:
    """Tell the server, and answer {path, name, branch, created, project_id, work_item_id, worktree_id,
    notes}; an id is None as long as the server has not been told."""
    from imi.worktrees import delivery, known_projects, report

    known_projects.remember(made.project)
    project, notes = made.project, list(made.notes)
    told: dict[str, Any] = {}
    if project.remote is None:
        notes.append(report.NAMELESS)
    else:
        if kind is None:
            answer, said = delivery.tell(api, "project", report.project_body(project))
        else:
            work_type = names.KINDS[kind].work_type
            body = report.worktree_body(project, made.path, made.branch, work_type, ticket)
            answer, said = delivery.tell(api, "worktree", body)
        told = answer or {}
        notes += said
    ids = {name: told.get(name) for name in ("project_id", "work_item_id", "worktree_id")}
    return {
        "path": str(made.path),
        "name": made.path.name,
        "branch": made.branch,
        "created": made.created,
        **ids,
        "notes": notes,
    }


@command(app, "init", example="imi init git@github.com:33GOD/iMi.git", show=show)
def init(
    api: Api,
    target: Annotated[
        str | None,
        typer.Argument(
            metavar="[URL|FOLDER]",
            help="What to clone, or a project's folder.  [default: this folder]",
            show_default=False,
        ),
    ] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Move a plain clone into the folder of its trunk.")
    ] = False,
) -> Any:
    """Make a project's folder, register it, and print its path.

    A URL or a bare repository is cloned to ./NAME/trunk-BRANCH. A folder that has the layout is registered.
    A plain clone stays as it is unless you say --adopt: then all of it moves to FOLDER/trunk-BRANCH.
    --json: path, name, branch, created, project_id, notes; work_item_id and worktree_id are null. project_id
    is null as long as the server has not been told.
    """
    from imi.worktrees import begin

    api.prepare()
    with failures():
        return finished(api, begin.init(target, adopt))


Name = Annotated[str, typer.Argument(metavar="NAME", help="What the task is called, such as login.")]
Branch = Annotated[
    str | None, typer.Option(help="Its branch.  [default: the kind, a slash, NAME]", show_default=False)
]
From = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="REF",
        help="Where a new branch begins.  [default: the remote's branch of that name, else the trunk]",
        show_default=False,
    ),
]
Ticket = Annotated[
    str | None, typer.Option(metavar="TICKET", help="The ticket it comes from, such as PROJ-123.")
]

TASKS = {
    "feat": "a feature",
    "fix": "a fix",
    "aiops": "work on agents",
    "devops": "work on operations",
    "exp": "an experiment",
}


def _task(kind: str, what: str) -> None:
    def make(api: Api, name: Name, branch: Branch = None, start: From = None, ticket: Ticket = None) -> Any:
        if ticket is not None and not (ticket.isprintable() and 0 < len(ticket) <= 255):
            usage("--ticket is 1 to 255 printable characters", "such as PROJ-123")
        api.prepare()
        with failures():
            made = create.task(layout.find(Path.cwd()), kind, name, branch, start)
            return finished(api, made, kind, ticket)

    make.__doc__ = f"""Create the worktree of {what}, or find it, and print its path.

    The folder is {kind}-NAME on the branch {kind}/NAME; a slash in NAME becomes a dash in the folder. The
    server is told of both, at once or by the next command. --json: path, name, branch, created, project_id,
    work_item_id, worktree_id (null as long as the server has not been told), notes.
    """
    command(app, kind, example=f'cd "$(imi {kind} login --ticket PROJ-123)"', show=show)(make)


for _kind, _what in TASKS.items():
    _task(_kind, _what)


@command(app, "review", example="imi review 42", show=show)
def review(
    api: Api, number: Annotated[int, typer.Argument(metavar="N", min=1, help="The pull request's number.")]
) -> Any:
    """Create the worktree of a pull or merge request, or find it, and print its path.

    The folder is pr-N on the branch pr/N, from the request's head, on GitHub and GitLab alike.
    --json: path, name, branch, created, project_id, work_item_id, worktree_id (null as long as the server has
    not been told), notes.
    """
    api.prepare()
    with failures():
        return finished(api, create.review(layout.find(Path.cwd()), number), "review")
