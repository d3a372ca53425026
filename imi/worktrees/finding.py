"""Finding a worktree by some letters of its name, its branch or its path.

The rules stand from the surest to the loosest; the first that fits anything decides, so a better fit wins and
equal ones are ambiguous. Upper and lower case are one. Every path begins alike, so letters of a path count
only with a slash among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from imi.worktrees import known_projects, layout, parallel
from imi.worktrees.git import GitError
from imi.worktrees.layout import TRUNK, Worktree
from imi.worktrees.names import KINDS

AT_ONCE = 8


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that can be gone to: a worktree, or with no branch a project's root or a detached head. `task`
    is its name without its kind, `login` of feat-login."""

    project: str
    name: str
    task: str
    branch: str
    path: Path


Rule = Callable[[Place, str], bool]
RULES: tuple[Rule, ...] = (
    lambda place, query: query in (place.name, str(place.path).lower()),
    lambda place, query: query in (place.branch, place.task),
    lambda place, query: place.name.startswith(query) or place.task.startswith(query),
    lambda place, query: place.branch.startswith(query),
    lambda place, query: query in place.name or query in place.branch,
    lambda place, query: is_subsequence(query, place.name) or is_subsequence(query, place.branch),
    lambda place, query: "/" in query and query in str(place.path).lower(),
    lambda place, query: "/" in query and is_subsequence(query, f"{place.project}/{place.name}"),
)


def is_subsequence(query: str, text: str) -> bool:
    """Whether the query's letters stand in the text, in their order."""
    letters = iter(text)
    return all(letter in letters for letter in query)


def matches(query: str, places: Iterable[Place]) -> list[Path]:
    """The folders that fit the query best, by path: one is the answer, several are ambiguous."""
    query = query.lower().removesuffix("/")
    there = [*places]
    found = ({place.path for place in there if rule(place, query)} for rule in RULES)
    return sorted(next((fitting for fitting in found if fitting), ()))


def here(start: Path) -> tuple[Path, list[Place]]:
    """The root of the project that `start` is in, and its places. Fails as layout.location does."""
    location = layout.location(start)
    known_projects.remember(location)
    return location.root, places(location.root, location.worktrees)


def everywhere() -> list[Place]:
    """The places of all projects that are known on this machine."""
    of_projects = parallel.run(_of_project, known_projects.projects(), AT_ONCE)
    return [place for found in of_projects for place in found]


def places(root: Path, worktrees: Iterable[Worktree]) -> list[Place]:
    """A project's root, and the folders of its worktrees that are there."""
    name = root.name.lower()
    return [Place(name, name, name, "", root)] + [
        Place(name, each.path.name.lower(), task(each.path), (each.branch or "").lower(), each.path)
        for each in worktrees
        if not each.bare and not each.prunable
    ]


def task(path: Path) -> str:
    """A folder's name without the prefix of its kind."""
    name = path.name.lower()
    prefixes = (TRUNK, *(kind.folder for kind in KINDS.values()))
    return next((name.removeprefix(each) for each in prefixes if name.startswith(each)), name)


def _of_project(project: tuple[Path, Path]) -> list[Place]:
    root, repository = project
    try:
        return places(root, layout.worktrees(repository))
    except GitError:
        return []
