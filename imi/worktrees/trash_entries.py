"""The trash: what it holds, and a record of each removal.

    ROOT/.imi-trash/feat-login.20260211T103000123456Z        the worktree's folder, whole
    ROOT/.imi-trash/feat-login.20260211T103000123456Z.json   its record
    REPOSITORY/imi-trash/ID                                  what git keeps of it: HEAD, index, a rebase …
    refs/imi/trash/ID                                        every object that those name

Away from REPOSITORY/worktrees git takes it for no worktree: its branch is free and no prune touches it. As
deep as there, because `commondir` is relative: so git still answers inside the folder.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from imi.worktrees import acts, disk, names
from imi.worktrees.layout import TRASH, NoProjectError, Project
from imi.worktrees.names import NameRefusedError
from imi.worktrees.report import text

REFS = "refs/imi/trash/"
KEPT = timedelta(days=7)
TYPES: dict[str, Any] = {
    "str": str,
    "str | None": str | None,
    "bool": bool,
    "int | None": int | None,
    "list[str]": list,
    "dict[str, Any] | None": dict | None,
}
"""What isinstance takes for a record's annotations."""
BUDGET = 10 * 2**30
"""Bytes of the disk that the trash may take."""


@dataclass(frozen=True, slots=True)
class Record:
    """A removal. `place` is the folder's path, relative to the root if it was below it; `admin` is git's name
    for the worktree; `commit` is what HEAD was, `tip` what the branch was. `forced` are the reasons that were
    overridden. `work` is what the work item was (id, source, owner_id, work_type), if that was known.
    `reported`: the report of the removal is with the spool. `restored_at`: a restore began, onto the branch
    `restored_on`. `expired`: it is being deleted."""

    id: str
    name: str
    place: str
    admin: str
    is_relative: bool
    branch: str | None
    is_detached: bool
    commit: str | None
    tip: str | None
    removed_at: str
    removed_by: str
    state: str
    test: str | None
    merge_commit: str | None
    forced: list[str]
    work: dict[str, Any] | None = None
    reported: bool = False
    restored_at: str | None = None
    restored_by: str | None = None
    restored_on: str | None = None
    expired: bool = False
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Entry:
    """A removed worktree: its folder in the trash, and its record."""

    folder: Path
    record: Record

    @property
    def expires_at(self) -> datetime:
        """When it is old enough to go."""
        return datetime.fromisoformat(self.record.removed_at) + KEPT

    @property
    def ref(self) -> str:
        """The reference that holds its objects."""
        return REFS + self.record.id

    @property
    def file(self) -> Path:
        """Its record's file."""
        return self.folder.with_name(f"{self.folder.name}.json")

    @property
    def draft(self) -> Path:
        """What that file is called while it is written."""
        return self.file.with_suffix(".new")

    def own(self, project: Project) -> Path:
        """What git keeps of it."""
        return project.repository / "imi-trash" / self.record.id

    def path(self, project: Project) -> Path:
        """Where it was, and comes back to."""
        return project.root / self.record.place

    def changed(self, **fields: Any) -> Entry:
        """It with another record, on the disk too."""
        entry = Entry(self.folder, replace(self.record, **fields))
        entry.save()
        return entry

    def save(self) -> None:
        """Write the record; it is on the disk when this returns."""
        self.folder.parent.mkdir(exist_ok=True)
        disk.write(self.file, self.draft, asdict(self.record))

    def document(self, project: Project) -> dict[str, Any]:
        """It as --json shows it."""
        record = self.record
        return {
            "name": record.name,
            "entry": text(self.folder.name),
            "path": text(self.path(project)),
            "trash": text(self.folder),
            "branch": record.branch,
            "commit": record.commit,
            "state": record.state,
            "test": record.test,
            "forced": record.forced,
            "removed_at": record.removed_at,
            "removed_by": record.removed_by,
            "expires_at": self.expires_at.isoformat(),
            "size": record.size,
        }


def new(project: Project, record: Record) -> Entry:
    """An entry that nothing is in yet."""
    stamp = datetime.fromisoformat(record.removed_at).astimezone(UTC).strftime("%Y%m%dT%H%M%S%fZ")
    name = os.fsdecode(os.fsencode(record.name)[:200])  # a file's name has 255 bytes at most
    return Entry(project.root / TRASH / f"{name}.{stamp}", record)


def read(project: Project) -> tuple[list[Entry], list[str]]:
    """The entries, oldest first, and a sentence for each file that is no record."""
    found, notes = [], []
    for file in sorted((project.root / TRASH).glob("*.json")):
        try:
            entry = one(file)
        except (ValueError, TypeError, OSError):
            notes.append(f"{file} is no record of a removal that this version can read; it is left as it is")
        else:
            found += [entry] if entry else []
    return sorted(found, key=lambda entry: entry.record.removed_at), notes


def one(file: Path) -> Entry | None:
    """The entry of a record's file, None when it is gone. ValueError or TypeError when it is no record."""
    try:
        entry = Entry(file.with_suffix(""), Record(**json.loads(file.read_bytes())))
    except FileNotFoundError:
        return None
    for field in fields(Record):
        value = getattr(entry.record, field.name)
        if not isinstance(value, TYPES[str(field.type)]):
            raise TypeError(f"{field.name} is {type(value).__name__}")
    uuid.UUID(entry.record.id)  # what is a path later
    if datetime.fromisoformat(entry.record.removed_at).tzinfo is None:
        raise ValueError("removed_at has no time zone")
    return entry


def measured(project: Project, entry: Entry) -> Entry:
    """The entry with its size, counted once: what is in the trash does not change."""
    if entry.record.size is not None:
        return entry
    with acts.lock(project.repository, entry.record.name):
        now = one(entry.file)
        if now is None or not now.folder.is_dir():
            return entry
        return now.changed(size=_size(now.folder) + _size(now.own(project)))


def chosen(project: Project, name: str) -> Entry:
    """The newest entry that the name means, as layout.named has it, or the entry that is called so.
    NoProjectError for none, NameRefusedError for several names."""
    there = [each for each in read(project)[0] if each.folder.is_dir() and not each.record.expired]
    tasks = names.folders(name)
    rules: tuple[Callable[[Entry], bool], ...] = (
        lambda each: each.folder.name == name,
        lambda each: each.record.name == name,
        lambda each: each.record.branch == name,
        lambda each: each.record.name in tasks,
    )
    for rule in rules:
        found = [each for each in there if rule(each)]
        several = sorted({each.record.name for each in found})
        if len(several) > 1:
            raise NameRefusedError(f"{name} may be one of {', '.join(several)}", "say which, by its folder")
        if found:
            return found[-1]
    raise NoProjectError(f"the trash of {project.root} has no {name}", "imi trash list shows all")


def _size(folder: Path) -> int:
    """Bytes of the disk below a folder. No link is followed, and a file with several names counts once."""
    total, seen, folders = 0, set(), [str(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as listed:
                for each in listed:
                    stat = each.stat(follow_symlinks=False)
                    if each.is_dir(follow_symlinks=False):
                        folders.append(each.path)
                    elif stat.st_nlink > 1:
                        if stat.st_ino in seen:
                            continue
                        seen.add(stat.st_ino)
                    total += stat.st_blocks * 512
        except OSError:
            continue  # not to be read, or gone
    return total
