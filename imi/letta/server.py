"""Letta as a runtime, over its REST API with letta-client.

The client repeats nothing by itself (`max_retries=0`): a create that it repeated could make a second agent.
Agents are known by a tag, since their names are not unique. A task is a run in the background, so that
whoever comes after a crash can ask for its end.
"""

from __future__ import annotations

import logging
import re
from collections.abc import AsyncIterable, Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import letta_client
from letta_client import AsyncLetta, DefaultAsyncHttpxClient

from imi import rules
from imi.letta.runtime import AwayError, ClosedError, Progress, RefusedError

TIMEOUT = 60.0  # seconds for one answer
SIZE = 100_000  # characters of a memory block, Letta's default
MOST = 1000  # agents of a request, or messages of a run, that are looked at
NEWEST = 20  # steps of a run among which the last good one is looked for
FINE = ("end_turn", "tool_rule")
CLOSED = (letta_client.AuthenticationError, letta_client.PermissionDeniedError)
REFUSED = (letta_client.BadRequestError, letta_client.NotFoundError, letta_client.UnprocessableEntityError)
USELESS = (
    ValueError,
    TypeError,
    AttributeError,
    LookupError,
    RecursionError,
)  # what reading a malformed answer raises
STRANGER = "it does not look like a Letta server"

logging.getLogger("httpx").setLevel(logging.WARNING)  # a line for each question is too many


class LettaRuntime:
    """A Letta server; runtime.Runtime says what the methods do."""

    agent_type = "letta"

    def __init__(self, url: str, key: str | None, model: str, embedding: str | None) -> None:
        self._model = model
        self._optional = {"embedding": embedding} if embedding else {}
        # What is on this machine is asked past any proxy.
        http = DefaultAsyncHttpxClient(trust_env=not rules.is_loopback(urlsplit(url).hostname))
        self._client = AsyncLetta(base_url=url, timeout=TIMEOUT, max_retries=0, http_client=http)
        self._client.api_key = key  # never LETTA_API_KEY, which may be the cloud's

    async def check(self) -> None:
        """Runtime.check"""
        with _answers(), _recognised():
            (await self._client.agents.list(limit=1)).items[:]  # /health asks for no key
            wanted = [("model", self._model, [each.handle for each in await self._client.models.list()])]
            if embedding := self._optional.get("embedding"):
                found = [each.handle for each in await self._client.models.embeddings.list()]
                wanted.append(("embedding model", embedding, found))
        for what, handle, handles in wanted:
            if handle not in handles:
                raise RefusedError(f"it has no {what} {handle}, but {', '.join(map(str, handles)) or 'none'}")

    async def find(self, request: str) -> str | None:
        """Runtime.find; of several the one that has begun stays, or else the oldest."""
        tag = _tag(request)
        with _answers(missing=AwayError):  # a list is never missing: this is no Letta just now
            page = self._client.agents.list(tags=[tag], order="asc", include=["agent.tags", "agent.blocks"])
            found = [each for each in await _some(page) if tag in each.tags]
            agents = sorted(
                [(each.created_at, _id(each.id, "agent"), each) for each in found],
                key=lambda known: known[:2],
            )
        if len(agents) < 2:
            return agents[0][1] if agents else None
        begun = [agent for _, agent, _ in agents if await self._run(agent)]
        kept = (begun or [agents[0][1]])[0]
        for _, agent, state in agents:
            if agent != kept:
                await self._delete(agent, [str(block.id) for block in state.blocks])
        return kept

    async def create(self, request: str, name: str, task: str, context: str) -> str:
        """Runtime.create"""
        memory = {"task": task, "context": context}
        with _answers():
            made = await self._client.agents.create(
                name=_name(name),
                model=self._model,
                memory_blocks=[
                    {"label": label, "value": value, "limit": max(SIZE, len(value))}
                    for label, value in memory.items()
                ],
                tags=[_tag(request)],
                **self._optional,  # type: ignore[arg-type]
            )
            agent = _id(made.id, "agent")
        return await self.find(request) or agent

    async def start(self, agent: str, task: str) -> None:
        """Runtime.start"""
        if await self._run(agent):
            return
        with _answers():
            run = await self._client.agents.messages.create_async(
                agent, messages=[{"role": "user", "content": task}]
            )
            _id(run.id, "run")

    async def look(self, agent: str) -> Progress:
        """Runtime.look"""
        run = await self._run(agent)
        if run is None:
            raise RefusedError(f"it knows nothing any more of a run of {agent}")
        with _answers():
            steps = (await self._client.runs.steps.list(run.id, limit=NEWEST)).items
            checkpoint = next((_id(each.id, "step") for each in steps if each.status == "success"), None)
            if run.status in ("created", "running"):
                return Progress(checkpoint)
            if run.status == "completed" and run.stop_reason in FINE:
                return Progress(checkpoint, True, await self._answer(run.id))
            if run.status not in ("completed", "failed", "cancelled"):
                raise ValueError(f"a run of status {run.status!r}")
            why = (run.metadata or {}).get("error") or run.stop_reason or run.status
            return Progress(checkpoint, True, stopped=f"the agent stopped: {why}")

    async def close(self) -> None:
        """Runtime.close"""
        await self._client.close()

    async def _run(self, agent: str) -> Any:
        """The agent's first run, which is the request's; None before that."""
        with _answers():
            runs = (await self._client.runs.list(agent_id=agent, order="asc", limit=1)).items
            for run in runs:
                _id(run.id, "run")
            return runs[0] if runs else None

    async def _answer(self, run: str) -> str:
        said = await _some(self._client.runs.messages.list(run, order="desc"))
        last = next((each.content for each in said if each.message_type == "assistant_message"), "")
        return last if isinstance(last, str) else "".join(part.text for part in last)

    async def _delete(self, agent: str, blocks: list[str]) -> None:
        with _answers(missing=None):
            await self._client.agents.delete(agent)
        for block in blocks:  # they would stay
            with _answers(missing=None):
                await self._client.blocks.delete(block)


async def _some(page: AsyncIterable[Any]) -> list[Any]:
    """The first of a list; one without an end would be read for ever."""
    found = []
    async for each in page:
        found.append(each)
        if len(found) == MOST:
            break
    return found


@contextmanager
def _answers(missing: type[Exception] | None = RefusedError) -> Iterator[None]:
    """Raises ours for whatever the client raises; `missing` is for 404, or nothing."""
    try:
        yield
    except letta_client.NotFoundError as error:
        if missing:
            raise missing(_said(error)) from error
    except CLOSED as error:
        raise ClosedError(_said(error)) from error
    except REFUSED as error:
        raise RefusedError(_said(error)) from error
    except letta_client.LettaError as error:
        raise AwayError(_said(error)) from error
    except USELESS as error:
        raise AwayError(f"an answer that is none: {type(error).__name__}: {error}") from error


@contextmanager
def _recognised() -> Iterator[None]:
    """Around questions that every Letta server answers: raises RefusedError for another server."""
    try:
        yield
    except REFUSED as error:
        asked = f"{error.request.method} {error.request.url.path}"
        raise RefusedError(f"{STRANGER} (it answers {asked} with status {error.status_code})") from error
    except USELESS as error:
        raise RefusedError(f"{STRANGER} (it answers with status 200, but not as Letta does)") from error


def _said(error: letta_client.LettaError) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ and str(error.__cause__) else ""
    return f"{type(error).__name__}: {error}{cause}"


def _id(value: Any, kind: str) -> str:
    if not isinstance(value, str) or not rules.UUID.fullmatch(value.removeprefix(f"{kind}-")):
        raise ValueError(f"{value!r} is no id of a {kind}")
    return value


def _tag(request: str) -> str:
    return f"imi:request:{request}"


def _name(text: str) -> str:
    """A name that Letta takes; any other makes it answer 500."""
    return re.sub(r"[^\w '-]", "-", text)
