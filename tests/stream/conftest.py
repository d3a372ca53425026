"""A client of the stream over either protocol, on a live server."""

from __future__ import annotations

import asyncio
import contextlib
import json
import secrets
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import aiohttp
import httpx
import pytest
import pytest_asyncio

from tests.conftest import Database
from tests.serving import ADMIN, live

PATH = "/api/v1/events/stream"
SOON = 30  # seconds; generous, since the machine may be busy


class Watcher:
    """One stream: what has come, message by message."""

    def __init__(self, session: aiohttp.ClientSession, websocket: bool) -> None:
        self.session = session
        self.websocket = websocket
        self.answer: Any = None
        self.cursor: int | None = None

    async def open(self, headers: dict[str, str] | None = None, server: str = "", **query: object) -> None:
        params = {name: str(value) for name, value in query.items()}
        headers = {"Authorization": f"Bearer {ADMIN}"} if headers is None else headers
        if self.websocket:
            self.answer = await self.session.ws_connect(
                server + PATH, params=params, headers=headers, max_msg_size=0
            )
        else:
            self.answer = await self.session.get(server + PATH, params=params, headers=headers)
            assert self.answer.status == 200, await self.answer.text()

    async def next(self) -> dict[str, Any] | None:
        """The next message; None at the end."""
        async with asyncio.timeout(SOON):
            if self.websocket:
                said = await self.answer.receive()
                text = said.data if said.type is aiohttp.WSMsgType.TEXT else None
            else:
                text = await self._line("data: ")
        if text is None:
            return None
        message: dict[str, Any] = json.loads(text)
        self.cursor = message["cursor"]
        return message

    async def _line(self, start: str) -> str | None:
        number = None
        while line := await self.answer.content.readuntil(b"\n"):
            if line.startswith(b"id: "):
                number = int(line[4:])
            elif line.startswith(start.encode()):
                text = line.decode()[len(start) : -1]
                assert json.loads(text)["cursor"] == number
                return text
        return None

    async def events(self, count: int) -> list[dict[str, Any]]:
        """So many envelopes; heartbeats between them do not count."""
        found: list[dict[str, Any]] = []
        while len(found) < count:
            message = await self.next()
            assert message, f"the stream ended after {len(found)} events"
            assert message["type"] != "error", message
            if message["type"] == "event":
                found.append(message["data"])
        return found


class World:
    """A live server, its client, and a prefix of event types that nobody else uses."""

    def __init__(self, api: httpx.Client, session: aiohttp.ClientSession) -> None:
        self.api = api
        self.session = session
        self.prefix = f"t{secrets.token_hex(4)}"

    def publish(self, name: str = "one", **payload: Any) -> str:
        """Publish an event of our prefix; its id."""
        return self.publish_all([{"event_type": f"{self.prefix}.{name}", "payload": payload}])[0]

    def publish_all(self, events: list[dict[str, Any]]) -> list[str]:
        answer = self.api.post(
            "/api/v1/events", json=[{"event_id": str(uuid.uuid4())} | each for each in events]
        )
        assert answer.is_success, answer.text
        return [each["event_id"] for each in answer.json()["items"]]

    @contextlib.asynccontextmanager
    async def watch(self, websocket: bool, **query: object) -> AsyncIterator[Watcher]:
        """A stream of our prefix, unless the query says another."""
        watcher = Watcher(self.session, websocket)
        await watcher.open(**{"event_type": f"{self.prefix}.#", **query})
        try:
            yield watcher
        finally:
            if websocket:
                await watcher.answer.close()
            else:
                watcher.answer.close()


@contextlib.asynccontextmanager
async def served(url: str) -> AsyncIterator[World]:
    """A server of a test's own, stopped and all."""
    serving = live(url)
    api = await asyncio.to_thread(serving.__enter__)
    async with aiohttp.ClientSession(str(api.base_url)) as session:
        try:
            yield World(api, session)
        finally:
            await asyncio.to_thread(serving.__exit__, None, None, None)


@pytest.fixture(scope="module")
def api(database: Database) -> Iterator[httpx.Client]:
    """An admin's client of a live server."""
    with live(database.url, cors_origins=("https://board.example",)) as client:
        yield client


@pytest_asyncio.fixture
async def world(api: httpx.Client) -> AsyncIterator[World]:
    """The server and a session to it."""
    async with aiohttp.ClientSession(str(api.base_url), read_bufsize=1 << 22) as session:
        yield World(api, session)


@pytest.fixture(params=[True, False], ids=["websocket", "sse"])
def websocket(request: pytest.FixtureRequest) -> bool:
    """Each protocol in turn."""
    return bool(request.param)


@pytest.fixture
def metric(api: httpx.Client) -> Callable[[str], float]:
    """A figure of /metrics."""

    def read(name: str) -> float:
        lines = api.get("/metrics").text.splitlines()
        return float(next(line.split()[1] for line in lines if line.startswith(f"{name} ")))

    return read
