"""README's psql chapter: each question is one short SELECT, run by its role on the sample, with the answer printed."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from imi.database.programs import environment, program, without_password

README = Path(__file__).parents[2] / "README.md"
CHAPTER = re.compile(r"^## Ask it in SQL\n(.*?)(?=^## )", re.DOTALL | re.MULTILINE)
SECTION = re.compile(r"^### [^\n]*\((imi_\w+)\)\n(.*?)(?=^### |\Z)", re.DOTALL | re.MULTILINE)
QUESTION = re.compile(r"^```sql\n(.*?)^```\n```text\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def questions() -> list[tuple[str, str, str]]:
    """Each question's role, statement and printed answer."""
    chapter = CHAPTER.search(README.read_text())
    assert chapter
    sections = SECTION.findall(chapter[1])
    return [(role, *found) for role, section in sections for found in QUESTION.findall(section)]


def psql(url: str, *statements: str) -> str:
    """What psql prints, without spaces at line ends."""
    bare, password = without_password(url)
    commands = [argument for statement in statements for argument in ("-c", statement)]
    done = subprocess.run(
        [program("psql", url), "-qX", "-v", "ON_ERROR_STOP=1", "-d", bare, *commands],
        env=environment(password) | {"LANG": "C.UTF-8", "PGTZ": "UTC"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return "\n".join(line.rstrip() for line in done.stdout.rstrip().splitlines())


def test_there_are_twelve_and_none_is_longer_than_five_lines():
    assert len(questions()) == 12
    assert len(re.findall(r"^```sql$", README.read_text(), re.MULTILINE)) == 12
    assert {role for role, _, _ in questions()} == {"imi_analyst", "imi_operator"}
    for _, statement, _ in questions():
        assert statement.startswith("select ") and len(statement.splitlines()) <= 5, statement
        assert statement.count(";") == 1


BEHIND = "select coalesce(sum(behind_events), 0) from ops.lag"


@pytest.fixture(scope="module")
def followed(sampled, tmp_path_factory):
    """The sample with an `imi worker` at it that has handled everything."""
    settings = {"IMI_DATABASE_URL": sampled.url, "IMI_DATA_DIR": str(tmp_path_factory.mktemp("worker"))}
    worker = subprocess.Popen([sys.executable, "-m", "imi", "worker"], env=os.environ | settings)
    try:
        until = time.monotonic() + 60
        while "0" not in psql(sampled.url, BEHIND).split():
            assert worker.poll() is None and time.monotonic() < until, psql(
                sampled.url, "select * from ops.lag"
            )
        yield sampled
    finally:
        worker.terminate()
        assert worker.wait(30) == 0


@pytest.mark.parametrize(("role", "statement", "answer"), questions())
def test_the_answer_is_as_printed(followed, role, statement, answer):
    printed = psql(followed.url, f"set role {role}", statement)
    assert "(0 rows)" not in printed
    assert printed == answer.rstrip()
