"""`imi events tail`: what it shows, and how it ends. That it goes on after a restart: tests/faults/test_stream_resume.py."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import Any

import httpx
import pytest

from tests.commandline import Imi, Live
from tests.serving import ADMIN


def publish(live: Live, *types: str, **payload: Any) -> list[str]:
    events = [{"event_type": each, "payload": payload} for each in types]
    answer = httpx.post(f"{live.url}/api/v1/events", json=events, headers={"X-API-Key": ADMIN})
    return [each["event_id"] for each in answer.json()["items"]]


def tail(count: int, *arguments: str) -> tuple[list[str], int, str]:
    """So many lines of a tail, then Ctrl-C: the lines, the exit code, and what it said beside them."""
    command = [sys.executable, "-m", "imi", "events", "tail", *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        lines = [process.stdout.readline().decode() for _ in range(count)]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=60)
    assert rest == b""
    return lines, process.returncode, said.decode()


def test_events_in_lines_for_people(live: Live) -> None:
    publish(live, "shown.one", "hidden.one", "shown.two", note="\x1b[31m\u2028ä")
    lines, code, said = tail(2, "--type", "shown.#", "--after", "0")
    assert (code, said) == (0, "")
    assert [line.split()[2] for line in lines] == ["shown.one", "shown.two"]
    assert all(line.endswith(' note="\\u001b[31m\\u2028ä"\n') for line in lines), lines


def test_a_line_says_who_and_what_first(live: Live) -> None:
    event = {
        "event_type": "words.said",
        "timestamp": "2026-01-01T12:00:00Z",
        "source": {"host": "builder", "type": "agent"},
        "agent_context": {"name": "ada"},
        "payload": {"id": "7", "title": "two words", "done": True, "late": False, "more": {"a": 1}, "n": 0},
    }
    httpx.post(f"{live.url}/api/v1/events", json=event, headers={"X-API-Key": ADMIN}).raise_for_status()
    ((line,), _, _) = tail(1, "--type", "words.#", "--after", "0")
    assert line.startswith("2026-01-01 ") or line.startswith("2025-12-31 ")
    assert line.split(maxsplit=3)[3] == 'words.said  ada@builder  title="two words" n=0 done=true id=7\n'


def test_it_ends_with_whoever_reads_it_though_nothing_comes(live: Live) -> None:
    publish(live, "last.one")
    command = [sys.executable, "-m", "imi", "events", "tail", "--type", "last.#", "--after", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert "last.one" in process.stdout.readline()
        process.stdout.close()
        assert process.wait(timeout=30) == 0


def test_events_as_json(live: Live) -> None:
    workflow = "0199a000-0000-7000-8000-000000000001"
    published = publish(live, "json.one", "json.two", workflow_id=workflow, text="\u2028\x85")
    lines, code, said = tail(2, "--workflow", workflow, "--after", "0", "--json")
    assert (code, said) == (0, "")
    messages = [json.loads(line) for line in lines]
    assert [each["data"]["event_id"] for each in messages] == published
    assert messages[0]["data"]["payload"]["text"] == "\u2028\x85"
    lines, _, _ = tail(1, "--workflow", workflow, "--after", str(messages[0]["cursor"]), "--json")
    assert json.loads(lines[0]) == messages[1]


def test_what_is_refused(imi: Imi, live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "event_type" in imi("events", "tail", "--type", "a..b", code=2).err
    assert "one pattern" in imi("events", "tail", "--type", "a", "--type", "b", code=2).err
    assert imi.error(2, "events", "tail", "--after", "99999999999")["code"] == "INVALID_CURSOR"
    assert imi.error(2, "events", "tail", "--workflow", "x")["code"] == "VALIDATION_ERROR"
    assert imi.error(4, "events", "tail", "--api-key", "wrong")["code"] == "UNAUTHENTICATED"
    monkeypatch.setenv("IMI_API_URL", "http://127.0.0.1:1")
    assert imi.error(5, "events", "tail", "--after", "0")["code"] == "UNREACHABLE"
