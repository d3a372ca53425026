"""A live server on loopback, in a thread of its own, and clients of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import httpx
import uvloop

from imi.bloodbank.bus import bus_of
from imi.config import Settings
from imi.database.pool import pools
from imi.server import contract
from imi.server.app import serving

ADMIN = "the-operators-own-key"
_numbers = itertools.count(1)

CONTRACT = contract.load()
OPERATIONS = {operation.id: operation for operation in CONTRACT.operations}


@contextlib.contextmanager
def live(url: str, **chosen: Any) -> Iterator[httpx.Client]:
    """Serve the database of `url` until left; answers an admin's client."""
    settings = Settings(**{"api_key": ADMIN, "database_pool_size": 4, "database_max_overflow": 0, **chosen})
    listener = socket.create_server(("127.0.0.1", 0))
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    loop = runner.get_loop()
    stop = asyncio.Event()
    started: Future[None] = Future()

    async def serve() -> None:
        try:
            async with (
                pools(url, settings) as opened,
                serving(settings, opened, listener, bus_of(settings)),
            ):
                started.set_result(None)
                await stop.wait()
        except BaseException as error:
            if started.done():
                raise
            started.set_exception(error)

    thread = threading.Thread(target=lambda: runner.run(serve()))
    thread.start()
    with httpx.Client(headers={"Authorization": f"Bearer {ADMIN}"}, timeout=30) as client:
        try:
            started.result(30)
            client.base_url = httpx.URL(f"http://127.0.0.1:{listener.getsockname()[1]}")
            yield client
        finally:
            loop.call_soon_threadsafe(stop.set)
            thread.join(60)
            listener.close()
            runner.close()


@dataclass
class Things:
    """One of each kind, made through the API; `new` makes more."""

    api: httpx.Client
    project: dict[str, Any]
    work: dict[str, Any]
    component: dict[str, Any]

    def post(self, path: str, /, **body: Any) -> dict[str, Any]:
        answer = self.api.post(f"/api/v1{path}", json=body)
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def new_project(self) -> dict[str, Any]:
        return self.post("/projects", remote_origin=f"https://github.com/33GOD/{secrets.token_hex(6)}")

    def new_work(self, **more: Any) -> dict[str, Any]:
        body = {
            "project_id": self.project["id"],
            "branch_name": f"feat/{next(_numbers)}",
            "owner_id": "ada",
            **more,
        }
        return self.post("/work", **body)

    def new_component(self) -> dict[str, Any]:
        name = f"part-{next(_numbers)}"
        return self.post(
            "/components", parent_project_id=self.project["id"], name=name, path=name, kind="local"
        )


def code(answer: httpx.Response) -> tuple[int, str]:
    """An error's status and code, after a look at its form."""
    detail = answer.json()["detail"]
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.headers["X-Request-ID"]
    assert set(detail) - {"hint"} == {"code", "message", "params"}, detail
    assert detail["message"] and isinstance(detail["params"], dict)
    return answer.status_code, detail["code"]
