"""Removing worktrees and bringing them back: everything is renamed into the trash, nothing is copied, and
nothing is deleted before it expires.

A removal writes the record, holds the objects, renames git's part, then the folder; a restore goes the other
way, and the record is the last to go. So the folder is in its place or in the trash, whole, and
trash_mending.py can tell from the disk alone what a killed one has left to do.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from imi.worktrees import acts, disk, facts, git, gitdirs, layout, reasons, trash_entries, trash_mending
from imi.worktrees.git import GitError
from imi.worktrees.layout import TRASH, Project, Worktree
from imi.worktrees.names import LayoutError, TakenError
from imi.worktrees.reasons import Ask, Process, Standing
from imi.worktrees.trash_entries import Entry, Record
from imi.worktrees.trunk import HEADS


class RefusedError(LayoutError):
    """A worktree that stays, and every reason for it."""

    def __init__(self, path: Path, refused: Sequence[str], standing: Standing) -> None:
        hint = f"imi remove {path.name} --force moves it to the trash all the same, whole"
        said = "; ".join((*refused, *standing.notes))
        super().__init__(f"{path.name} stays: {said}", None if standing.never else hint)
        self.reasons = list(refused)


@dataclass(frozen=True, slots=True)
class Removed:
    """A worktree that is in the trash now, and how it stood."""

    entry: Entry
    standing: Standing
    notes: list[str]


@dataclass(frozen=True, slots=True)
class Restored:
    """A worktree that is back; `branch` is None where its head is detached."""

    entry: Entry
    path: Path
    branch: str | None
    notes: list[str]


def unforced(standing: Standing) -> Sequence[str]:
    """What refuses a removal that is not forced."""
    return standing.reasons


def remove(
    project: Project,
    path: Path,
    actor: str,
    ask: Ask,
    against: Callable[[Standing], Sequence[str]] = unforced,
    running: Callable[[], Sequence[Process]] = reasons.processes,
) -> Removed:
    """Move a worktree to the trash, unless something is `against` it. RefusedError says all that is;
    TakenError or GitError what else is in the way."""
    with acts.lock(project.repository, path.name) as held:
        project = replace(project, worktrees=tuple(layout.worktrees(project.repository)))
        worktree = next((each for each in project.worktrees if each.path == path), None)
        if worktree is None:
            raise TakenError(f"another process has taken {path.name} away", "imi trash list shows it")
        if worktree.prunable:
            raise TakenError(f"git does not find {path.name} any more", "tidy up first: imi reconcile")
        standing = reasons.of(project, worktree, actor, ask, running)
        refused = [*standing.never, *against(standing)]
        if refused:
            raise RefusedError(path, refused, standing)
        entry = _entry(project, worktree, standing, actor)
        _move(project, path, entry, held)
        entry, said = trash_mending.tell_removed(project, entry)
    return Removed(entry, standing, [*standing.notes, *said])


def _entry(project: Project, worktree: Worktree, standing: Standing, actor: str) -> Entry:
    path, now = worktree.path, standing.facts
    found = gitdirs.find(str(path))
    assert found, "git has just read it"
    item = standing.known.item
    record = Record(
        id=str(uuid.uuid4()),
        name=path.name,
        place=str(path.relative_to(project.root) if path.is_relative_to(project.root) else path),
        admin=Path(found.own).name,
        is_relative=not Path(found.own, "gitdir").read_bytes().startswith(b"/"),
        branch=standing.branch,
        is_detached=now.branch is None,
        commit=now.commit.hash if now.commit else None,
        tip=standing.tip,
        removed_at=datetime.now(UTC).isoformat(),
        removed_by=actor,
        state=standing.verdict.state,
        test=standing.verdict.test,
        merge_commit=standing.verdict.commit,
        forced=list(standing.reasons),
        work=work(item) if item else None,
    )
    return trash_entries.new(project, record)


def work(item: dict[str, Any]) -> dict[str, Any]:
    """What a record keeps of a work item."""
    return {name: item[name] for name in ("id", "source", "owner_id", "work_type")}


def _move(project: Project, path: Path, entry: Entry, held: int) -> None:
    own = project.repository / "worktrees" / entry.record.admin
    kept = entry.own(project)
    try:
        entry.save()
    except OSError as error:
        raise GitError(f"{entry.file} cannot be written: {error.strerror}") from None
    try:
        acts.keep(path, own, entry.ref, held)
        kept.parent.mkdir(exist_ok=True)
        trash_mending.point(project, entry, path, kept)
        own.rename(kept)
        path.rename(entry.folder)
        disk.flush(entry.folder.parent)
    except (OSError, GitError) as error:
        trash_mending.settle(project, entry)
        raise GitError(f"{path.name} cannot be moved to the trash: {_why(error)}") from None


def _why(error: OSError | GitError) -> str:
    return f"{error.strerror}" if isinstance(error, OSError) else str(error)


def restore(
    project: Project, name: str, actor: str, old: Callable[[Record], dict[str, Any] | None]
) -> Restored:
    """Bring back what was removed under that name last, or a certain entry. `old` asks what its work item is
    now. NoProjectError, NameRefusedError, TakenError or GitError says why it stays in the trash."""
    chosen = trash_entries.chosen(project, name)
    with acts.lock(project.repository, chosen.record.name):
        entry = trash_mending.again(chosen)
        if entry is None or not entry.folder.is_dir():
            raise TakenError(f"another process has taken {chosen.folder.name} out of the trash")
        path, own = entry.path(project), entry.own(project)
        if path.is_symlink() or path.exists():
            raise TakenError(f"{path} is there", f"move it away, or remove it: imi remove {path.name}")
        if not own.is_dir():
            raise TakenError(f"{own}, git's part of {path.name}, is gone", f"its files are in {entry.folder}")
        branch, notes = _head(project, entry)
        known = old(entry.record)
        when = datetime.now(UTC).isoformat()
        entry = entry.changed(
            restored_at=when,
            restored_by=actor,
            restored_on=entry.record.branch if entry.record.is_detached else branch,
            work=work(known) if known else entry.record.work,
        )
        try:
            trash_mending.point(project, entry, entry.folder, own)
            if not entry.record.is_detached and entry.record.commit:
                acts.put_head(entry.folder, branch, entry.record.commit)
            entry.folder.rename(path)
            notes += trash_mending.put_back(project, entry)
        except (OSError, GitError) as error:
            raise GitError(f"{path.name} cannot be moved back: {_why(error)}") from None
    return Restored(entry, path, branch, notes)


def _head(project: Project, entry: Entry) -> tuple[str | None, list[str]]:
    """The branch that HEAD is to name, None for a detached one; and why it is not as it was."""
    record = entry.record
    if record.branch is None:
        return None, []
    whole = HEADS + record.branch
    tip = {ref.name: ref.commit for ref in git.refs(project.repository, whole)}.get(whole)
    if record.tip is None:
        if tip:
            hint = f"give it another name first: git branch -m {record.branch} OTHER"
            raise TakenError(f"{record.branch} had no commit, and is another branch now", hint)
        return record.branch, []
    detached = f"the head is detached at {record.commit and record.commit[:12]}"
    if tip is None:
        try:
            acts.hold(project.repository, whole, record.tip)
        except GitError as error:
            return None, [f"{record.branch} cannot be made again ({error}): {detached}"]
        return None if record.is_detached else record.branch, [f"{record.branch} was gone and is there again"]
    if record.is_detached:
        return None, []
    held = [each.path for each in layout.worktrees(project.repository) if each.branch == record.branch]
    if held:
        return None, [f"{record.branch} is checked out in {held[0]}: {detached}"]
    if tip != record.tip:
        return None, [
            f"{record.branch} has moved since: {detached}; to go on there: git switch {record.branch}"
        ]
    return record.branch, []


def expire(project: Project) -> list[str]:
    """Delete what is older than trash_entries.KEPT, and then the oldest while the trash takes more of the
    disk than trash_entries.BUDGET, but never what was removed last. A sentence for each."""
    now = datetime.now(UTC)
    for draft in (project.root / TRASH).glob("*.new"):  # of a record that was never written
        if draft.stat().st_mtime < (now - trash_entries.KEPT).timestamp():
            draft.unlink(missing_ok=True)
    found, notes = trash_entries.read(project)
    old = [each for each in found if each.expires_at <= now]
    rest = [each for each in found if each.expires_at > now]
    if len(rest) > 1:
        rest = [trash_entries.measured(project, each) for each in rest]
        total = sum(each.record.size or 0 for each in rest)
        for each in rest[:-1]:
            if total > trash_entries.BUDGET:
                total -= each.record.size or 0
                old.append(each)
    for each in old:
        with acts.lock(project.repository, each.record.name):
            entry = trash_mending.again(each)
            if entry and (entry.folder.is_dir() or not trash_mending.is_back(project, entry)):
                notes.append(_expired(project, entry))
    return notes


def _expired(project: Project, entry: Entry) -> str:
    """Delete an entry. Commits that nothing else holds stay."""
    record = entry.record
    kept = f"refs/imi/kept/{record.id}"
    is_held = bool(git.refs(project.repository, entry.ref))  # else deleting it was interrupted
    lost = is_held and record.commit and facts.unpushed(project.repository, record.commit)
    if lost and record.commit and not git.refs(project.repository, kept):
        acts.hold(project.repository, kept, record.commit)
    trash_mending.delete(project, entry)
    said = f"{record.name}, removed on {record.removed_at[:10]}, has expired"
    said += f"; it had been forced although {', '.join(record.forced)}" if record.forced else ""
    return said + (f"; its commits stay as {kept}" if lost else "")
