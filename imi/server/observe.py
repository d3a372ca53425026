"""What /metrics shows: requests, the pools, this process, and the database's own figures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, generate_latest
from prometheus_client.core import GaugeMetricFamily

from imi.database.pool import Pools

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
LABELS = ("method", "route")


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

    def text(self, figures: dict[str, float]) -> bytes:
        """The page; `figures` are the database's, {} when it is away."""
        self._figures = figures
        return generate_latest(self._registry)

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """What is read only when asked for."""
        size = GaugeMetricFamily(
            "imi_pool_connections", "Connections to the database", labels=("pool", "state")
        )
        for name, pool in (("api", self._pools.api), ("reader", self._pools.reader)):
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
