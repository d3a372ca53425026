"""A request's way: its route, who sends it, what it says, one call, and the answer as it comes."""

from __future__ import annotations

import asyncio
import logging
import re
import secrets
import socket
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import count
from typing import Any

import orjson
from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from imi import logs
from imi.bloodbank.bus import Bus
from imi.config import ConfigError, Settings
from imi.database.pool import KEY_CHECK, Pools
from imi.rules import is_loopback
from imi.server.auth import Borders, Keys, Principal
from imi.server.calls import Calls, Reply
from imi.server.contract import Contract, Operation, load
from imi.server.errors import UNREADY, ApiError, invalid, translate
from imi.server.observe import Metrics, Probes
from imi.server.pages import pages
from imi.stream.door import Door

REQUEST_ID = re.compile(r"[!-~]{1,128}")
JSON = re.compile(r'application/json *(; *charset="?utf-8"? *)?', re.IGNORECASE)
LARGE = 1 << 16  # bytes; a thousand events take 0.1 s to check, so others go on meanwhile
LINE = 1 << 15  # bytes; 2,048 characters of an id, percent-encoded, are up to 24 KiB
GRACE = 30.0  # seconds for requests under way when the server stops

requests = logging.getLogger("imi.requests")
faults = logging.getLogger("imi.faults")
parser = logging.getLogger("imi.http")


class Exchange:
    """One request, and what becomes known on its way."""

    def __init__(self, request: web.BaseRequest, new_id: str) -> None:
        self.began = time.perf_counter()
        self.request = request
        self.headers = request.headers
        self.method = "GET" if request.method == "HEAD" else request.method
        target = request.raw_path
        target = target if target[:1] == "/" else request.rel_url.raw_path_qs
        self.path, _, self.query = target.partition("?")
        given = self.headers.get("X-Request-ID", "")
        self.id = given if REQUEST_ID.fullmatch(given) else new_id
        self.about: dict[str, Any] = {"request_id": self.id}
        self.route = "other"
        self.principal: Principal | None = None


class Api:
    """The handler of every request."""

    def __init__(self, settings: Settings, calls: Calls, contract: Contract, bus: Bus) -> None:
        self.calls = calls
        self.contract = contract
        self.keys = Keys(settings, lambda digest: calls.door(KEY_CHECK, digest))
        self.borders = Borders(settings)
        self.probes = Probes(calls.pools, bus)
        self.metrics = Metrics(calls.pools)
        self.stream = Door(self)
        self.pages = pages(contract.document)
        self.host = socket.gethostname()
        start = secrets.token_hex(6)
        self.ids = (f"{start}-{n:x}" for n in count(1))

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer a request. Whatever goes wrong on its way becomes an answer here and nowhere else."""
        exchange = Exchange(request, next(self.ids))
        logs.about.set(exchange.about)
        try:
            reply: Reply | web.StreamResponse = await self.answer(exchange)
        except Exception as error:
            reply = self.refuse(exchange, error)
        if isinstance(reply, web.StreamResponse):
            return reply
        headers = {"X-Request-ID": exchange.id}
        if reply.body:
            headers["Content-Type"] = "application/json"
        if reply.headers:
            headers |= reply.headers
        if "Origin" in exchange.headers:
            headers |= self.borders.allow(exchange.headers)
        self.note(exchange, reply.status)
        return web.Response(status=reply.status, body=reply.body, headers=headers)

    async def answer(self, exchange: Exchange) -> Reply | web.StreamResponse:
        """The reply, or a stream that has ended, or an exception."""
        methods, segments = self.contract.find(exchange.path)
        operation = methods.get(exchange.method)
        if operation is None:
            return await self.elsewhere(exchange, methods)
        exchange.route = operation.path
        self.borders.check(exchange.method, exchange.headers)
        if not operation.function:
            return await self.stream.operations[operation.id](exchange, operation)
        principal = await self.enter(exchange, operation.scope)
        given = operation.headers(exchange.headers)
        causes = [each.strip() for each in given.get("X-Correlation-ID", "").split(",") if each]
        if causes:
            exchange.about["correlation_ids"] = causes
        call = operation.call(segments, exchange.query)
        if exchange.method == "GET":
            return await self.calls.operation(operation, call)
        if operation.body:
            body = await self.body(exchange.request, operation)
            checked = call[-2] == "true"
            if checked or len(body) > LARGE:
                call[-2] = await asyncio.to_thread(operation.text, body, checked)
            else:
                call[-2] = operation.text(body, checked)
        key = given.get("Idempotency-Key")
        if key is None and exchange.method == "POST" and "Idempotency-Key" in exchange.headers:
            raise invalid("Idempotency-Key", "is not taken here: the answer must not be stored")
        context = {
            "agent_id": given.get("X-Agent-Id"),
            "actor": given.get("X-Agent-Id", principal.name),
            "scope": principal.scope,
            "principal": principal.id,
            "host": self.host,
            "request_id": exchange.id,
            "correlation_ids": causes,
            "idempotency_key": key,
        }
        call[-1] = orjson.dumps(context).decode()
        return await (self.calls.once(operation, call) if key else self.calls.operation(operation, call))

    async def enter(self, exchange: Exchange, scope: str) -> Principal:
        """Whose request this is; 401, 403 or 429 unless the key has this scope."""
        exchange.principal = await self.keys.principal(exchange.headers, exchange.request.remote or "")
        exchange.principal.require(scope)
        return exchange.principal

    async def elsewhere(self, exchange: Exchange, methods: dict[str, Operation]) -> Reply:
        """The answer where no operation is: a page, a preflight, 405 or 404."""
        path, own = exchange.path, exchange.path in self.pages or exchange.path in ("/health", "/metrics")
        if not methods and not own:
            raise ApiError(
                404, "NOT_FOUND", "There is nothing at this path", hint="/docs shows what there is"
            )
        here = {*methods, "GET"} if own else {*methods}
        allowed = ", ".join(sorted(here | ({"HEAD"} if "GET" in here else set())))
        if exchange.method == "OPTIONS" and (granted := self.borders.preflight(exchange.headers, allowed)):
            return Reply(204, None, granted)
        if exchange.method not in here:
            raise ApiError(405, "METHOD_NOT_ALLOWED", f"Only {allowed} here", headers={"Allow": allowed})
        self.borders.check(exchange.method, exchange.headers)
        if path == "/health":
            return await self.probes.health()
        if path == "/metrics":
            if not (is_loopback(exchange.request.remote) and is_loopback(exchange.headers.get("Host"))):
                await self.enter(exchange, "read")
            return self.metrics.page(await self.probes.figures())
        return self.pages[path]

    async def body(self, request: web.BaseRequest, operation: Operation) -> bytes:
        """The whole body; 415 if it is not plain JSON, 413 if it is larger than the operation takes."""
        if not JSON.fullmatch(request.headers.get("Content-Type", "")):
            hint = "Send Content-Type: application/json"
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "The body must be JSON in UTF-8", hint=hint)
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            raise ApiError(415, "UNSUPPORTED_MEDIA_TYPE", "The body must not be compressed")
        limit = operation.body_limit
        too_large = ApiError(413, "TOO_LARGE", f"The body may have {limit} bytes", {"limit": limit})
        if (request.content_length or 0) > limit:
            raise too_large
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0
        parts = []
        while part := await request.content.readany():
            limit -= len(part)
            if limit < 0:
                raise too_large
            parts.append(part)
        return b"".join(parts)

    def refuse(self, exchange: Exchange, error: Exception) -> Reply:
        """The answer that an exception is. PostgreSQL's own words go into the log alone: they quote rows."""
        answer = translate(error, exchange.id)
        state = str(getattr(error, "sqlstate", ""))
        if answer.status == 500 or state == "XX000" or state.startswith(UNREADY):
            faults.error("a request failed", exc_info=error)
        elif error is not answer and not state.startswith("IM"):
            said = {"error": f"{type(error).__name__}: {error}", "detail": getattr(error, "detail", None)}
            faults.warning("a request was refused", extra={"fields": {"sqlstate": state, **said}})
        return Reply(answer.status, answer.body(), answer.headers)

    def note(self, exchange: Exchange, status: int) -> None:
        """Count the request and log its line, which holds no query and no key."""
        seconds = time.perf_counter() - exchange.began
        self.metrics.count(exchange.request.method, exchange.route, status, seconds)
        fields = {
            "method": exchange.request.method,
            "path": ascii(exchange.path)[1:-1],
            "status": status,
            "ms": round(seconds * 1000, 2),
            "key": exchange.principal and exchange.principal.name,
            "address": exchange.request.remote,
        }
        logs.note(requests, "request", fields)


@asynccontextmanager
async def serving(settings: Settings, pools: Pools, sock: socket.socket, bus: Bus) -> AsyncIterator[None]:
    """Serve on a bound socket for as long as this is entered; then streams end, and requests under way may.

    Raises ContractError if database and contract do not fit, and ConfigError for IMI_AUTH=off on a host that
    others reach, and for an IMI_API_KEY of lower scope.
    """
    if not settings.auth and not is_loopback(settings.host):
        raise ConfigError(
            f"IMI_AUTH=off opens everything to everybody: not on {settings.host}, only on 127.0.0.1"
        )
    calls = Calls(pools)
    contract = load()
    await calls.bind(contract)
    api = Api(settings, calls, contract, bus)
    await api.keys.refuse_lesser()
    parser.addFilter(no_stack)
    server = web.Server(api.handle, access_log=None, logger=parser, max_line_size=LINE, auto_decompress=False)
    runner = web.ServerRunner(server, shutdown_timeout=GRACE)
    await runner.setup()
    try:
        await web.SockSite(runner, sock, backlog=1024).start()
        yield
    finally:
        await api.stream.hub.stop()
        await runner.cleanup()


def no_stack(record: logging.LogRecord) -> bool:
    """What the HTTP parser refuses before there is a request is one warning without a stack."""
    error = record.exc_info[1] if record.exc_info else None
    if isinstance(error, HttpProcessingError):
        record.msg, record.args, record.exc_info = "not HTTP: %s", (type(error).__name__,), None
        record.levelno, record.levelname = logging.WARNING, "WARNING"
    return True
