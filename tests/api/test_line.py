"""The line before a pool: first come, first served, and what happens to those who wait."""

import asyncio
from typing import Any

import pytest

from imi.database import line
from imi.database.line import Line


class Pool:
    """Two connections whose statements end when `gate` is open; `refuse` is why there is none."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.given = self.back = self.busy = self.most = 0
        self.sent: list[str] = []
        self.refuse: Exception | None = None
        self.broken = False

    def get_max_size(self) -> int:
        return 2

    async def acquire(self) -> "Pool":
        if self.refuse:
            raise self.refuse
        self.given += 1
        self.broken = False
        return self

    async def release(self, connection: "Pool") -> None:
        self.back += 1

    def is_closed(self) -> bool:
        return self.broken

    async def fetch(self, statement: str, *values: Any) -> list[str]:
        self.sent.append(statement)
        self.busy += 1
        self.most = max(self.most, self.busy)
        await self.gate.wait()
        self.busy -= 1
        if statement == "breaks":
            self.broken = True
            raise OSError(statement)
        return [statement.upper()]


@pytest.fixture
async def pool() -> Pool:
    return Pool()


async def turns(n: int = 10) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


def waiting(own: Line, *statements: str) -> list[asyncio.Task[Any]]:
    return [asyncio.ensure_future(own.fetch(each)) for each in statements]


async def test_first_come_first_served_and_newcomers_do_not_overtake(pool: Pool) -> None:
    own = Line(pool)  # type: ignore[arg-type]
    early = waiting(own, *"abcdef")
    await turns()
    assert pool.sent == ["a", "b"]
    pool.gate.set()
    late = waiting(own, "g", "h")
    assert [rows for (rows,) in await asyncio.gather(*early, *late)] == list("ABCDEFGH")
    assert pool.sent == list("abcdefgh")
    await turns()
    assert pool.most == 2 and pool.given == pool.back


async def test_who_has_gone_is_not_served(pool: Pool) -> None:
    own = Line(pool)  # type: ignore[arg-type]
    calls = waiting(own, *"abcd")
    await turns()
    calls[2].cancel()
    pool.gate.set()
    assert await asyncio.gather(calls[0], calls[1], calls[3]) == [["A"], ["B"], ["D"]]
    assert pool.sent == ["a", "b", "d"]


async def test_waiting_has_an_end_and_running_has_none(pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line, "PATIENCE", 0.05)
    own = Line(pool)  # type: ignore[arg-type]
    calls = waiting(own, *"abc")
    with pytest.raises(TimeoutError):
        await calls[2]
    pool.gate.set()
    assert await asyncio.gather(*calls[:2]) == [["A"], ["B"]]


async def test_a_lost_connection_is_the_loss_of_one(pool: Pool) -> None:
    own = Line(pool)  # type: ignore[arg-type]
    calls = waiting(own, "breaks", "b", "c", "d")
    await turns()
    pool.gate.set()
    found = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(found[0], OSError)
    assert found[1:] == [["B"], ["C"], ["D"]]
    await turns()
    assert pool.given == pool.back


async def test_without_connections_everybody_hears_why(pool: Pool) -> None:
    own = Line(pool)  # type: ignore[arg-type]
    pool.refuse = ConnectionRefusedError("away")
    found = await asyncio.gather(*waiting(own, *"abcdef"), return_exceptions=True)
    assert found == [pool.refuse] * 6
    pool.refuse = None
    pool.gate.set()
    assert await own.fetch("back") == ["BACK"]
