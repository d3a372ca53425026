"""`imi db new`, `dump`, `env` and `sqitch`: the migrations and functions as files."""

from __future__ import annotations

from pathlib import Path
from shlex import quote
from typing import Annotated, Any

import typer

from imi.cli.command import command, group
from imi.cli.outcome import CONFLICT, Failure, usage
from imi.cli.owner import EnvFile, load, run

app = group("Files of the database's two lanes; commands of `imi db`.")


@command(app, "new", example="imi db new add_teams", show=lambda data: data["file"])
def new(name: Annotated[str, typer.Argument(help="What it does, in words joined by underscores.")]) -> Any:
    """Start the next migration's file in a checkout. `imi db migrate` refuses it until its up is written."""
    from imi.database.lanes import lanes

    if not name.isascii() or not name.replace("_", "").isalnum():
        usage("A migration's name is letters, digits and underscores", "such as add_teams")
    found = lanes()
    if found.packaged:
        raise Failure("REFUSED", "Only a checkout of iMi can get a migration", exit_code=CONFLICT)
    for version, file in found.migrations().items():
        if file.stem == f"{version}_{name}":
            raise Failure("CONFLICT", f"{file} is there already", "choose another name", CONFLICT)
    number = max((int(version) for version in found.migrations()), default=0) + 1
    return written(found.migrations_dir / f"{number:04}_{name}.sql", "-- migrate:up\n\n\n-- migrate:down\n\n")


def written(file: Path, text: str) -> dict[str, str]:
    """Write a file and answer its name."""
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failure("FAILED", f"Cannot write {file}: {error.strerror}") from None
    return {"file": str(file)}


Output = Annotated[
    Path | None, typer.Option(help="Where to.  [default: the checkout's db/schema.sql]", show_default=False)
]


@command(app, "dump", example="imi db dump --output schema.sql", show=lambda data: data["file"])
def dump(env_file: EnvFile = None, output: Output = None) -> Any:
    """Write the schema that the migrations make, as SQL that is the same on every machine."""
    from imi.database import archive
    from imi.database.lanes import lanes

    found = lanes()
    if output is None and found.packaged:
        raise Failure("REFUSED", "Only a checkout of iMi has a db/schema.sql", "give --output", CONFLICT)
    return written(output or found.schema_file, run(load(env_file), archive.schema))


def _show_env(data: dict[str, str]) -> str:
    return "\n".join(f"export {name}={quote(value)}" for name, value in data.items())


@command(app, "env", example='eval "$(imi db env)" && dbmate status', show=_show_env)
def env(env_file: EnvFile = None) -> Any:
    """Print dbmate.yml as the environment that dbmate itself reads, for using it by hand."""
    from imi.database import deploy

    return run(load(env_file), deploy.dbmate_environment)


@command(app, "sqitch", example="imi db sqitch project", show=lambda data: "\n".join(data["changes"]))
def sqitch(directory: Annotated[Path, typer.Argument(help="A new or empty folder.")]) -> Any:
    """Write the migrations, functions and views as a Sqitch project."""
    from imi.database import DatabaseError
    from imi.database.sqitch import write

    try:
        return {"changes": write(directory)}
    except DatabaseError as error:
        raise Failure("FAILED", str(error)) from None
