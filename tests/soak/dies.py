"""`imi up` that kills itself (-9) where it hurts: python -m tests.soak.dies ack|cursor TURN."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import asyncpg
from aiormq.channel import Channel

from imi.__main__ import main


def die_before(owner: type, name: str, turn: int, when: str = "") -> None:
    """Replace a coroutine method by one whose `turn`th call (whose first argument is such a text) is never made."""
    original, calls = getattr(owner, name), 0

    async def method(self: Any, *arguments: Any, **options: Any) -> Any:
        nonlocal calls
        if when in str(arguments[0]):
            calls += 1
            if calls == turn:
                os.kill(os.getpid(), signal.SIGKILL)
        return await original(self, *arguments, **options)

    setattr(owner, name, method)


if __name__ == "__main__":
    where, turn = sys.argv[1], int(sys.argv[2])
    if where == "ack":  # the batch is committed
        die_before(Channel, "basic_ack", turn)
    else:  # the batch is confirmed
        die_before(asyncpg.Connection, "fetchval", turn, "logic.relay_move")
    sys.argv[1:] = ["up"]
    main()
