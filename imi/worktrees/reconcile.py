"""Reconcile: the server's worktrees of this project and host, compared with git's. What would make them agree
are steps, each a line for people and a report.

A branch that is checked out in another folder goes on there: its work item is never completed for a folder
that is gone. A row of this project whose folder is another clone's worktree is that clone's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imi.worktrees import git, names, report
from imi.worktrees.backlinks import is_trash
from imi.worktrees.layout import TRUNK, Project, Worktree
from imi.worktrees.repairs import Repaired
from imi.worktrees.report import text

SOURCE = {"type": "manual", "ref": "reconcile"}
ABANDONED = {"completion_type": "abandoned", "evidence": {"rule": "reconcile", "folder": "gone"}}
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Step:
    """Something done about a worktree, and what the server is to be told: (kind, body) each. One whose action
    is "left" was left as it is."""

    action: str
    path: Path
    branch: str | None
    reason: str
    reports: tuple[tuple[str, dict[str, Any]], ...] = ()


def repaired(found: Repaired, is_told: bool) -> Iterator[Step]:
    """What the repair did, as far as git alone knows; with reports, for a server that cannot be asked."""
    there = {each.path: each for each in found.project.worktrees}
    for path in found.completed:
        yield _made(found.project, there[path], "completed", "its making was cut short", is_told)
    for old, new in found.moved.items():
        bodies = (("moved", report.moved_body(found.project, old, new)),) if is_told else ()
        yield Step("moved", new, there[new].branch, f"it was {old}", bodies)
    for path in found.linked:
        yield Step("linked", path, there[path].branch, "it no longer named the repository")
    for path in found.returned:
        yield Step("returned", path, there[path].branch, "its folder is there again")
    if is_told:
        for each in found.gone:
            yield _retired(found.project, each.path, each.branch, False)


def compare(found: Repaired, project_id: str | None, rows: list[Row]) -> Iterator[Step]:
    """The steps that make the server agree, removals first. `rows` are its worktrees on this host, of all
    projects; `project_id` is this one's, None when the server does not know it."""
    project = found.project
    tasks = {text(each.path): each for each in project.worktrees if _is_task(found, each)}
    branches = {each.branch: each for each in tasks.values() if each.branch}
    own = {row["path"]: row for row in rows if row["project_id"] == project_id}
    others = {row["path"]: row for row in rows if row["project_id"] != project_id}
    orphans = {path: each for path, each in tasks.items() if path not in own}
    listed = {text(each.path) for each in project.worktrees} - {text(each.path) for each in found.gone}
    moved = {text(old): text(new) for old, new in found.moved.items()}
    missing = {
        path: row
        for path, row in own.items()
        if path not in listed and not is_trash(project, Path(path)) and not git.is_work_tree(Path(path))
    }  # one that is a work tree is another clone's
    taken = {row["name"]: path for path, row in own.items() if path not in missing}
    held = {each.branch for each in project.worktrees if each not in found.gone}
    arriving: list[tuple[Worktree, Step]] = []
    for path, row in missing.items():
        at = tasks.get(moved.get(path, "")) or branches.get(row["branch_name"])
        if at and orphans.pop(text(at.path), None):
            body = report.moved_body(project, Path(path), at.path)
            arriving.append((at, Step("moved", at.path, at.branch, f"it was {path}", (("moved", body),))))
        elif not os.path.lexists(Path(path).parent):
            taken[row["name"]] = path
            yield Step("left", Path(path), row["branch_name"], f"an unmounted disk? {_remedy(row)}")
        else:
            goes_on = path in moved or row["branch_name"] in held
            yield _retired(project, Path(path), row["branch_name"], goes_on)
    for path, each in tasks.items():
        row = own.get(path, {})
        if not row or not each.branch or (row["work_item_id"] and row["branch_name"] == each.branch):
            continue
        if row["branch_name"] not in (None, each.branch):
            removed = ("removed", report.removed_body(project, each.path, None))
            yield Step("switched", each.path, each.branch, f"it had {row['branch_name']}", (removed,))
        elif row["name"] != text(each.path.name):
            continue  # registered by hand, under a name of its own
        del taken[row["name"]]
        orphans[path] = each
    arriving += [
        (each, _made(project, each, "adopted", "nobody tracked it", True)) for each in orphans.values()
    ]
    for each, step in arriving:
        name = text(each.path.name)
        if why := _unfit(each) or _conflict(text(each.path), name, others, taken):
            yield Step("left", each.path, each.branch, why)
        else:
            taken[name] = text(each.path)
            yield step


def _conflict(path: str, name: str, others: dict[str, Row], taken: dict[str, str]) -> str | None:
    """What the server would have against a worktree there."""
    if path in others:
        return f"its path is registered for another project: {_remedy(others[path])}"
    if name in taken:
        return f"{taken[name]} has its name already: rename it with git worktree move"
    return None


def _is_task(found: Repaired, each: Worktree) -> bool:
    """Whether it is somebody's work: there, whole, and not the trunk's."""
    project = found.project
    is_trunk = each.branch == project.trunk or each.path.name.startswith(TRUNK)
    is_whole = not each.bare and not each.is_half_made and each.path not in found.left
    return is_whole and not is_trunk and not is_trash(project, each.path) and git.is_work_tree(each.path)


def _made(project: Project, each: Worktree, action: str, reason: str, is_told: bool) -> Step:
    kind = names.work_type(each.branch or "", each.path.name)
    reason += f": {kind}" if each.branch else ": no branch, so no work item"
    body = report.worktree_body(project, each.path, each.branch, kind, source=SOURCE)
    return Step(action, each.path, each.branch, reason, (("worktree", body),) if is_told else ())


def _retired(project: Project, path: Path, branch: str | None, goes_on: bool) -> Step:
    reason = "the folder is gone; " + ("the branch is elsewhere" if goes_on else "the branch stays")
    body = report.removed_body(project, path, None if goes_on else ABANDONED)
    return Step("retired", path, branch, reason, (("removed", body),))


def _remedy(row: Row) -> str:
    return f"if that one is gone for good: imi worktrees remove {row['id']}"


def _unfit(each: Worktree) -> str | None:
    """Why the server cannot take it."""
    branch = each.branch or ""
    if any("\ud800" <= character <= "\udfff" for character in branch):
        return "its branch's name is not UTF-8"
    if max(len(branch), len(each.path.name)) > 255 or len(str(each.path)) > 2048:
        return "its path or branch is longer than the server takes: 2048 and 255 characters"
    return None
