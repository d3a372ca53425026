"""What --json prints of a worktree command is what its --help says: each name at the top of its data, and of
the items of a list."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.cli.rooted import homes, origin, root
from tests.commandline import Imi
from tests.repositories import Git
from tests.serving import CONTRACT

__all__ = ["homes", "origin", "root"]
pytestmark = pytest.mark.usefixtures("live")

COMMANDS = (
    "init",
    "feat login",
    "review 7",
    "list",
    "status login",
    "go login",
    "claim login",
    "release login",
    "sync",
    "gc",
    "remove login --force",
    "trash list",
    "restore login",
    "reconcile",
    "doctor",
    "config show",
)


WORK = set(CONTRACT.document["components"]["schemas"]["WorkItem"]["properties"])
ARGUMENTS = ("login", "7", "--force")


def names(data: Any) -> set[str]:
    """The names that a program would rely on."""
    if isinstance(data, list):
        return {name for item in data for name in names(item)}
    return set(data)


def test_each_name_is_in_the_help(
    imi: Imi, git: Git, root: Path, origin: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(origin, "update-ref", "refs/pull/7/head", "main")
    missing = {}
    for line in COMMANDS:
        ran = imi(*line.split(), "--json")
        command = [word for word in line.split() if word not in ARGUMENTS]
        said = " ".join(imi(*command, "--help").out.split())
        told = set(re.findall(r"\w+", said)) | (WORK if "the work item" in said else set())
        if untold := names(json.loads(ran.out)["data"]) - told:
            missing[line] = sorted(untold)
    assert missing == {}
