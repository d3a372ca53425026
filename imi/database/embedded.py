"""The embedded PostgreSQL: started by its first user, stopped by its last, brought back when it dies.

Each user holds a shared flock on DATA_DIR/users.lock for as long as it uses the server, so the kernel keeps
the count and a killed user cannot leave a wrong one. Starting and stopping happen under an exclusive flock on
DATA_DIR/server.lock; the last user is the one that then gets users.lock for itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import logging
import os
import signal
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from imi.database import DatabaseError
from imi.database.cluster import DATABASE, PORT, SUPERUSER, Cluster, complaint, create, home_of, prepare

RECOVERY = 1800.0  # seconds that a start may take: crash recovery replays up to a whole max_wal_size
LINGERING = 30.0  # seconds that a killed server's children may still hold its shared memory
SHUTDOWN = 120.0  # seconds for the last checkpoint; then it is cut short, and the next start recovers

log = logging.getLogger(__name__)
_children: dict[int, subprocess.Popen[Any]] = {}  # servers this process started, to be reaped by it


@contextlib.asynccontextmanager
async def running(data_dir: Path) -> AsyncIterator[str]:
    """Use the data directory's server: answers its owner's URL. Raises DatabaseError.

    While it is used it is watched: a server that was killed is started again within a second or so.
    """
    joining = asyncio.ensure_future(asyncio.to_thread(join, data_dir))
    try:
        cluster, users = await asyncio.shield(joining)
    except asyncio.CancelledError:
        with contextlib.suppress(DatabaseError):
            await asyncio.to_thread(leave, *await joining)
        raise
    watch = asyncio.create_task(_watch(cluster))
    try:
        yield url(cluster)
    finally:
        watch.cancel()
        await asyncio.to_thread(leave, cluster, users)


@contextlib.contextmanager
def only_one(data_dir: Path) -> Iterator[None]:
    """Hold the data directory for one `imi up`; the second gets a DatabaseError that names the first."""
    home = home_of(data_dir)
    lock = _open(home / "up.lock")
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(lock, 20, 0).decode() or "unknown"
            raise DatabaseError(
                f"iMi already runs on {home} (process {holder}): "
                "stop that one, or give this one another IMI_DATA_DIR"
            ) from None
        os.ftruncate(lock, 0)
        os.pwrite(lock, str(os.getpid()).encode(), 0)
        yield
    finally:
        os.close(lock)


def url(cluster: Cluster) -> str:
    """Answer the URL of the owner's login on the socket."""
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(cluster.sockets))}"


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    except OSError as error:
        raise DatabaseError(f"Cannot open {path}: {error.strerror}") from None


@contextlib.contextmanager
def _door(home: Path) -> Iterator[None]:
    lock = _open(home / "server.lock")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)


def join(data_dir: Path) -> tuple[Cluster, int]:
    """Become a user of the server, the first one by starting it: what `running` does without an event loop.

    Answers the cluster and the open lock file, both for `leave`. Raises DatabaseError.
    """
    home = home_of(data_dir)
    with _door(home):
        users = _open(home / "users.lock")
        try:
            fcntl.flock(users, fcntl.LOCK_SH)
            cluster = prepare(home)
            _start(cluster)
        except BaseException:
            os.close(users)
            raise
    return cluster, users


def leave(cluster: Cluster, users: int) -> None:
    """Stop being a user, the last one by stopping the server."""
    with _door(cluster.home):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _stop(cluster)
        except BlockingIOError:
            pass  # somebody else still uses it
        finally:
            os.close(users)


async def _watch(cluster: Cluster) -> None:
    while True:
        await asyncio.sleep(0.5)
        if not _alive(_read(cluster)[0]):
            log.error("the embedded PostgreSQL is gone; starting it again")
            try:
                await asyncio.to_thread(_restart, cluster)
            except DatabaseError as error:
                log.error("%s", error)
                await asyncio.sleep(5)


def _restart(cluster: Cluster) -> None:
    with _door(cluster.home):
        _start(cluster)


def _start(cluster: Cluster) -> None:
    if not (cluster.files / "PG_VERSION").exists():
        create(cluster)
    began = time.monotonic()
    killed = (cluster.files / "postmaster.pid").exists()
    while not _ready(cluster):
        _forget_stranger(cluster)
        said = _launch(cluster)
        if said is None:
            return
        if not killed or time.monotonic() - began > LINGERING:
            raise DatabaseError(f"PostgreSQL could not start in {cluster.home}: {said} (log: {cluster.log})")
        time.sleep(0.1)


def _launch(cluster: Cluster) -> str | None:
    """Start the server and wait until it takes connections; else answer what it complained of."""
    options = {
        "listen_addresses": "",
        "port": PORT,
        "unix_socket_directories": '"{}"'.format(str(cluster.sockets).replace('"', '""')),
        "unix_socket_permissions": "0700",
        "log_directory": cluster.log,
        "fsync": "on",
    }
    command = [str(cluster.programs / "postgres"), "-D", str(cluster.files)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (cluster.log / "start.log").open("wb") as said:
        arguments = cluster.start_arguments() | {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
        server = subprocess.Popen(command, start_new_session=True, **arguments)
    _children[server.pid] = server
    until = time.monotonic() + RECOVERY
    while _alive(server.pid):
        if _read(cluster) == (server.pid, "ready"):
            return None
        if time.monotonic() > until:
            return f"it was not ready after {RECOVERY:.0f} s and goes on trying"
        time.sleep(0.01)
    newest = max(cluster.log.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    return complaint(newest.read_text(errors="replace")[-4000:]) or f"it ended with {server.returncode}"


def _ready(cluster: Cluster) -> bool:
    """Say whether a server takes connections, after waiting for one that is starting or stopping."""
    until = time.monotonic() + RECOVERY
    while _listening(cluster):
        state = _read(cluster)[1]
        if state == "ready":
            return True
        if time.monotonic() > until:
            raise DatabaseError(f"PostgreSQL in {cluster.home} has been {state} for {RECOVERY:.0f} s")
        time.sleep(0.02)
    return False


def _listening(cluster: Cluster) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(cluster.sockets / f".s.PGSQL.{PORT}"))
        except OSError:
            return False
        return True


def _read(cluster: Cluster) -> tuple[int | None, str]:
    """Read the server's process id and state (starting, ready, stopping) from its postmaster.pid."""
    try:
        lines = (cluster.files / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None, ""
    if not lines or not lines[0].isdigit():
        return None, ""
    return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"


def _alive(pid: int | None) -> bool:
    if pid is None:
        return False
    child = _children.get(pid)
    if child and child.poll() is not None:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _forget_stranger(cluster: Cluster) -> None:
    """Remove a postmaster.pid whose number another program has by now: PostgreSQL would not start."""
    pid = _read(cluster)[0]
    try:
        stranger = pid is not None and Path(f"/proc/{pid}/comm").read_text().strip() != "postgres"
    except OSError:
        return  # no such process, or no /proc: PostgreSQL's own check is right then
    if stranger:
        (cluster.files / "postmaster.pid").unlink(missing_ok=True)


def _stop(cluster: Cluster) -> None:
    pid = _read(cluster)[0]
    if pid is None or not _alive(pid) or not _listening(cluster):
        return
    for order, patience in ((signal.SIGINT, SHUTDOWN), (signal.SIGQUIT, 10.0)):
        os.kill(pid, order)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if not _alive(pid):
                _children.pop(pid, None)
                return
            time.sleep(0.01)
    log.error("the embedded PostgreSQL (process %s) does not stop", pid)
