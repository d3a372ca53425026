"""`imi reconcile`: git's worktrees, the folders and the server made to agree."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.outcome import Failure
from imi.cli.render import plain
from imi.worktrees import (
    acts,
    delivery,
    present,
    reconcile,
    registry,
    repairs,
    report,
    settings,
    spool,
    trash_mending,
)
from imi.worktrees.layout import Project
from imi.worktrees.reconcile import Step
from imi.worktrees.report import text

app = group("Worktrees: one folder a task.")

CHANGED = ("completed", "moved", "linked", "adopted", "returned")


def show(data: dict[str, Any]) -> Any:
    """A line for each thing done and each thing left."""
    from rich.console import Group

    from imi.cli.render import Column, note_all, table

    rows = data["actions"] + data["left"]
    count = data["delivered"]
    said = [f"delivered {count} report{'s' if count > 1 else ''} that waited"] if count else []
    said += [f"refused by the server: read it, then remove it: {file}" for file in data["refused"]]
    if not (rows or said or data["quiet"]):
        said.append("nothing to do")
    note_all(data)
    columns = (Column(each, each, cut=True) for each in ("action", "name", "branch", "reason", "path"))
    parts = [table(rows, *columns)] if rows else []
    return Group(*parts, *map(plain, said)) if parts or said else None


@command(app, "reconcile", example="imi reconcile", show=show)
def reconcile_(
    api: Api,
    quiet: Annotated[bool, typer.Option("--quiet", help="Print nothing unless something was done.")] = False,
) -> Any:
    """Make git's worktrees, their folders and the server agree, and say what was done. No file is deleted.

    Worktrees that nobody tracked get a work item; of those whose folder is gone the work ends as abandoned,
    and the branch stays. Folders that were moved by hand are found again in the project's folder or where
    they were. What was left half made or half removed is completed, and what waits for the server is
    delivered. --json: actions and left, each [{action, name, path, branch, reason}]; delivered, how many;
    refused, files; quiet; notes. With --quiet left is empty, and what was refused before is left out.
    """
    api.prepare()
    with failures():
        project = repairs.located(Path.cwd())
        fetched = acts.fetch(project, settings.load().git_settings)
        with acts.lock(project.repository, "reconcile"):
            before = _refused()
            mended = trash_mending.mend(project)
            data = _run(api, project, ([fetched] if fetched else []) + mended)
    refused = _refused()
    data |= {"refused": sorted(refused - before if quiet else refused), "quiet": quiet}
    if quiet:
        data["left"] = []
        if not (mended or data["actions"] or data["delivered"] or data["refused"]):
            data["notes"] = []
    return data


def _refused() -> set[str]:
    return {text(file) for file in spool.folder().glob("*.refused")}


def _run(api: Api, project: Project, notes: list[str]) -> dict[str, Any]:
    found = repairs.repair(project, Path.cwd())
    project, known, is_told = found.project, None, project.remote is not None
    delivered, said = delivery.deliver(api)
    if not is_told:
        notes.append(report.NAMELESS)
    elif not spool.waiting():
        try:
            known = _known(api, project)
            if known is None:
                is_told = False
                notes.append("the server was not told: the project is not active; imi init makes it so")
        except Failure as failure:
            said = [f"{failure.message}; what it tracks is unknown"]
    steps = [*reconcile.repaired(found, is_told and known is None)]
    if known:
        compared = [*reconcile.compare(found, *known)]
        same = {(each.action, text(each.path)) for each in compared}
        steps = [each for each in steps if (each.action, text(each.path)) not in same] + compared
    reports = _reports(api, project, steps, is_told)
    told = True
    if reports:
        kept, news = delivery.tell_all(api, reports)
        told, said = bool(kept), news if spool.waiting() else said + news  # that it is away is said once
    if told and (why := repairs.forget(found)):
        notes.append(why)
    retired = {text(each.path) for each in steps if each.action == "retired"}
    forgotten = [each for each in found.gone if told and text(each.path) not in retired]
    steps += [Step("forgotten", each.path, each.branch, "the folder is gone") for each in forgotten]
    branches = {each.path: each.branch for each in project.worktrees}
    steps += [Step("left", path, branches.get(path), why) for path, why in found.left.items()]
    return {
        "actions": [_document(each) for each in steps if each.action != "left"],
        "left": [_document(each) for each in steps if each.action == "left"],
        "delivered": len(delivered),
        "notes": notes + said,
    }


def _known(api: Api, project: Project) -> tuple[str | None, list[dict[str, Any]]] | None:
    """The server's id of the project, if it has one, and its worktrees on this host; None when the project is
    not active."""
    registered = registry.project(api, project)
    if registered and not registered["active"]:
        return None
    return (registered["id"] if registered else None), [*registry.worktrees(api)]


def _reports(
    api: Api, project: Project, steps: list[Step], is_told: bool
) -> list[tuple[str, dict[str, Any]]]:
    """What the steps report, and how the worktrees stand that were found, moved or completed."""
    paths = {each.path for each in steps if each.branch and each.action in CHANGED} if is_told else set()
    read = present.read_all(project, sorted(paths), api.bar.show)
    seen = {path: each for path, each in read.items() if each.branch}
    reports = []
    for step in steps:
        for kind, body in step.reports:
            if kind == "worktree" and step.path in seen and seen[step.path].branch == step.branch:
                work = body["worktree"]["work"] | {"git_state": report.git_state(seen.pop(step.path))}
                body = body | {"worktree": body["worktree"] | {"work": work}}
            reports.append((kind, body))
    return reports + [("git_state", report.git_state_body(project, each)) for each in seen.values()]


def _document(step: Step) -> dict[str, Any]:
    return {
        "action": step.action,
        "name": text(step.path.name),
        "path": text(step.path),
        "branch": step.branch,
        "reason": step.reason,
    }
