"""Fixtures over a live server."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import httpx
import pytest

from tests.conftest import Database
from tests.serving import Things, live


@pytest.fixture(scope="module")
def api(database: Database) -> Iterator[httpx.Client]:
    """An admin's client of a live server."""
    with live(database.url) as client:
        yield client


@pytest.fixture(scope="module")
def anybody(api: httpx.Client) -> Iterator[httpx.Client]:
    """A client of the same server without a key."""
    with httpx.Client(base_url=api.base_url, timeout=30) as client:
        yield client


@pytest.fixture(scope="module")
def things(api: httpx.Client) -> Things:
    """A project, a work item and a component to try things on."""
    things = Things(api, {}, {}, {})
    things.project = things.new_project()
    things.work = things.new_work()
    things.component = things.new_component()
    return things


@pytest.fixture(scope="module")
def key(api: httpx.Client) -> Callable[[str], str]:
    """Makes a key of a scope."""

    def make(scope: str) -> str:
        answer = api.post("/api/v1/api-keys", json={"name": f"a {scope} key", "scope": scope})
        return str(answer.json()["key"])

    return make
