"""Reports told at once, and a server that goes away, or refuses, in their midst."""

from pathlib import Path
from typing import Any, NamedTuple

import pytest

from imi.cli.outcome import CONFLICT, UNREACHABLE, Failure
from imi.worktrees import delivery, spool

AWAY = Failure("UNREACHABLE", "the server is away", exit_code=UNREACHABLE)
REFUSED = Failure("CONFLICT", "another has it", exit_code=CONFLICT)


class Answer(NamedTuple):
    data: dict[str, Any]


class Server:
    """Answers in place of the API; `failing` is what it says to a branch instead."""

    actor = "ada"

    def __init__(self, **failing: Failure) -> None:
        self.bar, self.failing, self.told = self, failing, []  # type: ignore[var-annotated]

    def show(self, label: str, done: int, total: int) -> None:
        assert done <= total

    def get(self, path: str, **query: Any) -> Any:
        return {"id": "project", "items": []}

    def call(self, method: str, path: str, body: Any, headers: dict[str, str]) -> Answer:
        branch = body["branch_name"]
        if branch in self.failing:
            raise self.failing[branch]
        self.told.append((branch, body["uncommitted_files_count"]))
        return Answer({"id": branch})


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    return tmp_path


def state(branch: str, files: int = 0) -> tuple[str, dict[str, Any]]:
    reported = {"branch_name": branch, "uncommitted_files_count": files}
    return "git_state", {"remote": "r", "git_state": reported}


def tell(server: Server, *told: tuple[str, dict[str, Any]]) -> tuple[list[Any], list[str]]:
    return delivery.tell_all(server, list(told))  # type: ignore[arg-type]


def waiting() -> list[str]:
    return [each.body["git_state"]["branch_name"] for file in spool.waiting() for each in spool.read(file)]


def test_many_branches_are_told_side_by_side_and_each_has_its_answer() -> None:
    names = [f"feat/{number}" for number in range(50)]
    server = Server()
    answers, notes = tell(server, *map(state, names))
    assert (answers, notes) == ([{"work_item_id": name} for name in names], [])
    assert sorted(name for name, _ in server.told) == sorted(names) and spool.waiting() == []


def test_what_nothing_was_said_to_is_not_written_again() -> None:
    server = Server(a=AWAY)
    tell(server, state("a"))
    (file,) = spool.waiting()
    before = file.stat().st_ino
    delivery.deliver(server)  # type: ignore[arg-type]
    assert (file.stat().st_ino, waiting()) == (before, ["a"])


def test_one_branch_is_told_in_order() -> None:
    server = Server()
    names = ["a", "b"] * 20
    tell(server, *(state(name, number) for number, name in enumerate(names)))
    for branch in ("a", "b"):
        numbers = [number for name, number in server.told if name == branch]
        assert numbers == [number for number, name in enumerate(names) if name == branch]


def test_what_may_free_a_place_is_told_alone() -> None:
    made = [spool.made("ada", "removed" if name == "-" else "git_state", state(name)[1]) for name in "ab-cd"]
    batches = [[each.body["git_state"]["branch_name"] for each in batch] for batch in delivery._batches(made)]
    assert batches == [["a", "b"], ["-"], ["c", "d"]]


def test_a_server_that_goes_away_keeps_what_it_has_not_heard() -> None:
    answers, notes = tell(Server(d=AWAY), *map(state, "abcadd"))
    assert [bool(each) for each in answers] == [True, True, True, True, False, False]
    assert waiting() == ["d", "d"]
    assert notes == ["the server is away; 2 reports are kept for the next command or `imi reconcile`"]
    server = Server()
    assert delivery.deliver(server)[1] == [] and server.told == [("d", 0), ("d", 0)]  # type: ignore[arg-type]
    assert spool.waiting() == []


def test_a_refused_report_is_laid_aside_alone() -> None:
    answers, (note,) = tell(Server(b=REFUSED), *map(state, "abc"))
    assert [bool(each) for each in answers] == [True, False, True]
    (aside,) = spool.folder().glob("*.refused")
    assert spool.read(aside)[0].body["git_state"]["branch_name"] == "b" and str(aside) in note
    assert spool.waiting() == []
