"""What stands in for a language model behind a real Letta server: the little of OpenAI's API that it asks for.

A message with CALL:<tool>:<JSON> in it makes the agent call that tool once; SLOW makes it think for a while,
BROKEN makes the model fail; any other message is answered with `done: ` and its end.
"""

from __future__ import annotations

import asyncio
import json
import sys
import uuid
from typing import Any

from aiohttp import web

MODEL = "stub"
THINKING = 1.5  # seconds


async def models(request: web.Request) -> web.Response:
    """GET /v1/models"""
    return web.json_response(
        {"object": "list", "data": [{"id": MODEL, "object": "model", "owned_by": "stub"}]}
    )


async def complete(request: web.Request) -> web.Response:
    """POST /v1/chat/completions, whole answers only"""
    asked = await request.json()
    user = [str(each["content"]) for each in asked["messages"] if each["role"] == "user"][-1]
    is_first = asked["messages"][-1]["role"] != "tool"
    if "BROKEN" in user:
        return web.json_response({"error": {"message": "the model is broken", "type": "invalid"}}, status=400)
    if "SLOW" in user:
        await asyncio.sleep(THINKING)
    message: dict[str, Any] = {"role": "assistant", "content": f"done: {user[-200:]}"}
    if is_first and "CALL:" in user:
        _, tool, rest = user[user.index("CALL:") :].split(":", 2)
        arguments, _ = json.JSONDecoder().raw_decode(rest)
        call = {"name": tool, "arguments": json.dumps(arguments)}
        message |= {
            "content": None,
            "tool_calls": [{"id": f"call_{uuid.uuid4().hex[:24]}", "type": "function", "function": call}],
        }
    reason = "tool_calls" if message["content"] is None else "stop"
    return web.json_response(
        {
            "id": f"chatcmpl-{uuid.uuid4().hex}",
            "object": "chat.completion",
            "created": 1,
            "model": asked["model"],
            "choices": [{"index": 0, "message": message, "finish_reason": reason}],
            "usage": {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15},
        }
    )


def app() -> web.Application:
    """The stub."""
    stub = web.Application(client_max_size=64 << 20)
    stub.router.add_get("/v1/models", models)
    stub.router.add_post("/v1/chat/completions", complete)
    return stub


if __name__ == "__main__":
    web.run_app(app(), host="127.0.0.1", port=int(sys.argv[1]), print=None)
