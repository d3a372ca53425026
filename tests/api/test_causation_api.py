"""Causation over HTTP: what is refused, and a picture that is no JSON."""

from __future__ import annotations

import httpx
import pytest

from tests.serving import code


@pytest.fixture(scope="module")
def event(api: httpx.Client) -> str:
    """The id of an event that caused another."""
    made = api.post("/api/v1/events", json={"event_type": "test.cause", "payload": {}}).json()["event_id"]
    effect = {"event_type": "test.effect", "correlation_ids": [made], "payload": {}}
    api.post("/api/v1/events", json=effect).raise_for_status()
    return str(made)


@pytest.mark.parametrize("way", ["descendants", "ancestors"])
@pytest.mark.parametrize(
    ("query", "path"),
    [("max_depth=101", "max_depth"), ("max_depth=-1", "max_depth"), ("max_depth=deep", "max_depth"),
     ("format=dot", "format"), ("depth=1", "depth")],
)  # fmt: skip
def test_what_is_out_of_range_is_named(
    api: httpx.Client, event: str, way: str, query: str, path: str
) -> None:
    answer = api.get(f"/api/v1/events/{event}/{way}?{query}")
    assert code(answer) == (400, "VALIDATION_ERROR")
    (error,) = answer.json()["detail"]["params"]["errors"]
    assert error["path"] == path and error["message"]


def test_an_id_that_is_no_uuid_is_400(api: httpx.Client) -> None:
    assert code(api.get("/api/v1/events/first/descendants")) == (400, "VALIDATION_ERROR")


def test_mermaid_is_served_as_text(api: httpx.Client, event: str) -> None:
    answer = api.get(f"/api/v1/events/{event}/descendants", params={"format": "mermaid"})
    assert answer.headers["Content-Type"] == "text/plain; charset=utf-8"
    first, *nodes, edge = answer.text.splitlines()
    assert (first, len(nodes), edge) == ("flowchart LR", 2, "  n1 --> n2")
    assert event in nodes[0]
    tree = api.get(f"/api/v1/events/{event}/descendants")
    assert tree.headers["Content-Type"] == "application/json"
    assert tree.json()["children"][0]["event"]["event_type"] == "test.effect"
