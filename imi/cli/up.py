"""`imi up`, `imi serve` and `imi worker`: what runs. What they run is imported when they run it."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imi.cli import adminkey
from imi.cli.command import Debug, Json, group, print_json
from imi.cli.outcome import CONFLICT, Failure

if TYPE_CHECKING:
    from imi.bloodbank.bus import Bus
    from imi.config import Settings

app = group("The server.")

Host = Annotated[
    str | None, typer.Option(help="Listen here.  [default: IMI_HOST, else 127.0.0.1]", show_default=False)
]
Port = Annotated[
    int | None, typer.Option(min=0, max=65535, help="[default: IMI_PORT, else 8400]", show_default=False)
]
EnvFile = Annotated[
    Path | None,
    typer.Option(help="Settings from this file.  [default: .env in the data directory]", show_default=False),
]


@app.command("up", epilog="Example: imi up --port 8400")
def up(
    host: Host = None,
    port: Port = None,
    env_file: EnvFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run all of iMi in one process: the database, its migration, the API, the bus; Ctrl-C stops it.

    Without IMI_DATABASE_URL it runs a PostgreSQL of its own in the data directory. It writes a first admin
    key to admin.key there, its URL to server.url (other commands find it there), and a backup a day to
    backups/ (the last seven are kept).
    """
    run(_up, host, port, env_file, as_json)


@app.command("serve", epilog="Example: imi serve --port 8401")
def serve(
    host: Host = None,
    port: Port = None,
    env_file: EnvFile = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """Run the API alone, as many times as you like, on IMI_DATABASE_URL or beside an `imi up`.

    The database must be migrated already; no key and no backup is made. What it changes reaches the bus
    through an `imi worker` or an `imi up` on the same database.
    """
    run(_serve, host, port, env_file, as_json)


@app.command("worker", epilog="Example: imi worker")
def worker(env_file: EnvFile = None, as_json: Json = False, debug: Debug = False) -> None:
    """Run the bus alone, as many times as you like, on IMI_DATABASE_URL or beside an `imi up`.

    It sends the log on, takes in what others publish on RabbitMQ, and runs the subscriptions. Of several one
    sends and the others stand by; the rest they share.
    """
    run(_worker, None, None, env_file, as_json, "the worker")


Work = Callable[["Settings", AsyncExitStack], Coroutine[Any, Any, dict[str, str]]]


def run(
    work: Work, host: str | None, port: int | None, env_file: Path | None, as_json: bool, what: str = "iMi"
) -> None:
    """Do the work until Ctrl-C, SIGTERM or a hang-up; what cannot be begun is a Failure."""
    import uvloop

    from imi import config, logs
    from imi.database import DatabaseError
    from imi.server.contract import ContractError

    try:
        settings = config.load(env_file, strict=True)
        settings = replace(settings, host=host or settings.host, port=settings.port if port is None else port)
        try:
            logs.configure("DEBUG" if settings.debug else settings.log_level, settings.log_file)
        except OSError as error:
            raise Failure(
                "CONFIG", f"Cannot write the log to {settings.log_file}: {error.strerror}"
            ) from None
        uvloop.run(_until_stopped(work, settings, as_json, what))
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None
    except DatabaseError as error:
        raise Failure("DATABASE", str(error)) from None
    except ContractError as error:
        raise Failure(
            "CONTRACT", str(error), "this program and the database are of two releases: imi db migrate"
        ) from None


async def _until_stopped(work: Work, settings: Settings, as_json: bool, what: str) -> None:
    task = asyncio.current_task()
    assert task
    for each in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(each, task.cancel)
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:  # as nohup has it
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, _hang_up, task)
    with suppress(asyncio.CancelledError):
        async with AsyncExitStack() as stack:
            _show(await work(settings, stack), as_json, what)
            await asyncio.Event().wait()


def _hang_up(task: asyncio.Task[None]) -> None:
    if not task.cancelling():  # a terminal that closes says it twice, by its shell and by the kernel
        task.cancel()


def _listen(settings: Settings) -> socket.socket:
    where = f"{settings.host} port {settings.port}"
    try:
        family, *_, address = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listener = socket.create_server(address[:2], family=family, backlog=1024)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            hint = "stop what listens there, or choose another with --port"
            raise Failure("PORT_IN_USE", f"{where} is in use already", hint, CONFLICT) from None
        raise Failure(
            "CONFIG", f"Cannot listen on {where}: {error.strerror}", "see --host and --port"
        ) from None
    listener.setblocking(False)
    return listener


async def _up(settings: Settings, stack: AsyncExitStack) -> dict[str, str]:
    from imi.bloodbank.bus import bus_of
    from imi.database import archive, deploy, embedded
    from imi.database.pool import located, pools
    from imi.server.app import serving

    stack.enter_context(embedded.only_one(settings.data_dir))
    listener = stack.enter_context(_listen(settings))
    url = await stack.enter_async_context(located(settings))
    await deploy.migrate(url)
    opened = await stack.enter_async_context(pools(url, settings))
    key = await adminkey.ensure(opened.api, settings.data_dir)
    bus = bus_of(settings)
    await stack.enter_async_context(_working(url, settings, bus))
    await stack.enter_async_context(serving(settings, opened, listener, bus))
    backups = asyncio.create_task(archive.daily(url, settings.data_dir))
    stack.callback(backups.cancel)
    stack.callback(_leave_url(settings, listener).unlink, missing_ok=True)
    return _said(settings, listener) | {"data_dir": str(settings.data_dir), "admin_key": str(key)}


@asynccontextmanager
async def _working(url: str, settings: Settings, bus: Bus) -> AsyncIterator[None]:
    """The relay, the intake, its desk and the subscriptions at work for as long as this is entered."""
    from imi.bloodbank.relay import relay
    from imi.bloodbank.subscriptions import subscriptions

    work = [relay(url, bus, _name()), subscriptions(url)]
    if settings.rabbitmq_url:  # on the embedded bus there is nobody else's event
        from imi.bloodbank.desk import desk
        from imi.bloodbank.intake import intake

        work.append(intake(url, settings.rabbitmq_url, settings.exchange_name))
        work.append(desk(url, settings.rabbitmq_url))
    tasks = [asyncio.create_task(each) for each in work]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _serve(settings: Settings, stack: AsyncExitStack) -> dict[str, str]:
    from imi.bloodbank.bus import bus_of
    from imi.database.pool import located, pools
    from imi.server.app import serving

    listener = stack.enter_context(_listen(settings))
    url = await stack.enter_async_context(located(settings, makes=False))
    opened = await stack.enter_async_context(pools(url, settings))
    bus = bus_of(settings)
    stack.push_async_callback(bus.close)
    await stack.enter_async_context(serving(settings, opened, listener, bus))
    return _said(settings, listener)


async def _worker(settings: Settings, stack: AsyncExitStack) -> dict[str, str]:
    from imi.bloodbank.bus import bus_of
    from imi.database.pool import connect_as, located

    url = await stack.enter_async_context(located(settings, makes=False))
    await (await connect_as(url, "worker")).close()  # a database that is not migrated is said at once
    bus = bus_of(settings)
    await stack.enter_async_context(_working(url, settings, bus))
    return {"bus": await bus.reach(), "name": _name()}


def _name() -> str:
    """Who leads, in ops.lag."""
    return f"{socket.gethostname()}:{os.getpid()}"


def _leave_url(settings: Settings, listener: socket.socket) -> Path:
    """Write where this server is to the file in which commands with this data directory look for it."""
    anywhere = {"0.0.0.0": "127.0.0.1", "::": "::1"}
    here = replace(settings, host=anywhere.get(settings.host, settings.host))
    file = settings.data_dir / "server.url"
    try:
        file.write_text(f"{_said(here, listener)['url']}\n")
    except OSError as error:
        raise Failure("FAILED", f"Cannot write {file}: {error.strerror}") from None
    return file


def _said(settings: Settings, listener: socket.socket) -> dict[str, str]:
    port = listener.getsockname()[1]
    url = f"http://[{settings.host}]:{port}" if ":" in settings.host else f"http://{settings.host}:{port}"
    return {"url": url, "docs": f"{url}/docs"}


def _show(data: dict[str, str], as_json: bool, what: str) -> None:
    if as_json:
        print_json({"success": True, "data": data})
    else:
        labels = {"url": "listens on", "data_dir": "data", "admin_key": "admin key"}
        lines = [f"  {labels.get(name, name):10}  {value}" for name, value in data.items()]
        typer.echo("\n".join((f"{what} is up; Ctrl-C stops it", *lines)))
