"""`imi conflicts`: files that two have touched at nearly the same time."""

from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, Limit, Offset, OfProject
from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.names import PROJECT, name_projects_of_page
from imi.cli.render import Column, moment, page

app = group("Files that two agents or two pieces of work have touched.")


def _touches(conflict: Any) -> str:
    """Who touched it, each once."""
    agents = dict.fromkeys(touch["agent_id"] or "nobody named" for touch in conflict["touches"])
    works = {touch["work_item_id"] for touch in conflict["touches"]}
    return f"{', '.join(agents)} in {len(works)} work item{'s' if len(works) > 1 else ''}"


COLUMNS = (
    Column("path", "path", cut=True),
    PROJECT,
    Column("touched by", _touches, cut=True),
    Column("last", lambda conflict: moment(max(touch["at"] for touch in conflict["touches"])), wide=80),
)


@command(
    app,
    "conflicts",
    example="imi conflicts --project git@github.com:33GOD/iMi.git --window 3600",
    show=page(*COLUMNS),
    add=name_projects_of_page,
)
def conflicts(
    api: Api,
    project: OfProject = None,
    window: Annotated[
        int, typer.Option(min=1, max=604800, metavar="SECONDS", help="Within so many seconds up to now.")
    ] = 60,
    limit: Limit = 100,
    offset: Offset = 0,
    everything: Everything = False,
) -> Any:
    """List the files that different agents, or different work items, have touched just now."""
    project_id = project and api.project_id(project)
    return api.list("/conflicts", everything, limit, offset, project_id=project_id, window_seconds=window)
