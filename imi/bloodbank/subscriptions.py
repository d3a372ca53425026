"""The runner of subscriptions: calls what sql/subscriptions.sql says waits, and has no rule of its own."""

from __future__ import annotations

import logging
import time
from collections import defaultdict

import asyncpg
import orjson

from imi.backoff import backoff
from imi.bloodbank.follow import FIRST, LONGEST, forever
from imi.database.listen import Follower

BATCH = 500  # events that a subscription handles together; after a fault as many one by one

logger = logging.getLogger("imi.subscriptions")


async def subscriptions(url: str) -> None:
    """Run them for ever. Many may do this: a subscription in somebody's hands is passed over."""
    singly: defaultdict[str, int] = defaultdict(int)  # by name: events still to be handled one by one
    failed: defaultdict[str, int] = defaultdict(int)  # failures since the last batch that went through
    wait: defaultdict[str, float] = defaultdict(float)  # and until when the next try waits

    async def run(connection: asyncpg.Connection, name: str) -> bool:
        one = singly[name] > 0
        try:
            if one:
                await connection.execute("select logic.subscription_try($1)", name)
            said = await connection.fetchval(
                "select logic.subscription_run($1, $2)", name, 1 if one else BATCH
            )
        except (asyncpg.PostgresError, TimeoutError) as error:
            singly[name] = BATCH
            failed[name] += 1
            wait[name] = time.monotonic() + backoff(failed[name], FIRST, LONGEST)
            fields = {"subscription": name, "error": f"{type(error).__name__}: {error}"}
            logger.warning("a batch failed; now one event at a time", extra={"fields": fields})
            if isinstance(error, TimeoutError):  # nobody knows what the connection is doing
                raise
            return False
        failed[name] = 0
        answer = orjson.loads(said)
        if answer["passed"]:
            logger.debug("no work item", extra={"fields": {"subscription": name, "events": answer["passed"]}})
        singly[name] = 0 if answer["dead"] else max(0, singly[name] - 1)
        if answer["dead"]:
            logger.warning("dead letters", extra={"fields": {"subscription": name, "events": answer["dead"]}})
        return bool(answer["handled"] or answer["skipped"] or answer["dead"])

    async def follow(follower: Follower) -> None:
        while True:
            found = False
            waiting = orjson.loads(
                await follower.connection.fetchval("select logic.subscriptions_waiting()") or "[]"
            )
            for each in waiting:
                if each["attempts"]:
                    singly[each["name"]] = singly[each["name"]] or BATCH
                if wait[each["name"]] <= time.monotonic():
                    found |= await run(follower.connection, each["name"])
            await follower.rest(found)

    await forever(url, "the runner of subscriptions", follow)
