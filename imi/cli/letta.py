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
    Requests from its first start on are served; publish an older one anew.
    """
    run(work, None, None, env_file, as_json, "the Letta worker")


async def work(settings: Settings, stack: AsyncExitStack) -> dict[str, str]:
    """Serve requests until the stack is left; what of it people are shown."""
    from imi.bloodbank.publish import publish_event
    from imi.letta import queues
    from imi.letta.handoff import Handoff

    runtime, shown = await _runtime(settings, stack)
    take = Handoff(runtime, partial(publish_event, settings=settings)).take
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
    return {"bus": "rabbitmq" if settings.rabbitmq_url else "embedded"} | shown


async def _runtime(settings: Settings, stack: AsyncExitStack) -> tuple[Runtime, dict[str, str]]:
    """Letta, asked once: what is wrong for good is said before anything is taken from the queue.

    Answers it and what of it people are shown.
    """
    from imi.letta.runtime import AwayError, ClosedError, RefusedError
    from imi.letta.server import LettaRuntime

    url, model = settings.letta_base_url, settings.letta_model
    if not url or not model:
        missing = [
            name for name, value in (("IMI_LETTA_BASE_URL", url), ("IMI_LETTA_MODEL", model)) if not value
        ]
        raise Failure(
            "CONFIG",
            f"{' and '.join(missing)} {'are' if missing[1:] else 'is'} not set",
            "name your Letta server, and the handle of a model that it has",
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
        hint = "see IMI_LETTA_BASE_URL, IMI_LETTA_MODEL and IMI_LETTA_EMBEDDING"
        raise Failure("CONFIG", f"Letta at {url} cannot be used: {error}", hint) from None
    except AwayError as error:
        logger.warning("Letta is away; requests wait", extra={"fields": {"url": url, "error": str(error)}})
        return runtime, {"letta": url, "note": f"Letta is away; requests wait ({error})"}
    return runtime, {"letta": url}


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
