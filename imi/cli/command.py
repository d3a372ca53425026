"""What every command shares: its common options, and one door out for answers and errors.

A command is a plain function from its arguments to data: what the API answered. `command` registers it, gives
it --json and --debug (and, if its first parameter is an `Api`, the options of the connection), and shows the
data: as one JSON document, or for people as the command says.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Callable
from typing import Annotated, Any, TypeVar

import typer

from imi.cli.outcome import Failure

Function = TypeVar("Function", bound=Callable[..., Any])
Show = Callable[[Any], Any]
"""Turns a command's data into what people see: a string, or anything rich can draw; None shows nothing."""


def fail(failure: Failure, as_json: bool) -> int:
    """Say why on stderr, or with --json as a document on stdout; returns the exit code."""
    if as_json:
        error = {"code": failure.code, "message": failure.message, "hint": failure.hint}
        try:
            print_json({"success": False, "error": error})
        except (OSError, AttributeError):  # stdout is full, or closed: then it is said on stderr
            as_json = False
    if not as_json:
        from imi.cli.render import note

        note(f"error: {failure.message}", style="bold red")
        if failure.hint:
            note(f"  {failure.hint}")
    return failure.exit_code


def print_json(document: Any) -> None:
    """One line of JSON on stdout, ASCII only: no text from elsewhere can steer a terminal through it."""
    sys.stdout.write(json.dumps(document) + "\n")
    sys.stdout.flush()


def group(story: str) -> typer.Typer:
    """A command group's Typer app; `story` is what its --help begins with."""
    return typer.Typer(help=story, no_args_is_help=True, rich_markup_mode=None, add_completion=False)


Json = Annotated[
    bool, typer.Option("--json", help='Print {"success":…,"data" or "error":…} and nothing else.')
]
Debug = Annotated[bool, typer.Option("--debug", help="Show a traceback when something breaks.")]
Agent = Annotated[
    str | None,
    typer.Option(help="Who acts.  [default: IMI_AGENT, else user@host]", show_default=False),
]
ApiUrl = Annotated[
    str | None,
    typer.Option(
        help="The server.  [default: IMI_API_URL, else the imi up of the data directory, "
        "else http://localhost:8400]",
        show_default=False,
    ),
]
ApiKey = Annotated[
    str | None,
    typer.Option(
        help="The key.  [default: IMI_API_KEY, else the data directory's for a server on this machine]",
        show_default=False,
    ),
]


def _options(**annotations: Any) -> list[inspect.Parameter]:
    def default(annotation: Any) -> Any:
        return False if annotation in (Json, Debug) else None

    return [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default(kind), annotation=kind)
        for name, kind in annotations.items()
    ]


COMMON = _options(as_json=Json, debug=Debug)
CONNECTION = _options(agent=Agent, api_url=ApiUrl, api_key=ApiKey)


def command(
    app: typer.Typer,
    name: str,
    *,
    example: str,
    show: Show,
    add: Callable[[Any, Any], None] | None = None,
    failed: Callable[[Any], int] = lambda data: 0,
) -> Callable[[Function], Function]:
    """Register the decorated function as `name` of `app`. Its docstring is the help, `example` stands below;
    `show` draws its data for people, and `add` gets the Api and that data, to add what only people need.
    `failed` tells from the data whether the command failed nevertheless: its exit code, or True for 1. The
    function itself is returned unchanged."""

    def register(function: Function) -> Function:
        own = list(inspect.signature(function, eval_str=True).parameters.values())
        with_api = bool(own) and own[0].name == "api"
        shared = COMMON + (CONNECTION if with_api else [])

        def run(*, as_json: bool, debug: bool, **values: Any) -> None:
            if with_api:
                from imi.cli.client import connect

                connection = {option.name: values.pop(option.name) for option in CONNECTION}
                with connect(quiet=as_json, **connection) as api:
                    data = function(api, **values)
                    if add and not as_json:
                        add(api, data)
            else:
                data = function(**values)
            if as_json:
                print_json({"success": not failed(data), "data": data})
            else:
                from imi.cli.render import show_on_stdout

                show_on_stdout(show(data))
            if failed(data):
                raise typer.Exit(int(failed(data)))

        run.__doc__ = function.__doc__
        signature = inspect.Signature([p.replace(kind=p.KEYWORD_ONLY) for p in own[with_api:]] + shared)
        run.__signature__ = signature  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in signature.parameters.values()}
        app.command(name, epilog=f"Example: {example}")(run)
        return function

    return register
