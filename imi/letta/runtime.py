"""What a runtime of agents is to iMi; another one than Letta is one more file like server.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class AwayError(Exception):
    """It is away, or its answer is of no use: the same again later may go through."""


class ClosedError(Exception):
    """It does not let this worker in, whatever is asked."""


class RefusedError(Exception):
    """It will not do this, however often it is asked."""


@dataclass(frozen=True)
class Progress:
    """How far an agent is: where it could go on from, and its end, with the result or what stopped it."""

    checkpoint: str | None = None
    is_over: bool = False
    result: str = ""
    stopped: str | None = None


class Runtime(Protocol):
    """Agents, each made for one request; every method raises the three errors above."""

    agent_type: str

    async def check(self) -> None:
        """Whether it lets this worker in and has what an agent needs."""

    async def find(self, request: str) -> str | None:
        """The request's one agent, if there is one; what a lost answer has left beside it is deleted."""

    async def create(self, request: str, name: str, task: str, context: str) -> str:
        """Make the request's agent, with task and context in its memory; answers what `find` will."""

    async def start(self, agent: str, task: str) -> None:
        """Have it begin, unless it has begun."""

    async def look(self, agent: str) -> Progress:
        """How far it is."""

    async def close(self) -> None:
        """Leave it."""
