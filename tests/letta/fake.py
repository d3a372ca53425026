"""A Letta server as the client sees it over HTTP, as the real one (0.16.8) was seen to answer.

The contract suite runs against this and, in `make test-letta`, against the real one. Its model obeys the words
that stub_llm.py's does. Switches break it: `fault`, `released`, `down`.
"""

from __future__ import annotations

import asyncio
import json
import re
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from tests.letta.stub_llm import THINKING
from tests.rabbitmq import free_ports

KEY, MODEL, EMBEDDING = "test-key", "openai-proxy/stub", "openai/text-embedding-3-small"
EMBEDDINGS = ("letta/letta-free", "openai/text-embedding-3-large", EMBEDDING, "openai/text-embedding-ada-002")
AGENT = re.compile(r"agent-[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
RUN = re.compile(AGENT.pattern.replace("agent", "run"))
MALFORMED = ("page", "broken", "empty", "number", "object", "list", "deep")
Json = dict[str, Any]


class Fake:
    """The server; what it holds, and its switches."""

    def __init__(self) -> None:
        (self.port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self.port}"
        self.agents: dict[str, Json] = {}
        self.blocks: dict[str, Json] = {}
        self.runs: dict[str, Json] = {}
        self.asked: list[str] = []
        self.fault: str | None = None
        """What to answer everything with: a status such as "500", "nul" (a 500 too), or one of MALFORMED."""
        self.released = asyncio.Event()
        """Answers of a create wait for it: the agent is there, and nobody knows."""
        self.released.set()
        self.thinking = THINKING
        self._runner: web.AppRunner | None = None

    async def up(self) -> None:
        """Answer, on the same port as before."""
        application = web.Application(client_max_size=64 << 20, middlewares=[self._guard])
        application.add_routes(
            [
                web.get("/v1/health/", self.health),
                web.get("/v1/models/", self.models),
                web.get("/v1/models/embedding", self.embeddings),
                web.post("/v1/agents/", self.create),
                web.get("/v1/agents/", self.list),
                web.get("/v1/agents/{agent}", self.retrieve),
                web.delete("/v1/agents/{agent}", self.delete),
                web.get("/v1/agents/{agent}/core-memory/blocks", self.memory),
                web.get("/v1/agents/{agent}/core-memory/blocks/{label}", self.labelled),
                web.get("/v1/blocks/{block}", self.block),
                web.delete("/v1/blocks/{block}", self.delete_block),
                web.post("/v1/agents/{agent}/messages/async", self.message),
                web.get("/v1/runs/", self.list_runs),
                web.get("/v1/runs/{run}", self.run),
                web.get("/v1/runs/{run}/messages", self.run_messages),
                web.get("/v1/runs/{run}/steps", self.run_steps),
            ]
        )
        self._runner = web.AppRunner(application, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def down(self) -> None:
        """Answer nobody; what it holds stays."""
        if self._runner:
            await self._runner.cleanup()
            self._runner = None

    @web.middleware
    async def _guard(self, request: web.Request, handler: Any) -> web.StreamResponse:
        self.asked.append(f"{request.method} {request.path}")
        if self.fault and self.fault.isdigit():
            return web.json_response({"detail": "An unknown error occurred"}, status=int(self.fault))
        if self.fault:
            return malformed(self.fault)
        if request.path != "/v1/health/" and request.headers.get("Authorization") != f"Bearer {KEY}":
            return web.json_response({"detail": "Unauthorized"}, status=401)
        agent = request.match_info.get("agent")
        if agent and not AGENT.fullmatch(agent):
            detail = "[{'type': 'string_pattern_mismatch', 'loc': ('path', 'agent_id')}]"
            return web.json_response({"trace_id": "", "detail": detail}, status=422)
        try:
            answer: web.StreamResponse = await handler(request)
        except FakeRefusalError as refusal:
            return web.json_response({"detail": refusal.detail}, status=refusal.status)
        return answer

    async def health(self, request: web.Request) -> web.Response:
        return web.json_response({"version": "0.16.8", "status": "ok"})

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response([{"handle": each, "name": each} for each in ("letta/letta-free", MODEL)])

    async def embeddings(self, request: web.Request) -> web.Response:
        return web.json_response([{"handle": each, "name": each.partition("/")[2]} for each in EMBEDDINGS])

    async def create(self, request: web.Request) -> web.Response:
        asked = await request.json()
        model, embedding, name = asked.get("model"), asked.get("embedding"), asked.get("name")
        if not model:
            raise FakeRefusalError(
                400, "INVALID_ARGUMENT: Must specify either model or llm_config in request"
            )
        if "/" not in model:
            raise FakeRefusalError(
                400, "INVALID_ARGUMENT: The model handle should be in the format provider/model-name"
            )
        if model != MODEL:
            raise FakeRefusalError(404, f"NOT_FOUND: Handle {model} not found, must be one of []")
        if embedding not in (None, *EMBEDDINGS):
            raise FakeRefusalError(400, f"INVALID_ARGUMENT: Embedding model {embedding} not found")
        if name is not None and not re.fullmatch(r"[\w '\-]+", name):
            raise FakeRefusalError(500, f"Export failed: Agent name {name!r} contains invalid characters.")
        memory = {each["label"]: each for each in reversed(asked.get("memory_blocks", []))}
        made = [self._block(each) for each in reversed(memory.values())]
        agent = {
            "id": new("agent"),
            "name": name or "YieldingFlamingo",
            "agent_type": "letta_v1_agent",
            "model": model,
            "embedding": embedding,
            "tags": asked.get("tags", []),
            "metadata": asked.get("metadata", {}),
            "created_at": now(),
            "blocks": [each["id"] for each in made],
        }
        self.agents[agent["id"]] = agent
        await self.released.wait()
        return web.json_response(self._state(agent, ("agent.blocks", "agent.tags")))

    async def list(self, request: web.Request) -> web.Response:
        query = request.query
        tags = query.getall("tags", [])
        found = [
            each
            for each in self.agents.values()
            if query.get("name") in (None, each["name"]) and (not tags or set(tags) & set(each["tags"]))
        ]
        included = query.getall("include", [])
        return web.json_response([self._state(each, included) for each in page(found, request)])

    async def retrieve(self, request: web.Request) -> web.Response:
        agent = self.agents.get(request.match_info["agent"])
        if not agent:
            raise FakeRefusalError(404, f"Agent with ID {request.match_info['agent']} not found")
        return web.json_response(self._state(agent, request.query.getall("include", [])))

    async def delete(self, request: web.Request) -> web.Response:
        agent = request.match_info["agent"]
        if not self.agents.pop(agent, None):  # its blocks stay
            raise FakeRefusalError(404, f"Agent not found with id='['{agent}']', access level in ['read']")
        for run in [key for key, each in self.runs.items() if each["agent_id"] == agent]:
            del self.runs[run]
        return web.json_response({"message": f"Agent id={agent} successfully deleted"})

    async def memory(self, request: web.Request) -> web.Response:
        agent = self.agents.get(request.match_info["agent"], {"blocks": []})
        return web.json_response(page([self.blocks[each] for each in agent["blocks"]], request))

    async def labelled(self, request: web.Request) -> web.Response:
        agent, label = request.match_info["agent"], request.match_info["label"]
        for block in self.agents.get(agent, {"blocks": []})["blocks"]:
            if self.blocks[block]["label"] == label:
                return web.json_response(self.blocks[block])
        raise FakeRefusalError(404, f"No block with label '{label}' found for agent '{agent}'")

    async def block(self, request: web.Request) -> web.Response:
        block = self.blocks.get(request.match_info["block"])
        if not block:
            raise FakeRefusalError(404, f"Block with id='{request.match_info['block']}' not found")
        return web.json_response(block)

    async def delete_block(self, request: web.Request) -> web.Response:
        if not self.blocks.pop(request.match_info["block"], None):
            raise FakeRefusalError(404, f"Block not found with id='{request.match_info['block']}'")
        return web.json_response(None)

    async def message(self, request: web.Request) -> web.Response:
        agent = self.agents.get(request.match_info["agent"])
        if not agent:
            raise FakeRefusalError(404, "Agent not found")
        (said,) = (await request.json())["messages"]
        run = {
            "id": new("run"),
            "status": "created",
            "created_at": now(),
            "completed_at": None,
            "agent_id": agent["id"],
            "background": True,
            "metadata": {"run_type": "send_message_async", "lettuce": None},
            "stop_reason": None,
            "said": said["content"],
            "began": asyncio.get_running_loop().time(),
            "steps": [],
        }
        self.runs[run["id"]] = run
        return web.json_response(shown(run))

    async def list_runs(self, request: web.Request) -> web.Response:
        agent = request.query.get("agent_id")
        found = [self._worked(each) for each in self.runs.values() if agent in (None, each["agent_id"])]
        return web.json_response([shown(each) for each in page(found, request)])

    async def run(self, request: web.Request) -> web.Response:
        return web.json_response(shown(self._run(request)))

    async def run_messages(self, request: web.Request) -> web.Response:
        run = self._run(request)
        if run["status"] != "completed":
            return web.json_response([])
        said = [("user_message", run["said"]), ("assistant_message", f"done: {run['said'][-200:]}")]
        messages = [
            {
                "id": f"message-{uuid.uuid5(uuid.NAMESPACE_OID, run['id'] + kind)}",
                "date": run["created_at"],
                "message_type": kind,
                "step_id": run["steps"][-1]["id"],
                "run_id": run["id"],
                "content": text,
            }
            for kind, text in said
        ]
        return web.json_response(page(messages, request, order="asc"))

    async def run_steps(self, request: web.Request) -> web.Response:
        return web.json_response(page(self._run(request)["steps"], request))

    def _run(self, request: web.Request) -> Json:
        run = request.match_info["run"]
        if not RUN.fullmatch(run):
            raise FakeRefusalError(
                400, f"INVALID_ARGUMENT: Invalid run ID format: {run}. Expected format: 'run-<uuid4>'"
            )
        if run not in self.runs:
            raise FakeRefusalError(404, f"Run not found with id='['{run}']', access level in ['read']")
        return self._worked(self.runs[run])

    def _worked(self, run: Json) -> Json:
        """The run, with what its agent has done by now."""
        if run["status"] not in ("created", "running"):
            return run
        slow = "SLOW" in run["said"]
        if slow and asyncio.get_running_loop().time() < run["began"] + self.thinking:
            run["status"] = "running"
            return run
        broken = "BROKEN" in run["said"]
        if "CALL:" in run["said"]:
            run["steps"].append({"id": new("step"), "run_id": run["id"], "status": "success"})
            _, _, rest = run["said"][run["said"].index("CALL:") :].split(":", 2)
            arguments, _ = json.JSONDecoder().raw_decode(rest)
            for block in self.agents[run["agent_id"]]["blocks"]:
                if self.blocks[block]["label"] == arguments["label"]:
                    old, new_text = arguments["old_string"], arguments["new_string"]
                    self.blocks[block]["value"] = self.blocks[block]["value"].replace(old, new_text)
        status = "failed" if broken else "success"
        run["steps"].append({"id": new("step"), "run_id": run["id"], "status": status})
        run["status"], run["stop_reason"] = ("failed", "error") if broken else ("completed", "end_turn")
        if broken:
            run["metadata"]["error"] = (
                "INVALID_ARGUMENT: Bad request to OpenAI-compatible endpoint: the model is broken"
            )
        run["completed_at"] = now()
        return run

    def _block(self, asked: Json) -> Json:
        block = {"limit": 100_000, "value": "", "description": None, "read_only": False} | asked
        block |= {"id": new("block"), "metadata": {}, "tags": []}
        self.blocks[block["id"]] = block
        return block

    def _state(self, agent: Json, included: Any) -> Json:
        """An agent as answers show it: lists are empty unless they are asked for."""
        blocks = [self.blocks[each] for each in agent["blocks"]] if "agent.blocks" in included else []
        tags = agent["tags"] if "agent.tags" in included else []
        return agent | {"blocks": blocks, "memory": {"blocks": blocks}, "tools": [], "tags": tags}


class FakeRefusalError(Exception):
    """An answer that is no success."""

    def __init__(self, status: int, detail: str) -> None:
        super().__init__(detail)
        self.status, self.detail = status, detail


def page(found: list[Json], request: web.Request, order: str = "desc") -> list[Json]:
    """What a list shows of them, which are in order of creation: those after a cursor."""
    if request.query.get("order", order) == "desc":
        found = found[::-1]
    ids = [each["id"] for each in found]
    after = request.query.get("after")
    begin = ids.index(after) + 1 if after in ids else 0
    return found[begin : begin + int(request.query.get("limit", 50))]


def shown(run: Json) -> Json:
    """A run without what is the fake's own."""
    return {key: value for key, value in run.items() if key not in ("said", "began", "steps")}


def malformed(kind: str) -> web.Response:
    """An answer that is none."""
    bodies = {
        "page": web.Response(text="<html>a proxy's page</html>", content_type="text/html"),
        "broken": web.Response(text='[{"id": "agent-', content_type="application/json"),
        "empty": web.Response(text="", content_type="application/json"),
        "number": web.json_response(7),
        "object": web.json_response({}),
        "list": web.json_response([{}, None, {"id": 3, "tags": "x", "status": []}]),
        "deep": web.Response(text="[" * 200_000, content_type="application/json"),
        "nul": web.Response(text="bad\0thing", status=500),
    }
    return bodies[kind]


def new(kind: str) -> str:
    """An id."""
    return f"{kind}-{uuid.uuid4()}"


def now() -> str:
    """The time."""
    return datetime.now(UTC).isoformat().replace("+00:00", "Z")


@asynccontextmanager
async def fake() -> AsyncIterator[Fake]:
    """The server, for as long as this is entered."""
    server = Fake()
    await server.up()
    try:
        yield server
    finally:
        server.released.set()
        await server.down()
