"""`imi sync`: the files that all worktrees of a project share."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imi.cli.command import command, group
from imi.cli.failures import failures

if TYPE_CHECKING:
    from imi.worktrees.layout import Project, Worktree

app = group("Links to the files that all worktrees of a project share.")


def _show(data: dict[str, Any]) -> str:
    from imi.cli.render import note_all

    note_all(data)
    lines = [
        f"{each['name']}: {'linked ' + ', '.join(each['linked']) if each['linked'] else 'nothing new'}"
        for each in data["worktrees"]
    ]
    return "\n".join(lines or ["no worktrees"])


def _refused(data: dict[str, Any]) -> bool:
    return any(each["refused"] for each in data["worktrees"])


def _chosen(project: Project, here: Path | None) -> list[Worktree]:
    """The worktree that `here` is in, else all."""
    from imi.worktrees import layout

    if here:
        with suppress(layout.NoProjectError):
            return [layout.named(project, None, here)]
    return [each for each in project.worktrees if not each.bare]


@command(app, "sync", example="imi sync --all", show=_show, failed=_refused)
def sync(
    everywhere: Annotated[bool, typer.Option("--all", help="In all worktrees of the project.")] = False,
) -> Any:
    """Link the shared files into the worktree you are in, or into all of them.

    Each of config.toml's symlink_files that sync/repo or else sync/global holds is linked. A file in the way
    is kept as NAME.backup. At the project's root it is all worktrees. Entries that cannot be linked end it
    with 1. --json: {worktrees: [{path, name, linked: […], backups: {file: backup}, refused: {file: why}}],
    notes: […]}.
    """
    from imi.worktrees import acts, layout
    from imi.worktrees import sync as links

    with failures():
        here = Path.cwd()
        project = layout.find(here)
        done, notes = [], []
        for each in _chosen(project, None if everywhere else here):
            if each.prunable or each.is_half_made:
                what = "is gone: imi reconcile" if each.prunable else "is half made"
                notes.append(f"{each.path.name} {what}")
                continue
            with acts.lock(project.repository, each.path.name):
                synced = links.link(project, each.path)
            notes += synced.notes
            done.append(
                {
                    "path": str(each.path),
                    "name": each.path.name,
                    "linked": synced.linked,
                    "backups": synced.backups,
                    "refused": synced.refused,
                }
            )
        notes += [f"{each} is not linked: symlink_files does not name it" for each in links.unnamed(project)]
    return {"worktrees": done, "notes": notes}
