"""publish_event over both ways, against the broker and the server themselves."""

from __future__ import annotations

import asyncio
import contextlib
import platform
import socket
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

import imi.bloodbank
from imi.bloodbank import PublishError, publish, publish_event
from imi.bloodbank.rabbitmq import RabbitBus
from imi.config import Settings
from tests.live import Live, running
from tests.rabbitmq import Broker

WORKFLOW = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b19"


@pytest.fixture(scope="module")
def up(node: Broker) -> Iterator[Live]:
    """A whole iMi beside the broker."""
    with running(IMI_RABBITMQ_URL=node.url) as live:
        yield live


@pytest.fixture(params=["http", "rabbitmq"])
def way(request: pytest.FixtureRequest, up: Live, node: Broker, monkeypatch: pytest.MonkeyPatch) -> str:
    """The environment of a publisher on iMi's machine."""
    node.start()
    monkeypatch.setenv("IMI_DATA_DIR", str(up.data_dir))
    if request.param == "rabbitmq":
        monkeypatch.setenv("IMI_RABBITMQ_URL", node.url)
    return str(request.param)


@pytest.fixture
def nowhere(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A port on which both ways end, with somebody there who never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.setblocking(False)
        monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{silent.getsockname()[1]}")
        yield silent


async def in_log(up: Live, event_id: uuid.UUID) -> dict[str, Any]:
    """The event as the log has it, waiting for it."""
    async with asyncio.timeout(60), up.client() as client:
        while (answer := await client.get(f"/api/v1/events/{event_id}")).status_code == 404:
            await asyncio.sleep(0.02)
    answer.raise_for_status()
    return dict(answer.json())


async def caused_by(up: Live, event_id: uuid.UUID) -> list[str]:
    async with up.client() as client:
        answer = await client.get("/api/v1/events", params={"correlation_id": str(event_id)})
    return [each["event_id"] for each in answer.json()]


@pytest.mark.usefixtures("way")
async def test_under_its_own_id_it_is_stored_once_however_often_it_is_published(up: Live) -> None:
    event_id = uuid.uuid4()
    for n in range(3):
        assert await publish_event("test.again", {"n": n}, event_id=event_id) == event_id
    last = await publish_event("test.last", {})
    await in_log(up, last)
    assert (await in_log(up, event_id))["payload"] == {"n": 0}
    async with up.client() as client:
        answer = await client.get("/api/v1/events", params={"event_type": "test.again"})
    assert [each["event_id"] for each in answer.json()].count(str(event_id)) == 1


async def test_settings_may_be_given(up: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMI_API_URL", "http://127.0.0.1:1")
    given = Settings(data_dir=up.data_dir)
    await in_log(up, await publish_event("test.given", {}, settings=given))


@pytest.mark.usefixtures("way")
async def test_it_is_in_the_log_with_its_causes(up: Live) -> None:
    before = datetime.now(UTC)
    first = await publish_event("test.began", {})
    second = await publish_event("test.began", {}, [])
    payload = {"workflow_id": uuid.UUID(WORKFLOW), "text": "ä €", "n": [1, 2.5, None, True]}
    third = await publish_event("test.happened", payload, [first, str(second).upper()])

    stored = await in_log(up, third)
    assert (
        before <= datetime.fromisoformat(stored.pop("timestamp")) <= datetime.now(UTC) + timedelta(seconds=1)
    )
    assert stored == {
        "event_id": str(third),
        "event_type": "test.happened",
        "version": "1.0.0",
        "source": {"host": platform.node(), "type": "agent"},
        "correlation_ids": [str(first), str(second)],
        "agent_context": None,
        "payload": payload | {"workflow_id": WORKFLOW},
    }
    assert (await in_log(up, first))["correlation_ids"] == []
    assert await caused_by(up, first) == await caused_by(up, second) == [str(third)]


@pytest.mark.usefixtures("way")
async def test_a_payload_is_held_against_its_type_s_schema(up: Live) -> None:
    with pytest.raises(ValueError, match=r"payload\.workflow_id is not a 'uuid'"):
        await publish_event("bmad.workflow.completed", {"workflow_id": "x"})
    taken = await publish_event("bmad.workflow.completed", {"workflow_id": WORKFLOW})
    assert (await in_log(up, taken))["payload"] == {"workflow_id": WORKFLOW}


async def tried(
    monkeypatch: pytest.MonkeyPatch, publishing: Callable[[], Awaitable[uuid.UUID]]
) -> tuple[asyncio.Future[uuid.UUID], list[BaseException]]:
    """Publishing under way, after its first try has failed; and how the tries failed."""
    failed: list[BaseException] = []

    def watched(owner: Any, name: str) -> None:
        real = getattr(owner, name)

        async def call(*arguments: Any, **options: Any) -> Any:
            try:
                return await real(*arguments, **options)
            except Exception as error:
                failed.append(error)
                raise

        monkeypatch.setattr(owner, name, call)

    watched(RabbitBus, "publish")
    watched(httpx.AsyncClient, "post")
    monkeypatch.setattr(publish, "PATIENCE", 90)  # a node may need a minute on a busy machine
    task = asyncio.ensure_future(publishing())
    async with asyncio.timeout(30):
        while not failed and not task.done():
            await asyncio.sleep(0.01)
    return task, failed


async def test_it_waits_until_it_is_back(
    way: str, up: Live, node: Broker, monkeypatch: pytest.MonkeyPatch
) -> None:
    cause = await publish_event("test.began", {})
    await in_log(up, cause)
    if way == "rabbitmq":
        await asyncio.to_thread(node.kill)
    else:
        await asyncio.to_thread(up.stop)
        monkeypatch.setenv("IMI_API_URL", up.url)  # which it leaves in its folder only while it runs
    task, failed = await tried(monkeypatch, lambda: publish_event("test.happened", {}, [cause]))
    assert failed and not task.done()
    await asyncio.to_thread(node.start if way == "rabbitmq" else up.start)
    event_id = await task
    await in_log(up, event_id)
    assert await caused_by(up, cause) == [str(event_id)]


@contextlib.asynccontextmanager
async def losing_the_first_answer(up: Live) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A way to the server on which the first answer is lost: its port, and what went along it."""
    requests: list[bytes] = []

    async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", up.port)
        head = await reader.readuntil(b"\r\n\r\n")
        (size,) = [
            int(each[15:]) for each in head.lower().split(b"\r\n") if each.startswith(b"content-length:")
        ]
        requests.append(await reader.readexactly(size))
        back.write(head + requests[-1])
        answer = await there.readuntil(b"\r\n\r\n")
        if len(requests) > 1:
            (size,) = [
                int(each[15:])
                for each in answer.lower().split(b"\r\n")
                if each.startswith(b"content-length:")
            ]
            writer.write(answer + await there.readexactly(size))
            await writer.drain()
        back.close()
        writer.close()

    server = await asyncio.start_server(pass_on, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1], requests


async def test_an_answer_that_was_lost_makes_no_second_event(
    up: Live, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("IMI_DATA_DIR", str(up.data_dir))
    cause = await publish_event("test.began", {})
    async with losing_the_first_answer(up) as (port, requests):
        monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{port}")
        event_id = await publish_event("test.happened", {}, [cause])
    assert len(requests) == 2 and requests[0] == requests[1]
    assert await caused_by(up, cause) == [str(event_id)]


@pytest.mark.parametrize("name", ["IMI_API_URL", "IMI_RABBITMQ_URL"])
@pytest.mark.parametrize("listens", [True, False])
async def test_away_for_good(
    nowhere: socket.socket, monkeypatch: pytest.MonkeyPatch, name: str, listens: bool
) -> None:
    port = nowhere.getsockname()[1]
    if not listens:
        nowhere.close()
    scheme = {"IMI_API_URL": "http://", "IMI_RABBITMQ_URL": "amqp://guest:secret@"}[name]
    monkeypatch.setenv(name, f"{scheme}127.0.0.1:{port}")
    monkeypatch.setattr(publish, "PATIENCE", 0.5)
    with pytest.raises(PublishError, match=r"was not taken within 0\.5 s: .") as refused:
        await publish_event("test.happened", {})
    assert refused.value.code == "UNREACHABLE"
    assert str(refused.value.event_id) in str(refused.value)
    assert name in refused.value.hint
    assert "secret" not in str(refused.value)


async def test_an_exchange_behind_which_nobody_listens(node: Broker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMI_RABBITMQ_URL", node.url)
    monkeypatch.setenv("IMI_EXCHANGE_NAME", "nobody.listens")
    monkeypatch.setattr(publish, "PATIENCE", 2)
    with pytest.raises(PublishError, match="no queue takes such an event"):
        await publish_event("test.happened", {})


@pytest.mark.parametrize(
    ("key", "event_type", "status", "code", "hint"),
    [
        ("imi_wrong", "test.happened", 401, "UNAUTHENTICATED", "imi keys create"),
        ("read", "test.happened", 403, "FORBIDDEN", "scope write"),
        ("write", "imi.work.exploded", 403, "FORBIDDEN", "admin key"),
    ],
)
async def test_what_the_server_refuses(
    up: Live, monkeypatch: pytest.MonkeyPatch, key: str, event_type: str, status: int, code: str, hint: str
) -> None:
    if key in ("read", "write"):
        async with up.client() as client:
            made = await client.post("/api/v1/api-keys", json={"name": uuid.uuid4().hex, "scope": key})
        key = made.json()["key"]
    monkeypatch.setenv("IMI_DATA_DIR", str(up.data_dir))
    monkeypatch.setenv("IMI_API_KEY", key)
    with pytest.raises(PublishError) as refused:
        await publish_event(event_type, {})
    assert (refused.value.status, refused.value.code) == (status, code)
    assert hint in refused.value.hint


@pytest.mark.parametrize(
    "said", [b"200 OK", b"404 Not Found", b"302 Found"], ids=lambda said: said.decode()[:3]
)
async def test_what_is_not_imi_is_said(monkeypatch: pytest.MonkeyPatch, said: bytes) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + said + b"\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(greet, "127.0.0.1", 0) as server:
        monkeypatch.setenv("IMI_API_URL", f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(PublishError, match="is not iMi") as refused:
            await publish_event("test.happened", {})
    assert refused.value.code == "NOT_IMI"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("IMI_API_URL", "ftp://127.0.0.1"),
        ("IMI_API_URL", "http://:1"),
        ("IMI_AGENT", "Zoë"),
        ("IMI_RABBITMQ_URL", "127.0.0.1:5672"),
        ("IMI_RABBITMQ_URL", "amqp://"),
        ("IMI_RABBITMQ_URL", "amqp://127.0.0.1:many"),
    ],
)
async def test_a_setting_that_cannot_be_used(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(PublishError) as refused:
        await publish_event("test.happened", {})
    assert refused.value.code == "CONFIG"


def deep() -> dict[str, Any]:
    made: dict[str, Any] = {}
    for _ in range(100):
        made = {"a": made}
    return made


CIRCLE: dict[str, Any] = {}
CIRCLE["itself"] = CIRCLE


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("",), "is no event type"),
        (("a b",), "is no event type"),
        (("a.",), "is no event type"),
        (("a.*",), "is no event type"),
        (("a.b\n",), "is no event type"),
        (("a" * 256,), "is no event type: .* 255 characters"),
        ((None,), "None is no event type"),
        (("a.b", []), "The payload is not an object"),
        (("a.b", None), "The payload is not an object"),
        (("a.b", {"at": datetime.now(UTC)}), "it holds a value of type datetime"),
        (("a.b", {"n": float("nan")}), "The payload is no JSON"),
        (("a.b", {"n": float("inf")}), "The payload is no JSON"),
        (("a.b", {"n": 10**400}), "The event is not valid JSON .*infinity"),
        (("a.b", {"n": 10**5000}), "The payload is no JSON"),
        (("a.b", {("a",): 1}), "The payload is no JSON"),
        (("a.b", {"text": "\ud800"}), "The payload is no JSON"),
        (("a.b", {"text": "\0"}), "holds a NUL character"),
        (("a.b", CIRCLE), "The payload is no JSON"),
        (("a.b", deep()), "is nested more than 100 deep"),
        (("a.b", {"text": "ä" * (1 << 19)}), "is larger than 1 MiB"),
        (("a.b", {}, ["x"]), "'x' in correlation_ids is no UUID"),
        (("a.b", {}, [WORKFLOW, WORKFLOW.replace("-", "")]), "in correlation_ids is no UUID"),
        (("a.b", {}, [7]), "'7' in correlation_ids is no UUID"),
        (("a.b", {}, WORKFLOW), "correlation_ids is a list"),
        (("a.b", {}, uuid.UUID(WORKFLOW)), "correlation_ids is a list"),
        (("bmad.workflow.started", {"workflow_id": WORKFLOW}), r"payload\.project_name is required"),
        (("tool.mutation.edit", {"tool_name": 7}), r"payload\.tool_name is not of type string"),
    ],
    ids=lambda each: each if isinstance(each, str) and len(each) < 50 else "",
)
async def test_what_is_wrong_is_said_and_not_sent(
    nowhere: socket.socket, arguments: tuple[Any, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        await publish_event(*arguments, *[{}][: 2 - len(arguments)])
    with pytest.raises(BlockingIOError):  # nobody has knocked
        nowhere.accept()


def test_the_package_costs_nothing_until_it_publishes() -> None:
    program = (
        "import sys; before = set(sys.modules); import imi.bloodbank; "
        "print(sorted(set(sys.modules) - before)); from imi.bloodbank import schemas; "
        "print('imi.bloodbank.publish' in sys.modules); from imi.bloodbank import publish_event, PublishError; "
        "print({'httpx', 'aiormq', 'asyncpg', 'aiohttp'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded, publishing, heavy = done.stdout.splitlines()
    assert loaded == "['imi', 'imi.bloodbank']"
    assert (publishing, heavy) == ("False", "set()")
    with pytest.raises(AttributeError, match="no attribute 'publish_events'"):
        _ = imi.bloodbank.publish_events
