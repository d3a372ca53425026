"""The pinned Letta server, for real: on a database of the tests' PostgreSQL, before the stub of a model.

Its wheel has no migrations: the schema is made from its classes, and one sequence besides, without which no
agent can be made.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qs, urlsplit

import httpx

from tests.postgres import Server
from tests.rabbitmq import free_ports

READY = 120.0  # seconds; ten to twenty on a quiet machine
KEY = "test-key"
SCHEMA = """
import asyncio
from sqlalchemy import text
import letta.orm
from letta.orm.base import Base
from letta.server.db import engine

async def make():
    async with engine.begin() as connection:
        await connection.run_sync(Base.metadata.create_all)
        await connection.execute(text("create sequence message_seq_id"))
        await connection.execute(text("alter table messages alter sequence_id set default nextval('message_seq_id')"))

asyncio.run(make())
"""


class Place(NamedTuple):
    """Where a Letta server is, its key, and the handle of a model that it has."""

    url: str
    key: str
    model: str


@contextlib.contextmanager
def running(python: str, server: Server) -> Iterator[Place]:
    """The server of the environment that this Python is of; all of it gone afterwards."""
    home = Path(tempfile.mkdtemp(prefix="imi-letta-", dir="/tmp"))
    port, model_port = free_ports(2)
    server.run("create database letta")
    server.run("create extension vector", database="letta")
    environment = (
        {name: value for name, value in os.environ.items() if not name.startswith("LETTA_")}
        | {
            "HOME": str(home),
            "LETTA_PG_URI": database(server),
            "LETTA_DISABLE_SQLALCHEMY_POOLING": "false",  # without the pool requests hang for a minute now and then
            "LETTA_PG_POOL_SIZE": "5",
            "LETTA_SERVER_SECURE": "true",
            "LETTA_SERVER_PASSWORD": KEY,
            "OPENAI_API_KEY": "sk-stub",
            "OPENAI_BASE_URL": f"http://127.0.0.1:{model_port}/v1",
            "NO_PROXY": "127.0.0.1",
            "no_proxy": "127.0.0.1",
        }
    )
    here = Path(python).absolute()  # not resolved: the link is what makes it the environment's
    place = Place(f"http://127.0.0.1:{port}", KEY, "openai-proxy/stub")
    with contextlib.ExitStack() as stack:
        stack.callback(server.drop, "letta")
        stack.callback(shutil.rmtree, home)
        said = stack.enter_context((home / "said").open("wb"))

        def start(*command: str) -> subprocess.Popen[bytes]:
            process = subprocess.Popen(command, env=environment, cwd=home, stdout=said, stderr=said)
            stack.callback(end, process)
            return process

        stub = Path(__file__).with_name("stub_llm.py")
        start(sys.executable, str(stub), str(model_port))
        wait(f"http://127.0.0.1:{model_port}/v1/models", home)
        subprocess.run([here, "-c", SCHEMA], env=environment, cwd=home, stdout=said, stderr=said, check=True)
        start(str(here.with_name("letta")), "server", "--host", "127.0.0.1", "--port", str(port))
        wait(f"{place.url}/v1/health/", home)
        yield place


def database(server: Server) -> str:
    """The URL of its database, as the server takes it."""
    parts = urlsplit(server.url)
    (folder,) = parse_qs(parts.query)["host"]
    return f"postgresql://{parts.username}@localhost/letta?host={folder}&ssl=disable"


def wait(url: str, home: Path) -> None:
    """Return when there is an answer."""
    until = time.monotonic() + READY
    while True:
        with contextlib.suppress(httpx.TransportError):
            if httpx.get(url, trust_env=False).status_code == 200:
                return
        if time.monotonic() > until:
            raise RuntimeError(f"no answer from {url}: {(home / 'said').read_text(errors='replace')[-4000:]}")
        time.sleep(0.2)


def end(process: subprocess.Popen[bytes]) -> None:
    """Stop it, or kill it."""
    process.terminate()
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
