"""What iMi relies on in Letta, the same on the fake and on the real server: first the wire, then our runtime."""

from __future__ import annotations

import asyncio
import json
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import letta_client
import pytest
import pytest_asyncio
from letta_client import AsyncLetta

from imi.letta.runtime import AwayError, ClosedError, Progress, RefusedError
from imi.letta.server import LettaRuntime
from tests.letta import fake
from tests.letta.fake import Fake
from tests.letta.real import Place

NOBODY = "00000000-0000-4000-8000-000000000000"


@pytest_asyncio.fixture
async def client(place: Place) -> AsyncIterator[AsyncLetta]:
    async with AsyncLetta(base_url=place.url, api_key=place.key, max_retries=0, timeout=30) as opened:
        yield opened


@pytest_asyncio.fixture
async def runtime(place: Place) -> AsyncIterator[LettaRuntime]:
    opened = LettaRuntime(place.url, place.key, place.model, None)
    yield opened
    await opened.close()


async def refused(status: int, call: Awaitable[Any]) -> str:
    with pytest.raises(letta_client.APIStatusError) as error:
        await call
    assert error.value.status_code == status
    assert isinstance(error.value.body, dict)
    return str(error.value.body["detail"])


async def over(runtime: LettaRuntime, agent: str) -> Progress:
    async with asyncio.timeout(60):
        while not (progress := await runtime.look(agent)).is_over:
            await asyncio.sleep(0.05)
    return progress


async def memory(client: AsyncLetta, agent: str) -> dict[str, str]:
    return {each.label or "": each.value async for each in client.agents.blocks.list(agent)}


async def test_only_create_shows_blocks_and_tags_without_being_asked(
    client: AsyncLetta, place: Place
) -> None:
    tag = str(uuid.uuid4())
    made = await client.agents.create(
        name="it's a name_1", model=place.model, tags=[tag], memory_blocks=[{"label": "task", "value": "t"}]
    )
    assert [(each.label, each.value, each.limit) for each in made.blocks] == [("task", "t", 100_000)]
    assert made.tags == [tag]
    bare = await client.agents.retrieve(made.id)
    assert (bare.blocks, bare.memory.blocks, bare.tools, bare.tags) == ([], [], [], [])
    (listed,) = (await client.agents.list(tags=[tag])).items
    assert (listed.blocks, listed.tags) == ([], [])
    whole = await client.agents.retrieve(made.id, include=["agent.blocks", "agent.tags"])
    assert ([each.label for each in whole.blocks], whole.tags) == (["task"], [tag])
    assert await memory(client, made.id) == {"task": "t"}


async def test_names_are_not_unique_a_label_s_first_block_stays_and_limits_are_not_enforced(
    client: AsyncLetta, place: Place
) -> None:
    name = f"twin {uuid.uuid4()}"
    blocks: list[Any] = [{"label": "task", "value": "x" * 50, "limit": 10}, {"label": "task", "value": ""}]
    for _ in range(2):
        made = await client.agents.create(name=name, model=place.model, memory_blocks=blocks)
        assert [each.value for each in made.blocks] == ["x" * 50]
    assert len({each.id async for each in client.agents.list(name=name)}) == 2


async def test_lists_page_with_after_until_nothing_is_left_newest_first(
    client: AsyncLetta, place: Place
) -> None:
    tag = str(uuid.uuid4())
    made = [(await client.agents.create(model=place.model, tags=[tag])).id for _ in range(5)]
    assert [each.id async for each in client.agents.list(tags=[tag], limit=2)] == made[::-1]
    assert [each.id async for each in client.agents.list(tags=[tag], limit=2, order="asc")] == made
    assert (await client.agents.list(tags=[str(uuid.uuid4())])).items == []


async def test_a_deleted_agent_leaves_its_blocks(client: AsyncLetta, place: Place) -> None:
    made = await client.agents.create(model=place.model, memory_blocks=[{"label": "task", "value": "left"}])
    (block,) = made.blocks
    await client.agents.delete(made.id)
    assert (await client.blocks.retrieve(str(block.id))).value == "left"
    await client.blocks.delete(str(block.id))
    await refused(404, client.blocks.retrieve(str(block.id)))


async def test_what_is_refused_and_how(client: AsyncLetta, place: Place) -> None:
    bad = "contains invalid characters"
    assert bad in await refused(500, client.agents.create(model=place.model, name="bad/name"))
    assert "not found" in await refused(404, client.agents.create(model="openai/none-such"))
    assert "provider/model-name" in await refused(400, client.agents.create(model="none"))
    assert "Must specify" in await refused(400, client.agents.create(name="nomodel"))
    unknown = client.agents.create(model=place.model, embedding="openai/nope")
    assert "Embedding model" in await refused(400, unknown)
    await refused(422, client.agents.retrieve("agent-123"))
    made = await client.agents.create(model=place.model)
    assert "No block with label" in await refused(
        404, client.agents.blocks.retrieve("nope", agent_id=made.id)
    )
    for call in (client.agents.retrieve, client.agents.delete):
        assert "not found" in await refused(404, call(f"agent-{NOBODY}"))
    message: list[Any] = [{"role": "user", "content": "x"}]
    await refused(404, client.agents.messages.create_async(f"agent-{NOBODY}", messages=message))
    await refused(404, client.runs.retrieve(f"run-{NOBODY}"))
    await refused(400, client.runs.retrieve("run-1"))
    assert (await client.runs.list(agent_id=f"agent-{NOBODY}")).items == []


async def test_embedding_models_are_a_list_of_their_own(client: AsyncLetta, place: Place) -> None:
    handles = [each.handle for each in await client.models.embeddings.list()]
    assert handles == [*fake.EMBEDDINGS]
    assert place.model not in handles
    made = await client.agents.create(model=place.model, embedding=fake.EMBEDDING)
    assert made.embedding == fake.EMBEDDING
    await client.agents.delete(made.id)
    runtime = LettaRuntime(place.url, place.key, place.model, fake.EMBEDDING)
    await runtime.check()
    await runtime.close()


async def test_health_does_not_ask_for_the_key(place: Place) -> None:
    async with AsyncLetta(base_url=place.url, api_key="wrong", max_retries=0) as stranger:
        assert (await stranger.health()).status == "ok"
        assert await refused(401, stranger.agents.list(limit=1)) == "Unauthorized"


async def test_a_server_on_this_machine_is_asked_past_any_proxy(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.setenv("LETTA_API_KEY", "somebody else's")
    runtime = LettaRuntime(place.url, place.key, place.model, None)
    await runtime.check()
    await runtime.close()


async def test_the_runtime_makes_one_agent_of_a_request(client: AsyncLetta, runtime: LettaRuntime) -> None:
    request, long = str(uuid.uuid4()), "é" * 150_000
    await runtime.check()
    assert await runtime.find(request) is None
    agent = await runtime.create(request, "letta/python:dev\n!", "write it", long)
    assert await runtime.find(request) == agent
    assert await runtime.find(str(uuid.uuid4())) is None
    state = await client.agents.retrieve(agent, include=["agent.blocks", "agent.tags"])
    assert (state.name, state.tags) == ("letta-python-dev--", [f"imi:request:{request}"])
    assert {each.label: each.limit for each in state.blocks} == {"task": 100_000, "context": 150_000}
    assert await memory(client, agent) == {"task": "write it", "context": long}


async def test_of_several_agents_one_stays(client: AsyncLetta, runtime: LettaRuntime, place: Place) -> None:
    request = str(uuid.uuid4())

    async def make() -> tuple[str, list[str]]:
        made = await client.agents.create(
            model=place.model, tags=[f"imi:request:{request}"], memory_blocks=[{"label": "task", "value": ""}]
        )
        return made.id, [str(each.id) for each in made.blocks]

    (oldest, kept), (second, gone) = await make(), await make()
    assert await runtime.find(request) == oldest
    await refused(404, client.agents.retrieve(second))
    await refused(404, client.blocks.retrieve(gone[0]))
    younger, _ = await make()
    await runtime.start(younger, "it has begun")
    assert await runtime.find(request) == younger
    await refused(404, client.agents.retrieve(oldest))
    await refused(404, client.blocks.retrieve(kept[0]))


async def test_an_agent_works_once_and_its_end_has_a_result_and_a_checkpoint(
    client: AsyncLetta, runtime: LettaRuntime
) -> None:
    agent = await runtime.create(str(uuid.uuid4()), "dev", "t", "c")
    await runtime.start(agent, "SLOW task")
    await runtime.start(agent, "SLOW task")
    assert not (await runtime.look(agent)).is_over
    progress = await over(runtime, agent)
    assert (progress.result, progress.stopped) == ("done: SLOW task", None)
    assert progress.checkpoint and progress.checkpoint.startswith("step-")
    await runtime.start(agent, "SLOW task")
    assert len([each async for each in client.runs.list(agent_id=agent)]) == 1
    assert await over(runtime, agent) == progress


async def test_an_agent_may_change_its_memory(client: AsyncLetta, runtime: LettaRuntime) -> None:
    agent = await runtime.create(str(uuid.uuid4()), "dev", "old", "c")
    call = {"label": "task", "old_string": "old", "new_string": "new"}
    await runtime.start(agent, f"CALL:memory_replace:{json.dumps(call)}")
    assert (await over(runtime, agent)).stopped is None
    assert await memory(client, agent) == {"task": "new", "context": "c"}


async def test_a_model_that_fails_stops_the_agent(runtime: LettaRuntime) -> None:
    agent = await runtime.create(str(uuid.uuid4()), "dev", "t", "c")
    await runtime.start(agent, "BROKEN")
    progress = await over(runtime, agent)
    assert progress.is_over and progress.checkpoint is None
    assert progress.stopped and "the model is broken" in progress.stopped


async def test_the_runtime_s_errors(place: Place, runtime: LettaRuntime) -> None:
    async def fails(kind: type[Exception], make: Callable[[], LettaRuntime], what: str) -> None:
        other = make()
        with pytest.raises(kind) as error:
            await other.check()
        assert what in str(error.value)
        await other.close()

    for key in ("wrong", None):
        await fails(ClosedError, lambda: LettaRuntime(place.url, key, place.model, None), "Unauthorized")  # noqa: B023
    await fails(RefusedError, lambda: LettaRuntime(place.url, place.key, "a/b", None), "no model a/b, but")
    unknown = "no embedding model a/b, but letta/letta-free, openai/text-embedding-3-large"
    await fails(RefusedError, lambda: LettaRuntime(place.url, place.key, place.model, "a/b"), unknown)
    stranger = "does not look like a Letta server (it answers GET /x/v1/agents/ with status 404"
    await fails(RefusedError, lambda: LettaRuntime(f"{place.url}/x", place.key, place.model, None), stranger)
    await fails(
        AwayError, lambda: LettaRuntime("http://127.0.0.1:1", place.key, place.model, None), "Connection"
    )
    with pytest.raises(RefusedError):
        await runtime.start(f"agent-{NOBODY}", "x")
    with pytest.raises(RefusedError):
        await runtime.look(f"agent-{NOBODY}")


@pytest.mark.parametrize("fault", fake.MALFORMED)
async def test_what_answers_but_is_no_letta_is_said_to_be_none(letta: Fake, fault: str) -> None:
    letta.fault = fault
    runtime = LettaRuntime(letta.url, fake.KEY, fake.MODEL, None)
    with pytest.raises(RefusedError, match="not look like a Letta server"):
        await runtime.check()
    await runtime.close()
