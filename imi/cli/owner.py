"""What the commands of `imi db` share: the settings, the owner's URL, and a question before data is gone."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from imi.cli.outcome import CONFLICT, Failure

if TYPE_CHECKING:
    from imi.config import Settings

Answer = TypeVar("Answer")

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


async def keep_admin_key(settings: Settings, url: str) -> None:
    """Make the key of the data directory open the database as it is now, so that nobody has to restart."""
    from imi.cli import adminkey
    from imi.database.pool import connect_owner

    if adminkey.file_in(settings.data_dir).exists():
        async with connect_owner(url) as connection:
            await adminkey.ensure(connection, settings.data_dir)


def place(settings: Settings) -> str:
    """Name the database for somebody who is about to lose it; no secret is in the name."""
    from urllib.parse import urlsplit

    from imi.database.cluster import DATABASE

    if not settings.database_url:
        return f"the database {DATABASE} in {settings.data_dir}"
    parts = urlsplit(settings.database_url)
    return f"the database {parts.path.strip('/')}" + (f" on {parts.hostname}" if parts.hostname else "")


def sure(what: str, question: str) -> bool:
    """Say what would be lost and ask whether that is meant; where nobody can be asked, refuse."""
    if not sys.stdin.isatty():
        raise Failure("REFUSED", what, "say --yes if you mean it", CONFLICT)
    return typer.confirm(f"{what}. {question}", abort=True, err=True)
