"""What /health and /metrics show: requests, the pools, this process, and what the database says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from imi import __version__
from imi.database.line import Line
from imi.database.pool import Pools
from imi.server.calls import HEALTH, METRICS, Reply

PATIENCE = 1.5  # seconds that the database has to answer
PROMETHEUS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LABELS = ("method", "route")

Reach = Callable[[], Awaitable[str]]  # embedded, connected or disconnected, within a second


class Probes:
    """What the database says of itself, over connections of its own: a full pool is not a database away."""

    def __init__(self, pools: Pools, reach: Reach) -> None:
        self._line = Line(pools.probe)
        self._reach = reach
        self._under_way: dict[str, asyncio.Future[Any]] = {}

    async def _ask(self, door: str) -> str | None:
        """A door's document, or None if the database does not give it in time."""
        asked = self._under_way.get(door)  # one that hangs is not started again
        if asked is None or asked.done():
            asked = self._under_way[door] = asyncio.ensure_future(self._line.fetch(door))
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # even if nobody asks
        await asyncio.wait((asked,), timeout=PATIENCE)
        return str(asked.result()[0][0]) if asked.done() and not asked.exception() else None

    async def figures(self) -> dict[str, float]:
        """The database's figures, {} when it is away."""
        found: dict[str, float] = orjson.loads(await self._ask(METRICS) or "{}")
        return found

    async def health(self) -> Reply:
        """Whether database and bus answer; without the bus all goes on but the sending."""
        bus, found = await asyncio.gather(self._reach(), self._ask(HEALTH))
        healthy = found is not None
        said = {
            "status": ("degraded" if bus == "disconnected" else "healthy") if healthy else "unhealthy",
            "database": "connected" if healthy else "disconnected",
            "bloodbank": bus,
            "version": __version__,
        }
        return Reply(200 if healthy else 503, orjson.dumps(said), None if healthy else {"Retry-After": "1"})


class Metrics:
    """The metrics of one server."""

    def __init__(self, pools: Pools) -> None:
        self._registry = own = CollectorRegistry()
        self._requests = Counter("imi_http_requests", "Requests answered", (*LABELS, "status"), registry=own)
        self._seconds = Histogram(
            "imi_http_request_seconds", "Time to the answer", LABELS, buckets=BUCKETS, registry=own
        )
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._pools = pools
        self._figures: dict[str, float] = {}
        ProcessCollector(registry=own)
        own.register(self)

    def count(self, method: str, route: str, status: int, seconds: float) -> None:
        """One request answered."""
        children = self._children.get((method, route, status))
        if children is None:
            children = self._requests.labels(method, route, status), self._seconds.labels(method, route)
            self._children[method, route, status] = children
        children[0].inc()
        children[1].observe(seconds)

    def page(self, figures: dict[str, float]) -> Reply:
        """The page; `figures` are the database's, {} when it is away."""
        self._figures = figures
        return Reply(200, generate_latest(self._registry), PROMETHEUS)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What is read only when asked for."""
        size = GaugeMetricFamily(
            "imi_pool_connections", "Connections to the database", labels=("pool", "state")
        )
        for name, pool in (
            ("api", self._pools.api),
            ("reader", self._pools.reader),
            ("probe", self._pools.probe),
        ):
            size.add_metric((name, "idle"), pool.get_idle_size())
            size.add_metric((name, "busy"), pool.get_size() - pool.get_idle_size())
        yield size
        yield GaugeMetricFamily(
            "imi_database_up", "Whether the database answered", float(bool(self._figures))
        )
        for name, value in self._figures.items():
            yield GaugeMetricFamily(
                f"imi_{name}", f"{name.replace('_', ' ').capitalize()}, says the database", value
            )
