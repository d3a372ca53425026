"""What follows the log, however often the database, or whatever it works for, is away."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

import asyncpg

from imi.backoff import backoff
from imi.bloodbank.bus import BusError
from imi.database import DatabaseError
from imi.database.listen import Follower, following

FIRST, LONGEST = 0.1, 5.0  # seconds between two tries after a fault
FAULTS = (BusError, DatabaseError, asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError)

logger = logging.getLogger("imi.bloodbank")


async def forever(
    url: str, what: str, work: Callable[[Follower], Awaitable[None]], kind: str = "worker"
) -> None:
    """Give `work` a follower with such a login, and after any fault a new one, until this is cancelled."""

    async def once() -> None:
        async with following(url, kind) as follower:
            await work(follower)

    await again(what, once)


async def again(what: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do the work, and after any fault once more, until this is cancelled."""
    failed = 0
    while True:
        began = time.monotonic()
        try:
            await work()
        except Exception as error:
            failed = 1 if time.monotonic() - began > 2 * LONGEST else failed + 1
            fields = {"error": f"{type(error).__name__}: {error}", "tries": failed}
            if isinstance(error, FAULTS):
                logger.warning(f"{what} waits", extra={"fields": fields})
            else:
                logger.exception(f"{what} has a fault and goes on", extra={"fields": fields})
            await asyncio.sleep(backoff(failed, FIRST, LONGEST))
