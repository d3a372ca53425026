"""The two buses, seen with clients that are not ours: pika, and the pgmq client."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any

import pika
import psycopg
from pgmq import PGMQueue
from pika.exceptions import AMQPError
from psycopg_pool import ConnectionPool

from imi.database import embedded
from tests.e2e.outside import Delivery, Event, World
from tests.live import Live, running
from tests.rabbitmq import Broker, broker

EXCHANGE = "bloodbank.events.v1"
QUEUE = "everything"
SUBSCRIBER = "outsider"


class RabbitWorld(World):
    """RabbitMQ, with pika."""

    def __init__(self, live: Live, node: Broker) -> None:
        super().__init__(live)
        self.node = node

    def subscribe(self) -> None:
        while not self.leaving.is_set():
            with contextlib.suppress(AMQPError, OSError), connected(self.node) as channel:
                for method, properties, body in channel.consume(QUEUE, inactivity_timeout=0.1):
                    if self.leaving.is_set():
                        break
                    if method is None:
                        continue
                    marks = {
                        "message_id": properties.message_id,
                        "content_type": properties.content_type,
                        "delivery_mode": properties.delivery_mode,
                        "routing_key": method.routing_key,
                        "redelivered": method.redelivered,
                    }
                    self.deliveries.append(Delivery(json.loads(body), marks))
                    channel.basic_ack(method.delivery_tag)
            self.leaving.wait(0.1)

    def send(self, event: Event) -> None:
        with connected(self.node) as channel:
            channel.confirm_delivery()
            channel.basic_publish(EXCHANGE, event["event_type"], json.dumps(event).encode())

    def marks(self, event: Event) -> dict[str, Any]:
        return {
            "message_id": event["event_id"],
            "content_type": "application/json",
            "delivery_mode": 2,
            "routing_key": event["event_type"],
            "redelivered": False,
        }


class EmbeddedWorld(World):
    """PostgreSQL's own queues, with the pgmq client; others publish over HTTP."""

    def __init__(self, live: Live, subscriber: str) -> None:
        super().__init__(live)
        self._subscriber = subscriber

    def subscribe(self) -> None:
        with ConnectionPool(self._subscriber, min_size=1, max_size=1, open=True) as pool:
            client = PGMQueue(pool=pool, init_extension=False)
            while not self.leaving.is_set():
                messages = client.read_batch(QUEUE, vt=60, batch_size=200)
                self.deliveries += [Delivery(each.message, {"read_ct": each.read_ct}) for each in messages]
                if messages:
                    client.delete_batch(QUEUE, [each.msg_id for each in messages])
                else:
                    self.leaving.wait(0.02)

    def send(self, event: Event) -> None:
        answer = self._http.post("/api/v1/events", json=event)
        assert answer.status_code in (200, 202), answer.text

    def marks(self, event: Event) -> dict[str, Any]:
        return {"read_ct": 1}


@contextlib.contextmanager
def connected(node: Broker) -> Iterator[Any]:
    """A channel of pika's."""
    with pika.BlockingConnection(pika.URLParameters(node.url)) as connection:
        yield connection.channel()


@contextlib.contextmanager
def rabbitmq() -> Iterator[World]:
    """iMi on RabbitMQ; the subscriber's queue is there before it starts."""
    with broker() as node:
        with connected(node) as channel:
            channel.exchange_declare(EXCHANGE, "topic", durable=True)
            channel.queue_declare(QUEUE, durable=True)
            channel.queue_bind(QUEUE, EXCHANGE, "#")
        with running(IMI_RABBITMQ_URL=node.url) as live, RabbitWorld(live, node) as world:
            yield world


@contextlib.contextmanager
def embedded_bus() -> Iterator[World]:
    """iMi without a broker; the subscriber is a login that makes a queue of its own."""
    with running() as live:
        cluster, users = embedded.join(live.data_dir)
        try:
            with psycopg.connect(embedded.url(cluster)) as owner:
                owner.execute(f"create role {SUBSCRIBER} login password 'secret' in role imi_subscriber")
        finally:
            embedded.leave(cluster, users)
        subscriber = psycopg.conninfo.make_conninfo(embedded.url(cluster), user=SUBSCRIBER, password="secret")
        with psycopg.connect(subscriber) as connection:
            connection.execute("select ops.subscribe(%s, %s)", (QUEUE, ["#"]))
        with EmbeddedWorld(live, subscriber) as world:
            yield world


WORLDS = {"rabbitmq": rabbitmq, "embedded": embedded_bus}
