"""Arguments and options that several commands take, each with one meaning everywhere."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Annotated, Any, Literal

import typer

WorkType = Literal["feature", "fix", "experiment", "review", "devops", "aiops"]
SourceType = Literal["plane_ticket", "bloodbank_command", "agent_assignment", "manual"]
CompletionType = Literal["merged", "abandoned", "superseded"]
Status = Literal["clean", "uncommitted", "ahead", "behind", "diverged", "merged", "abandoned", "superseded"]
PrState = Literal["open", "merged", "closed"]
Kind = Literal["submodule", "local", "external"]
Relation = Literal["depends_on", "produces_events_for", "consumes_events_from"]
Scope = Literal["read", "write", "admin"]
LetterSource = Literal["subscription", "intake", "projection", "relay"]
Ternary = Literal["true", "false", "all"]

Project = Annotated[
    str, typer.Argument(metavar="PROJECT", help="The project: its id, or any spelling of its remote.")
]
OfProject = Annotated[
    str | None, typer.Option("--project", help="Of this project only: its id, or any spelling of its remote.")
]
WorkItem = Annotated[str, typer.Argument(metavar="WORK_ITEM", help="The work item's id.")]
Everything = Annotated[bool, typer.Option("--all", help="All pages, not only one.")]
Limit = Annotated[int, typer.Option(min=1, max=1000, help="The most that one page holds.")]
Offset = Annotated[int, typer.Option(min=0, help="How many to pass over first.")]
FencingToken = Annotated[
    int | None,
    typer.Option(min=1, help="Your claim's token: refused (exit 4) if somebody has claimed since."),
]


def _age(text: str) -> timedelta:
    found = re.fullmatch(r"([0-9]{1,4})([smhd])", text)
    if not found:
        raise typer.BadParameter("not an age, such as 30m, 2h or 7d")
    unit = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}[found[2]]
    return timedelta(**{unit: int(found[1])})


OlderThan = Annotated[
    timedelta | None, typer.Option(parser=_age, metavar="AGE", help="Only older ones: 30m, 2h, 7d.")
]


def json_text(value: Any) -> str:
    """The value as JSON, what only TOML has (dates) as text. ValueError, its message the rest of a sentence,
    for what JSON cannot say."""
    try:
        return json.dumps(value, default=str, allow_nan=False)
    except RecursionError:
        raise ValueError("is nested too deeply") from None
    except ValueError:
        raise ValueError("holds a number that JSON has not, such as nan") from None


def _json_object(text: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except RecursionError:
        raise typer.BadParameter("is nested too deeply") from None
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise typer.BadParameter('not a JSON object, such as {"team": "payments"}')
    try:
        json_text(value)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    return value


def _metadata(help_text: str) -> Any:
    return typer.Option("--metadata", parser=_json_object, metavar="JSON", help=help_text)


Metadata = Annotated[dict[str, Any] | None, _metadata("What else to keep beside it: a JSON object.")]
WithMetadata = Annotated[dict[str, Any] | None, _metadata("Whose metadata contains this JSON object.")]


def given(**fields: Any) -> dict[str, Any]:
    """The fields that are not None: a request's body from optional flags."""
    return {name: value for name, value in fields.items() if value is not None}
