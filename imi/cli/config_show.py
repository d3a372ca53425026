"""`imi config`: the settings, and where each comes from."""

from __future__ import annotations

from dataclasses import fields
from typing import Any

from imi.cli.command import command, group
from imi.cli.outcome import Failure
from imi.cli.render import Column, table
from imi.rules import masked

app = group("The settings, from the environment and config.toml.")


def _show(data: dict[str, Any]) -> Any:
    from imi.cli.render import note

    note(f"config.toml: {data['file']}")
    columns = (Column("setting", "setting"), Column("value", "value", cut=True), Column("from", "source"))
    return table(data["settings"], *columns)


@command(app, "show", example="imi config show", show=_show)
def show() -> Any:
    """Show each setting, its value, and where it came from.

    That is the environment, config.toml, or the default.

    Secrets are not shown, only whether they are set; nor is what a URL says before an @.
    --json: file, settings [{setting, value, source}].
    """
    import os

    from imi import config
    from imi.worktrees import settings

    try:
        environment, chosen, sources = config.load(), settings.load(), settings.sources()
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None
    rows = [
        {"setting": name, "value": value, "source": sources[name]} for name, value in settings.values(chosen)
    ]
    for each in fields(environment):
        name = config.PREFIX + each.name.upper()
        value = getattr(environment, each.name)
        if not each.repr:
            value = "set, not shown" if value else None
        elif value is not None and not isinstance(value, (bool, int, tuple)):
            value = str(value)
        given = "environment" if os.environ.get(name, "").strip() else "default"
        rows.append({"setting": name, "value": value, "source": given})
    rows = [row | {"value": _masked(row["value"])} for row in rows]
    return {"file": str(settings.path()), "settings": rows}


def _masked(value: Any) -> Any:
    """A value without the passwords in its URLs."""
    if isinstance(value, (tuple, list)):
        return [_masked(each) for each in value]
    return masked(value) if isinstance(value, str) else value
