"""`imi events`: what travels over the bus."""

import json
from typing import Annotated, Any

import typer

from imi.cli.command import command, group
from imi.cli.outcome import NOT_FOUND, Failure
from imi.cli.render import Column, table

app = group("Events: their types, and what each one's payload holds.")


def _show(found: Any) -> Any:
    if isinstance(found, list):
        return table(
            found, Column("event type", "event_type"), Column("description", "description", cut=True)
        )
    return json.dumps(found, indent=2, ensure_ascii=False)


@command(app, "types", example="imi events types bmad.workflow.started", show=_show)
def types(
    event_type: Annotated[
        str | None, typer.Argument(metavar="[TYPE]", help="The schema of this type's payload.")
    ] = None,
) -> Any:
    """List the event types that iMi knows, or show the JSON Schema of one. Needs no server."""
    from imi.bloodbank import schemas

    if event_type is None:
        return schemas.types()
    found = schemas.schema(event_type)
    if found is None:
        raise Failure(
            "NOT_FOUND", f"no schema describes {event_type}", "imi events types lists them", NOT_FOUND
        )
    return found
