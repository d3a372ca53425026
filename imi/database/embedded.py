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
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import quote

from imi.database import DatabaseError, postmaster
from imi.database.cluster import DATABASE, SUPERUSER, Cluster, home_of, prepare

log = logging.getLogger(__name__)


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


def exists(data_dir: Path) -> bool:
    """Say whether the data directory has a cluster; one that cannot be looked into may have."""
    try:
        (data_dir / "postgres/PG_VERSION").stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        pass  # whoever joins is told
    return True


def url(cluster: Cluster) -> str:
    """Answer the URL of the owner's login on the socket."""
    return f"postgresql://{SUPERUSER}@/{DATABASE}?host={quote(str(cluster.sockets))}"


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
            postmaster.start(cluster)
        except BaseException:
            os.close(users)
            raise
    return cluster, users


def leave(cluster: Cluster, users: int) -> None:
    """Stop being a user, the last one by stopping the server."""
    with _door(cluster.home):
        try:
            fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
            postmaster.stop(cluster)
            if cluster.sockets.parent != cluster.home:
                with contextlib.suppress(OSError):
                    cluster.sockets.rmdir()
        except BlockingIOError:
            pass  # somebody else still uses it
        finally:
            os.close(users)


async def _watch(cluster: Cluster) -> None:
    while True:
        await asyncio.sleep(0.5)
        if not postmaster.alive(cluster):
            log.error("the embedded PostgreSQL is gone; starting it again")
            try:
                await asyncio.to_thread(_restart, cluster)
            except (DatabaseError, OSError) as error:
                log.error("%s", error)
                await asyncio.sleep(5)


def _restart(cluster: Cluster) -> None:
    with _door(cluster.home):
        postmaster.start(cluster)


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
