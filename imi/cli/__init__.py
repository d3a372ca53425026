"""The command line: one Typer program, one module a command group.

A group's module is imported only when one of its commands is called, so that `imi --help` and every single
command start fast: COMMANDS holds all that the list of commands needs. Modules import httpx, rich and the
database where they use them.
"""

from __future__ import annotations

import io
import logging
import os
import sys
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from imi import __version__
from imi.cli.command import fail
from imi.cli.outcome import USAGE, Failure

# name: (module, what the list of commands says). A module holds `app`; a name that is not the module's own
# is one of that app's commands.
COMMANDS = {
    "Worktrees": {
        "init": ("worktrees", "Make a project's folder: from a URL, or from a clone."),
        "feat": ("worktrees", "A folder and a branch for a feature."),
        "fix": ("worktrees", "A folder and a branch for a fix."),
        "aiops": ("worktrees", "A folder and a branch for work on agents."),
        "devops": ("worktrees", "A folder and a branch for work on operations."),
        "exp": ("worktrees", "A folder and a branch for an experiment."),
        "review": ("worktrees", "A folder for a pull request's commits."),
        "list": ("listing", "Every worktree: branch, state, owner, who holds it."),
        "go": ("go", "The path of a worktree, from a few letters of its name."),
        "status": ("status", "How a worktree stands, and who is at it."),
        "claim": ("claiming", "Take the lease on a worktree's work."),
        "release": ("claiming", "Give the lease on a worktree's work back."),
        "run": ("running", "Run a command that holds the lease on its worktree."),
        "monitor": ("monitor", "Watch the worktrees: what changes, by whom, and warnings."),
        "sync": ("sync", "Link the files that all worktrees share."),
        "remove": ("trash", "Move a worktree to the trash; refused while anything is unfinished."),
        "restore": ("trash", "Bring a removed worktree back, whole."),
        "trash": ("trash", "What was removed, and until when it is kept."),
        "gc": ("gc_command", "Remove the worktrees that are merged, clean and unused."),
        "reconcile": ("reconcile", "Make git's worktrees, their folders and the server agree."),
        "doctor": ("doctor", "What works here and what does not, each with its remedy."),
        "shell-init": ("shell_init", "The function and completion for bash, zsh or fish."),
        "config": ("config_show", "The settings, and where each comes from."),
    },
    "The server": {
        "up": ("up", "Run all of iMi in one process: database, API, bus."),
        "serve": ("up", "Run the API alone, for many processes or machines."),
        "worker": ("up", "Run the bus alone: what is sent, taken in and followed."),
        "letta": ("letta", "Hand work from BMAD over to Letta's agents."),
        "db": ("db", "Migrate, back up, restore and look into the database."),
        "dead-letters": ("dead_letters", "What could not be stored or handled: list, show, replay."),
        "keys": ("keys", "Make, list and revoke API keys."),
    },
    "The registry": {
        "projects": ("projects", "Projects: register, find, change, scan for clones."),
        "work": ("work", "Work in flight: start, report, claim, complete."),
        "links": ("links", "Link work to tickets, pull requests and deploys."),
        "trace": ("trace", "Follow a ticket, branch, commit, PR or deploy both ways."),
        "components": ("components", "Components of a project and what depends on what."),
        "worktrees": ("registered_worktrees", "The registry's worktrees: list, and report by hand."),
        "agents": ("agents", "People and programs, and when each was last seen."),
        "conflicts": ("conflicts", "Files that two have touched at nearly the same time."),
        "workflows": ("workflows", "BMAD's workflows: their phase, agent and events."),
        "sessions": ("sessions", "Agents' sessions on workflows."),
        "events": ("events", "The log: list, watch, causes and effects, event types."),
        "publish": ("publish", "Publish an event, as a skill or a script would."),
        "stats": ("stats", "The registry in figures."),
        "registry-entry": ("registry_entry", "iMi's entry in the services registry."),
        "migrate-v2": ("migrate_v2", "Bring over what iMi 2 kept: its projects and worktrees."),
        "version": ("version", "This program's version."),
    },
}


class Lazy(TyperGroup):
    """The root of the commands: listing them loads none of them, calling one loads its module alone."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.modules = {name: module for group in COMMANDS.values() for name, (module, _) in group.items()}
        for group in COMMANDS.values():
            for name, (_, line) in group.items():
                self.add_command(TyperCommand(name, help=line, rich_markup_mode=None))

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        """The named command itself, in place of its line in the list."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command and self.load(str(name)), rest

    def load(self, name: str) -> Any:
        """The command or group called `name`, from its module's `app`."""
        module = self.modules[name]
        found: Any = typer.main.get_group(import_module(f"imi.cli.{module}").app)
        return found.commands.get(name, found)

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """The list of commands, in sections."""
        for section, group in COMMANDS.items():
            with formatter.section(section):
                formatter.write_dl([(name, line) for name, (_, line) in group.items()])


app = typer.Typer(
    cls=Lazy,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 conflict or refused, 5 server unreachable.",
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"imi {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """What exists, what is happening, where did it come from: a registry for a team of people and agents.

    Each command takes --json, and shows an example with --help.
    """


def run(arguments: list[str]) -> int:
    """Run one command line; returns its exit code. Whatever goes wrong is one sentence (or, with --json, one
    document); a traceback only with --debug."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    as_json = "--json" in options
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    settings = logging.getLogger("imi.config")
    level = settings.level
    if as_json:  # a warning about a setting is not part of the document
        settings.setLevel(logging.ERROR)
    try:
        code = typer.main.get_command(app).main(arguments, prog_name="imi", standalone_mode=False)
        sys.stdout.flush()
        return code if isinstance(code, int) else 0
    except Failure as failure:
        return fail(failure, as_json)
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        return 1
    except typer.Abort:
        return fail(Failure("ABORTED", "stopped"), as_json)
    except Exception as error:
        if hasattr(error, "format_message"):
            return refuse(error, as_json)
        if "--debug" in options:
            raise
        sentence = f"{type(error).__name__}: {error}"
        return fail(Failure("INTERNAL", sentence, "see where it broke with --debug"), as_json)
    finally:
        settings.setLevel(level)
        try:
            sys.stdout.flush()
        except OSError:  # nor would it take the rest when the interpreter ends
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        except AttributeError:  # it was closed from the start
            pass


def refuse(error: Any, as_json: bool) -> int:
    """Say what Typer found wrong with the arguments; a group without a command shows its help."""
    context = error.ctx.command_path if error.ctx else "imi"
    message = error.format_message().replace("a valid int range", "a whole number")
    if message.startswith("Usage:"):
        if not as_json:
            typer.echo(message, err=True)
            return USAGE
        message = "Missing command."
    message = " ".join(message.split())  # a list of choices comes one a line
    return fail(Failure("USAGE", message, f"see {context} --help", USAGE), as_json)
