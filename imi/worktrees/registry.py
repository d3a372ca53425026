"""What the server knows of things of this machine: None when it does not."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import NOT_FOUND, Failure
from imi.worktrees.layout import Project
from imi.worktrees.report import text


def project(api: Api, here: Project) -> dict[str, Any] | None:
    """The server's project of this one's remote."""
    if here.remote is None:
        return None
    try:
        return dict(api.get("/projects/by-origin", remote_origin=here.remote))
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
        return None


def worktree(api: Api, path: Path) -> dict[str, Any] | None:
    """Its worktree in a folder of this host."""
    found = api.get("/worktrees", host=socket.gethostname(), path=text(path))["items"]
    return dict(found[0]) if found else None


def worktrees(api: Api) -> Iterator[dict[str, Any]]:
    """All its worktrees of this host."""
    return api.all("/worktrees", host=socket.gethostname())


def newest(api: Api, project_id: str, branch: str) -> dict[str, Any] | None:
    """The newest work item of a branch, also one that has ended."""
    found = api.get("/work", project_id=project_id, branch_name=branch, active="all", limit=1)["items"]
    return dict(found[0]) if found else None
