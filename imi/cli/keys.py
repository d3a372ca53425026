"""`imi keys`: who may call the API."""

from typing import Annotated, Any

import typer

from imi.cli.arguments import Everything, Limit, Offset, Scope, given
from imi.cli.client import Api, segment
from imi.cli.command import command, group
from imi.cli.render import Column, moment, note, page

app = group("API keys. All of it needs a key of scope admin.")


def _show_new(key: dict[str, Any]) -> str:
    note(f"{key['scope']} key {key['name']}, shown this once (its id: {key['id']})")
    return str(key["key"])


@command(app, "create", example="imi keys create ci --scope write", show=_show_new)
def create(
    api: Api,
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="What it is for; stands in the log of what it did.")
    ],
    scope: Annotated[Scope, typer.Option(help="What it may do; each contains the one before.")] = "read",
    expires_at: Annotated[str | None, typer.Option(help="When it ends, as 2026-12-31T00:00:00Z.")] = None,
) -> Any:
    """Make a key and print it. It is shown this once."""
    return api.post("/api-keys", given(name=name, scope=scope, expires_at=expires_at))


COLUMNS = (
    Column("name", "name", cut=True),
    Column("scope", "scope"),
    Column("last used", lambda key: moment(key["last_used_at"])),
    Column("expires", lambda key: moment(key["expires_at"]), wide=100),
    Column("revoked", lambda key: moment(key["revoked_at"]), wide=100),
    Column("id", "id"),
)


@command(app, "list", example="imi keys list", show=page(*COLUMNS))
def list_(api: Api, limit: Limit = 100, offset: Offset = 0, everything: Everything = False) -> Any:
    """List the keys, newest first. The keys themselves are not stored."""
    return api.list("/api-keys", everything, limit, offset)


@command(
    app,
    "revoke",
    example="imi keys revoke 01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
    show=lambda data: "revoked: within 5 seconds no server takes it any more",
)
def revoke(
    api: Api, key: Annotated[str, typer.Argument(metavar="KEY", help="The key's id, from `imi keys list`.")]
) -> Any:
    """Revoke a key. Again is no error."""
    return api.call("DELETE", f"/api-keys/{segment(key)}").data
