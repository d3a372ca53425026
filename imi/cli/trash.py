"""`imi remove`, `restore` and `trash list`: a worktree goes to the trash whole, and comes back whole."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from imi.cli.client import Api
from imi.cli.command import command, group
from imi.cli.failures import failures
from imi.cli.listing import since
from imi.cli.outcome import CONFLICT, Failure
from imi.cli.render import Column, moment, note, note_all, table
from imi.worktrees import layout, registry, trash, trash_mending
from imi.worktrees.git import GitError
from imi.worktrees.layout import Project
from imi.worktrees.trash_entries import Record

app = group("Removing worktrees, and bringing them back.")
listing = group("What was removed, and can be restored.")
app.add_typer(listing, name="trash")

Removed = Annotated[
    str, typer.Argument(metavar="NAME", help="A worktree's folder, branch or task: feat-login, login.")
]


def opened(notes: list[str]) -> Project:
    """The project, after what was killed in it is mended."""
    project = layout.find(Path.cwd())
    notes += trash_mending.mend(project)
    return layout.find(Path.cwd()) if notes else project


def finish(api: Api, project: Project, notes: list[str]) -> dict[str, dict[str, Any]]:
    """What comes after the work: expiry, and the server; its answers by report."""
    from imi.worktrees import delivery, report

    try:
        notes += trash.expire(project)
    except (GitError, OSError) as error:
        notes.append(f"nothing else of the trash has expired: {error}")
    if project.remote is None:
        notes.append(report.NAMELESS)
        return {}
    answers, said = delivery.deliver(api)
    notes += said
    return answers


def judged(row: Mapping[str, Any]) -> str | None:
    """The state in words, and the test that found it."""
    state = "no commits" if row["state"] == "empty" else row["state"]
    return f"{state}, by {row['test']}" if row["test"] else state


def _show_removed(data: dict[str, Any]) -> str:
    note_all(data)
    if data["forced"]:
        note(f"--force went over: {'; '.join(data['forced'])}")
    return f"{data['name']} is in the trash ({judged(data)}); it comes back with: imi restore {data['name']}"


@command(app, "remove", example="imi remove login", show=_show_removed)
def remove(
    api: Api,
    name: Removed,
    force: Annotated[bool, typer.Option("--force", help="Remove it whatever stands against it.")] = False,
) -> Any:
    """Move a worktree to the trash, and complete its work item.

    Refused (exit 4) with every reason at once: files uncommitted or untracked, stashes, commits unpushed, a
    claim of another, a process inside, a rebase or merge in progress, a lock. A merged branch, squashed or
    rebased too, has nothing unpushed. The branch stays.

    --json: name, path, trash, branch, state (merged, empty, open), test, forced (the reasons that
    --force overrode), notes.
    """
    from imi.worktrees import reasons

    api.prepare()
    notes: list[str] = []
    with failures():
        here = Path.cwd()
        project = opened(notes)
        path = layout.named(project, name, here).path
        against = (lambda standing: ()) if force else trash.unforced
        try:
            removed = trash.remove(project, path, api.actor, reasons.asking(api, project), against)
        except trash.RefusedError as refused:
            raise Failure("REFUSED", refused.message, refused.hint, CONFLICT) from None
        notes += removed.notes
        if here.is_relative_to(path):
            notes.append(f"this folder is in the trash now: cd {project.root}")
        finish(api, project, notes)
    document = removed.entry.document(project)
    shown = {key: document[key] for key in ("name", "path", "trash", "branch", "state", "test", "forced")}
    return shown | {"notes": notes}


def _show_restored(data: dict[str, Any]) -> str:
    note_all(data)
    return str(data["path"])


@command(app, "restore", example='cd "$(imi restore login)"', show=_show_restored)
def restore(
    api: Api,
    name: Annotated[str, typer.Argument(metavar="NAME", help="As imi trash list shows it, or its branch.")],
) -> Any:
    """Bring back what was removed last under that name, and print its path.

    With its branch, index, untracked and ignored files, as they were. Its work item is a new one, with the
    old one's source and owner. --json: name, path, branch (null when its head is detached), project_id,
    work_item_id, worktree_id, notes.
    """

    api.prepare()
    notes: list[str] = []
    with failures():
        project = opened(notes)
        restored = trash.restore(project, name, api.actor, lambda record: _item(api, project, record))
        notes += restored.notes
        told = finish(api, project, notes).get(trash_mending.restored_id(restored.entry), {})
    ids = {key: told.get(key) for key in ("project_id", "work_item_id", "worktree_id")}
    path = restored.path
    return {"name": path.name, "path": str(path), "branch": restored.branch, **ids, "notes": notes}


def _item(api: Api, project: Project, record: Record) -> dict[str, Any] | None:
    """The work item of a removed worktree as it is now; None when the server does not say."""
    try:
        if record.work:
            return dict(api.get(f"/work/{record.work['id']}"))
        registered = registry.project(api, project) if record.branch else None
        return registered and registry.newest(api, registered["id"], str(record.branch))
    except Failure:
        return None  # the report, which waits, says that it cannot be reached


def _size(value: Any) -> str:
    """Bytes in the largest fitting unit."""
    size = float(value or 0)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def _show_trash(data: dict[str, Any]) -> Any:
    from rich.console import Group

    note_all(data)
    if not data["items"]:
        return "the trash is empty"
    columns = (
        Column("name", "name", cut=True),
        Column("branch", "branch", cut=True),
        Column("state", judged),
        Column("age", lambda row: since(row["removed_at"])),
        Column("size", lambda row: _size(row["size"]), right=True),
        Column("expires", lambda row: moment(row["expires_at"])),
        Column("by", "removed_by", cut=True, wide=100),
        Column("entry", "entry", cut=True, wide=140),
    )
    total = f"{_size(data['size'])} of {_size(data['budget'])}"
    return Group(table(data["items"], *columns), total)


@command(listing, "list", example="imi trash list", show=_show_trash)
def list_() -> Any:
    """List what was removed, newest first.

    Of a name that stands there twice, restore takes the upper one.

    --json: items (name, entry, path, trash, branch, commit, state, test, forced, removed_at, removed_by,
    expires_at, size), size and budget of the whole in bytes, notes.
    """
    from imi.worktrees import trash_entries

    with failures():
        project = layout.find(Path.cwd())
        read, notes = trash_entries.read(project)
        there = [trash_entries.measured(project, each) for each in reversed(read)]
        notes += [
            f"{each.folder} is gone; what is left of it expires" for each in there if not each.folder.is_dir()
        ]
    items = [each.document(project) for each in there]
    size = sum(item["size"] or 0 for item in items)
    return {"items": items, "size": size, "budget": trash_entries.BUDGET, "notes": notes}
