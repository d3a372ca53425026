"""Calls that arrive together, sent as one statement."""

from __future__ import annotations

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from imi.database.batch import Batch
from tests.conftest import Database
from tests.serving import ADMIN, Things, live

MOST, FLIGHTS = 10, 3


class Wire:
    """What the batch sends; statements end when `gate` is open."""

    def __init__(self) -> None:
        self.sent: list[int] = []
        self.alone: list[str] = []
        self.under_way = self.most = 0
        self.gate = asyncio.Event()
        self.broken: set[str] = set()
        self.batch = Batch(self.one, self.many, MOST, FLIGHTS)

    async def one(self, text: str) -> str:
        self.alone.append(text)
        await self.gate.wait()
        if text in self.broken:
            raise ValueError(text)
        return text.upper()

    async def many(self, texts: list[str]) -> list[str]:
        self.sent.append(len(texts))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await self.gate.wait()
        self.under_way -= 1
        if self.broken & set(texts):
            raise ValueError("somebody's")
        return [text.upper() for text in texts]


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


async def test_what_comes_in_one_turn_goes_as_one() -> None:
    wire = Wire()
    wire.gate.set()
    names = [f"n{n}" for n in range(10)]
    assert await asyncio.gather(*(wire.batch.call([name]) for name in names)) == [
        name.upper() for name in names
    ]
    assert (wire.sent, wire.alone) == ([10], [])


async def test_a_lone_call_goes_alone_and_at_once() -> None:
    wire = Wire()
    call = wire.batch.call(["a"])
    await turns()
    assert wire.alone == ["a"]
    wire.gate.set()
    assert await call == "A"


async def test_no_more_statements_are_under_way_than_may_be() -> None:
    wire = Wire()
    calls = []
    for n in range(5 * MOST):
        calls.append(wire.batch.call([f"{n}"]))
        if n % 7 == 0:
            await turns(1)
    await turns()
    assert wire.under_way + len(wire.alone) == FLIGHTS
    wire.gate.set()
    assert await asyncio.gather(*calls) == [f"{n}" for n in range(5 * MOST)]
    assert wire.most <= FLIGHTS and max(wire.sent) == MOST


async def test_it_goes_on_after_every_pause() -> None:
    """A call that arrives just as the last flight ends is not forgotten."""
    wire = Wire()
    wire.gate.set()
    for pause in range(200):
        calls = [wire.batch.call([f"{n}"]) for n in range(1 + pause % 3)]
        async with asyncio.timeout(5):
            await calls[0]
            late = wire.batch.call(["late"])
            assert await late == "LATE"
            await asyncio.gather(*calls)
        await turns(pause % 5)


async def test_one_fault_is_not_its_neighbours() -> None:
    wire = Wire()
    wire.gate.set()
    wire.broken = {"b"}
    answers = await asyncio.gather(*(wire.batch.call([name]) for name in "abc"), return_exceptions=True)
    assert answers[0] == "A" and answers[2] == "C"
    assert isinstance(answers[1], ValueError) and answers[1].args == ("b",)
    assert (wire.sent, sorted(wire.alone)) == ([3], ["a", "b", "c"])
    with pytest.raises(ValueError, match="b"):
        await wire.batch.call(["b"])


async def test_a_caller_that_has_gone_spoils_nothing() -> None:
    wire = Wire()
    calls = [wire.batch.call([name]) for name in "abc"]
    await turns()
    calls[1].cancel()
    wire.gate.set()
    assert [await calls[0], await calls[2]] == ["A", "C"]
    wire.broken = {"d"}
    lone = wire.batch.call(["d"])
    lone.cancel()
    await turns()
    assert await wire.batch.call(["e"]) == "E"


async def test_over_http_each_gets_its_own(api: httpx.Client, things: Things) -> None:
    projects = [await asyncio.to_thread(things.new_project) for _ in range(20)]
    asked: list[tuple[str, int, Any]] = [(each["id"], 200, each) for each in projects] * 10
    asked += [(str(uuid4()), 404, None) for _ in range(100)]
    asked += [(f"not-a-uuid-{n}", 400, None) for n in range(20)]
    async with httpx.AsyncClient(base_url=api.base_url, headers={"X-API-Key": ADMIN}, timeout=30) as client:
        answers = await asyncio.gather(*(client.get(f"/api/v1/projects/{each[0]}") for each in asked))
    for (name, status, document), answer in zip(asked, answers, strict=True):
        assert answer.status_code == status
        if status == 200:
            assert answer.json() == document
        elif status == 404:
            assert answer.json()["detail"]["params"] == {"project_id": name}


def test_a_function_that_fails_for_one_fails_for_one(fresh_database: Database) -> None:
    """The whole statement fails; each of its calls runs once more alone."""
    bad, good = str(uuid4()), str(uuid4())
    fresh_database.server.run(
        f"""create or replace function logic.project_document(p_project_id uuid) returns json
        language plpgsql stable as $$ begin
        if p_project_id = '{bad}' then raise exception 'no'; end if; return '{{}}'; end $$""",
        database=fresh_database.name,
    )

    async def ask(client: httpx.AsyncClient) -> list[int]:
        async with client:
            paths = [f"/api/v1/projects/{each}" for each in [good] * 30 + [bad]]
            return [answer.status_code for answer in await asyncio.gather(*map(client.get, paths))]

    with live(fresh_database.url) as api:
        client = httpx.AsyncClient(base_url=api.base_url, headers={"X-API-Key": ADMIN}, timeout=30)
        assert asyncio.run(ask(client)) == [200] * 30 + [500]
