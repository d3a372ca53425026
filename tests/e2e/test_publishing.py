"""The page for those who publish keeps its word: its blocks run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

import imi
from imi.bloodbank import schemas
from tests.live import Live, running

ROOT = Path(imi.__file__).parents[1]
PAGE = (ROOT / "imi/bloodbank/PUBLISHING.md").read_text()
HANDOFF = "bmad.workflow.handoff.requested"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture(scope="module")
def up() -> Iterator[Live]:
    with running() as live:
        yield live


def run(up: Live, folder: Path, *command: str) -> list[str]:
    """What a program prints that has what the page says it needs, and this very iMi as `imi`."""
    program = folder / "imi"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m imi "$@"\n')
    program.chmod(0o755)
    environment = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "HOME": str(folder),
        "PYTHONPATH": str(ROOT),
        "IMI_API_URL": up.url,
        "IMI_API_KEY": up.key,
    }
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def event(up: Live, event_id: str) -> dict[str, Any]:
    answer = httpx.get(f"{up.url}/api/v1/events/{event_id}", headers={"Authorization": f"Bearer {up.key}"})
    answer.raise_for_status()
    return dict(answer.json())


def check_handoff(up: Live, event_id: str) -> dict[str, Any]:
    requested = event(up, event_id)
    assert requested["event_type"] == HANDOFF
    (cause,) = requested["correlation_ids"]
    started = event(up, cause)
    assert (started["event_type"], started["correlation_ids"]) == ("bmad.workflow.started", [])
    assert started["payload"]["workflow_id"] == requested["payload"]["workflow_id"]
    return requested


def test_the_python_example(up: Live, tmp_path: Path) -> None:
    (program,) = blocks("python")
    (event_id,) = run(up, tmp_path, sys.executable, "-c", program)
    check_handoff(up, event_id)


def test_the_shell_examples(up: Live, tmp_path: Path) -> None:
    publishing, looking = blocks("sh")
    event_id, shown = run(up, tmp_path, "bash", "-ec", publishing + looking)
    requested = check_handoff(up, event_id)
    started, end = json.JSONDecoder().raw_decode(shown)
    assert [started["event_id"]] == requested["correlation_ids"]
    assert json.loads(shown[end:]) == [requested]


def test_the_types_that_it_names_are_there() -> None:
    named = set(re.findall(r"`((?:bmad|agent)(?:\.\w+)+)`", PAGE))
    assert len(named) >= 2 and all(schemas.schema(each) for each in named)
