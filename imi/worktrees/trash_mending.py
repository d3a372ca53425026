"""What a killed removal, restore or expiry has left to do, told from the disk alone, and doing it.

| the folder is | git's part is       | so                                                       |
| in the trash  | in the trash        | it is removed: the server is told if it has not been     |
| in its place  | in the trash        | git's part goes back                                     |
| in its place  | in its place        | the record goes, after a restore was reported            |
| expired, says the record            | deleting goes on                                         |
"""

from __future__ import annotations

import os
import shutil
import uuid
from pathlib import Path
from typing import Any

from imi.worktrees import acts, backlinks, git, names, report, spool, trash_entries
from imi.worktrees.layout import Project
from imi.worktrees.trash_entries import Entry


def mend(project: Project) -> list[str]:
    """Finish or undo what was killed; each in a sentence. What others are at is waited for."""
    found, notes = trash_entries.read(project)
    for each in found:
        if _is_settled(project, each):
            continue
        try:
            with acts.lock(project.repository, each.record.name):
                entry = again(each)
                if entry and not _is_settled(project, entry):
                    notes += settle(project, entry)
        except (OSError, git.GitError) as error:
            notes.append(f"{each.record.name} was interrupted on its way, and cannot be mended: {error}")
    return notes


def again(entry: Entry) -> Entry | None:
    """The entry as it is on the disk now, None when it is gone."""
    return trash_entries.one(entry.file)


def _is_settled(project: Project, entry: Entry) -> bool:
    if entry.record.expired:
        return False
    if entry.folder.is_dir():
        return entry.record.reported or project.remote is None
    # what was deleted by hand stays listed until it expires
    return entry.own(project).is_dir() and not is_back(project, entry)


def is_back(project: Project, entry: Entry) -> bool:
    """Whether the folder in the entry's place is the one that was removed: it says so."""
    return backlinks.target(entry.path(project)) == entry.own(project)


def settle(project: Project, entry: Entry) -> list[str]:
    """Mend one entry, under its lock."""
    name = entry.record.name
    if entry.record.expired:
        delete(project, entry)
        return [f"the deletion of {name}, which had expired, was interrupted; it is done"]
    if entry.folder.is_dir():
        _, notes = tell_removed(project, entry)
        return [f"the removal of {name} was interrupted; it is in the trash", *notes]
    was = "restore" if entry.record.restored_at else "removal"
    notes = put_back(project, entry)
    return [f"the {was} of {name} was interrupted; it is in its place", *notes]


def put_back(project: Project, entry: Entry) -> list[str]:
    """What follows when the folder is in its place: git's part, the report, and the record goes."""
    record, path, kept = entry.record, entry.path(project), entry.own(project)
    if kept.is_dir():
        free = _free(project, record.admin)
        target = os.path.relpath(path / ".git", free) if record.is_relative else path / ".git"
        (kept / "gitdir").write_bytes(os.fsencode(target) + b"\n")
        kept.rename(free)
    own = _admin(project, path)
    if own and backlinks.target(path) != own:
        point(project, entry, path, own)
        if own.name != record.admin:
            _point_submodules(own)
    notes = _tell_restored(project, entry) if record.restored_at and record.reported else []
    acts.drop(project.repository, entry.ref)
    _forget(entry)
    return notes


def _free(project: Project, name: str) -> Path:
    """A name below `worktrees` that no other worktree has."""
    home = project.repository / "worktrees"
    home.mkdir(exist_ok=True)  # git removes it with the last worktree
    number = 0
    while (home / f"{name}{number or ''}").exists():
        number += 1
    return home / f"{name}{number or ''}"


def _admin(project: Project, path: Path) -> Path | None:
    """What git keeps of the worktree in that folder."""
    found = (project.repository / "worktrees").glob("*/gitdir")
    return next((each.parent for each in found if backlinks.path_in(each) == path / ".git"), None)


def point(project: Project, entry: Entry, path: Path, own: Path) -> None:
    """Have the folder at `path` say that git's part of it is `own`."""
    is_home = own.parent.name == "worktrees"
    target = os.path.relpath(own, path) if entry.record.is_relative and is_home else own
    draft = _draft(entry)
    draft.write_bytes(b"gitdir: " + os.fsencode(target) + b"\n")
    draft.rename(path / ".git")


def _draft(entry: Entry) -> Path:
    return entry.file.with_suffix(".git")


def _point_submodules(own: Path) -> None:
    """Have the submodules' folders say where their repositories are: git's name of the worktree is new."""
    for config in own.glob("modules/**/config"):
        module = config.parent
        if (module / "HEAD").is_file():
            said = git.run(module, "config", "--file", "config", "core.worktree", accept=(0, 1))
            folder = Path(os.path.normpath(module / said.removesuffix("\n")))
            if folder.is_dir():
                (folder / ".git").write_bytes(
                    b"gitdir: " + os.fsencode(os.path.relpath(module, folder)) + b"\n"
                )


def delete(project: Project, entry: Entry) -> None:
    """Delete an entry, its record last."""
    entry = entry.changed(expired=True)
    for folder in (entry.folder, entry.own(project)):
        if folder.exists():
            _delete_tree(folder)
    acts.drop(project.repository, entry.ref)
    _forget(entry)


def _forget(entry: Entry) -> None:
    """Delete the record, after what a killed writing has left beside it."""
    for file in (_draft(entry), entry.draft, entry.file):
        file.unlink(missing_ok=True)


def _delete_tree(folder: Path) -> None:
    """Delete a folder, also what was made read-only in it, as Go's module cache is."""
    try:
        shutil.rmtree(folder)
    except PermissionError:
        folder.chmod(0o700)
        for at, folders, _ in os.walk(folder):
            for each in folders:
                inner = Path(at, each)
                if not inner.is_symlink():
                    inner.chmod(0o700)
        shutil.rmtree(folder)


def tell_removed(project: Project, entry: Entry) -> tuple[Entry, list[str]]:
    """Put the report of a removal into the spool, and note in the record that it is there."""
    record = entry.record
    if project.remote is None or record.reported:
        return entry, []
    completion: dict[str, Any] = {
        "completion_type": "abandoned",
        "evidence": {"rule": "git", "state": record.state},
    }
    if record.state == "merged":
        completion = {"completion_type": "merged", "evidence": {"rule": "git", "test": record.test}}
        completion |= {"merge_commit_hash": record.merge_commit} if record.merge_commit else {}
    body = report.removed_body(project, entry.path(project), completion)
    notes = _put(spool.Report(record.id, record.removed_at, record.removed_by, "removed", body))
    return (entry, notes) if notes else (entry.changed(reported=True), [])


def _tell_restored(project: Project, entry: Entry) -> list[str]:
    record = entry.record
    assert record.restored_at and record.restored_by
    path = entry.path(project)
    branch = record.restored_on
    if branch is None:
        return ["the server was not told: no branch is checked out"]
    work = record.work or {}
    source = work.get("source", {"type": "manual"})
    ticket = source["ref"] if source["type"] == "plane_ticket" else None
    fields = {name: work[name] for name in ("source", "owner_id") if name in work}
    work_type = work.get("work_type") or names.work_type(branch, record.name)
    body = report.worktree_body(project, path, branch, work_type, ticket, **fields)
    return _put(spool.Report(restored_id(entry), record.restored_at, record.restored_by, "worktree", body))


def restored_id(entry: Entry) -> str:
    """The id of the report of its restore: the same whoever completes it."""
    return str(uuid.uuid5(uuid.UUID(entry.record.id), "restored"))


def _put(made: spool.Report) -> list[str]:
    try:
        spool.put([made])
    except OSError as error:
        return [f"the server was not told: cannot write to {spool.folder()}: {error.strerror}"]
    return []
