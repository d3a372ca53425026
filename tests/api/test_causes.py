"""What a request says of itself ends up in the event it makes, and in the log."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from imi import logs
from tests.serving import Things

ONE, TWO = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10", "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b11"


def test_correlation_ids_and_the_actor_reach_the_event(api: httpx.Client, things: Things) -> None:
    headers = {"X-Correlation-ID": f"{ONE.upper()} , {TWO}", "X-Agent-Id": "claude 7"}
    body = {"project_id": things.project["id"], "branch_name": "caused"}
    item = api.post("/api/v1/work", json=body, headers=headers).json()
    assert item["owner_id"] == "claude 7"
    (event,) = [
        each
        for each in api.get("/api/v1/events?event_type=imi.work.started").json()
        if each["payload"]["id"] == item["id"]
    ]
    assert event["correlation_ids"] == [ONE, TWO]
    assert event["source"] == {
        "host": socket.gethostname(),
        "type": "system",
        "app": "imi",
        "meta": {"actor": "claude 7"},
    }
    assert api.get("/api/v1/events", params={"correlation_id": ONE}).json() == [event]


def test_without_them_the_event_is_a_root(api: httpx.Client, things: Things) -> None:
    item = things.new_work()
    (event,) = [
        each
        for each in api.get("/api/v1/events?event_type=imi.work.started").json()
        if each["payload"]["id"] == item["id"]
    ]
    assert event["correlation_ids"] == []
    assert event["source"]["meta"] == {"actor": "IMI_API_KEY"}


@contextlib.contextmanager
def logging_to(file: Path | None, level: str) -> Iterator[None]:
    """Log as `imi up` does, and afterwards as the tests do."""
    handlers, before = logging.root.handlers[:], logging.root.level
    logs.configure(level, file)
    (ours,) = logging.root.handlers
    assert isinstance(ours, logs.JsonLines)
    try:
        yield
    finally:
        logging.root.handlers[:], logging.root.level = handlers, before
        with contextlib.suppress(OSError):
            ours.stream.close()


@pytest.mark.parametrize("value", ["", ",", ONE + ",", "x", f"{ONE};{TWO}", f"{ONE},{TWO}x", f"{{{ONE}}}"])
def test_any_other_correlation_is_refused(api: httpx.Client, value: str) -> None:
    assert api.get("/api/v1/projects", headers={"X-Correlation-ID": value}).status_code == 400


def test_a_request_is_one_line_of_json(api: httpx.Client, things: Things, tmp_path: Path) -> None:
    file = tmp_path / "log"
    with logging_to(file, "INFO"):
        headers = {"X-Request-ID": "look-for-me", "X-Correlation-ID": ONE}
        api.post("/api/v1/projects?x=secret", json={"remote_origin": "/tmp/log"}, headers=headers)
        api.get("/a%0ab%1b", headers={"X-Request-ID": "other"})
        logging.getLogger("imi.test").warning("careful", extra={"fields": {"n": 1, "odd": file}})
        try:
            raise ValueError("broken")
        except ValueError:
            logging.getLogger("imi.test").exception("oh %s", "no")
    lines = [json.loads(line) for line in file.read_text().splitlines() if '"imi.' in line]
    first, second, third, fourth = lines
    assert first | {"time": 0, "ms": 0} == {
        "time": 0, "level": "INFO", "logger": "imi.requests", "message": "request", "request_id": "look-for-me",
        "correlation_ids": [ONE], "method": "POST", "path": "/api/v1/projects", "status": 400, "ms": 0,
        "key": "IMI_API_KEY", "address": "127.0.0.1",
    }  # fmt: skip
    assert "secret" not in json.dumps(lines)
    assert (second["request_id"], second["status"], second["key"]) == ("other", 404, None)
    assert (third["message"], third["n"], third["odd"]) == ("careful", 1, str(file))
    assert fourth["message"] == "oh no" and "ValueError: broken" in fourth["exception"]


def test_lines_may_be_fewer(tmp_path: Path) -> None:
    with logging_to(tmp_path / "log", "WARNING"):
        logs.note(logging.getLogger("imi.requests"), "request", {})
        logging.getLogger("imi.requests").info("request")
    assert (tmp_path / "log").read_text() == ""


def test_without_a_handler_of_ours_a_note_is_a_plain_record(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    logs.note(logging.getLogger("imi.requests"), "request", {"n": 1})
    assert caplog.records[-1].__dict__["fields"] == {"n": 1}


def test_a_log_that_cannot_be_written_breaks_no_request(
    api: httpx.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    with logging_to(Path("/dev/full"), "INFO"):
        for n in range(3):
            answer = api.post("/api/v1/projects", json={"remote_origin": f"/tmp/unlogged-{n}"})
            assert answer.status_code == 201
            logging.getLogger("imi.faults").error("lost too")
        assert api.get("/nothing").status_code == 404
    said = capsys.readouterr().err
    assert said.splitlines() == ["Cannot write the log, lines are lost: [Errno 28] No space left on device"]


def test_nor_does_one_that_nobody_reads(api: httpx.Client, monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    monkeypatch.setattr("sys.stderr", os.fdopen(writer, "w"))
    with logging_to(None, "INFO"):
        assert api.post("/api/v1/projects", json={"remote_origin": "/tmp/unread"}).status_code == 201
