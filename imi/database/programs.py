"""PostgreSQL's own psql, pg_dump and pg_restore, told where the database is without showing a password."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
from asyncio.subprocess import PIPE
from pathlib import Path
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from imi.database import DatabaseError
from imi.database.cluster import MAJOR, complaint, wheel


def program(name: str, url: str) -> str:
    """Choose a program for the database of the URL.

    The wheel's for a server on a Unix socket; for any other the one on PATH, because that knows TLS, if it is
    there and (but for psql) as new as PostgreSQL has to be.
    """
    own = str(wheel() / "bin" / name)
    found = shutil.which(name)
    if found is None or is_socket(url):
        return own
    if name == "psql":
        return found
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"(\d+)(?:\.\d+)*", said)
    return found if version and int(version[1]) >= int(MAJOR) else own


def is_socket(url: str) -> bool:
    """Say whether the URL leads to a Unix socket, which no program needs TLS for."""
    parts = urlsplit(url)
    return not parts.hostname and dict(parse_qsl(parts.query)).get("host", "").startswith("/")


def without_password(url: str) -> tuple[str, str | None]:
    """Take the password out of a URL: other users see a program's arguments, but not its environment."""
    parts = urlsplit(url)
    login, at, place = parts.netloc.rpartition("@")
    user, colon, password = login.partition(":")
    inside = dict(parse_qsl(parts.query, keep_blank_values=True)).get("password")
    # Nothing is encoded anew: asyncpg, libpq and Go read a plus sign or a space each in its own way.
    others = [each for each in parts.query.split("&") if unquote(each.partition("=")[0]) != "password"]
    kept = "&".join(others)
    bare = _joined(parts._replace(netloc=f"{user}{at}{place}", query=kept))
    return bare, unquote(password) if colon else inside


def beside(url: str, database: str) -> str:
    """Answer the URL of another database of the same server."""
    return _joined(urlsplit(url)._replace(path=f"/{database}"))


def _joined(parts: SplitResult) -> str:
    # urlunsplit would drop the two slashes where no host follows them
    return f"{parts.scheme}://{parts.netloc}{parts.path}{'?' if parts.query else ''}{parts.query}"


def environment(password: str | None) -> dict[str, str]:
    """Answer our environment with the password added."""
    return dict(os.environ) | ({"PGPASSWORD": password} if password is not None else {})


async def run(name: str, url: str, *arguments: str) -> bytes:
    """Run a program on the database; answers what it printed. Raises DatabaseError with its complaint."""
    bare, password = without_password(url)
    process = await asyncio.create_subprocess_exec(
        program(name, url), "--dbname", bare, "--no-password", *arguments,
        stdin=asyncio.subprocess.DEVNULL, stdout=PIPE, stderr=PIPE, env=environment(password),
    )  # fmt: skip
    printed, complained = await process.communicate()
    if process.returncode:
        raise DatabaseError(f"{name} failed: {complaint(complained.decode(errors='replace'))}")
    return printed


async def psql(url: str, *arguments: str, capture: bool = False) -> tuple[int, str]:
    """Hand the terminal to psql; answers its exit code and, with `capture`, what it printed."""
    bare, password = without_password(url)
    into, mixed = (PIPE, asyncio.subprocess.STDOUT) if capture else (None, None)
    process = await asyncio.create_subprocess_exec(
        program("psql", url), "--dbname", bare, *arguments,
        stdout=into, stderr=mixed, env=environment(password),
    )  # fmt: skip
    printed, _ = await process.communicate()
    return await process.wait(), (printed or b"").decode(errors="replace")


async def replay(archive: Path, url: str, before: str, after: str) -> None:
    """Run `before`, all that the archive holds, and `after`, in one transaction or not at all."""
    bare, password = without_password(url)
    unpacker = await asyncio.create_subprocess_exec(
        wheel() / "bin/pg_restore", "--no-owner", "--no-privileges", "--file=-", archive,
        stdout=PIPE, stderr=PIPE,
    )  # fmt: skip
    psql = await asyncio.create_subprocess_exec(
        program("psql", url), "--dbname", bare, "--no-password", "--no-psqlrc", "--quiet",
        "--single-transaction", "--set=ON_ERROR_STOP=1", "--file=-",
        stdin=PIPE, stdout=asyncio.subprocess.DEVNULL, stderr=PIPE, env=environment(password),
    )  # fmt: skip
    assert unpacker.stdout and unpacker.stderr and psql.stdin and psql.stderr
    complaints = asyncio.gather(unpacker.stderr.read(), psql.stderr.read())
    try:
        psql.stdin.write(before.encode())
        while chunk := await unpacker.stdout.read(1 << 20):
            psql.stdin.write(chunk)
            await psql.stdin.drain()
        if await unpacker.wait() == 0:  # else psql must not see the end, or it would commit a half
            psql.stdin.write(after.encode())
            psql.stdin.close()
            await psql.wait()
    except ConnectionError:
        pass  # psql has stopped at an error
    finally:
        for process in (unpacker, psql):
            if process.returncode is None:
                process.kill()
                await process.wait()
    for name, process, said in zip(("pg_restore", "psql"), (unpacker, psql), await complaints, strict=True):
        if process.returncode not in (0, -9):
            raise DatabaseError(f"{name} failed: {complaint(said.decode(errors='replace'))}")
