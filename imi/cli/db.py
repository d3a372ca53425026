"""`imi db`: the database as its operator sees it."""

from __future__ import annotations

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli import files
from imi.cli.command import Debug, Json, command, group, print_json
from imi.cli.outcome import CONFLICT, Failure
from imi.cli.owner import EnvFile, Yes, keep_admin_key, load, place, run, sure
from imi.cli.render import note

app = group(
    "The database: IMI_DATABASE_URL, or the embedded PostgreSQL of the data directory, which each command "
    "shares with a running `imi up` or starts for itself."
)


def _show_migrate(data: dict[str, Any]) -> str:
    return "migrated" if data["changed"] else "nothing to do"


@command(app, "migrate", example="imi db migrate", show=_show_migrate)
def migrate(
    env_file: EnvFile = None,
    drop_dependents: Annotated[
        bool, typer.Option(help="Drop objects of yours that stand on schemas which must be replaced.")
    ] = False,
) -> Any:
    """Bring the database to this release: roles, tables, functions, views, grants. `imi up` does it too."""
    from imi.database import deploy

    return {"changed": run(load(env_file), lambda url: deploy.migrate(url, drop_dependents))}


@command(app, "rollback", example="imi db rollback", show=lambda data: f"rolled back {data['version']}")
def rollback(env_file: EnvFile = None, yes: Yes = False) -> Any:
    """Undo the newest migration: its tables go with their rows. Asks; no terminal to ask on wants --yes.

    All functions and views go too, and servers answer 503 until the next migrate brings them back.
    """
    from imi.database import deploy
    from imi.database.lanes import dropped_tables

    settings = load(env_file)
    version, file = run(settings, deploy.newest)
    tables = ", ".join(dropped_tables(file)) or "no whole table"
    if not yes:
        sure(f"Undoing {file.stem} in {place(settings)} drops {tables}, with all rows", "Undo it?")
    return {"version": run(settings, lambda url: deploy.rollback(url, only=version))}


def _show_status(data: dict[str, Any]) -> str:
    lines = [f"{data['url']}: PostgreSQL {data['server']}"]
    lines += [
        f"  {'applied' if each['applied'] else 'pending'}  {each['name']}" for each in data["migrations"]
    ]
    for each in data["loads"]:
        lines.append(f"  {each['part']} {each['version']}, loaded {each['loaded_at']}, {each['sha256'][:12]}")
    lines.append("up to date" if data["up_to_date"] else "not up to date: imi db migrate")
    return "\n".join(lines)


@command(app, "status", example="imi db status", show=_show_status)
def status(env_file: EnvFile = None) -> Any:
    """Show the migrations, applied and pending, and what was loaded when."""
    from imi.database import deploy

    return run(load(env_file), deploy.status)


def _show_reset(data: dict[str, Any]) -> str:
    note("all API keys are gone; an admin.key in the data directory holds a new one")
    return "reset"


@command(app, "reset", example="imi db reset", show=_show_reset)
def reset(env_file: EnvFile = None, yes: Yes = False) -> Any:
    """Drop all that iMi keeps in this database and migrate anew. Asks; a database by URL wants --yes.

    All API keys go too. A running `imi up` goes on, and its data directory gets a new admin key.
    """
    from imi.database import archive

    settings = load(env_file)
    loss = f"This drops all that iMi keeps in {place(settings)}: projects, work, links, events, keys"
    if settings.database_url and not yes:
        raise Failure("REFUSED", loss, "say --yes if you mean it", CONFLICT)
    if not yes:
        sure(loss, "Drop it?")

    async def work(url: str) -> None:
        await archive.reset(url)
        await keep_admin_key(settings, url)

    run(settings, work)
    return {"reset": True}


@command(app, "sample", example="imi db sample", show=lambda data: "there is a sample of everything")
def sample(env_file: EnvFile = None) -> Any:
    """Fill in a few rows of everything; again changes nothing."""
    from imi.database import deploy

    run(load(env_file), deploy.sample)
    return {"sample": True}


@command(app, "url", example='psql "$(imi db url)"', show=lambda data: data["url"])
def url(env_file: EnvFile = None) -> Any:
    """Print the connection string that migrations use: IMI_DATABASE_URL, password and all.

    Of the embedded server it is the superuser postgres; that server runs only while something uses it.
    """

    async def answer(url: str) -> dict[str, str]:
        return {"url": url}

    return run(load(env_file), answer)


@app.command(
    "psql",
    epilog="Example: imi db psql -c 'select * from ops.lag'",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["--help"]},
)
def psql(
    arguments: Annotated[
        list[str] | None, typer.Argument(help="psql's own arguments; after -- even those that are also here.")
    ] = None,
    env_file: EnvFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run psql as the login of IMI_DATABASE_URL; on the embedded server as the superuser postgres.

    All of iMi's belongs to the role imi_owner; `set role imi_analyst` shows what an analyst sees.
    """
    from imi.database import programs

    async def work(url: str) -> tuple[int, str]:
        asyncio.get_running_loop().add_signal_handler(signal.SIGINT, lambda: None)  # Ctrl-C is psql's
        return await programs.psql(url, *(arguments or []), capture=as_json)

    code, printed = run(load(env_file), work)
    if as_json and code:
        raise Failure("PSQL", printed.strip() or f"psql ended with {code}")
    if as_json:
        print_json({"success": True, "data": {"output": printed}})
    raise typer.Exit(code)


File = Annotated[
    Path | None, typer.Argument(help="Where to.  [default: DATA_DIR/backups]", show_default=False)
]


@command(app, "backup", example="imi db backup before-upgrade.dump", show=lambda data: data["file"])
def backup(
    file: File = None,
    env_file: EnvFile = None,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
) -> Any:
    """Write a backup of all that iMi keeps; it holds none of the database's passwords."""
    from imi.database import archive

    settings = load(env_file)
    if file and file.exists() and not force:
        raise Failure("CONFLICT", f"{file} is there already", "choose another name, or say --force", CONFLICT)

    async def work(url: str) -> Path:
        name = f"imi-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.dump"
        chosen = file or archive.folder(settings.data_dir) / name
        await archive.backup(url, chosen)
        return chosen

    return {"file": str(run(settings, work))}


def _show_restored(data: dict[str, str]) -> str:
    note("the API keys are the backup's; an admin.key in the data directory holds one that is valid")
    return "restored"


@command(app, "restore", example="imi db restore before-upgrade.dump", show=_show_restored)
def restore(
    file: Annotated[Path, typer.Argument(help="A backup's file.", exists=True, dir_okay=False)],
    env_file: EnvFile = None,
    yes: Yes = False,
) -> Any:
    """Bring a backup back, and migrate it to this release. Asks before it replaces data that is there.

    The API keys are then the backup's. A running `imi up` goes on; a data directory whose admin key is none
    of them gets a new one.
    """
    from imi.database import archive

    settings = load(env_file)
    if not yes and run(settings, archive.occupied):
        yes = sure(f"This replaces all that iMi keeps in {place(settings)}", "Replace it?")

    async def work(url: str) -> None:
        await archive.restore(url, file, replace=yes)
        await keep_admin_key(settings, url)

    run(settings, work)
    return {"restored": str(file)}


app.add_typer(files.app)
