"""iMi and an outsider: what others publish, get and see, the same on both buses."""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any, NamedTuple, TypeVar

import httpx

from tests.live import Live

Found = TypeVar("Found")
Event = dict[str, Any]

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
        """The one effect of this type, caused by nothing else; waits for it."""
        answers = (event_type, "imi.cmd.failed")

        def look() -> list[Event]:
            return [each for each in self.effects(cause) if each["event_type"] in answers]

        (found,) = until(look, f"{event_type} caused by {cause['event_type']} {cause['event_id']}")
        assert found["event_type"] == event_type, found
        assert found["correlation_ids"] == [cause["event_id"]]
        return found


def ours(event: Event) -> bool:
    return bool(event["source"].get("app") == "imi")
