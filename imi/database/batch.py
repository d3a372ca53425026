"""Calls that arrive together, sent as one statement."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

Arguments = Sequence[str | None]


class Batch:
    """Gathers the calls of one function.

    `one` runs a single call and answers its row; `many` takes one array for each argument and answers the
    rows of at most `calls` calls, in their order. A call that finds nothing under way goes at once, with what
    else came in the same turn of the loop; while `statements` are out, the next calls gather. When one
    fails, each of its calls runs once alone, so that one call's fault is not its neighbours'.
    """

    def __init__(
        self,
        one: Callable[..., Awaitable[Any]],
        many: Callable[..., Awaitable[Sequence[Any]]],
        calls: int,
        statements: int,
    ) -> None:
        self._one = one
        self._many = many
        self._calls = calls
        self._statements = statements
        self._waiting: deque[tuple[Arguments, asyncio.Future[Any]]] = deque()
        self._tasks: set[asyncio.Task[None]] = set()
        self._flights = 0

    def call(self, arguments: Arguments) -> asyncio.Future[Any]:
        """The row to come."""
        future = asyncio.get_running_loop().create_future()
        self._waiting.append((arguments, future))
        if len(self._waiting) == 1:  # else a flight that will take it is about to start, or all are under way
            self._start()
        return future

    def _start(self) -> None:
        if self._flights < self._statements:
            self._flights += 1
            task = asyncio.ensure_future(self._fly())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _fly(self) -> None:
        while self._waiting:
            calls = [self._waiting.popleft() for _ in range(min(self._calls, len(self._waiting)))]
            if self._waiting:
                self._start()
            try:
                if len(calls) == 1:
                    rows = [await self._one(*calls[0][0])]
                else:
                    columns = zip(*(arguments for arguments, _ in calls), strict=True)
                    rows = list(await self._many(*map(list, columns)))
            except Exception as error:
                if len(calls) == 1:
                    self._settle(calls[0][1], error=error)
                else:
                    await asyncio.gather(*(self._alone(*call) for call in calls))
            else:
                for (_, future), row in zip(calls, rows, strict=True):
                    self._settle(future, row)
        # In the same step that found nothing waiting: a call that came between would wait for ever.
        self._flights -= 1

    async def _alone(self, arguments: Arguments, future: asyncio.Future[Any]) -> None:
        try:
            self._settle(future, await self._one(*arguments))
        except Exception as error:
            self._settle(future, error=error)

    def _settle(self, future: asyncio.Future[Any], row: Any = None, error: Exception | None = None) -> None:
        if future.done():
            return  # its caller has gone
        if error:
            future.set_exception(error)
        else:
            future.set_result(row)
