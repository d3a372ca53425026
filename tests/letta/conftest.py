"""Letta for tests: the fake, and with LETTA_SERVER_PYTHON (`make test-letta`) the real server."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator

import pytest
import pytest_asyncio

from tests.letta import fake, real
from tests.letta.fake import Fake
from tests.letta.real import Place
from tests.postgres import Server


@pytest.fixture(scope="session")
def real_letta(server: Server) -> Iterator[Place]:
    """The pinned server of the environment that this Python is of."""
    python = os.environ.get("LETTA_SERVER_PYTHON")
    if not python:
        pytest.skip("needs the real server: make test-letta")
    with real.running(python, server) as place:
        yield place


@pytest_asyncio.fixture
async def letta() -> AsyncIterator[Fake]:
    """The fake."""
    async with fake.fake() as server:
        yield server


@pytest.fixture(params=["fake", "real"])
def place(request: pytest.FixtureRequest) -> Place:
    """A Letta server; a test that asks for it runs on both."""
    if request.param == "real":
        found: Place = request.getfixturevalue("real_letta")
        return found
    return Place(request.getfixturevalue("letta").url, fake.KEY, fake.MODEL)
