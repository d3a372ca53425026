"""A RabbitMQ node of the tests' own, in a scratch folder and on free ports, so that they may kill it."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import aiormq
from aiormq.exceptions import AMQPException

SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
UP = 60.0  # seconds; five on a quiet machine


class Broker:
    """The node; `url` stays the same over kills and starts, and so does what is on its disk."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.port, distribution, names = free_ports(3)
        self.url = f"amqp://guest:guest@127.0.0.1:{self.port}/"
        (home / "plugins").write_text("[].\n")
        (home / "rabbit.conf").write_text(
            f"listeners.tcp.1 = 127.0.0.1:{self.port}\n"
            "disk_free_limit.absolute = 50MB\nlog.console = false\nlog.file.level = warning\n"
        )
        here = {
            "HOME": str(home),
            "ERL_EPMD_PORT": str(names),
            "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODENAME": f"imi{self.port}@localhost",
            "RABBITMQ_DIST_PORT": str(distribution),
            "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
            "RABBITMQ_LOG_BASE": str(home / "log"),
            "RABBITMQ_CONFIG_FILE": str(home / "rabbit.conf"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "plugins"),
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "-kernel inet_dist_use_interface {127,0,0,1}",
        }
        plain = {name: value for name, value in os.environ.items() if not name.startswith("RABBITMQ_")}
        self._environment = plain | here
        self._names = subprocess.Popen(
            ["epmd", "-address", "127.0.0.1", "-port", str(names)], env=self._environment
        )
        self._server: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the node, if it does not run, and wait until it takes connections."""
        if self._server is None:
            with (self.home / "said").open("ab") as said:
                self._server = subprocess.Popen(
                    [SERVER], env=self._environment, stdout=said, stderr=said, start_new_session=True
                )
        until = time.monotonic() + UP
        while not self.answers():
            if self._server.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"RabbitMQ does not start: {(self.home / 'said').read_text()[-2000:]}")
            time.sleep(0.1)

    def answers(self) -> bool:
        """Whether a client gets in."""

        async def knock() -> None:
            async with asyncio.timeout(5):
                await (await aiormq.connect(self.url)).close()

        try:
            asyncio.run(knock())
        except (AMQPException, OSError, TimeoutError):
            return False
        return True

    def kill(self) -> None:
        """kill -9 of the node and what it has started."""
        if self._server:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._server.pid, signal.SIGKILL)
            self._server.wait()
            self._server = None

    def close(self) -> None:
        """End all of it."""
        self.kill()
        self._names.kill()
        self._names.wait()


@contextlib.contextmanager
def broker() -> Iterator[Broker]:
    """A running node, and nothing of it afterwards."""
    home = Path(tempfile.mkdtemp(prefix="imi-rabbit-", dir="/tmp"))
    node = Broker(home)
    try:
        node.start()
        yield node
    finally:
        node.close()
        shutil.rmtree(home)


def free_ports(count: int) -> list[int]:
    """Ports of 127.0.0.1 that nothing listens on, and that no outgoing connection gets while a node is down."""
    with contextlib.ExitStack() as stack:
        taken: list[int] = []
        while len(taken) < count:
            with contextlib.suppress(OSError):
                port = random.randrange(15000, 32000)  # below those that Linux gives to clients
                stack.enter_context(socket.create_server(("127.0.0.1", port)))
                taken.append(port)
        return taken
