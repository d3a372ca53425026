"""`imi links`: where work came from and where it went."""

import re
from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, Limit, Metadata, Offset, PrState, WorkItem, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.names import PROJECT, name_projects_of_page
from imi.cli.outcome import usage
from imi.cli.render import Column, note, page
from imi.cli.trace import tables

app = group("Links of work items to tickets, pull requests and deploys. Making one prints its id.")


def _show(link: dict[str, Any]) -> str:
    names = ("plane_ticket_id", "pr_url", "deploy_id", "pr_state", "environment", "ticket_state")
    note(f"linked: {', '.join(str(link[name]) for name in names if link.get(name))}")
    return str(link["id"])


Title = Annotated[str | None, typer.Option(help="Its title.")]
MergeCommit = Annotated[str | None, typer.Option(help="Of a merge: its commit.")]
MergedBy = Annotated[str | None, typer.Option(help="Of a merge: who did it.")]


@command(app, "ticket", example="imi links ticket WORK_ITEM PROJ-123 --title 'Log in'", show=_show)
def ticket(
    api: Api,
    work_item: WorkItem,
    ticket: Annotated[str, typer.Argument(metavar="TICKET", help="The ticket's id, as PROJ-123.")],
    title: Title = None,
    url: Annotated[str | None, typer.Option(help="Where to read it.")] = None,
    state: Annotated[str | None, typer.Option(help="Its state.")] = None,
    metadata: Metadata = None,
) -> Any:
    """Link work to a ticket. Again: what is given is changed."""
    body = given(
        work_item_id=work_item,
        plane_ticket_id=ticket,
        ticket_title=title,
        ticket_url=url,
        ticket_state=state,
        metadata=metadata,
    )
    return api.post("/links/ticket", body)


@command(app, "pr", example="imi links pr WORK_ITEM https://github.com/33GOD/iMi/pull/42", show=_show)
def pr(
    api: Api,
    work_item: WorkItem,
    url: Annotated[str, typer.Argument(metavar="URL", help="The pull request's URL.")],
    number: Annotated[
        int | None, typer.Option(min=1, help="Its number.  [default: the URL's last]", show_default=False)
    ] = None,
    state: Annotated[PrState | None, typer.Option(help="Its state; merged completes the work.")] = None,
    title: Title = None,
    merge_commit: MergeCommit = None,
    merged_by: MergedBy = None,
    metadata: Metadata = None,
) -> Any:
    """Link work to a pull request. Again: what is given is changed."""
    if number is None:
        numbers = re.findall(r"/(\d+)(?=[/?#]|$)", url)
        if not numbers:
            usage("the URL holds no number", "say it with --number")
        number = int(numbers[-1])
    body = given(
        work_item_id=work_item,
        pr_number=number,
        pr_url=url,
        pr_state=state,
        pr_title=title,
        merge_commit_hash=merge_commit,
        merged_by=merged_by,
        metadata=metadata,
    )
    return api.post("/links/pr", body)


@command(app, "pr-update", example="imi links pr-update PR_LINK --state merged", show=_show)
def pr_update(
    api: Api,
    pr_link: Annotated[str, typer.Argument(metavar="PR_LINK", help="The link's id.")],
    state: Annotated[PrState | None, typer.Option(help="Its state; merged is final.")] = None,
    title: Title = None,
    merge_commit: MergeCommit = None,
    merged_by: MergedBy = None,
    metadata: Metadata = None,
) -> Any:
    """Change a pull request's state or title. When it becomes merged, its work item is completed."""
    body = given(
        pr_state=state,
        pr_title=title,
        merge_commit_hash=merge_commit,
        merged_by=merged_by,
        metadata=metadata,
    )
    return api.patch(f"/links/pr/{segment(pr_link)}", body)


@command(
    app,
    "deploy",
    example="imi links deploy WORK_ITEM deploy-7 --environment production --commit 9fceb02d",
    show=_show,
)
def deploy(
    api: Api,
    work_item: WorkItem,
    deploy: Annotated[str, typer.Argument(metavar="DEPLOY", help="The deploy's id.")],
    environment: Annotated[str, typer.Option(help="Where it went.")],
    commit: Annotated[str, typer.Option(help="The commit that was deployed.")],
    deployed_at: Annotated[str | None, typer.Option(help="When, as 2026-02-11T10:30:00Z.")] = None,
    metadata: Metadata = None,
) -> Any:
    """Link work to a deploy. The same deploy with another commit is refused (exit 4)."""
    body = given(
        work_item_id=work_item,
        deploy_id=deploy,
        environment=environment,
        commit_hash=commit,
        deployed_at=deployed_at,
        metadata=metadata,
    )
    return api.post("/links/deploy", body)


def _show_links(links: dict[str, Any]) -> Any:
    from rich.console import Group

    parts = tables(links)
    return Group(*parts) if parts else "none"


@command(app, "list", example="imi links list WORK_ITEM", show=_show_links)
def list_(api: Api, work_item: WorkItem) -> Any:
    """List a work item's tickets, pull requests and deploys. Whatever hangs together: imi trace."""
    return api.get("/links", work_item_id=work_item)


@command(
    app,
    "work",
    example="imi links work PROJ-123",
    show=page(
        Column("work item", "branch_name", cut=True),
        PROJECT,
        Column("status", "status"),
        Column("owner", "owner_id", cut=True),
        Column("id", "id", wide=100),
    ),
    add=name_projects_of_page,
)
def work(
    api: Api,
    ticket: Annotated[str, typer.Argument(metavar="TICKET", help="The ticket's id, as PROJ-123.")],
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List the work items that are linked to a ticket, newest first."""
    return api.list(f"/links/ticket/{segment(ticket)}", everything, limit, offset)
