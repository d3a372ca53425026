"""`imi monitor`: what changes in the worktrees, as it happens."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from imi.cli.command import Agent, ApiKey, ApiUrl, Debug, group, print_json
from imi.cli.outcome import CONFLICT, FAILED, Failure, usage
from imi.cli.screens import Lines, Log, Screen

if TYPE_CHECKING:
    from imi.cli.client import Api
    from imi.worktrees.background import Seat
    from imi.worktrees.monitor import Monitor
    from imi.worktrees.roster import Roster
    from imi.worktrees.settings import Config

app = group("Watch worktrees.")


@app.command("monitor", epilog="Example: imi monitor --daemon")
def monitor(
    everything: Annotated[
        bool, typer.Option("--all", help="The worktrees of all projects on this machine.")
    ] = False,
    daemon: Annotated[
        bool, typer.Option("--daemon", help="In the background: print its process id and log file.")
    ] = False,
    stop: Annotated[
        bool, typer.Option("--stop", help="End the one that reports, also in the background.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a line of JSON for each.")] = False,
    debug: Debug = False,
    agent: Agent = None,
    api_url: ApiUrl = None,
    api_key: ApiKey = None,
) -> None:
    """Watch the project's worktrees, show what changes, report it, and warn, until Ctrl-C.

    Each line is the time, the worktree, who holds it, + ~ or - (added, modified, deleted) and the file. A
    warning says that another agent or worktree has touched the same file within 60 s. The server is told what
    happened and how each worktree stands, in batches; without it reports are kept and delivered later. Files
    that git ignores are shown and no more; folders of exclude_patterns are not watched at all.

    One monitor a project reports: a second one only shows. With --daemon it runs in the background and writes
    warnings to a log, IMI_LOG_FILE or the one it names.

    Lines of --json: {"type":"watching","worktrees":[path],"reports":bool},
    {"type":"change","at","worktree","path","change","agent_id"},
    {"type":"warning","project","path","touches":[{"at","agent_id","worktree"}]} and
    {"type":"note","message"}. With --daemon or --stop it is one document: {"pid","log_file"}, {"pid"}.
    """
    from imi.cli.client import connect
    from imi.cli.failures import failures
    from imi.worktrees import background, layout, settings
    from imi.worktrees.roster import Roster

    if daemon and stop:
        usage("--daemon begins and --stop ends", "ask for one of them")
    with failures():
        chosen = settings.load()
        try:
            projects = [layout.find(Path.cwd())]
        except (layout.NoProjectError, layout.PlainCloneError):
            if not everything:
                raise
            projects = []
    seat = background.Seat("all" if everything else str(projects[0].root))
    if stop:
        _end(seat, as_json)
        return
    if not chosen.monitoring_settings.enabled:
        where = f"monitoring_settings.enabled is false in {settings.path()}"
        raise Failure("REFUSED", where, "set it to true to watch", CONFLICT)
    try:
        took = seat.take()
    except OSError as error:
        raise Failure("FAILED", f"Cannot write {seat.pid_file}: {error.strerror}") from None
    options = {"agent": agent, "api_url": api_url, "api_key": api_key, "quiet": True}

    def work(make: Callable[[Monitor], Screen], ready: Callable[[], None]) -> None:
        with connect(**options) as api:  # type: ignore[arg-type]
            _watch(api, Roster(projects), chosen, seat, everything, make, ready)

    if not daemon:
        try:
            work(lambda made: _screen(made, chosen, took, as_json), lambda: None)
        finally:
            seat.leave()
        return
    if not took:
        raise Failure(
            "CONFLICT", f"it runs already: process {seat.pid()}", "end it: imi monitor --stop", CONFLICT
        )
    log_file = _log_file(seat)

    def run(ready: Callable[[], None]) -> int:
        return _logged(log_file, lambda: work(lambda made: Log(), ready))

    pid = background.detach(seat, run)
    if as_json:
        print_json({"success": True, "data": {"pid": pid, "log_file": str(log_file)}})
    else:
        typer.echo(f"monitoring in the background: process {pid}, log {log_file}; end it: imi monitor --stop")


def _end(seat: Seat, as_json: bool) -> None:
    pid = seat.stop()
    if as_json:
        print_json({"success": True, "data": {"pid": pid}})
    else:
        typer.echo(f"process {pid} has ended" if pid else "no monitor runs")


def _log_file(seat: Seat) -> Path:
    from imi import config

    try:
        return config.load().log_file or seat.log_file
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None


def _screen(made: Monitor, chosen: Config, reports: bool, as_json: bool) -> Screen:
    from imi.cli.live import View

    def title() -> str:
        count = len(made.roster.watched)
        told = "" if made.reports() else "; another imi monitor reports"
        return f"watching {count} worktree{'' if count == 1 else 's'}{told}; Ctrl-C ends it"

    if as_json:
        return Lines(made)
    return View(made.agent, chosen.monitoring_settings.refresh_interval_ms / 1000, title)


def _watch(
    api: Api,
    roster: Roster,
    chosen: Config,
    seat: Seat,
    everything: bool,
    make: Callable[[Monitor], Screen],
    ready: Callable[[], None],
) -> None:
    import httpx

    from imi.cli.failures import failures
    from imi.worktrees.batching import Batcher
    from imi.worktrees.monitor import Monitor
    from imi.worktrees.watching import Watcher

    api.http.timeout = httpx.Timeout(10, connect=3)  # a server that hangs holds up nothing for long
    settings = chosen.monitoring_settings
    widen = (lambda: known(api)) if everything else None
    with failures():
        made = Monitor(api, roster, seat.take, settings.track_agent_activity, widen)
        screen = made.screen = make(made)
        exclude = chosen.exclude_patterns if settings.watch_file_changes else ("*",)
        first = made.begin()
        try:
            watcher = Watcher(first, exclude, screen.say)
        except OSError as error:
            raise Failure("FAILED", f"Cannot watch: {error}") from None
    with ended_by_signals(watcher.stop), ExitStack() as stack:
        stack.callback(made.close)
        batcher = stack.enter_context(Batcher(made.reporter))
        stack.callback(made.stop)
        stack.enter_context(screen)
        made.start(watcher, batcher)
        ready()
        for changes in watcher.changes():
            screen.show(changes)
            made.noticed(changes)
            batcher.put(changes)


def known(api: Api) -> list[Path]:
    """The worktrees of this machine that the server knows and that are there."""
    from imi.worktrees import registry

    paths = (Path(each["path"]) for each in registry.worktrees(api))
    return [path for path in paths if path.is_dir()]


@contextmanager
def ended_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C, SIGTERM and a terminal that closes call `stop`; Ctrl-C once more ends it at once."""

    def end(number: int, frame: object) -> None:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop()

    handled = [
        each
        for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        if signal.getsignal(each) is not signal.SIG_IGN
    ]
    before = {each: signal.signal(each, end) for each in handled}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


def _logged(file: Path, work: Callable[[], None]) -> int:
    """Work with the log in a file; what breaks is a line in it."""
    import logging

    from imi import config, logs

    try:
        settings = config.load()
        logs.configure(settings.log_level, file)
    except config.ConfigError as error:
        raise Failure("CONFIG", str(error)) from None
    except OSError as error:
        raise Failure("CONFIG", f"Cannot write the log to {file}: {error.strerror}") from None
    for chatty in ("httpx", "httpcore"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    log = logging.getLogger("imi.monitor")
    log.info("the monitor begins")
    try:
        work()
    except Failure as failure:
        log.error("%s", failure.message)
        raise
    except Exception as error:
        log.error("%s: %s", type(error).__name__, error)
        return FAILED
    log.info("the monitor has ended")
    return 0
