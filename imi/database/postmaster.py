"""The server process of an embedded cluster: started, asked how it is, stopped. One caller at a time.

What it says of itself is its postmaster.pid: the process id, and starting, ready or stopping. A file that a
killed server left may name a process id that somebody else has by now: only an open socket counts as life.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from imi.database import DatabaseError
from imi.database.cluster import PORT, Cluster, complaint, create

RECOVERY = 1800.0  # seconds that a start may take: crash recovery replays up to a whole max_wal_size
LINGERING = 30.0  # seconds that a killed server's children may still hold its shared memory
SHUTDOWN = 120.0  # seconds for the last checkpoint; then it is cut short, and the next start recovers

log = logging.getLogger(__name__)
_children: dict[int, subprocess.Popen[Any]] = {}  # servers this process started, to be reaped by it


def start(cluster: Cluster) -> None:
    """Make sure that a server takes connections, making the cluster first if there is none.

    Raises DatabaseError with the server's own reason.
    """
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


def stop(cluster: Cluster) -> None:
    """Stop the server and wait for its end: connections are cut off, everything committed is kept."""
    pid = _read(cluster)[0]
    if pid is None or not _runs(pid) or not _listening(cluster):
        return
    for order, patience in ((signal.SIGINT, SHUTDOWN), (signal.SIGQUIT, 10.0)):
        os.kill(pid, order)
        until = time.monotonic() + patience
        while time.monotonic() < until:
            if not _runs(pid):
                return
            time.sleep(0.01)
    log.error("the embedded PostgreSQL (process %s) does not stop", pid)


def alive(cluster: Cluster) -> bool:
    """Say whether the server's process is there, without asking it."""
    pid = _read(cluster)[0]
    return pid is not None and _runs(pid)


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
    if sys.platform == "linux":  # one call before a recovery instead of one for each of a thousand files
        options["recovery_init_sync_method"] = "syncfs"
    command = [str(cluster.programs / "postgres"), "-D", str(cluster.files)]
    for name, value in options.items():
        command += ["-c", f"{name}={value}"]
    with (cluster.log / "start.log").open("wb") as said:
        arguments = cluster.start_arguments() | {"stdin": subprocess.DEVNULL, "stdout": said, "stderr": said}
        server = subprocess.Popen(command, start_new_session=True, **arguments)
    _children[server.pid] = server
    until = time.monotonic() + RECOVERY
    while _runs(server.pid):
        if _read(cluster) == (server.pid, "ready"):
            return None
        if time.monotonic() > until:
            return f"it was not ready after {RECOVERY:.0f} s and goes on trying"
        time.sleep(0.01)
    return _last_words(cluster) or f"it ended with {server.returncode}"


def _last_words(cluster: Cluster) -> str:
    """Pick the reason of a failed start out of the log; what clients were told has their user@database."""
    if shutil.disk_usage(cluster.home).free < 1 << 20:  # then the log could not be written either
        return "No space left on device"
    newest = max(cluster.log.glob("*.log"), key=lambda path: path.stat().st_mtime_ns)
    said = newest.read_text(errors="replace").rpartition("starting PostgreSQL")[2]
    return complaint(
        "\n".join(line for line in said.splitlines() if not re.search(r"\] \S+@\S+ +[A-Z]+:", line))
    )


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
    """Read the server's process id and state from its postmaster.pid."""
    try:
        lines = (cluster.files / "postmaster.pid").read_text().splitlines()
    except OSError:
        return None, ""
    if not lines or not lines[0].isdigit():
        return None, ""
    return int(lines[0]), lines[7].strip() if len(lines) > 7 else "starting"


def _runs(pid: int) -> bool:
    child = _children.get(pid)
    if child and child.poll() is not None:
        del _children[pid]
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _forget_stranger(cluster: Cluster) -> None:
    """Remove lock files whose process is a zombie, or another program by now: PostgreSQL would not start."""
    pid = _read(cluster)[0]
    if pid is None or not _runs(pid):
        return
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return  # no /proc here
    if name != "postgres" or state.split()[0] == "Z":
        for lock in (cluster.files / "postmaster.pid", cluster.sockets / f".s.PGSQL.{PORT}.lock"):
            lock.unlink(missing_ok=True)
