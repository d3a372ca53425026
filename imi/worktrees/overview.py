"""The rows of `imi list`: what the server knows of worktrees, what git has, and where the two differ.

The server's facts are as old as their last report. Git's are read now, but for few worktrees only: a thousand
take seconds.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from imi.worktrees import gitdirs, present, report
from imi.worktrees.facts import Facts
from imi.worktrees.layout import Project, Worktree

FEW = 32
"""So many worktrees of which the server has no facts are read while it answers."""

Place = tuple[Project, Worktree]


def places(projects: Iterable[Project]) -> dict[str, Place]:
    """The worktrees that git has here, by their path as the server writes it."""
    return {
        report.text(each.path): (project, each)
        for project in projects
        for each in project.worktrees
        if not each.bare and not each.prunable
    }


def known(
    worktree: Mapping[str, Any], item: Mapping[str, Any] | None, local: Worktree | None, is_gone: bool
) -> dict[str, Any]:
    """The row of a worktree that the server has: `item` is its work item, `local` what git has here. Facts
    of another branch than the one that is checked out are none."""
    item = item or {}
    is_its = bool(item) and (not local or local.branch == item["branch_name"])
    seen = item["last_sync_at"] if is_its else None
    return {
        "name": worktree["name"],
        "project_id": worktree["project_id"],
        "path": worktree["path"],
        "host": worktree["host"],
        "state": "gone" if is_gone else "registered",
        "branch": local.branch if local else worktree["branch_name"],
        "work_type": item.get("work_type"),
        "status": item["status"] if is_its and (seen or not item["active"]) else None,
        "ahead": item["ahead_of_trunk"] if seen else None,
        "behind": item["behind_trunk"] if seen else None,
        "dirty": item["uncommitted_files_count"] if seen else None,
        "owner": item.get("owner_id"),
        "claim": item.get("claim"),
        "observed_at": seen,
        "changed_at": item.get("updated_at"),
        "work_item_id": worktree["work_item_id"],
        "worktree_id": worktree["id"],
    }


def unknown(place: Place, is_asked: bool) -> dict[str, Any]:
    """The row of a worktree that git has; `is_asked` says that the server was asked and does not know it."""
    project, worktree = place
    is_trunk = project.is_trunk(worktree.path)
    empty = ("project_id", "work_type", "status", "ahead", "behind", "dirty", "owner", "claim", "observed_at")
    return {
        "name": report.text(worktree.path.name),
        "path": report.text(worktree.path),
        "host": socket.gethostname(),
        "state": "trunk" if is_trunk else "not registered" if is_asked else None,
        "branch": worktree.branch,
        **dict.fromkeys((*empty, "changed_at", "work_item_id", "worktree_id")),
    }


def rows(
    worktrees: Sequence[Mapping[str, Any]],
    items: Mapping[str, Mapping[str, Any]],
    there: Mapping[str, Place],
    is_asked: bool,
) -> list[dict[str, Any]]:
    """All rows, the trunk first, then what changed last. Without the server git is asked about every
    worktree, with it about few."""
    made = []
    for each in worktrees:
        place = _place(each, there)
        is_gone = not place and each["host"] == socket.gethostname() and not _is_whole(each["path"])
        made.append(known(each, items.get(each["work_item_id"] or ""), place and place[1], is_gone))
    told = {row["path"] for row in made if row["host"] == socket.gethostname()}
    made += [unknown(place, is_asked) for path, place in there.items() if path not in told]
    blank = [row for row in made if row["observed_at"] is None and _place(row, there)]
    chosen = blank[:FEW] if is_asked else blank
    read = _read(there[row["path"]] for row in chosen)
    for row in chosen:
        if found := read.get(there[row["path"]][1].path):
            now = present.document(found)
            committed = found.commit and found.commit.committed_at.isoformat()
            row["changed_at"] = row["changed_at"] or committed
            row |= now | {"status": row["status"] or now["status"]}
    made.sort(key=lambda row: row["name"])
    made.sort(key=lambda row: (row["state"] == "trunk", row["changed_at"] or ""), reverse=True)
    return made


def _read(wanted: Iterable[Place]) -> dict[Path, Facts]:
    projects: dict[Path, tuple[Project, list[Path]]] = {}
    for project, worktree in wanted:
        projects.setdefault(project.repository, (project, []))[1].append(worktree.path)
    return {path: found for each in projects.values() for path, found in present.read_all(*each).items()}


def _is_whole(path: str) -> bool:
    """Whether a worktree is there that git knows: it may be another clone's."""
    found = gitdirs.find(path)
    return found is not None and Path(found.own).is_dir()


def _place(row: Mapping[str, Any], there: Mapping[str, Place]) -> Place | None:
    return there.get(row["path"]) if row["host"] == socket.gethostname() else None
