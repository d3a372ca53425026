"""Who gets what of a page of the log."""

from __future__ import annotations

import asyncio
from bisect import bisect_right
from collections.abc import AsyncIterator, Collection, Iterator, Mapping

from imi.stream.client import Client
from imi.stream.patterns import Patterns
from imi.stream.wire import Message, Wire

Share = tuple[Wire, list[Message], list[Client]]


class Group:
    """The clients of one filter."""

    __slots__ = ("batch", "clients")

    def __init__(self) -> None:
        self.clients: set[Client] = set()
        self.batch: list[Message] = []


class Audience:
    """Those who follow the tail, by what they have asked for."""

    def __init__(self) -> None:
        self.members: set[Client] = set()
        self._groups: dict[str | None, dict[str | None, Group]] = {}  # by workflow, then pattern
        self._patterns = Patterns()

    def join(self, client: Client) -> None:
        """One more who follows."""
        self.members.add(client)
        self._groups.setdefault(client.workflow, {}).setdefault(client.pattern, Group()).clients.add(client)
        if client.pattern:
            self._patterns.add(client.pattern)

    def leave(self, client: Client) -> None:
        """One fewer, if it followed."""
        if client not in self.members:
            return
        self.members.discard(client)
        groups = self._groups[client.workflow]
        groups[client.pattern].clients.discard(client)
        if not groups[client.pattern].clients:
            del groups[client.pattern]
        if not groups:
            del self._groups[client.workflow]
        if client.pattern:
            self._patterns.remove(client.pattern)

    async def shares(self, page: list[Message]) -> AsyncIterator[Share]:
        """What each is to get, and all who get the same; those without a pattern wait for no pattern."""
        types = {message.event_type for message in page}
        for share in self._shares(page, {each: {None} for each in types}):
            yield share
        if self._patterns:
            matching = {}
            for each in types:
                matching[each] = self._patterns.matching(each)
                await asyncio.sleep(0)  # others' requests wait no longer than for one type
            for share in self._shares(page, matching):
                yield share

    def _shares(self, page: list[Message], matching: Mapping[str, Collection[str | None]]) -> Iterator[Share]:
        filled = {}
        for message in page:
            for name in message.concerns:
                if groups := self._groups.get(name):
                    for pattern in groups.keys() & matching[message.event_type]:
                        groups[pattern].batch.append(message)
                        filled[groups[pattern]] = True
        alike: dict[tuple[Message, ...], list[Client]] = {}
        for group in filled:
            alike.setdefault(tuple(group.batch), []).extend(group.clients)
            group.batch.clear()
        for batch, clients in alike.items():
            positions = [message.position for message in batch]
            parts: dict[tuple[Wire, int], list[Client]] = {}
            for client in clients:
                parts.setdefault((client.wire, bisect_right(positions, client.cursor)), []).append(client)
            for (framing, first), some in parts.items():
                if first < len(batch):
                    yield framing, list(batch[first:]), some
