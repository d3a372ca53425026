"""`imi version`."""

from imi import __version__
from imi.cli.command import command, group

app = group("This program's version.")


@command(app, "version", example="imi version", show=lambda data: f"imi {data['version']}")
def version() -> dict[str, str]:
    """Print this program's version."""
    return {"version": __version__}
