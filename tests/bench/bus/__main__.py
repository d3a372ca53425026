"""make bench-bus: how fast the bus is, beside its own client without a database, and COPY.

Both sides of a ratio take turns in one run, on the same PostgreSQL and the same RabbitMQ, so that whatever else the
machine does meets both; a rate or a latency alone says as much about the machine.
"""

import sys

from tests.bench.bus import rates, running, wake
from tests.bench.bus.stage import staged
from tests.bench.rows import main

ROWS = {
    "intake": rates.taken_in,
    "ingest": rates.ingested,
    "relay": rates.relayed,
    "subscriptions": rates.followed,
    "publish": running.published,
    "mutation": running.mutated,
    "memory": running.remembered,
    "wake": wake.woken,
}

if __name__ == "__main__":
    sys.exit(
        main("tests.bench.bus", __doc__, "a million messages where the memory is looked at", ROWS, staged)
    )
