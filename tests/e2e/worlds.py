"""iMi with a subscriber outside: the same face on both buses, with clients that are not ours."""

from __future__ import annotations

import contextlib
import json
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import httpx
import pika
import psycopg
from pgmq import PGMQueue
from pika.exceptions import AMQPError
from psycopg_pool import ConnectionPool

from imi.database import embedded
from tests.live import Live, running
from tests.rabbitmq import Broker, broker

Found = TypeVar("Found")
Event = dict[str, Any]

EXCHANGE = "bloodbank.events.v1"
QUEUE = "everything"
SUBSCRIBER = "outsider"
PATIENCE = 30.0  # seconds until something that should come is missing
CLIENTS = 8


class Delivery(NamedTuple):
    """What the subscriber got: the body, and what the message says beside it."""

    event: Event
    marks: dict[str, Any]


def until(look: Callable[[], Found], what: str, seconds: float = PATIENCE) -> Found:
    """What `look` finds, once it finds something."""
    end = time.monotonic() + seconds
    while not (found := look()):
        assert time.monotonic() < end, f"not after {seconds:g} s: {what}"
        time.sleep(0.02)
    return found


class World:
    """A running iMi, the door through which others publish, and a subscriber to everything."""

    def __init__(self, live: Live) -> None:
        self.live = live
        self.deliveries: list[Delivery] = []
        self.leaving = threading.Event()
        self._http = httpx.Client(
            base_url=live.url, headers={"Authorization": f"Bearer {live.key}"}, timeout=30
        )
        self._thread = threading.Thread(target=self.subscribe)

    def __enter__(self) -> World:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leaving.set()
        self._thread.join()
        self._http.close()

    def subscribe(self) -> None:
        """Append to `deliveries` what comes, until `leaving` is set."""
        raise NotImplementedError

    def send(self, event: Event) -> None:
        """Publish an envelope, as others do on this bus."""
        raise NotImplementedError

    def marks(self, event: Event) -> dict[str, Any]:
        """What a message with this event must say of itself, delivered for the first time."""
        raise NotImplementedError

    def get(self, path: str, **params: Any) -> Any:
        """The answer of a GET under /api/v1."""
        answer = self._http.get(f"/api/v1{path}", params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def health(self) -> Event:
        """What /health says."""
        said: Event = self._http.get("/health").json()
        return said

    def start_work(self, remote: str, count: int) -> None:
        """Many mutations over HTTP, from several clients at once; each must succeed."""
        project = self._http.post("/api/v1/projects", json={"remote_origin": remote}).json()["id"]

        def start(n: int) -> int:
            body = {"project_id": project, "branch_name": f"branch-{n}", "owner_id": "ada"}
            return self._http.post("/api/v1/work", json=body).status_code

        with ThreadPoolExecutor(CLIENTS) as clients:
            assert list(clients.map(start, range(count))) == [201] * count

    def publish(self, event_type: str, payload: dict[str, Any], **envelope: Any) -> Event:
        """Publish an event of the outside; the envelope."""
        event = {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "timestamp": datetime.now(UTC).isoformat(),
            "version": "1.0.0",
            "source": {"host": "elsewhere", "type": "service"},
            "correlation_ids": [],
            "agent_context": None,
            "payload": payload,
        } | envelope
        self.send(event)
        return event

    def log(self) -> list[Event]:
        """All that iMi itself has to say, in log order."""
        events: list[Event] = []
        cursor = "0"
        while True:
            answer = self._http.get("/api/v1/events", params={"after": cursor, "limit": 1000})
            assert answer.status_code == 200, answer.text
            if not answer.json():
                return [each for each in events if ours(each)]
            events += answer.json()
            cursor = answer.headers["X-Next-Cursor"]

    def received(self) -> list[Event]:
        """What the subscriber has got of it, as it came."""
        return [each.event for each in self.deliveries.copy() if ours(each.event)]

    def effects(self, cause: Event) -> list[Event]:
        """What of it the event caused."""
        return [each for each in self.received() if cause["event_id"] in each["correlation_ids"]]

    def effect(self, cause: Event, event_type: str) -> Event:
        """The one effect of this type; waits for it."""

        def look() -> list[Event]:
            return [each for each in self.effects(cause) if each["event_type"] == event_type]

        (found,) = until(look, f"{event_type} caused by {cause['event_type']} {cause['event_id']}")
        return found


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


def ours(event: Event) -> bool:
    return bool(event["source"].get("app") == "imi")


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
