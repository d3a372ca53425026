"""What is measured against what: a seeded database, iMi on it, and the stories' stack on it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import asyncpg

from imi.database import deploy, embedded
from imi.database.roles import login
from tests.bench.load import HERE, BenchError
from tests.bench.operations import Data

ROOT = HERE.parents[1]
STORIES = HERE / "stories"
IMI = [str(Path(sys.executable).parent / "imi")]
KEY = secrets.token_hex(32)


@contextlib.contextmanager
def folder() -> Iterator[Path]:
    """A data directory, where root's server account can enter."""
    path = Path(tempfile.mkdtemp(prefix="imi-bench-", dir="/tmp"))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def database(home: Path, data: Data) -> Iterator[str]:
    """The embedded PostgreSQL in `home`, migrated and seeded; answers its owner's URL."""
    cluster, users = embedded.join(home)
    try:
        url = embedded.url(cluster)
        asyncio.run(_fill(url, data))
        yield url
    finally:
        embedded.leave(cluster, users)


async def _fill(url: str, data: Data) -> None:
    await deploy.migrate(url)
    connection = await asyncpg.connect(url)
    for name, value in (("projects", data.projects), ("busy", data.busy)):
        await connection.execute("select set_config($1, $2, false)", f"bench.{name}", str(value))
    await connection.execute((HERE / "seed.sql").read_text())
    # The stories look a project up by the text of its remote; iMi has its own table for that.
    await connection.execute("create index on imi.projects (remote_origin)")
    await connection.close()


async def tidy(url: str) -> None:
    """Leave nothing of one round for the next to clear away."""
    connection = await asyncpg.connect(url)
    await connection.execute("vacuum (analyze)")
    await connection.execute("checkpoint")
    await connection.close()


async def api_login(url: str) -> str:
    """The URL of the login with which iMi calls its functions."""
    connection = await asyncpg.connect(url)
    name = login(await connection.fetchval("select current_database()"), "api")
    password = await connection.fetchval("select value from imi_meta.secrets where name = $1", name)
    await connection.close()
    return url.replace("//postgres@", f"//{name}:{password}@")


def imi(home: Path) -> contextlib.AbstractContextManager[str]:
    """`imi up`, without a log line for each request, as the other; answers its URL."""
    own = {"IMI_DATA_DIR": str(home), "IMI_LOG_LEVEL": "WARNING", "IMI_API_KEY": KEY}
    return serving([*IMI, "up"], own | {"IMI_PORT": "{port}"})


def stories(url: str) -> contextlib.AbstractContextManager[str]:
    """The stories' stack with its best usual settings; answers its URL."""
    command = [str(installed() / "bin/uvicorn"), "app:app", "--app-dir", str(STORIES), "--port", "{port}"]
    command += ["--no-access-log", "--loop", "uvloop", "--http", "httptools"]
    return serving(command, {"BENCH_DATABASE_URL": url, "BENCH_KEY": KEY})


@contextlib.contextmanager
def serving(command: list[str], own: dict[str, str]) -> Iterator[str]:
    """A server in a process of its own, from its first healthy answer to its end; {port} becomes a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("IMI_", "PG"))}
    environment |= {name: value.replace("{port}", port) for name, value in own.items()}
    with tempfile.TemporaryFile() as said:
        arguments = [word.replace("{port}", port) for word in command]
        server = subprocess.Popen(arguments, env=environment, stdout=said, stderr=said)
        try:
            url = f"http://127.0.0.1:{port}"
            while not healthy(url):
                if server.poll() is not None:
                    said.seek(0)
                    raise BenchError(f"{command[0]} ended: {said.read().decode()[-2000:]}")
                time.sleep(0.01)
            yield url
        finally:
            server.terminate()
            server.wait()


def healthy(url: str) -> bool:
    """Whether the server answers that it is well."""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, ConnectionError):
        return False


def installed() -> Path:
    """The stories' own virtual environment, made when it is missing or older than its requirements."""
    home, wanted = ROOT / ".venv-bench", STORIES / "requirements.txt"
    ready = home / "ready"
    if not ready.exists() or ready.stat().st_mtime < wanted.stat().st_mtime:
        print("Installing the stories' stack into .venv-bench …", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
        subprocess.run([str(home / "bin/pip"), "install", "-qq", "--requirement", str(wanted)], check=True)
        ready.touch()
    return home
