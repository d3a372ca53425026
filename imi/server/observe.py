"""What /health and /metrics show: requests, the pools, this process, and what the database says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import orjson
from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from imi import __version__
from imi.bloodbank.bus import Bus
from imi.database.line import Line
from imi.database.pool import Pools
from imi.server.calls import HEALTH, METRICS, Reply

PATIENCE = 1.5  # seconds that the database has to answer
PROMETHEUS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LABELS = ("method", "route")


class Probes:
    """What the database says of itself, over connections of its own: a full pool is not a database away."""

    def __init__(self, pools: Pools, bus: Bus) -> None:
        self._line = Line(pools.probe)
        self._bus = bus
        self._under_way: dict[str, asyncio.Future[Any]] = {}

    async def _ask(self, door: str) -> str | None:
        """A door's document, or None if the database does not give it in time."""
        asked = self._under_way.get(door)  # one that hangs is not started again
        if asked is None or asked.done():
            asked = self._under_way[door] = asyncio.ensure_future(self._line.fetch(door))
            asked.add_done_callback(lambda done: done.cancelled() or done.exception())  # even if nobody asks
        await asyncio.wait((asked,), timeout=PATIENCE)
        return str(asked.result()[0][0]) if asked.done() and not asked.exception() else None

    async def figures(self) -> dict[str, Any]:
        """The figures of the database and of a broker, without those of who is away."""
        bus, found = await asyncio.gather(self._bus.figures(), self._ask(METRICS))
        figures: dict[str, Any] = orjson.loads(found or "{}")
        return figures | bus

    async def health(self) -> Reply:
        """Whether database and bus answer, and who does not follow the log: without them all else goes on."""
        bus, found = await asyncio.gather(self._bus.reach(), self._ask(HEALTH))
        healthy, followers = found is not None, orjson.loads(found or "{}").get("followers")
        degraded = bus == "disconnected" or followers
        said = {
            "status": ("degraded" if degraded else "healthy") if healthy else "unhealthy",
            "database": "connected" if healthy else "disconnected",
            "bloodbank": bus,
            "version": __version__,
        } | ({"followers": followers} if followers else {})
        return Reply(200 if healthy else 503, orjson.dumps(said), None if healthy else {"Retry-After": "1"})


class Metrics:
    """The metrics of one server."""

    def __init__(self, pools: Pools) -> None:
        self.registry = own = CollectorRegistry()
        self._requests = Counter("imi_http_requests", "Requests answered", (*LABELS, "status"), registry=own)
        self._seconds = Histogram(
            "imi_http_request_seconds", "Time to the answer", LABELS, buckets=BUCKETS, registry=own
        )
        self._children: dict[tuple[str, str, int], tuple[Any, Any]] = {}
        self._pools = pools
        self._figures: dict[str, Any] = {}
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

    def page(self, figures: dict[str, Any]) -> Reply:
        """The page; `figures` are those of Probes."""
        self._figures = figures
        return Reply(200, generate_latest(self.registry), PROMETHEUS)

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
            "imi_database_up", "Whether the database answered", float("log_end" in self._figures)
        )
        for name, value in self._figures.items():
            what, _, label = name.partition("_by_")
            words = f"{name.replace('_', ' ').capitalize()}, says the database or the broker"
            one = GaugeMetricFamily(f"imi_{what}", words, labels=[label] if label else [])
            for key, number in value.items() if label else [("", value)]:
                one.add_metric([key] if label else [], number)
            yield one
