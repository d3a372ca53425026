"""Who may watch, by which key or ticket, from where; and what is refused before a stream begins."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from typing import Any

import aiohttp
import httpx
import pytest

from imi.stream import door, tickets
from tests.conftest import Database
from tests.serving import ADMIN, code, live
from tests.stream.conftest import PATH, Watcher, World, served

GOOD, EVIL = "https://board.example", "https://evil.example"
UPGRADE = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
}


@pytest.fixture
def anybody(api: httpx.Client) -> Iterator[httpx.Client]:
    """A client without a key."""
    with httpx.Client(base_url=api.base_url, timeout=30) as client:
        yield client


@pytest.fixture
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody has had too many attempts."""
    monkeypatch.setattr("imi.attempts.MOST", 10_000)


def ticket_of(client: httpx.Client) -> str:
    answer = client.post("/api/v1/stream-tickets")
    assert answer.status_code == 201, answer.text
    return str(answer.json()["ticket"])


def refused(client: httpx.Client, websocket: bool, query: str = "", **headers: str) -> tuple[int, str]:
    """Status and code of a stream that never begins; one that begins has no document and fails here."""
    with client.stream("GET", f"{PATH}?{query}", headers=headers | (UPGRADE if websocket else {})) as answer:
        assert answer.status_code not in (101, 200)
        answer.read()
        return code(answer)


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("after=-1", "VALIDATION_ERROR"),
        ("after=x", "VALIDATION_ERROR"),
        ("after=", "VALIDATION_ERROR"),
        ("after=99999999999999999999", "VALIDATION_ERROR"),
        ("after=9223372036854775807", "INVALID_CURSOR"),
        ("event_type=a..b", "VALIDATION_ERROR"),
        ("event_type=a.**", "VALIDATION_ERROR"),
        ("event_type=%C3%A4", "VALIDATION_ERROR"),
        ("event_type=" + "a." * 127 + "ab", "VALIDATION_ERROR"),
        ("workflow_id=1", "VALIDATION_ERROR"),
        ("limit=1", "VALIDATION_ERROR"),
        ("after=1&after=2", "VALIDATION_ERROR"),
    ],
)
def test_bad_queries(api: httpx.Client, websocket: bool, query: str, expected: str) -> None:
    assert refused(api, websocket, query) == (400, expected)


def test_a_bad_last_event_id(api: httpx.Client) -> None:
    for value, expected in (("x", "VALIDATION_ERROR"), ("9223372036854775807", "INVALID_CURSOR")):
        assert refused(api, False, "", **{"Last-Event-ID": value}) == (400, expected)


async def test_a_pattern_built_to_be_slow_is_not(world: World, websocket: bool) -> None:
    almost = world.prefix + ".a" * 100
    async with world.watch(websocket, event_type=world.prefix + ".#.a" * 60, after=0) as watcher:
        world.publish_all([{"event_type": f"{almost}.b", "payload": {}}] * 200)
        (match,) = world.publish_all([{"event_type": almost, "payload": {}}])
        assert [each["event_id"] for each in await watcher.events(1)] == [match]


def test_no_handshake(api: httpx.Client) -> None:
    for missing in ("Sec-WebSocket-Key", "Sec-WebSocket-Version", "Connection"):
        headers = {name: value for name, value in UPGRADE.items() if name != missing}
        assert code(api.get(PATH, headers=headers)) == (400, "VALIDATION_ERROR"), missing


def test_head_shows_what_a_get_would_be(api: httpx.Client) -> None:
    answer = api.head(PATH)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "text/event-stream; charset=utf-8")
    assert code(api.post(PATH)) == (405, "METHOD_NOT_ALLOWED")


def test_without_a_key(anybody: httpx.Client, websocket: bool) -> None:
    assert refused(anybody, websocket) == (401, "UNAUTHENTICATED")
    assert refused(anybody, websocket, "", Authorization="Bearer imi_wrong") == (401, "UNAUTHENTICATED")
    assert code(anybody.post("/api/v1/stream-tickets")) == (401, "UNAUTHENTICATED")


async def test_a_read_key_watches_and_has_tickets(world: World, websocket: bool, lenient: None) -> None:
    key = world.api.post("/api/v1/api-keys", json={"name": "reads", "scope": "read"}).json()["key"]
    headers = {"Authorization": f"Bearer {key}"}
    with httpx.Client(base_url=world.api.base_url, headers=headers) as reader:
        ticket = ticket_of(reader)
    for given, query in ((headers, {}), ({}, {"ticket": ticket}), ({"X-API-Key": key}, {"ticket": "bad"})):
        watcher = Watcher(world.session, websocket)
        await watcher.open(given, event_type=f"{world.prefix}.#", **query)
        event_id = world.publish()
        assert [each["event_id"] for each in await watcher.events(1)] == [event_id]
        await watcher.answer.close() if websocket else watcher.answer.close()


def test_a_ticket_opens_nothing_else(api: httpx.Client, anybody: httpx.Client, lenient: None) -> None:
    ticket = ticket_of(api)
    assert code(anybody.get("/api/v1/projects", headers={"X-API-Key": ticket})) == (401, "UNAUTHENTICATED")
    assert anybody.get(f"/api/v1/projects?ticket={ticket}").status_code == 401


def test_a_ticket_ends(
    api: httpx.Client, anybody: httpx.Client, websocket: bool, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer = api.post("/api/v1/stream-tickets").json()
    later = tickets.time.time() + tickets.LIFE
    monkeypatch.setattr(tickets.time, "time", lambda: later)
    assert refused(anybody, websocket, f"ticket={answer['ticket']}") == (401, "UNAUTHENTICATED")


def test_forged_tickets(api: httpx.Client, anybody: httpx.Client, websocket: bool, lenient: None) -> None:
    ticket = ticket_of(api)
    expires, digest, mac = base64.urlsafe_b64decode(ticket + "=" * (-len(ticket) % 4)).decode().split(".")
    forged = [
        f"{int(expires) + 60}.{digest}.{mac}",
        f"{expires}.{'0' * 64}.{mac}",
        f"{expires}.{digest}.{mac[::-1]}",
        f"{expires}.{digest}.",
        f"{expires}.{digest}",
        f"x.{digest}.{mac}",
        "",
    ]
    sent = [base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in forged]
    for each in (*sent, "%FF%FF", "%C3%A4", "a", tickets.issue("another secret", digest)[0]):
        status, said = refused(anybody, websocket, f"ticket={each}")
        assert (status, said) in ((401, "UNAUTHENTICATED"), (400, "VALIDATION_ERROR")), each


def test_a_ticket_of_a_revoked_key(
    api: httpx.Client, anybody: httpx.Client, websocket: bool, lenient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = api.post("/api/v1/api-keys", json={"name": "gone", "scope": "read"}).json()
    with httpx.Client(base_url=api.base_url, headers={"X-API-Key": made["key"]}) as reader:
        ticket = ticket_of(reader)
    api.delete(f"/api/v1/api-keys/{made['id']}")
    now = tickets.time.monotonic()
    monkeypatch.setattr("imi.server.auth.time.monotonic", lambda: now + 6)
    assert refused(anybody, websocket, f"ticket={ticket}") == (401, "UNAUTHENTICATED")


async def test_tickets_open_any_server_of_the_database(world: World, database: Database) -> None:
    ticket = ticket_of(world.api)
    async with served(database.url) as other:
        watcher = Watcher(other.session, False)
        await watcher.open({}, ticket=ticket)
        watcher.answer.close()


def test_tickets_take_no_idempotency_key(api: httpx.Client, lenient: None) -> None:
    answer = api.post("/api/v1/stream-tickets", headers={"Idempotency-Key": "once"})
    assert code(answer) == (400, "VALIDATION_ERROR")
    assert answer.json()["detail"]["params"]["errors"][0]["path"] == "Idempotency-Key"


def test_an_address_has_twenty_tickets_a_minute(database: Database) -> None:
    with live(database.url) as api:
        answers = [api.post("/api/v1/stream-tickets") for _ in range(21)]
        assert [each.status_code for each in answers] == [201] * 20 + [429]
        assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
        assert api.get("/api/v1/projects").is_success  # a key of this address is as good as before


def test_wrong_tickets_count_as_wrong_keys(database: Database) -> None:
    with live(database.url) as api, httpx.Client(base_url=api.base_url) as anybody:
        for _ in range(20):
            assert refused(anybody, False, "ticket=wrong") == (401, "UNAUTHENTICATED")
        assert refused(anybody, False, "ticket=wrong") == (429, "TOO_MANY_REQUESTS")
        assert refused(anybody, False, "", **{"X-API-Key": "wrong"}) == (429, "TOO_MANY_REQUESTS")


async def test_a_foreign_page_has_no_websocket(world: World, lenient: None) -> None:
    ticket = ticket_of(world.api)
    for origin in (EVIL, "null", GOOD + ".evil.example"):
        headers = {"Origin": origin} | UPGRADE
        assert code(world.api.get(f"{PATH}?ticket={ticket}", headers=headers)) == (403, "FORBIDDEN")
    for origin in (GOOD, str(world.api.base_url).rstrip("/")):
        watcher = Watcher(world.session, True)
        await watcher.open({"Origin": origin}, ticket=ticket)
        await watcher.answer.close()


async def test_only_a_listed_page_reads_server_sent_events(world: World) -> None:
    for origin, allowed in ((GOOD, GOOD), (EVIL, None)):
        watcher = Watcher(world.session, False)
        await watcher.open({"Origin": origin, "Authorization": f"Bearer {ADMIN}"})
        assert watcher.answer.headers.get("Access-Control-Allow-Origin") == allowed
        assert (
            watcher.answer.headers["Cache-Control"] == "no-store" and watcher.answer.headers["X-Request-ID"]
        )
        watcher.answer.close()


async def test_there_is_a_most(world: World, websocket: bool, database: Database, monkeypatch: Any) -> None:
    monkeypatch.setattr(door, "MOST", 2)
    async with served(database.url) as few, few.watch(websocket), few.watch(websocket):
        assert refused(few.api, websocket) == (503, "UNAVAILABLE")


async def test_what_a_client_says_is_not_listened_to(world: World) -> None:
    async with world.watch(True) as watcher:
        for said in ("{}", "subscribe", "x" * 4000):
            await watcher.answer.send_str(said)
        await watcher.answer.ping()
        event_id = world.publish()
        assert [each["event_id"] for each in await watcher.events(1)] == [event_id]
        await watcher.answer.send_str("x" * 10_000)  # more than anybody has to say
        async with asyncio.timeout(30):
            assert (await watcher.answer.receive()).type in (
                aiohttp.WSMsgType.CLOSE,
                aiohttp.WSMsgType.CLOSED,
            )
