"""The stream's two operations: from a request to a client of the hub, and to a ticket."""

from __future__ import annotations

import contextlib
import resource
import socket
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import asyncpg
import orjson
from aiohttp import web

from imi.attempts import Attempts
from imi.database.line import Line
from imi.server.auth import Principal, limit, unauthenticated
from imi.server.calls import Reply
from imi.server.contract import Operation
from imi.server.errors import invalid, unavailable
from imi.stream import tickets, wire
from imi.stream.client import Client
from imi.stream.hub import Hub

if TYPE_CHECKING:
    from asyncpg import Record

    from imi.server.app import Api, Exchange

SECRET = "select logic.ticket_key()"
MOST = 5000  # clients; fewer where the process may not have twice as many files
HEADERS = {
    "Content-Type": "text/event-stream; charset=utf-8",
    "Cache-Control": "no-store",
    "X-Accel-Buffering": "no",  # a proxy must not gather it
}
SILENCE = 60_000  # milliseconds without an acknowledgement, after which a connection is dead

Answer = Callable[["Exchange", Operation], Awaitable[Reply | web.StreamResponse]]


def files(wanted: int) -> int:
    """How many files this process may have open, after asking for as many as it may ask for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0]


class Events(web.StreamResponse):
    """Server-Sent Events; the body ends with the connection, so that no chunk needs a frame of its own."""

    _length_check = False


class Door:
    """What the server answers without a function of SQL."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._issued = Attempts()
        line = Line(api.calls.pools.reader)
        self.hub = Hub(api.calls.pools.url, line.fetch, self._is_valid, api.metrics.registry)
        self._most = min(MOST, files(3 * MOST) // 2)
        self.operations: dict[str, Answer] = {
            "event_stream": self.stream,
            "stream_ticket_create": self.ticket,
        }

    async def _is_valid(self, digest: str) -> bool:
        return await self._api.keys.holder(digest) is not None

    async def _secret(self) -> str:
        row = await self._api.calls.door(SECRET)
        assert row
        return str(row[0])

    async def ticket(self, exchange: Exchange, operation: Operation) -> Reply:
        """POST /api/v1/stream-tickets."""
        principal = await self._api.enter(exchange, operation.scope)
        operation.headers(exchange.headers)
        operation.call([], exchange.query)
        if "Idempotency-Key" in exchange.headers:
            raise invalid("Idempotency-Key", "is not taken here: the answer must not be stored")
        address = exchange.request.remote or ""
        limit(self._issued, address, "stream tickets")
        self._issued.add(address)
        ticket, expires = tickets.issue(await self._secret(), principal.digest)
        said = {"ticket": ticket, "expires_at": datetime.fromtimestamp(expires, UTC).isoformat()}
        return Reply(operation.status, orjson.dumps(said), {"Cache-Control": "no-store"})

    async def _enter(self, exchange: Exchange, ticket: str | None, scope: str) -> Principal:
        """Whose request this is, by a key or by a ticket."""
        if ticket is None or any(name in exchange.headers for name in ("Authorization", "X-API-Key")):
            return await self._api.enter(exchange, scope)
        keys, address = self._api.keys, exchange.request.remote or ""
        keys.refuse(address)
        digest = tickets.digest_of(await self._secret(), ticket)
        principal = None if digest is None else await keys.holder(digest)
        if principal is None:
            keys.fail(address)
            raise unauthenticated("The ticket is not ours, has ended, or its key has", "Ask for a new one")
        exchange.principal = principal
        return principal

    async def stream(self, exchange: Exchange, operation: Operation) -> Reply | web.StreamResponse:
        """GET /api/v1/events/stream, as a WebSocket or as Server-Sent Events."""
        api, request = self._api, exchange.request
        is_websocket = "websocket" in exchange.headers.get("Upgrade", "").lower()
        if is_websocket:
            api.borders.check("WEBSOCKET", exchange.headers)
        given = operation.call([], exchange.query)
        event_type, workflow_id, after, ticket = given
        principal = await self._enter(exchange, ticket, operation.scope)
        after = operation.headers(exchange.headers).get("Last-Event-ID", after)
        if request.method == "HEAD":
            return Reply(operation.status, None, {"Content-Type": HEADERS["Content-Type"]})
        response = (
            web.WebSocketResponse(compress=False, max_msg_size=1 << 12)
            if is_websocket
            else Events(headers=HEADERS)
        )
        if isinstance(response, web.WebSocketResponse) and not response.can_prepare(request):
            raise invalid("Upgrade", "is no handshake of a WebSocket")
        if len(self.hub.clients) >= self._most or self.hub.stopping:
            raise unavailable("This server has as many streams as it may, or is stopping; try again")
        workflow, cursor = workflow_id and workflow_id.lower(), None if after is None else int(after)
        page: Record | asyncpg.PostgresError
        try:
            page = await self.hub.page(cursor, event_type, workflow)
        except asyncpg.PostgresError as error:
            if error.sqlstate != "IM410":
                raise
            page = error
        response.headers["X-Request-ID"] = exchange.id
        if "Origin" in exchange.headers:
            response.headers.update(api.borders.allow(exchange.headers))
        response.force_close()
        await response.prepare(request)
        api.note(exchange, response.status)
        transport = request.transport
        if transport is None:  # gone meanwhile
            return response
        framing = wire.websocket if is_websocket else wire.sse
        client = Client(
            transport, framing, request.writer.drain, event_type, workflow, principal.digest, page
        )
        del page  # the client's alone: this frame lives as long as the connection
        await self._serve(client, response, cursor)
        return response

    async def _serve(self, client: Client, response: web.StreamResponse, cursor: int | None) -> None:
        with contextlib.suppress(OSError, AttributeError):  # where there is no such option
            found = client.transport.get_extra_info("socket")
            found.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENCE)
        if client.wire is wire.sse:
            client.transport.write(b"retry: 1000\n\n")
        if isinstance(client.page, Exception):
            client.cursor = cursor or 0
            return self.hub.refuse(client, client.page)
        assert client.page
        client.cursor = client.page["upto"] if cursor is None else cursor
        client.say(client.cursor, wire.heartbeat(client.cursor))
        try:
            self.hub.enter(client)
            if isinstance(response, web.WebSocketResponse):
                async for _ in response:
                    pass  # what a client says is not listened to
            else:
                await client.gone
        finally:
            self.hub.leave(client)
