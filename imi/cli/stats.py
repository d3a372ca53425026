"""`imi stats`."""

from typing import Any

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.render import record

app = group("The registry in figures.")


def _show(stats: dict[str, Any]) -> Any:
    """A figure a line; a map's figures below its name."""
    lines = {}
    for name, figure in stats.items():
        lines[name] = "" if isinstance(figure, dict) else figure
        if isinstance(figure, dict):
            lines |= {f"  {part}": count for part, count in figure.items()}
    return record(lines)


@command(app, "stats", example="imi stats", show=_show)
def stats(api: Api) -> Any:
    """Count projects, work, components and events: all of them at one moment."""
    return api.get("/stats")
