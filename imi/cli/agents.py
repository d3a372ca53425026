"""`imi agents`: who has ever acted."""

from typing import Any

from imi.cli.arguments import Everything, Limit, Offset
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.render import Column, moment, page

app = group("Agents: people and programs, each known from its first word.")

COLUMNS = (
    Column("agent", "id", cut=True),
    Column("name", "name", cut=True, rare=True),
    Column("type", "type", rare=True),
    Column("host", "host", cut=True, rare=True),
    Column("last seen", lambda agent: moment(agent["last_seen"])),
)


@command(app, "list", example="imi agents list --all", show=page(*COLUMNS))
def list_(api: Api, limit: Limit = 100, offset: Offset = 0, everything: Everything = False) -> Any:
    """List agents, last seen first."""
    return api.list("/agents", everything, limit, offset)
