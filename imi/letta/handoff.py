"""One request from BMAD to its end, whoever is away meanwhile and however often it is begun.

What it publishes has ids made of the request's: a repeat is the same event, and the log stores that once.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar
from uuid import UUID, uuid5
from weakref import WeakValueDictionary

from imi import rules
from imi.backoff import backoff
from imi.bloodbank import schemas
from imi.bloodbank.envelope import fault
from imi.bloodbank.publish import PublishError
from imi.letta.runtime import AwayError, ClosedError, RefusedError, Runtime
from imi.texts import parse

REQUESTED = "bmad.workflow.handoff.requested"
TRIES = 16  # of one step, some ten minutes
FIRST, LONGEST = 1.0, 60.0  # seconds between two tries
STEP = 300.0  # seconds for all answers of one step
LOOK = 2.0  # seconds between two looks at an agent at work
ENOUGH = 24 * 3600.0  # seconds that an agent may be at work
TEXT = 64 << 10  # characters of a result or reason

logger = logging.getLogger("imi.letta")
Answer = TypeVar("Answer")


class Publish(Protocol):
    """publish_event, with the worker's settings."""

    def __call__(
        self, event_type: str, payload: dict[str, Any], correlation_ids: list[UUID], *, event_id: UUID
    ) -> Awaitable[object]:
        """Publish an event under this id."""


class RequestError(Exception):
    """What came is no request; `request` is the part of it that one can answer, if there is one."""

    def __init__(self, message: str, request: Request | None = None) -> None:
        super().__init__(message)
        self.request = request


@dataclass(frozen=True)
class Request:
    """A hand-off that was asked for."""

    id: UUID
    payload: dict[str, Any]

    @property
    def context(self) -> str:
        """The context as the text of a memory block."""
        given = self.payload["context"]
        return given if isinstance(given, str) else json.dumps(given, ensure_ascii=False, indent=2)


def read(message: bytes) -> Request:
    """The request that a message is. Raises RequestError."""
    if reason := fault(message):
        raise RequestError(f"The message {reason}")
    envelope = parse(message)
    event_id, payload = envelope.get("event_id"), envelope.get("payload")
    if not isinstance(event_id, str) or not rules.UUID.fullmatch(event_id) or not isinstance(payload, dict):
        raise RequestError("The message is no envelope")
    request = Request(UUID(event_id), payload)
    if wrong := schemas.faults(REQUESTED, payload):
        places = "; ".join(f"{each['path']} {each['message']}".strip() for each in wrong)
        names_its_workflow = "workflow_id" in payload and all(each["path"] != "workflow_id" for each in wrong)
        raise RequestError(
            f"The request is not as its schema has it: {places}", request if names_its_workflow else None
        )
    return request


class Handoff:
    """Hands requests over to a runtime, and says on the bus what becomes of them."""

    def __init__(self, runtime: Runtime, publish: Publish) -> None:
        self._runtime = runtime
        self._publish = publish
        # A request that was published twice comes twice, and perhaps at once.
        self._hands: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()

    async def take(self, message: bytes) -> str | None:
        """Serve a request to its end. Answers None, or why the message is a dead letter."""
        try:
            request = read(message)
        except RequestError as error:
            if error.request:
                await self._say(error.request, "task.blocked", [error.request.id], reason=str(error))
            return _plain(str(error))
        async with self._hands.setdefault(request.id, asyncio.Lock()):
            return await self._serve(request)

    async def _serve(self, request: Request) -> str | None:
        known: dict[str, Any] = {}
        cause = request.id
        try:
            agent = await self._patiently("making the agent", lambda: self._agent(request))
            # Of two agents the one that has begun stays: so only now is it certain which one is named.
            await self._patiently("starting it", lambda: self._runtime.start(agent, request.payload["task"]))
            known = {"session_id": agent}
            cause = await self._say(
                request, "accepted", [cause], agent_type=self._runtime.agent_type,
                accepted_from=request.payload["from_agent"], **known,
            )  # fmt: skip
            await self._follow(request, agent, cause)
        except RefusedError as error:
            await self._say(request, "task.blocked", [cause], reason=str(error), **known)
            return _plain(str(error))
        with suppress(AwayError, ClosedError, RefusedError):  # a create that came through late
            await self._runtime.find(str(request.id))
        return None

    async def _agent(self, request: Request) -> str:
        found = await self._runtime.find(str(request.id))
        if found:
            return found
        to_agent, task = request.payload["to_agent"], request.payload["task"]
        return await self._runtime.create(str(request.id), to_agent, task, request.context)

    async def _follow(self, request: Request, agent: str, accepted: UUID) -> None:
        until = time.monotonic() + ENOUGH
        saved = None
        while True:
            progress = await self._patiently("looking at it", lambda: self._runtime.look(agent))
            if progress.checkpoint and progress.checkpoint != saved:
                saved = progress.checkpoint
                await self._say(
                    request, "checkpoint.saved", [accepted], session_id=agent, checkpoint_id=saved
                )
            if progress.is_over:
                what, end = "task.completed", {"result": progress.result}
                if progress.stopped is not None:
                    what, end = "task.blocked", {"reason": progress.stopped}
                await self._say(request, what, [accepted], session_id=agent, **end)
                return
            if time.monotonic() > until:
                raise RefusedError(f"the agent was still at work after {ENOUGH / 3600:g} hours")
            await asyncio.sleep(LOOK)

    async def _say(self, request: Request, what: str, causes: list[UUID], **payload: Any) -> UUID:
        """Publish what became of the request, and what belongs to it, until it is taken; the event's id."""
        name = "agent.handoff.accepted" if what == "accepted" else f"agent.{self._runtime.agent_type}.{what}"
        event_id = uuid5(request.id, f"{what} {payload.get('checkpoint_id', '')}".strip())
        payload |= {key: _plain(payload[key]) for key in ("reason", "result") if key in payload}
        payload = {"workflow_id": request.payload["workflow_id"], **payload}
        failed = 0
        while True:
            try:
                await self._publish(name, payload, causes, event_id=event_id)
                break
            except PublishError as error:
                _log(logging.WARNING, "an event waits for the bus", request=request.id, error=str(error))
            failed += 1
            await asyncio.sleep(backoff(failed, FIRST, LONGEST))
        shown = {key: value for key, value in payload.items() if key != "result"}
        _log(logging.INFO, name, request=request.id, event_id=event_id, **shown)
        return event_id

    async def _patiently(self, step: str, ask: Callable[[], Awaitable[Answer]]) -> Answer:
        """What the runtime answers, in the end. Raises RefusedError."""
        failed = tries = 0
        while True:
            try:
                async with asyncio.timeout(STEP):
                    return await ask()
            except ClosedError as error:  # it is not the request's fault, so this counts for nothing
                _log(logging.ERROR, "the runtime lets nobody in", step=step, error=str(error))
            except (AwayError, TimeoutError) as error:
                tries += 1
                reason = str(error) or f"no end within {STEP:g} s"
                _log(logging.WARNING, "the runtime waits", step=step, tries=tries, error=reason)
                if tries == TRIES:
                    raise RefusedError(f"{step} failed {tries} times: {reason}") from error
            failed += 1
            await asyncio.sleep(backoff(failed, FIRST, LONGEST))


def _plain(text: str) -> str:
    """What the log can hold of a text from elsewhere."""
    return text.replace("\0", "").encode(errors="replace").decode()[:TEXT]


def _log(level: int, message: str, **fields: Any) -> None:
    logger.log(level, message, extra={"fields": fields})
