"""A real `imi up` in a process of its own: started, talked to, stopped, killed."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import httpx

READY = 60  # seconds; generous, since the machine may be busy


class Live:
    """`imi up` on a data directory and a port; `url`, `key` and `client` once it is healthy."""

    def __init__(self, data_dir: Path, port: int | None = None, **settings: str) -> None:
        self.data_dir = data_dir
        self.port = port or free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def key(self) -> str:
        """The first admin key."""
        return (self.data_dir / "admin.key").read_text().strip()

    def client(self, **options: object) -> httpx.AsyncClient:
        """An HTTP client with the admin key."""
        headers = {"Authorization": f"Bearer {self.key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, **{"timeout": 30} | options)

    def spawn(self, *command: str, output: int | IO[bytes] = subprocess.PIPE) -> subprocess.Popen[bytes]:
        """Start `imi COMMAND` with this server's settings, stdout and stderr in one."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith("IMI_")}
        environment |= {"IMI_DATA_DIR": str(self.data_dir), "IMI_PORT": str(self.port)} | self.settings
        return subprocess.Popen(
            [sys.executable, "-m", "imi", *command], env=environment, stdin=subprocess.DEVNULL,
            stdout=output, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def start(self) -> None:
        """Start `imi up` and wait until /health says 200; its output goes beside the data directory."""
        log = self.data_dir.with_suffix(".out")
        with log.open("ab") as output:
            self.process = self.spawn("up", output=output)
        until = time.monotonic() + READY
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise AssertionError(
                    f"imi up ended with {self.process.returncode}:\n{log.read_text()[-4000:]}"
                )
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{self.url}/health", timeout=5).status_code == 200:
                    return
            time.sleep(0.05)
        raise AssertionError(f"imi up is not healthy after {READY} s:\n{log.read_text()[-4000:]}")

    def stop(self, sign: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; the exit code."""
        assert self.process is not None
        self.process.send_signal(sign)
        return self.process.wait(timeout=60)

    def postmaster(self) -> int:
        """The pid of the embedded PostgreSQL's first process."""
        (file,) = self.data_dir.rglob("postmaster.pid")
        return int(file.read_text().split()[0])


def free_port() -> int:
    """A port nobody listens on just now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def running(**settings: str) -> Iterator[Live]:
    """A live server on a new data directory, gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="imi-live-", dir="/tmp"))
    folder.chmod(0o755)
    live = Live(folder / "data", **settings)
    try:
        live.start()
        yield live
    finally:
        if live.process and live.process.poll() is None:
            live.stop()
        shutil.rmtree(folder)
