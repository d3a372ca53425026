"""`imi events types`: what the schemas say, without a server."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from imi.bloodbank import schemas
from tests.commandline import Imi


@pytest.fixture(autouse=True)
def nobody_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("IMI_API_URL", "http://127.0.0.1:1")


def test_the_list(imi: Imi) -> None:
    listed = imi.data("events", "types")
    assert listed == schemas.types()
    header, *rows = imi("events", "types").lines
    assert header.split() == ["event", "type", "description"]
    assert [row.split()[0] for row in rows] == [each["event_type"] for each in listed]
    assert all(row.endswith(each["description"]) for row, each in zip(rows, listed, strict=True))


@pytest.mark.parametrize("event_type", ["imi.work.started", "git.pr.merged", "tool.mutation.*"])
def test_one_is_its_schema(imi: Imi, event_type: str) -> None:
    shown = json.loads(imi("events", "types", event_type).out)
    assert shown == imi.data("events", "types", event_type) == schemas.schemas()[event_type]
    assert shown["required"] and shown["examples"]


def test_a_type_of_a_pattern_is_found_by_it(imi: Imi) -> None:
    assert imi.data("events", "types", "tool.mutation.edit")["x-event-type"] == "tool.mutation.*"


@pytest.mark.parametrize("event_type", ["nobody.described.this", "envelope", "", "tool.mutation"])
def test_one_that_nobody_described(imi: Imi, event_type: str) -> None:
    refused = imi.error(3, "events", "types", event_type)
    assert refused["code"] == "NOT_FOUND"
    assert refused["hint"] == "imi events types lists them"


def test_it_does_not_wait_for_the_validator() -> None:
    """Which takes a second to import."""
    program = (
        "import sys; from imi import cli; cli.run(['events', 'types', '--json']); "
        "print(sorted({'jsonschema', 'httpx', 'asyncpg', 'aiohttp'} & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
