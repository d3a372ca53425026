"""A git history is a graph of causes too: iMi and git must agree about every commit of it."""

from __future__ import annotations

import itertools
import random
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

from tests.conftest import Database
from tests.repositories import EMAIL, Git, git
from tests.serving import live

__all__ = ["git"]

COMMITS = 300


def history(chance: random.Random) -> Iterator[str]:
    """Commits as git fast-import reads them: branches, merges of two to four, and a second root."""
    for n in range(COMMITS):
        before = range(max(0, n - 25), n)
        parents = chance.sample(
            before, min(len(before), chance.choice((1, 1, 1, 2, 2, 3, 4)) if n != 40 else 0)
        )
        yield f"commit refs/heads/branch-{n}\nmark :{n + 1}\n"
        yield f"committer Ada <{EMAIL}> {1_700_000_000 + n * 60} +0000\ndata 0\n"
        yield "".join(f"{'merge' if i else 'from'} :{parent + 1}\n" for i, parent in enumerate(parents))


def as_id(commit: str) -> str:
    return str(UUID(commit[:32]))


def met(node: dict[str, Any]) -> list[str]:
    """The ids in a tree."""
    return [node["event"]["event_id"], *itertools.chain.from_iterable(map(met, node["children"]))]


def test_every_commit_has_the_descendants_and_ancestors_that_git_says(
    database: Database, git: Git, tmp_path: Path
) -> None:
    git(tmp_path, "init", "-q")
    stream = "".join(history(random.Random(4)))
    subprocess.run(["git", "fast-import", "--quiet"], cwd=tmp_path, input=stream, text=True, check=True)
    parents = {
        commit: names
        for commit, *names in map(str.split, git(tmp_path, "rev-list", "--all", "--parents").splitlines())
    }
    assert len(parents) == COMMITS and sum(len(each) > 1 for each in parents.values()) > 100
    ancestors = {
        as_id(commit): [*map(as_id, git(tmp_path, "rev-list", commit).splitlines())] for commit in parents
    }
    descendants: dict[str, list[str]] = {commit: [] for commit in ancestors}
    for commit, before in ancestors.items():
        for each in before:
            descendants[each].append(commit)

    events = [
        {
            "event_id": as_id(commit),
            "event_type": "git.commit",
            "correlation_ids": [*map(as_id, names)],
            "payload": {"commit": commit},
        }
        for commit, names in parents.items()
    ]
    random.Random(5).shuffle(events)
    with live(database.url) as api:
        for at in range(0, COMMITS, 50):
            api.post("/api/v1/events", json=events[at : at + 50]).raise_for_status()

        def shown(commit: str, towards: str) -> list[str]:
            tree = api.get(f"/api/v1/events/{commit}/{towards}").raise_for_status().json()
            assert tree["truncated"] is False
            return met(tree)

        for commit in ancestors:
            assert Counter(shown(commit, "ancestors")) == Counter(ancestors[commit])
            assert Counter(shown(commit, "descendants")) == Counter(descendants[commit])

        youngest = as_id(git(tmp_path, "rev-parse", f"branch-{COMMITS - 1}"))
        graph = api.get(f"/api/v1/events/{youngest}/ancestors", params={"format": "graph"}).json()
        said = {(as_id(parent), as_id(commit)) for commit, names in parents.items() for parent in names}
        assert {(edge["source"], edge["target"]) for edge in graph["edges"]} == {
            (parent, commit) for parent, commit in said if commit in ancestors[youngest]
        }
