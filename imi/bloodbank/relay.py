"""The relay: one leader sends what the log has on to the bus, however often either is away."""

from __future__ import annotations

import logging

from imi.bloodbank.bus import Bus
from imi.bloodbank.follow import forever
from imi.database.listen import Follower

LEADER = 4245 << 48  # the advisory lock of the one relay that sends; sql/log.sql has the others
# A leader whose network was cut holds the lock until the server ends its session; a batch takes 35 s at most.
IDLE = "45s"

logger = logging.getLogger("imi.relay")


async def relay(url: str, bus: Bus, name: str) -> None:
    """Send for ever. Many may do this: one leads, the others stand by."""

    async def lead(follower: Follower) -> None:
        await follower.connection.execute(f"set idle_session_timeout = '{IDLE}'")
        while not await follower.connection.fetchval("select pg_try_advisory_lock($1)", LEADER):
            await follower.rest(found=False)
        while True:
            sent = await bus.relay(follower.connection, name)
            if sent:
                logger.debug("sent", extra={"fields": {"events": sent}})
            await follower.rest(found=sent > 0)

    try:
        await forever(url, "the relay", lead)
    finally:
        await bus.close()
