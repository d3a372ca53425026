"""The relay: one leader sends what the log has on to the bus, however often either is away."""

from __future__ import annotations

import asyncio
import logging
import random

import asyncpg

from imi.bloodbank.bus import Bus, BusError
from imi.database import DatabaseError
from imi.database.listen import Follower, following

LEADER = 4245 << 48  # the advisory lock of the one relay that sends; 4242 to 4244 have their meanings too
FIRST, LONGEST = 0.1, 5.0  # seconds between two tries after a fault

FAULTS = (BusError, DatabaseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

logger = logging.getLogger("imi.relay")


class Relay:
    """Runs until it is cancelled. Many may run: one leads, the others stand by."""

    def __init__(self, url: str, bus: Bus, name: str) -> None:
        self._url = url
        self._bus = bus
        self._name = name
        self._failed = 0

    async def run(self) -> None:
        """Send for ever."""
        try:
            while True:
                try:
                    async with following(self._url) as follower:
                        await self._follow(follower)
                except Exception as error:
                    self._failed += 1
                    wait = min(LONGEST, FIRST * 2 ** min(self._failed, 10)) * random.uniform(0.5, 1)
                    fields = {"error": f"{type(error).__name__}: {error}", "tries": self._failed}
                    if isinstance(error, FAULTS):
                        logger.warning("the relay waits", extra={"fields": fields})
                    else:
                        logger.exception("the relay has a fault and goes on", extra={"fields": fields})
                    await asyncio.sleep(wait)
        finally:
            await self._bus.close()

    async def _follow(self, follower: Follower) -> None:
        while not await follower.connection.fetchval("select pg_try_advisory_lock($1)", LEADER):
            await follower.rest(found=False)
        while True:
            sent = await self._bus.relay(follower.connection, self._name)
            if self._failed:
                logger.info("the relay goes on", extra={"fields": {"tries": self._failed}})
                self._failed = 0
            if sent:
                logger.debug("sent", extra={"fields": {"events": sent}})
            await follower.rest(sent > 0)
