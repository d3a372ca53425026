"""`imi db`: the database as its operator sees it."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from imi.cli.command import CONFLICT, Debug, Failure, Json, command, group, print_json, usage

if TYPE_CHECKING:
    from imi.config import Settings

Answer = TypeVar("Answer")

app = group(
    "The database: IMI_DATABASE_URL, or the embedded PostgreSQL of the data directory, which each command "
    "shares with a running `imi up` or starts for itself."
)
EnvFile = Annotated[
    Path | None,
    typer.Option(help="Settings from this file.  [default: .env in the data directory]", show_default=False),
]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask.")]


def load(env_file: Path | None) -> Settings:
    """Read the settings; what is wrong with them is one sentence."""
    from imi import config

    try:
        return config.load(env_file, dotenv=True)
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None


def run(settings: Settings, work: Callable[[str], Awaitable[Answer]]) -> Answer:
    """Do the work with the owner's URL; whatever is in its way is one sentence."""
    from imi.database import DatabaseError
    from imi.database.pool import located

    async def with_url() -> Answer:
        async with located(settings) as url:
            return await work(url)

    try:
        return asyncio.run(with_url())
    except DatabaseError as error:
        raise Failure("DATABASE", str(error)) from None


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
def rollback(env_file: EnvFile = None) -> Any:
    """Undo the newest migration, and with it all functions and views; the next migrate brings them back."""
    from imi.database import deploy

    return {"version": run(load(env_file), deploy.rollback)}


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


@command(app, "new", example="imi db new add_teams", show=lambda data: data["file"])
def new(name: Annotated[str, typer.Argument(help="What it does, in words joined by underscores.")]) -> Any:
    """Start the next migration's file, its up and its down to be written."""
    from imi.database.lanes import lanes

    if not name.isascii() or not name.replace("_", "").isalnum():
        usage("A migration's name is letters, digits and underscores", "such as add_teams")
    found = lanes()
    number = max((int(version) for version in found.migrations()), default=0) + 1
    return written(found.migrations_dir / f"{number:04}_{name}.sql", "-- migrate:up\n\n\n-- migrate:down\n\n")


def written(file: Path, text: str) -> dict[str, str]:
    """Write a file and answer its name."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure("FAILED", f"Cannot write {file}: {error.strerror}") from None
    return {"file": str(file)}


@command(app, "reset", example="imi db reset", show=lambda data: "reset")
def reset(env_file: EnvFile = None, yes: Yes = False) -> Any:
    """Drop all that iMi keeps in this database and migrate anew. Asks; a database by URL wants --yes."""
    from imi.database import archive

    settings = load(env_file)
    if settings.database_url and not yes:
        raise Failure("REFUSED", "This is not the embedded database", "say --yes if you mean it", CONFLICT)
    if not yes:
        typer.confirm(f"Drop everything in {settings.data_dir}?", abort=True, err=True)
    run(settings, archive.reset)
    return {"reset": True}


@command(app, "sample", example="imi db sample", show=lambda data: "there is a sample of everything")
def sample(env_file: EnvFile = None) -> Any:
    """Fill in a few rows of everything; again changes nothing."""
    from imi.database import deploy

    run(load(env_file), deploy.sample)
    return {"sample": True}


Output = Annotated[
    Path | None, typer.Option(help="Where to.  [default: the checkout's db/schema.sql]", show_default=False)
]


@command(app, "dump", example="imi db dump", show=lambda data: data["file"])
def dump(env_file: EnvFile = None, output: Output = None) -> Any:
    """Write the schema that the migrations make, as SQL that is the same on every machine."""
    from imi.database import archive
    from imi.database.lanes import lanes

    return written(output or lanes().schema_file, run(load(env_file), archive.schema))


def _show_env(data: dict[str, str]) -> str:
    return "\n".join(f"export {name}={quote(value)}" for name, value in data.items())


@command(app, "env", example='eval "$(imi db env)" && dbmate status', show=_show_env)
def env(env_file: EnvFile = None) -> Any:
    """Print dbmate.yml as the environment that dbmate itself reads, for using it by hand."""
    from imi.database import deploy

    return run(load(env_file), deploy.dbmate_environment)


@command(app, "url", example='psql "$(imi db url)"', show=lambda data: data["url"])
def url(env_file: EnvFile = None) -> Any:
    """Print the owner's connection string. The embedded server runs only while something uses it."""

    async def answer(url: str) -> dict[str, str]:
        return {"url": url}

    return run(load(env_file), answer)


@app.command("psql", epilog="Example: imi db psql -- -c 'select * from ops.lag'")
def psql(
    arguments: Annotated[list[str] | None, typer.Argument(help="psql's own arguments, after --.")] = None,
    env_file: EnvFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run psql with the owner's rights."""
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
def backup(file: File = None, env_file: EnvFile = None) -> Any:
    """Write a backup of the whole database; it holds none of its passwords."""
    from imi.database import archive

    settings = load(env_file)
    chosen = file or archive.folder(settings.data_dir) / f"imi-{datetime.now(UTC):%Y-%m-%dT%H%M%SZ}.dump"
    run(settings, lambda url: archive.backup(url, chosen))
    return {"file": str(chosen)}


@command(app, "restore", example="imi db restore before-upgrade.dump", show=lambda data: "restored")
def restore(
    file: Annotated[Path, typer.Argument(help="A backup's file.", exists=True, dir_okay=False)],
    env_file: EnvFile = None,
    yes: Yes = False,
) -> Any:
    """Bring a backup back, and migrate it to this release. What is there is replaced only with --yes."""
    from imi.database import archive

    run(load(env_file), lambda url: archive.restore(url, file, replace=yes))
    return {"restored": str(file)}


@command(app, "sqitch", example="imi db sqitch project", show=lambda data: "\n".join(data["changes"]))
def sqitch(directory: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> Any:
    """Write the migrations, functions and views as a Sqitch project."""
    from imi.database import DatabaseError
    from imi.database.sqitch import write

    try:
        return {"changes": write(directory)}
    except DatabaseError as error:
        raise Failure("FAILED", str(error)) from None
