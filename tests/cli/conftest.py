"""The command line against a real server, which runs in a thread beside the tests."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from imi.config import Settings
from imi.database.pool import pools
from tests.commandline import Imi, Live
from tests.repositories import git

if TYPE_CHECKING:
    from tests.conftest import Database

__all__ = ["git"]
KEY = "imi_" + "5" * 64


@pytest.fixture
def imi(capsys: pytest.CaptureFixture[str]) -> Imi:
    return Imi(capsys)


@pytest.fixture(scope="module")
def live_server(database: Database, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """The API on the module's database."""
    from imi.server.app import serving

    data_dir = tmp_path_factory.mktemp("data")
    (data_dir / "admin.key").write_text(f"{KEY}\n")
    settings = replace(Settings(), data_dir=data_dir, database_url=database.url, api_key=KEY)
    listening = socket.create_server(("127.0.0.1", 0))
    started, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with pools(database.url, settings) as opened, serving(settings, opened, listening):
            started.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    while not started.wait(0.1):
        assert thread.is_alive(), "the server did not start"
    yield Live(f"http://127.0.0.1:{listening.getsockname()[1]}", data_dir)
    loop.call_soon_threadsafe(stop.set)
    thread.join()
    loop.close()


@pytest.fixture
def live(live_server: Live, monkeypatch: pytest.MonkeyPatch) -> Live:
    """That server is the one the command line finds."""
    monkeypatch.setenv("IMI_API_URL", live_server.url)
    monkeypatch.setenv("IMI_DATA_DIR", str(live_server.data_dir))
    monkeypatch.setenv("IMI_AGENT", "ada")
    return live_server
