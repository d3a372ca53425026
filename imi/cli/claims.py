"""`imi work claim`, `renew` and `release`: who holds a work item."""

import re
from datetime import UTC, datetime
from math import ceil
from typing import Annotated, Any

import typer

from imi.cli.arguments import FencingToken, WorkItem, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import moment

app = group("Leases of work items; commands of `imi work`.")
LONGEST = 86400


def held(claim: dict[str, Any]) -> str:
    """A claim in words: by whom, until when, with which token."""
    return f"{claim['agent_id']} until {moment(claim['lease_until'])}, token {claim['fencing_token']}"


def show_claim(item: dict[str, Any]) -> str:
    """A claimed work item in words."""
    return f"{item['branch_name']} is held by {held(item['claim'])}"


def _seconds(text: Any) -> int:
    found = re.fullmatch(r"([0-9]{1,5})([smh]?)", str(text))
    seconds = int(found[1]) * {"": 1, "s": 1, "m": 60, "h": 3600}[found[2]] if found else 0
    if not 30 <= seconds <= LONGEST:
        raise typer.BadParameter("not a time from 30s to 24h, such as 90s, 30m or 2h")
    return seconds


Ttl = Annotated[
    int,
    typer.Option(
        parser=_seconds,
        metavar="TIME",
        help="How long the lease holds: 90s, 30m, 2h; a number alone is seconds.  [default: 30m]",
        show_default=False,
    ),
]


@command(app, "claim", example="imi work claim WORK_ITEM --agent claude-7 --ttl 1h", show=show_claim)
def claim(api: Api, work_item: WorkItem, ttl: Ttl = 1800) -> Any:
    """Take a lease on a work item for --agent. Refused (exit 4) while another holds it."""
    body = {"agent_id": api.actor, "ttl_seconds": ttl}
    return api.post(f"/work/{segment(work_item)}/claim", body)


@command(app, "renew", example="imi work renew WORK_ITEM --agent claude-7", show=show_claim)
def renew(api: Api, work_item: WorkItem, ttl: Ttl = 1800, fencing_token: FencingToken = None) -> Any:
    """Make a lease of --agent last on from now. Refused (exit 4) when it has been lost."""
    body = given(agent_id=api.actor, ttl_seconds=ttl, fencing_token=fencing_token)
    return api.post(f"/work/{segment(work_item)}/renew", body)


def prolong(api: Api, item: dict[str, Any], ttl: int) -> dict[str, Any]:
    """Renew the agent's claim of a work item; one that lasts longer is not cut short."""
    claim = item["claim"]
    left = (datetime.fromisoformat(claim["lease_until"]) - datetime.now(UTC)).total_seconds()
    longest = min(max(ttl, ceil(left)), LONGEST)
    return dict(renew(api, item["id"], longest, claim["fencing_token"]))


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
