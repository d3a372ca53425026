"""Running command lines in a test, and what they did."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from imi import cli


@dataclass(frozen=True)
class Ran:
    """What a command line did."""

    code: int
    out: str
    err: str

    @property
    def lines(self) -> list[str]:
        return self.out.splitlines()


class Imi:
    """`imi(…)` runs a command line in this process. `imi.data(…)` runs it with --json: the document's data,
    after checking that it is all that was printed; `imi.error(code, …)` the same for a refusal."""

    def __init__(self, capture: pytest.CaptureFixture[str]) -> None:
        self.capture = capture

    def __call__(self, *arguments: object, code: int = 0) -> Ran:
        self.capture.readouterr()
        left = cli.run([str(argument) for argument in arguments])
        ran = Ran(left, *self.capture.readouterr())
        assert ran.code == code, ran
        assert "Traceback" not in ran.err
        return ran

    def data(self, *arguments: object) -> Any:
        ran = self(*arguments, "--json")
        document = json.loads(ran.out)
        assert (list(document), document["success"], ran.err) == (["success", "data"], True, "")
        assert ran.out == json.dumps(document) + "\n"
        return document["data"]

    def error(self, code: int, *arguments: object) -> dict[str, str | None]:
        ran = self(*arguments, "--json", code=code)
        document = json.loads(ran.out)
        assert (list(document), document["success"], ran.err) == (["success", "error"], False, "")
        assert list(document["error"]) == ["code", "message", "hint"]
        return dict(document["error"])


@dataclass(frozen=True)
class Live:
    """A server that is up: its URL, and its settings' data directory with an admin key in it."""

    url: str
    data_dir: Path
