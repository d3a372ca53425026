"""The projects that imi has met on this machine, for `imi go`: one small file beside the spool.

It holds each project's root and repository. Nothing depends on it but where a name is looked for, so one that
cannot be read or written is as good as an empty one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path

from imi.worktrees import spool
from imi.worktrees.layout import Location, Project


def projects() -> list[tuple[Path, Path]]:
    """(root, repository) of each, the last met first; those that are gone are left out."""
    with contextlib.suppress(OSError):
        parts = [Path(os.fsdecode(part)) for part in _file().read_bytes().split(b"\0")[:-1]]
        return [
            (root, repository)
            for root, repository in zip(parts[::2], parts[1::2], strict=False)
            if root.is_dir() and repository.is_dir()
        ]
    return []


def remember(project: Project | Location) -> None:
    """Note that it is there."""
    met = (project.root, project.repository)
    if met in projects():
        return
    with contextlib.suppress(OSError):
        spool.state().mkdir(parents=True, exist_ok=True, mode=0o700)
        with (spool.state() / "projects.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            known = [met, *(each for each in projects() if each[0] != project.root)]
            draft = _file().with_suffix(".new")
            draft.write_bytes(b"".join(os.fsencode(path) + b"\0" for pair in known for path in pair))
            draft.replace(_file())


def _file() -> Path:
    return spool.state() / "projects"
