"""What a bus is to iMi, whichever it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from imi.config import Settings

if TYPE_CHECKING:
    from asyncpg import Connection

BATCH = 500  # events that go out together


class BusError(Exception):
    """The bus is away, or refuses; the same again later may go through."""


class Bus(Protocol):
    """Where the relay sends the log's events to."""

    async def reach(self) -> str:
        """What /health says of it, within a second: `embedded`, `connected` or `disconnected`."""

    async def figures(self) -> dict[str, dict[str, int]]:
        """Messages and consumers by queue, within a second: {messages_by_queue, consumers_by_queue}.

        Without those of a broker that is away; the embedded bus's are the database's.
        """

    async def relay(self, connection: Connection, leader: str) -> int:
        """Send the next events on, in log order, and move the relay's cursor; how many there were.

        `connection` is a worker's. Raises BusError and what asyncpg raises; then nothing was moved.
        """

    async def close(self) -> None:
        """Leave the bus."""


class EmbeddedBus:
    """pgmq's queues in this very database: matched, sent and moved in one transaction."""

    async def reach(self) -> str:
        """Bus.reach"""
        return "embedded"

    async def figures(self) -> dict[str, dict[str, int]]:
        """Bus.figures"""
        return {}

    async def relay(self, connection: Connection, leader: str) -> int:
        """Bus.relay"""
        sent: int = await connection.fetchval("select logic.relay_deliver($1, $2)", BATCH, leader)
        return sent

    async def close(self) -> None:
        """Bus.close"""


def bus_of(settings: Settings) -> Bus:
    """The bus that the settings name."""
    if not settings.rabbitmq_url:
        return EmbeddedBus()
    from imi.bloodbank.rabbitmq import RabbitBus  # an embedded bus starts without its 50 ms

    return RabbitBus(settings.rabbitmq_url, settings.exchange_name)
