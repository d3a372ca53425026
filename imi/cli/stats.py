"""`imi stats`."""

from typing import Any

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.render import record

app = group("The registry in figures.")


@command(app, "stats", example="imi stats", show=record)
def stats(api: Api) -> Any:
    """Count projects, work, components and events: all of them at one moment."""
    return api.get("/stats")
