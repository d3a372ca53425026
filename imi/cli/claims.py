"""`imi work claim`, `renew` and `release`: who holds a work item."""

from typing import Annotated, Any

import typer

from imi.cli.arguments import FencingToken, WorkItem, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import moment

app = group("Leases of work items; commands of `imi work`.")


def held(claim: dict[str, Any]) -> str:
    """A claim in words: by whom, until when, with which token."""
    return f"{claim['agent_id']} until {moment(claim['lease_until'])}, token {claim['fencing_token']}"


def _show_claim(item: dict[str, Any]) -> str:
    return f"{item['branch_name']} is held by {held(item['claim'])}"


Ttl = Annotated[int, typer.Option(min=30, max=86400, help="Seconds that the lease holds.")]


@command(app, "claim", example="imi work claim WORK_ITEM --agent claude-7 --ttl 3600", show=_show_claim)
def claim(api: Api, work_item: WorkItem, ttl: Ttl = 1800) -> Any:
    """Take a lease on a work item for --agent. Refused (exit 4) while another holds it."""
    body = {"agent_id": api.actor, "ttl_seconds": ttl}
    return api.post(f"/work/{segment(work_item)}/claim", body)


@command(app, "renew", example="imi work renew WORK_ITEM --agent claude-7", show=_show_claim)
def renew(api: Api, work_item: WorkItem, ttl: Ttl = 1800, fencing_token: FencingToken = None) -> Any:
    """Make a lease of --agent last on from now. Refused (exit 4) when it has been lost."""
    body = given(agent_id=api.actor, ttl_seconds=ttl, fencing_token=fencing_token)
    return api.post(f"/work/{segment(work_item)}/renew", body)


@command(
    app,
    "release",
    example="imi work release WORK_ITEM --agent claude-7",
    show=lambda item: f"{item['branch_name']} is free",
)
def release(api: Api, work_item: WorkItem, fencing_token: FencingToken = None) -> Any:
    """Give back a lease of --agent. Refused (exit 4) when another holds it."""
    body = given(agent_id=api.actor, fencing_token=fencing_token)
    return api.post(f"/work/{segment(work_item)}/release", body)
