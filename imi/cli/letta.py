"""`imi letta`: the worker that hands work over to Letta."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from contextlib import AsyncExitStack
from functools import partial
from typing import TYPE_CHECKING

from imi.cli.command import Debug, Json, group
from imi.cli.outcome import Failure
from imi.cli.up import EnvFile, run

if TYPE_CHECKING:
    from imi.config import Settings
    from imi.letta.runtime import Runtime

logger = logging.getLogger("imi.letta")
BOUND = 5.0  # seconds
app = group("The hand-off to Letta.")


@app.command("letta", epilog="Example: IMI_LETTA_BASE_URL=http://localhost:8283 imi letta")
def letta(env_file: EnvFile = None, as_json: Json = False, debug: Debug = False) -> None:
    """Make an agent in Letta of every bmad.workflow.handoff.requested, and say on the bus what becomes of it.

    Needs IMI_LETTA_BASE_URL and IMI_LETTA_MODEL, and a server's IMI_LETTA_API_KEY. Reads RabbitMQ if
    IMI_RABBITMQ_URL is set, else the database of the `imi up` beside it. Run as many as you like.
    """
    run(work, None, None, env_file, as_json, "the Letta worker")


async def work(settings: Settings, stack: AsyncExitStack) -> dict[str, str]:
    """Serve requests until the stack is left; what of it people are shown."""
    from imi.bloodbank.publish import publish_event
    from imi.letta import queues
    from imi.letta.handoff import Handoff

    take = Handoff(await _runtime(settings, stack), partial(publish_event, settings=settings)).take
    bound = asyncio.Event()
    if settings.rabbitmq_url:
        serving = queues.rabbitmq(settings.rabbitmq_url, settings.exchange_name, take, bound)
    else:
        from imi.database.pool import connect_as, located

        url = await stack.enter_async_context(located(settings, makes=False))
        await (await connect_as(url, "subscriber")).close()  # a database that is not migrated is said at once
        serving = queues.embedded(url, take, bound)
    task = asyncio.create_task(serving)
    stack.push_async_callback(_stop, task)
    with contextlib.suppress(TimeoutError):  # a bus that is away is waited for, and logged
        async with asyncio.timeout(BOUND):
            await bound.wait()
    return {"bus": "rabbitmq" if settings.rabbitmq_url else "embedded", "letta": str(settings.letta_base_url)}


async def _runtime(settings: Settings, stack: AsyncExitStack) -> Runtime:
    """Letta, asked once: what is wrong for good is said before anything is taken from the queue."""
    from imi.letta.runtime import AwayError, ClosedError, RefusedError
    from imi.letta.server import LettaRuntime

    url, model = settings.letta_base_url, settings.letta_model
    if not url or not model:
        name = "IMI_LETTA_MODEL" if url else "IMI_LETTA_BASE_URL"
        raise Failure(
            "CONFIG", f"{name} is not set", "name your Letta server, and the handle of a model that it has"
        )
    runtime = LettaRuntime(url, settings.letta_api_key, model, settings.letta_embedding)
    stack.push_async_callback(runtime.close)
    try:
        await runtime.check()
    except ClosedError as error:
        raise Failure(
            "CONFIG", f"Letta at {url} does not let us in: {error}", "see IMI_LETTA_API_KEY"
        ) from None
    except RefusedError as error:
        hint = "see IMI_LETTA_BASE_URL and IMI_LETTA_MODEL"
        raise Failure("CONFIG", f"Letta at {url} cannot be used: {error}", hint) from None
    except AwayError as error:
        logger.warning("Letta is away; requests wait", extra={"fields": {"url": url, "error": str(error)}})
    return runtime


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
