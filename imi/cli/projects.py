"""`imi projects`: which repositories there are."""

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, Limit, Metadata, Offset, Project, Ternary, WithMetadata, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import Column, note, page, record

app = group("Projects: repositories, each with one id however its remote is spelled.")

COLUMNS = (
    Column("name", "name", cut=True),
    Column("id", "id"),
    Column("remote_origin", "remote_origin", cut=True),
    Column("active", lambda project: "active" if project["active"] else "inactive"),
    Column("work", "work_item_count", wide=100, right=True),
    Column("in flight", "inflight_count", wide=100, right=True),
)

Name = Annotated[str | None, typer.Option(help="What to call it.")]
Description = Annotated[str | None, typer.Option(help="What it is.")]
DefaultBranch = Annotated[str | None, typer.Option(help="Its trunk.")]
TrunkPath = Annotated[str | None, typer.Option(help="The folder that has the trunk checked out.")]


@command(app, "list", example="imi projects list --search core --all", show=page(*COLUMNS))
def list_(
    api: Api,
    search: Annotated[str | None, typer.Option(help="Part of a name, or one spelled nearly so.")] = None,
    active: Annotated[Ternary, typer.Option(help="Active ones, removed ones, or both.")] = "true",
    metadata: WithMetadata = None,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List projects: newest first, or with --search best first."""
    return api.list("/projects", everything, limit, offset, search=search, active=active, metadata=metadata)


def _show_registered(project: dict[str, Any]) -> str:
    note(f"{project['name']}: {project['remote_origin']}")
    return str(project["id"])


@command(
    app,
    "register",
    example="imi projects register git@github.com:33GOD/iMi.git --description 'The registry'",
    show=_show_registered,
)
def register(
    api: Api,
    remote_origin: Annotated[
        str, typer.Argument(metavar="REMOTE", help="A git URL, user@host:path, or an absolute path.")
    ],
    name: Name = None,
    description: Description = None,
    default_branch: DefaultBranch = None,
    trunk_path: TrunkPath = None,
    metadata: Metadata = None,
) -> Any:
    """Register a repository and print its id. Known already: the same id. Removed before: it is back.

    Work that ended when it was removed stays ended.
    """
    return api.post(
        "/projects",
        given(
            remote_origin=remote_origin,
            name=name,
            description=description,
            default_branch=default_branch,
            trunk_path=trunk_path,
            metadata=metadata,
        ),
    )


@command(app, "get", example="imi projects get https://github.com/33GOD/iMi", show=record)
def get(api: Api, project: Project) -> Any:
    """Show one project, active or not."""
    return api.get(f"/projects/{api.project_id(project)}")


@command(app, "update", example="imi projects update PROJECT --default-branch trunk", show=record)
def update(
    api: Api,
    project: Project,
    name: Name = None,
    description: Description = None,
    default_branch: DefaultBranch = None,
    trunk_path: TrunkPath = None,
    metadata: Metadata = None,
    remote_origin: Annotated[
        str | None, typer.Option(help="Where it has moved; the old remote goes on finding it.")
    ] = None,
) -> Any:
    """Change what is given, leave the rest. Metadata is replaced as a whole."""
    body = given(
        name=name,
        description=description,
        default_branch=default_branch,
        trunk_path=trunk_path,
        metadata=metadata,
        remote_origin=remote_origin,
    )
    return api.patch(f"/projects/{api.project_id(project)}", body)


@command(
    app,
    "remove",
    example="imi projects remove https://github.com/33GOD/old-one",
    show=lambda data: "removed, and its active work ended; registering it again brings the project back",
)
def remove(api: Api, project: Project) -> Any:
    """Take a project out of the lists and end its active work. Nothing is deleted.

    Registering it again brings the project back, with its id and history; the work stays ended.
    """
    return api.call("DELETE", f"/projects/{segment(api.project_id(project))}").data


def _show_scan(summary: dict[str, Any]) -> Any:
    from imi.cli.scan import show

    return show(summary)


@command(app, "scan", example="imi projects scan ~/code", show=_show_scan)
def scan(
    api: Api,
    folder: Annotated[
        Path, typer.Argument(metavar="FOLDER", exists=True, file_okay=False, help="Where to look.")
    ],
) -> Any:
    """Register every clone below a folder. Its unfinished branches become work items.

    Every local branch that is neither the trunk nor merged becomes a work item with its state as git tells
    it. Running it again changes only what has changed. Clones without a remote are reported and passed over,
    since nothing else names a project on every machine; so is what git cannot read, and a bare repository
    inside a working tree. Hidden folders and node_modules are not searched. Reading a clone runs no program
    that it names and fetches nothing.

    Merged is a branch of which nothing is left to merge: no commits that the trunk lacks, and no
    uncommitted files; after a squash or rebase it has such commits, and counts as unfinished. Ended is
    one whose work item was completed, by a person or a merged pull request, with the commit the branch is
    still at; new commits, or uncommitted files, are new work and get a new item. Elsewhere is one that
    another machine tracks, duplicate one that another clone here has checked out, newer one of which the
    registry has a later report.
    """
    from imi.cli.scan import scan

    return scan(api, folder)
