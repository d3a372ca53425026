"""`imi events show`: one event, or the tree around it."""

from __future__ import annotations

import re
import uuid

import httpx
import pytest

from tests.commandline import Imi, Live
from tests.serving import ADMIN

IDS = {name: str(uuid.uuid5(uuid.NAMESPACE_DNS, name)) for name in "abcd"}


@pytest.fixture
def events(live: Live) -> dict[str, str]:
    """A diamond: a caused b and c, both caused d."""
    causes = {"a": "", "b": "a", "c": "a", "d": "bc"}
    body = [
        {
            "event_id": IDS[name],
            "event_type": f"test.{name}",
            "timestamp": f"2026-02-11T10:3{n}:00Z",
            "correlation_ids": [IDS[cause] for cause in because],
            "payload": {"note": "a\x1b[31m"},
        }
        for n, (name, because) in enumerate(causes.items())
    ]
    headers = {"Authorization": f"Bearer {ADMIN}"}
    httpx.post(f"{live.url}/api/v1/events", json=body, headers=headers).raise_for_status()
    return IDS


def shape(lines: list[str]) -> list[str]:
    """The tree without times and with short ids."""
    known = {each: name for name, each in IDS.items()}
    rows = [re.fullmatch(r"(?:\d{4}-\d\d-\d\d \d\d:\d\d| {16})  (\S{36})  (.+)", line) for line in lines]
    return [f"{known.get(row[1], '?')}  {row[2]}" if row else "no row" for row in rows]


def test_an_event(imi: Imi, events: dict[str, str]) -> None:
    assert imi.data("events", "show", events["d"])["correlation_ids"] == [events["b"], events["c"]]
    said = imi("events", "show", events["d"])
    assert "\x1b" not in said.out and r"\u001b[31m" in said.out
    assert said.lines[0].split() == ["event_id", events["d"]]


def test_its_trees(imi: Imi, events: dict[str, str]) -> None:
    a, b, _, d = events.values()
    assert shape(imi("events", "show", a, "--tree").lines) == [
        "a  test.a",
        "b  ├─ test.b",
        "d  │  └─ test.d (2 causes)",
        "c  └─ test.c",
    ]
    assert shape(imi("events", "show", d, "--ancestors").lines) == [
        "d  test.d (2 causes)",
        "b  ├─ test.b",
        "a  │  └─ test.a",
        "c  └─ test.c",
    ]
    assert imi.data("events", "show", a, "--tree")["children"][0]["event"]["event_id"] == b


def test_a_tree_that_was_cut_says_so(imi: Imi, live: Live) -> None:
    chain = [str(uuid.uuid5(uuid.NAMESPACE_URL, str(n))) for n in range(102)]
    body = [
        {
            "event_id": each,
            "event_type": "test.step",
            "correlation_ids": chain[n - 1 : n] if n else [],
            "payload": {},
        }
        for n, each in enumerate(chain)
    ]
    headers = {"Authorization": f"Bearer {ADMIN}"}
    httpx.post(f"{live.url}/api/v1/events", json=body, headers=headers).raise_for_status()
    lines = imi("events", "show", chain[0], "--tree").lines
    assert len(lines) == 102
    assert [line[18:54] for line in lines[:101]] == chain[:101]
    assert [line[56:] for line in lines[9:13]] == [
        " " * 24 + "└─ test.step",
        " " * 27 + "└─ test.step",
        " " * 27 + "(11) test.step",
        " " * 27 + "(12) test.step",
    ]
    assert lines[-1].startswith("there is more: a tree ends at 100 steps, 100,000 events or 32 MiB")
    assert len(imi("events", "show", chain[1], "--tree").lines) == 101


def test_a_cause_that_is_not_in_the_log_is_shown_as_that(imi: Imi, live: Live) -> None:
    event, absent = str(uuid.uuid4()), str(uuid.uuid4())
    body = {"event_id": event, "event_type": "test.late", "correlation_ids": [absent], "payload": {}}
    headers = {"Authorization": f"Bearer {ADMIN}"}
    httpx.post(f"{live.url}/api/v1/events", json=body, headers=headers).raise_for_status()
    assert imi("events", "show", event, "--ancestors").lines[1] == f"{'':16}  {absent}  └─ not in the log"
    assert len(imi("events", "show", event, "--tree").lines) == 1


def test_what_is_refused(imi: Imi, events: dict[str, str]) -> None:
    for option in ("", "--tree", "--ancestors"):
        error = imi.error(3, "events", "show", str(uuid.uuid4()), *option.split())
        assert error["code"] == "NOT_FOUND"
    assert imi.error(2, "events", "show", "no-uuid", "--tree")["code"] == "VALIDATION_ERROR"
    assert imi.error(2, "events", "show", events["a"], "--tree", "--ancestors")["code"] == "USAGE"
