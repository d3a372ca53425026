"""imi letta on both buses against the fake: one agent for each request, and an end of it, whatever happens."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import signal
import subprocess
import sys
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiormq
import asyncpg
import pytest
import pytest_asyncio
from letta_client import AsyncLetta

from imi.bloodbank import publish_event
from imi.cli import letta as command
from imi.config import Settings
from imi.database import embedded
from imi.letta import handoff, queues, server
from tests.letta import fake
from tests.letta.fake import Fake
from tests.letta.real import Place
from tests.live import Live, running
from tests.rabbitmq import Broker, broker

REQUESTED, ACCEPTED = "bmad.workflow.handoff.requested", "agent.handoff.accepted"
COMPLETED, BLOCKED = "agent.letta.task.completed", "agent.letta.task.blocked"
SAVED = "agent.letta.checkpoint.saved"
Event = dict[str, Any]
nodes: dict[str, Broker] = {}


@pytest.fixture(scope="module", params=["embedded", "rabbitmq"])
def up(request: pytest.FixtureRequest) -> Iterator[Live]:
    """A whole iMi on a bus."""
    if request.param == "embedded":
        with running() as live:
            yield live
    else:
        with broker() as node, running(IMI_RABBITMQ_URL=node.url) as live:
            nodes[live.url] = node
            yield live


@pytest_asyncio.fixture(autouse=True)
async def nothing_left(up: Live) -> AsyncIterator[None]:
    """What a worker has not acknowledged when a test is over comes to no other test."""
    yield
    if url := up.settings.get("IMI_RABBITMQ_URL"):
        connection = await aiormq.connect(url)
        channel = await connection.channel()
        async with asyncio.timeout(30):
            while (await channel.queue_declare(queues.QUEUE, passive=True)).consumer_count:
                await asyncio.sleep(0.02)
        await channel.queue_purge(queues.QUEUE)
        await connection.close()
    else:
        async with owner_of(up) as owner:
            await owner.execute("select pgmq.purge_queue($1)", queues.QUEUE)


@asynccontextmanager
async def owner_of(live: Live) -> AsyncIterator[asyncpg.Connection]:
    """A connection of the database's owner."""
    cluster, users = await asyncio.to_thread(embedded.join, live.data_dir)
    try:
        owner = await asyncpg.connect(embedded.url(cluster))
        try:
            yield owner
        finally:
            await owner.close()
    finally:
        await asyncio.to_thread(embedded.leave, cluster, users)


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three tries within a second."""
    monkeypatch.setattr(handoff, "TRIES", 3)
    monkeypatch.setattr(handoff, "FIRST", 0.05)
    monkeypatch.setattr(handoff, "LONGEST", 0.2)
    monkeypatch.setattr(handoff, "LOOK", 0.05)


def settings_of(live: Live, letta: Fake | Place) -> Settings:
    return Settings(
        data_dir=live.data_dir,
        rabbitmq_url=live.settings.get("IMI_RABBITMQ_URL"),
        letta_base_url=letta.url,
        letta_api_key=fake.KEY,
        letta_model=fake.MODEL,
    )


@asynccontextmanager
async def working(live: Live, letta: Fake | Place) -> AsyncIterator[None]:
    """A worker in this process."""
    async with AsyncExitStack() as stack:
        await command.work(settings_of(live, letta), stack)
        yield


def started(live: Live, letta: Fake, **settings: str) -> subprocess.Popen[str]:
    """`imi letta` in a process of its own; in another thread than the fake's, which it asks at once."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("IMI_")}
    environment |= live.settings | {
        "IMI_DATA_DIR": str(live.data_dir),
        "IMI_LETTA_BASE_URL": letta.url,
        "IMI_LETTA_API_KEY": fake.KEY,
        "IMI_LETTA_MODEL": fake.MODEL,
        "IMI_LOG_FILE": str(live.data_dir.with_suffix(".letta")),
    }
    return subprocess.Popen(
        [sys.executable, "-m", "imi", "letta", "--json"],
        env=environment | settings, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip


@asynccontextmanager
async def process(live: Live, letta: Fake | Place) -> AsyncIterator[subprocess.Popen[str]]:
    """The same that has said that it is up; killed in the end if it still runs."""
    worker = await asyncio.to_thread(started, live, letta)
    try:
        assert worker.stdout
        said = await asyncio.to_thread(worker.stdout.readline)
        assert json.loads(said)["data"]["letta"] == letta.url, said
        yield worker
    finally:
        worker.kill()
        await asyncio.to_thread(worker.communicate)


async def ask(live: Live, letta: Fake | Place, task: str = "do it", **more: Any) -> uuid.UUID:
    """BMAD's request; its id."""
    payload = {
        "workflow_id": str(uuid.uuid4()),
        "from_agent": "bmad-architect",
        "to_agent": "letta-python-dev",
        "task": task,
        "context": {"brief": "docs/brief.md"},
    }
    event_id = more.pop("event_id", None)
    return await publish_event(
        REQUESTED, payload | more, event_id=event_id, settings=settings_of(live, letta)
    )


async def get(live: Live, path: str, **params: str) -> Any:
    async with live.client() as client:
        answer = await client.get(f"/api/v1{path}", params=params)
    answer.raise_for_status()
    return answer.json()


async def effects(live: Live, cause: str | uuid.UUID) -> list[Event]:
    found: list[Event] = await get(live, "/events", correlation_id=str(cause), order="asc")
    return found


async def effect(live: Live, cause: str | uuid.UUID, event_type: str) -> Event:
    """The one of this type that the event has caused; waits for it."""
    async with asyncio.timeout(60):
        while True:
            found = [each for each in await effects(live, cause) if each["event_type"] == event_type]
            if found:
                assert len(found) == 1
                return found[0]
            await asyncio.sleep(0.05)


async def letter(live: Live, request: uuid.UUID) -> Event:
    """The dead letter of a request; waits for it."""
    async with asyncio.timeout(60):
        while True:
            for each in (await get(live, "/dead-letters", limit="1000"))["items"]:
                whole: Event = await get(live, f"/dead-letters/{each['id']}")
                if str(request) in (whole["event_id"], json.loads(whole["raw"] or "{}").get("event_id")):
                    return whole
            await asyncio.sleep(0.05)


async def until(look: Any) -> None:
    async with asyncio.timeout(60):
        while not look():
            await asyncio.sleep(0.02)


@pytest.mark.usefixtures("quick")
async def test_a_request_becomes_an_agent_that_works_and_ends(up: Live, letta: Fake) -> None:
    call = {"label": "task", "old_string": "CALL", "new_string": "DONE"}
    async with working(up, letta):
        request = await ask(up, letta, f"CALL:memory_replace:{json.dumps(call)}", to_agent="dev/1")
        accepted = await effect(up, request, ACCEPTED)
        completed = await effect(up, accepted["event_id"], COMPLETED)
        saved = await effect(up, accepted["event_id"], SAVED)
    (agent,) = letta.agents.values()
    (run,) = letta.runs.values()
    asked = await get(up, f"/events/{request}")
    workflow = asked["payload"]["workflow_id"]
    assert accepted["payload"] == {
        "workflow_id": workflow, "agent_type": "letta", "session_id": agent["id"],
        "accepted_from": "bmad-architect",
    }  # fmt: skip
    assert accepted["correlation_ids"] == [str(request)]
    assert [each["event_type"] for each in await effects(up, request)] == [ACCEPTED]
    end = {"workflow_id": workflow, "session_id": agent["id"]}
    assert saved["payload"] == end | {"checkpoint_id": run["steps"][-1]["id"]}
    assert completed["payload"] == end | {"result": f"done: {asked['payload']['task']}"[:206]}
    assert agent["name"] == "dev-1" and agent["tags"] == [f"imi:request:{request}"]
    memory = {letta.blocks[each]["label"]: letta.blocks[each]["value"] for each in agent["blocks"]}
    assert json.loads(memory["context"]) == {"brief": "docs/brief.md"}
    assert memory["task"].startswith("DONE:memory_replace")
    found = await get(up, "/events", workflow_id=workflow, order="asc")
    assert [each["event_type"] for each in found] == [REQUESTED, ACCEPTED, SAVED, COMPLETED]


@pytest.mark.usefixtures("quick")
async def test_the_same_request_twice_is_one_agent_and_one_run(up: Live, letta: Fake) -> None:
    workflow, event_id = str(uuid.uuid4()), uuid.uuid4()
    async with working(up, letta):
        for _ in range(3):
            await ask(up, letta, "SLOW", workflow_id=workflow, event_id=event_id)
        accepted = await effect(up, event_id, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
        await ask(up, letta, "SLOW", workflow_id=workflow, event_id=event_id)
        other = await ask(up, letta)
        accepted = await effect(up, other, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    assert len(letta.agents) == len(letta.runs) == 2
    assert len(await effects(up, event_id)) == 1


async def test_a_worker_killed_between_create_and_publish_makes_no_second_agent(
    up: Live, letta: Fake
) -> None:
    letta.released.clear()
    async with process(up, letta) as worker:
        request = await ask(up, letta)
        await until(lambda: letta.agents)
        worker.send_signal(signal.SIGKILL)
        await asyncio.to_thread(worker.wait)
    assert await effects(up, request) == []
    letta.released.set()
    async with process(up, letta):
        accepted = await effect(up, request, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    assert list(letta.agents) == [accepted["payload"]["session_id"]]
    assert len(letta.runs) == 1


async def test_a_worker_killed_or_stopped_while_the_agent_works_is_followed_by_another(
    up: Live, letta: Fake
) -> None:
    letta.thinking = 3600.0
    requests = []
    for sign, code in ((signal.SIGKILL, -9), (signal.SIGTERM, 0)):
        async with process(up, letta) as worker:
            requests.append(await ask(up, letta, "SLOW"))
            await until(lambda: len(letta.runs) == len(requests))
            await effect(up, requests[-1], ACCEPTED)
            worker.send_signal(sign)
            assert await asyncio.to_thread(worker.wait, 30) == code
    letta.thinking = 0.0
    async with process(up, letta):
        for request in requests:
            accepted = await effect(up, request, ACCEPTED)
            await effect(up, accepted["event_id"], COMPLETED)
    assert len(letta.agents) == len(letta.runs) == 2


@pytest.mark.usefixtures("quick")
async def test_a_request_in_hands_is_nobody_else_s_until_it_is_let_go(
    up: Live, letta: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(queues, "HIDDEN", 1)
    monkeypatch.setattr(queues, "RENEWED", 0.1)
    letta.thinking = 2.5  # longer than it would be hidden
    caplog.set_level(logging.INFO, "imi.letta")
    async with working(up, letta), working(up, letta):
        accepted = await effect(up, await ask(up, letta, "SLOW"), ACCEPTED)
        await until(lambda: letta.runs)
        await effect(up, accepted["event_id"], COMPLETED)
    assert caplog.messages.count(ACCEPTED) == 1
    assert "the hand-off waits" not in caplog.messages

    monkeypatch.setattr(queues, "HIDDEN", 3600)
    letta.thinking = 3600.0
    async with working(up, letta):
        accepted = await effect(up, await ask(up, letta, "SLOW"), ACCEPTED)
        await until(lambda: len(letta.runs) == 2)
    letta.thinking = 0.0
    async with working(up, letta):
        await effect(up, accepted["event_id"], COMPLETED)


@pytest.mark.usefixtures("quick")
async def test_a_bus_that_goes_away_while_the_agent_works_is_waited_for(up: Live, letta: Fake) -> None:
    letta.thinking = 3600.0
    async with working(up, letta):
        request = await ask(up, letta, "SLOW")
        accepted = await effect(up, request, ACCEPTED)
        await until(lambda: letta.runs)
        if node := nodes.get(up.url):
            await asyncio.to_thread(node.kill)
            letta.thinking = 0.0
            await asyncio.to_thread(node.start)
        else:
            async with owner_of(up) as owner:
                end = "select pg_terminate_backend(pid) from pg_stat_activity where usename like '%\\_subscriber'"
                assert await owner.fetch(end) == [(True,)]
            letta.thinking = 0.0
        await effect(up, accepted["event_id"], COMPLETED)
        other = await effect(up, await ask(up, letta), ACCEPTED)
        await effect(up, other["event_id"], COMPLETED)
    assert len(letta.agents) == len(letta.runs) == 2


@pytest.mark.usefixtures("quick")
async def test_letta_away_is_waited_for(
    up: Live, letta: Fake, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(handoff, "TRIES", 1000)
    async with working(up, letta):
        await letta.down()
        request = await ask(up, letta)
        await until(lambda: "the runtime waits" in caplog.messages)
        assert await effects(up, request) == []
        await letta.up()
        accepted = await effect(up, request, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    assert len(letta.agents) == 1
    (waited, *_) = [each for each in caplog.records if each.message == "the runtime waits"]
    assert waited.fields["step"] == "making the agent" and "Connection error" in waited.fields["error"]  # type: ignore[attr-defined]


@pytest.mark.usefixtures("quick")
async def test_an_answer_that_comes_too_late_makes_no_second_agent(
    up: Live, letta: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "TIMEOUT", 0.5)
    letta.released.clear()
    async with working(up, letta):
        request = await ask(up, letta)
        accepted = await effect(up, request, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    assert list(letta.agents) == [accepted["payload"]["session_id"]]


@pytest.fixture
def no_collections() -> Iterator[None]:
    """A finalizer that runs where a deep answer has used up the stack fails, whatever it belongs to."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("quick", "no_collections")
@pytest.mark.parametrize("fault", ["500", "429", "404", "nul", *fake.MALFORMED])
async def test_what_letta_cannot_do_is_a_blocked_task_and_a_dead_letter(
    up: Live, letta: Fake, fault: str
) -> None:
    async with working(up, letta):
        letta.fault = fault
        request = await ask(up, letta)
        blocked = await effect(up, request, BLOCKED)
        assert blocked["payload"].keys() == {"workflow_id", "reason"}
        reason = blocked["payload"]["reason"]
        assert reason.startswith("making the agent failed 3 times: ")
        assert (fault if fault.isdigit() else "") in reason
        dead = await letter(up, request)
        assert dead["replayed_at"] is None and dead["sqlstate"] is None
        if up.settings:
            expected = ("intake", None, f"The broker gave it up: rejected from {queues.QUEUE}")
        else:
            expected = ("subscription", queues.QUEUE, reason)
        assert (dead["source"], dead["subscription"], dead["reason"]) == expected
        letta.fault = None
        other = await ask(up, letta)  # the one that failed holds up nobody
        accepted = await effect(up, other, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    assert len(letta.agents) == 1


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("up", ["embedded"], indirect=True)
async def test_a_dead_letter_of_the_embedded_bus_is_served_when_it_is_replayed(up: Live, letta: Fake) -> None:
    async with working(up, letta):
        letta.fault = "500"
        request = await ask(up, letta)
        dead = await letter(up, request)
        letta.fault = None
        async with up.client() as client:
            answer = await client.post(f"/api/v1/dead-letters/{dead['id']}/replay", json={})
        assert answer.status_code == 200, answer.text
        accepted = await effect(up, request, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)


@pytest.mark.usefixtures("quick")
async def test_letta_that_breaks_while_the_agent_works_blocks_its_task(up: Live, letta: Fake) -> None:
    letta.thinking = 3600.0
    async with working(up, letta):
        request = await ask(up, letta, "SLOW")
        accepted = await effect(up, request, ACCEPTED)
        await until(lambda: letta.runs)
        letta.fault = "500"
        blocked = await effect(up, accepted["event_id"], BLOCKED)
    assert blocked["payload"]["session_id"] == accepted["payload"]["session_id"]
    assert blocked["payload"]["reason"].startswith("looking at it failed 3 times: InternalServerError")


@pytest.mark.usefixtures("quick")
async def test_an_agent_that_stops_blocks_its_task_and_is_no_dead_letter(up: Live, letta: Fake) -> None:
    async with working(up, letta):
        accepted = await effect(up, await ask(up, letta, "BROKEN"), ACCEPTED)
        blocked = await effect(up, accepted["event_id"], BLOCKED)
        other = await effect(up, await ask(up, letta), ACCEPTED)
        await effect(up, other["event_id"], COMPLETED)
    assert "the model is broken" in blocked["payload"]["reason"]
    reasons = [each["event_id"] for each in (await get(up, "/dead-letters", limit="1000"))["items"]]
    assert accepted["correlation_ids"][0] not in reasons


@pytest.mark.usefixtures("quick")
async def test_an_agent_that_never_ends_is_given_up(
    up: Live, letta: Fake, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(handoff, "ENOUGH", 0.0)
    letta.thinking = 3600.0
    async with working(up, letta):
        accepted = await effect(up, await ask(up, letta, "SLOW"), ACCEPTED)
        blocked = await effect(up, accepted["event_id"], BLOCKED)
    assert "still at work" in blocked["payload"]["reason"]


@pytest.mark.usefixtures("quick")
async def test_a_key_that_is_no_longer_right_blocks_no_task(
    up: Live, letta: Fake, caplog: pytest.LogCaptureFixture
) -> None:
    async with working(up, letta):
        letta.fault = "401"
        request = await ask(up, letta)
        await until(lambda: len(letta.asked) > 10)  # more often than it would try in vain
        assert await effects(up, request) == []
        assert "the runtime lets nobody in" in caplog.messages
        letta.fault = None
        accepted = await effect(up, request, ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)


@pytest.mark.usefixtures("quick")
async def test_a_request_that_is_none_is_a_dead_letter_and_blocked_if_its_workflow_is_known(
    up: Live, letta: Fake
) -> None:
    workflow = str(uuid.uuid4())
    envelope = {"source": {"host": "h", "type": "agent"}, "version": "1.0.0", "event_type": REQUESTED}
    async with working(up, letta), up.client() as client:
        for payload in ({"workflow_id": workflow, "task": 3}, {"workflow_id": "none"}):
            answer = await client.post("/api/v1/events", json=envelope | {"payload": payload})
            request = answer.json()["event_id"]
            dead = await letter(up, request)
            if payload["workflow_id"] == workflow:
                blocked = await effect(up, request, BLOCKED)
                assert "from_agent" in blocked["payload"]["reason"]
                assert blocked["payload"]["workflow_id"] == workflow
        assert await effects(up, request) == []
        assert up.settings or "workflow_id" in dead["reason"]
    assert letta.agents == {}


async def test_it_says_at_once_what_is_wrong_for_good(up: Live, letta: Fake) -> None:
    url, model, embedding = "IMI_LETTA_BASE_URL", "IMI_LETTA_MODEL", "IMI_LETTA_EMBEDDING"
    for settings, message in (
        ({url: ""}, "IMI_LETTA_BASE_URL is not set"),
        ({model: ""}, "IMI_LETTA_MODEL is not set"),
        ({url: "", model: ""}, "IMI_LETTA_BASE_URL and IMI_LETTA_MODEL are not set"),
        ({"IMI_LETTA_API_KEY": "wrong"}, "does not let us in"),
        ({model: "openai/none"}, f"no model openai/none, but letta/letta-free, {fake.MODEL}"),
        ({embedding: "openai/none"}, "no embedding model openai/none, but letta/letta-free, "),
        (
            {url: f"{letta.url}/v1"},
            "not look like a Letta server (it answers GET /v1/v1/agents/ with status 404",
        ),
    ):
        worker = await asyncio.to_thread(started, up, letta, **settings)
        said, _ = await asyncio.to_thread(worker.communicate, None, 60)
        error = json.loads(said)["error"]
        assert worker.returncode == 1 and error["code"] == "CONFIG" and message in error["message"], said
    assert letta.agents == {}


async def test_it_says_that_letta_is_away(up: Live, letta: Fake) -> None:
    await letta.down()
    async with process(up, letta) as worker:
        worker.terminate()
        assert await asyncio.to_thread(worker.wait, 30) == 0
    assert letta.asked == []
    async with AsyncExitStack() as stack:
        shown = await command.work(settings_of(up, letta), stack)
        assert shown["letta"] == letta.url
        assert shown["note"].startswith("Letta is away; requests wait (")
    if not up.settings:
        nowhere = up.data_dir.with_suffix(".nowhere")
        worker = await asyncio.to_thread(started, up, letta, IMI_DATA_DIR=str(nowhere))
        said, _ = await asyncio.to_thread(worker.communicate, None, 60)
        assert worker.returncode == 1 and f"There is no iMi in {nowhere}" in said and not nowhere.exists()


async def test_a_letta_server_does_what_a_request_asks(up: Live, place: Place) -> None:
    call = {"label": "context", "old_string": "docs", "new_string": "doc"}
    async with working(up, place):
        request = await ask(up, place, f"CALL:memory_replace:{json.dumps(call)}")
        accepted = await effect(up, request, ACCEPTED)
        completed = await effect(up, accepted["event_id"], COMPLETED)
        stopped = await effect(up, await ask(up, place, "BROKEN"), ACCEPTED)
        blocked = await effect(up, stopped["event_id"], BLOCKED)
    assert completed["payload"]["result"].startswith("done: CALL:memory_replace")
    assert "the model is broken" in blocked["payload"]["reason"]
    saved = [each for each in await effects(up, accepted["event_id"]) if each["event_type"] == SAVED]
    assert saved and all(each["payload"]["checkpoint_id"].startswith("step-") for each in saved)
    async with AsyncLetta(base_url=place.url, api_key=fake.KEY, max_retries=0) as client:
        agents = [each async for each in client.agents.list(tags=[f"imi:request:{request}"])]
        assert [each.id for each in agents] == [accepted["payload"]["session_id"]]
        block = await client.agents.blocks.retrieve("context", agent_id=agents[0].id)
        assert json.loads(block.value) == {"brief": "doc/brief.md"}


async def test_its_log_is_json_lines(up: Live, letta: Fake) -> None:
    async with process(up, letta):
        accepted = await effect(up, await ask(up, letta), ACCEPTED)
        await effect(up, accepted["event_id"], COMPLETED)
    lines = [json.loads(each) for each in up.data_dir.with_suffix(".letta").read_text().splitlines()]
    (line,) = [each for each in lines if each.get("event_id") == accepted["event_id"]]
    assert (line["message"], line["logger"], line["level"]) == (ACCEPTED, "imi.letta", "INFO")
    assert fake.KEY not in up.data_dir.with_suffix(".letta").read_text()


@pytest.mark.usefixtures("quick")
async def test_the_workflow_s_agent_is_the_one_that_was_asked_for(up: Live, letta: Fake) -> None:
    """STORY-012: both events can be asked for, the answer is what followed from the request."""
    async with working(up, letta):
        request = await ask(up, letta)
        accepted = await effect(up, request, ACCEPTED)
        completed = await effect(up, accepted["event_id"], COMPLETED)
    tree = await get(up, f"/events/{request}/descendants")
    (child,) = tree["children"]
    assert (tree["event"]["event_id"], child["event"]) == (str(request), accepted)
    assert completed in [each["event"] for each in child["children"]]
    workflow = await get(up, f"/workflows/{tree['event']['payload']['workflow_id']}")
    assert workflow["current_agent"] == tree["event"]["payload"]["to_agent"] == "letta-python-dev"
