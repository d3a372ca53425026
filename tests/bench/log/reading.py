"""GET /events by workflow, by type pattern and by time: at a million events, and at ten million beside it."""

from __future__ import annotations

import contextlib
import hashlib
import random
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import httpx

from tests.bench.load import BenchError
from tests.bench.log.stage import MILLION, Stage, p95, served, timed
from tests.bench.rows import Figure

REQUESTS = 200
BEGIN, STEP = datetime(2025, 1, 1, tzinfo=UTC), timedelta(seconds=3)  # as fill.sql has them
PATTERNS = (
    "git.#",
    "bmad.workflow.#",
    "*.*.completed",
    "imi.*.*",
    "tool.mutation.*",
    "#.created",
    "audit.#",
    "#",
)


def by_workflow(chance: random.Random, events: int) -> dict[str, str]:
    number = chance.randrange(1, events // 500 - 20)
    return {"workflow_id": str(uuid.UUID(hashlib.md5(f"workflow {number}".encode()).hexdigest()))}


def by_pattern(chance: random.Random, events: int) -> dict[str, str]:
    return {"event_type": chance.choice(PATTERNS)}


def by_time(chance: random.Random, events: int) -> dict[str, str]:
    start = BEGIN + STEP * chance.randrange(events - 30_000)
    return {"start_time": start.isoformat(), "end_time": (start + timedelta(days=1)).isoformat()}


def by_pattern_and_time(chance: random.Random, events: int) -> dict[str, str]:
    return by_pattern(chance, events) | by_time(chance, events) | {"order": chance.choice(("asc", "desc"))}


Choice = Callable[[random.Random, int], dict[str, str]]
CHOICES: dict[str, Choice] = {
    "workflow": by_workflow,
    "type pattern": by_pattern,
    "time": by_time,
    "type pattern and time": by_pattern_and_time,
}


async def read(stage: Stage) -> list[Figure]:
    """All sizes and all kinds of filters take turns; a first turn does not count."""
    found: dict[tuple[str, int], list[float]] = {}
    async with contextlib.AsyncExitStack() as stack:
        clients = {size: await stack.enter_async_context(served(stage.log(size))) for size in stage.sizes}
        for turn in range(stage.rounds + 1):
            for kind, choice in CHOICES.items():
                for size, client in clients.items():
                    value = await one_round(client, choice, size, turn)
                    if turn:
                        found.setdefault((kind, size), []).append(value)
    figures = []
    for (kind, size), values in found.items():
        if size == MILLION:
            figures.append(
                Figure(f"GET /events by {kind}, {size:,} events, p95 ms", "<", 20, values, form=".1f")
            )
        else:
            beside = [each / few for each, few in zip(values, found[kind, MILLION], strict=True)]
            figures.append(Figure(f"the same at {size:,} events, p95 ms", "<", 30, values, form=".1f"))
            figures.append(Figure(f"{kind}: × that at {MILLION:,}", "<", 1.5, beside))
    return figures


async def one_round(client: httpx.AsyncClient, choice: Choice, events: int, turn: int) -> float:
    """The p95 of one round in milliseconds. Raises BenchError if a query found nothing at all."""
    chance, times = random.Random(turn), []
    for _ in range(REQUESTS):
        query = choice(chance, events)
        took, answer = await timed(client, "/api/v1/events", **query)
        times.append(took)
        if "audit.#" not in query.values() and len(answer.content) < 100:
            raise BenchError(f"{query} found nothing")
    return p95(times)
