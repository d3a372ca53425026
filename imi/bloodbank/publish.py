"""Publishing for programs beside iMi: an event is checked before it leaves, and sent until it is taken.

With IMI_RABBITMQ_URL it goes to RabbitMQ, else over HTTP to the server that the command line would find. It
goes out again under its own id after a fault: the log stores an id once, so a repeat does no harm.
"""

from __future__ import annotations

import asyncio
import json
import platform
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from imi import config, connection, rules
from imi.backoff import backoff
from imi.bloodbank import schemas
from imi.bloodbank.bus import BusError
from imi.bloodbank.envelope import fault

if TYPE_CHECKING:
    import httpx

PATIENCE = 10.0  # seconds in which the event must have been taken
FIRST, LONGEST = 0.1, 1.0  # seconds between two tries
BROKER_AWAY = "look whether RabbitMQ and iMi (`imi up`) run, and at IMI_RABBITMQ_URL"
SERVER_AWAY = "start iMi with `imi up`, or name another server: IMI_API_URL"

Send = Callable[[], Awaitable[None]]


class PublishError(Exception):
    """The event was not taken, or nobody could tell. `hint` says what to do, `event_id` what to look for.

    `code` is UNREACHABLE, CONFIG or NOT_IMI, or else the server's, which refused with `status`.
    """

    def __init__(self, event_id: UUID, code: str, message: str, hint: str, status: int | None = None) -> None:
        super().__init__(message)
        self.event_id, self.code, self.hint, self.status = event_id, code, hint, status


async def publish_event(
    event_type: str,
    payload: dict[str, Any],
    correlation_ids: Sequence[UUID | str] | None = None,
    *,
    event_id: UUID | None = None,
    settings: config.Settings | None = None,
) -> UUID:
    """Publish an event and answer its id, once the broker or the log has it.

    `correlation_ids` are the events that caused this one; without any it is a root. UUIDs in the payload
    become text. `event_id` is for whoever may publish the same event again after a crash: the log stores an
    id once. `settings` are the environment's unless they are given. Nothing is sent, and ValueError raised,
    for an event type that is no words joined by dots, a payload that is no JSON object, larger than 1 MiB or
    not as its type's schema has it, and causes that are no UUIDs. Raises PublishError when the event is
    refused, or not taken within 10 s.
    """
    event_id = event_id or uuid4()
    try:
        settings = settings or config.load()
        body = _envelope(event_id, event_type, payload, correlation_ids, settings.agent)
        url = settings.rabbitmq_url
        if url:
            opened = _rabbitmq(url, settings.exchange_name, (str(event_id), event_type, body))
        else:
            opened = _http(connection.find(settings), event_id, body)
        async with opened as send:
            await _until_taken(event_id, send, BROKER_AWAY if url else SERVER_AWAY)
    except config.ConfigError as error:
        raise PublishError(event_id, "CONFIG", str(error), "mend this setting") from None
    return event_id


def _envelope(
    event_id: UUID,
    event_type: str,
    payload: dict[str, Any],
    correlation_ids: Sequence[UUID | str] | None,
    agent: str | None,
) -> bytes:
    name = event_type if isinstance(event_type, str) else ""
    if len(name) > rules.LONGEST_EVENT_TYPE or not rules.EVENT_TYPE.fullmatch(name):
        raise ValueError(
            f"{event_type!r} is no event type: words of letters, digits, _ and - joined by dots, "
            f"{rules.LONGEST_EVENT_TYPE} characters at most"
        )
    if not isinstance(payload, dict):
        raise ValueError("The payload is not an object")
    if isinstance(correlation_ids, str | UUID):
        raise ValueError("correlation_ids is a list of UUIDs, not one")
    causes = [str(each) for each in correlation_ids or ()]
    for cause in causes:
        if not rules.UUID.fullmatch(cause):
            raise ValueError(f"{cause!r} in correlation_ids is no UUID")
    # No app: agents of BMAD, Letta and others publish through here; the type's first word says whose it is.
    envelope = {
        "event_id": str(event_id),
        "event_type": name,
        "timestamp": datetime.now(UTC).isoformat(),
        "version": "1.0.0",
        "source": {"host": platform.node(), "type": "agent"},
        "correlation_ids": causes,
        "agent_context": {"name": agent} if agent else None,
        "payload": payload,
    }
    try:
        body = json.dumps(envelope, ensure_ascii=False, allow_nan=False, default=_text).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(f"The payload is no JSON: {error}") from None
    if reason := fault(body):
        raise ValueError(f"The event {reason}")
    if wrong := schemas.faults_in(json.loads(body)):
        places = "; ".join(f"{each['path']} {each['message']}" for each in wrong)
        raise ValueError(f"The payload does not fit {name}: {places}")
    return body


def _text(value: Any) -> str:
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"it holds a value of type {type(value).__name__}")


async def _until_taken(event_id: UUID, send: Send, hint: str) -> None:
    reason: BusError | str = "no answer"
    try:
        async with asyncio.timeout(PATIENCE):
            failed = 0
            while True:
                try:
                    return await send()
                except BusError as error:
                    reason = error
                failed += 1
                await asyncio.sleep(backoff(failed, FIRST, LONGEST))
    except TimeoutError:
        message = f"the event {event_id} was not taken within {PATIENCE:g} s: {reason}"
        raise PublishError(event_id, "UNREACHABLE", message, hint) from None


@asynccontextmanager
async def _rabbitmq(url: str, exchange: str, message: tuple[str, str, bytes]) -> AsyncIterator[Send]:
    from imi.bloodbank.rabbitmq import RabbitBus

    bus = RabbitBus(url, exchange)

    async def send() -> None:
        try:
            # Into a queue: what a broker takes for nobody, as before iMi has ever run, it throws away.
            await bus.publish([message], mandatory=True)
        except ValueError as error:
            raise config.ConfigError(f"IMI_RABBITMQ_URL cannot be used: {error}") from None

    try:
        yield send
    finally:
        await bus.close()


@asynccontextmanager
async def _http(server: connection.Connection, event_id: UUID, body: bytes) -> AsyncIterator[Send]:
    import httpx

    async with httpx.AsyncClient(**server.client) as client:

        async def send() -> None:
            try:
                answer = await client.post(
                    "/api/v1/events", content=body, headers={"Content-Type": "application/json"}
                )
            except httpx.TransportError as error:
                raise BusError(f"{server.url}: {type(error).__name__} {error}".rstrip()) from None
            _judge(server.url, event_id, answer)

        yield send


def _judge(url: str, event_id: UUID, answer: httpx.Response) -> None:
    if answer.status_code == 429 or answer.is_server_error:
        raise BusError(f"{url} answers with status {answer.status_code}")
    try:
        document = answer.json()
        if answer.is_success:
            if document["event_id"] == str(event_id):
                return
            raise ValueError
        detail = document["detail"]
        code, message = str(detail["code"]), str(detail["message"])
        hint = str(detail.get("hint") or "give a key of scope write: IMI_API_KEY")
    except (ValueError, TypeError, KeyError, AttributeError):
        message = f"what answers at {url} (status {answer.status_code}) is not iMi"
        hint = "name the right server: IMI_API_URL"
        raise PublishError(event_id, "NOT_IMI", message, hint) from None
    raise PublishError(event_id, code, message, hint, answer.status_code)
