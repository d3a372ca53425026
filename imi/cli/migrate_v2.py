"""`imi migrate-v2`: what iMi 2 kept in its SQLite file becomes projects and work items."""

from __future__ import annotations

import socket
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from imi.cli.arguments import given
from imi.cli.client import Api, is_uuid
from imi.cli.command import command, group
from imi.cli.outcome import NOT_FOUND, USAGE, Failure
from imi.cli.render import Column, plain, table
from imi.worktrees.names import WORK_TYPES

if TYPE_CHECKING:
    from imi.cli.v2_database import Passed, Repository, Worktree

SOURCE = {"type": "manual", "ref": "migrate-v2"}
ACTIONS = ("created", "existing", "skipped", "refused")

app = group("Bring over what iMi 2 knew.")


def _show(summary: dict[str, Any]) -> Any:
    from rich.console import Group

    columns = (
        Column("project", "project", cut=True),
        Column("worktree", "worktree", cut=True),
        Column("branch", "branch_name", cut=True),
        Column("action", "action"),
        Column("reason", "reason", cut=True, rare=True),
    )
    would = "would be " if summary["dry_run"] else ""
    figures = [
        f"{what}: {would}" + ", ".join(f"{number} {action}" for action, number in summary[what].items())
        for what in ("projects", "worktrees")
    ]
    left = ", ".join(f"{number} of {name}" for name, number in summary["not_migrated"].items())
    figures += [plain(f"not migrated: {left}")] if left else []
    return Group(*([table(summary["rows"], *columns)] if summary["rows"] else []), *figures)


@command(
    app,
    "migrate-v2",
    example="imi migrate-v2 ~/.local/share/imi/worktrees.db --dry-run",
    show=_show,
    failed=lambda summary: any(row["action"] == "refused" for row in summary["rows"]),
)
def migrate_v2(
    api: Api,
    file: Annotated[
        Path, typer.Argument(metavar="DB", exists=True, dir_okay=False, help="The SQLite file of iMi 2.")
    ],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would happen.")] = False,
) -> Any:
    """Bring over the projects and worktrees of iMi 2.

    A repository becomes a project and keeps its UUID, for which the key must be an admin's. A worktree
    becomes a work item that its agent owns (you, if it had none); the trunk becomes none. What is there
    already counts as existing, so running it again changes nothing, or goes on where it was stopped. Rows
    that cannot be brought over are skipped with the reason; claims, activities and other tables are counted.
    The file is only read. Exit code 1 if the server refused something.
    """
    from imi.cli import v2_database

    old = v2_database.read(file, api.bar.show)
    rows = [_row(each.title, each, "skipped", each.reason) for each in old.passed]
    migration = Migration(api, dry_run)
    for done, repository in enumerate(old.repositories):
        api.bar.show("migrating", done, len(old.repositories))
        try:
            rows += migration.bring(repository)
        except Failure as failure:
            failure.message = f"{repository.title}: {failure.message}"
            raise
    rows.sort(key=lambda row: (row["project"], row["worktree"] is not None))
    done_to = Counter((row["worktree"] is None, row["action"]) for row in rows)
    return {
        "dry_run": dry_run,
        "projects": {action: done_to[True, action] for action in ACTIONS},
        "worktrees": {action: done_to[False, action] for action in ACTIONS},
        "rows": rows,
        "not_migrated": old.left,
    }


@dataclass(frozen=True, slots=True)
class Target:
    """The project that a repository becomes: its id (None where a dry run would have made it), and of each
    branch that it has a work item for that one's id."""

    id: str | None
    is_active: bool
    held: dict[str, str | None]


class Migration:
    """Brings one repository after the other to the server. Two of them may be one project."""

    def __init__(self, api: Api, dry_run: bool) -> None:
        self.api, self.dry_run, self.host = api, dry_run, socket.gethostname()
        self.targets: dict[str, Target] = {}  # by the project's id, or by the remote's key while it has none

    def bring(self, repository: Repository) -> list[dict[str, Any]]:
        """Its rows of the report. Of a project that the server refuses nothing is brought."""
        try:
            target, project = self._project(repository)
        except Failure as failure:
            why = "its project was refused"
            rows = [_row(repository.title, each, "skipped", why) for each in repository.worktrees]
            return [_row(repository.title, None, "refused", _reason(failure)), *rows]
        return [project, *(self._worktree(repository.title, target, each) for each in repository.worktrees)]

    def _project(self, repository: Repository) -> tuple[Target, dict[str, Any]]:
        try:
            project = self.api.get("/projects/by-origin", remote_origin=repository.remote)
        except Failure as failure:
            if failure.exit_code != NOT_FOUND:
                raise
            key = failure.params["remote_key"]
            if key in self.targets:
                return self.targets[key], _row(repository.title, None, "existing")
            project_id = self._register(repository)
            target = self.targets[project_id or key] = Target(project_id, True, {})
            return target, _row(repository.title, None, "created", id=project_id)
        project_id, v2_id, reason = project["id"], repository.v2_id, None
        if v2_id and v2_id.lower() != project_id and v2_id != project["metadata"].get("v2_id"):
            reason = f"it is registered as {project_id}, in iMi 2 it was {v2_id}"
        if project_id not in self.targets:
            self.targets[project_id] = Target(project_id, project["active"], self._held(project_id))
        return self.targets[project_id], _row(repository.title, None, "existing", reason, project_id)

    def _register(self, repository: Repository) -> str | None:
        """The new project's id; in a dry run None."""
        v2_id = repository.v2_id
        uuid = v2_id if v2_id and is_uuid(v2_id) else None
        if self.dry_run:
            if uuid and self._is_taken(uuid):
                raise Failure("CONFLICT", f"Another project has this id (project_id: {uuid})")
            return None
        body = given(
            project_id=uuid,
            remote_origin=repository.remote,
            name=repository.name,
            default_branch=repository.trunk,
            trunk_path=repository.trunk_path,
            metadata={"v2_id": v2_id} if v2_id and not uuid else None,
        )
        try:
            return str(self.api.post("/projects", body)["id"])
        except Failure as failure:
            if uuid and failure.code == "FORBIDDEN":
                failure.hint = "a project keeps its UUID only with an admin key: --api-key or IMI_API_KEY"
            raise

    def _is_taken(self, project_id: str) -> bool:
        try:
            self.api.get(f"/projects/{project_id}")
        except Failure as failure:
            if failure.exit_code != NOT_FOUND:
                raise
            return False
        return True

    def _held(self, project_id: str) -> dict[str, str | None]:
        """Branches with an active work item, and those that were brought over and have ended since."""
        items = self.api.all("/work", project_id=project_id, active="all")
        return {
            item["branch_name"]: item["id"] for item in items if item["active"] or item["source"] == SOURCE
        }

    def _worktree(self, title: str, target: Target, worktree: Worktree) -> dict[str, Any]:
        if not target.is_active:
            return _row(title, worktree, "skipped", "its project was removed; registering it revives it")
        if worktree.branch in target.held:
            return _row(title, worktree, "existing", id=target.held[worktree.branch])
        item_id = None
        if not self.dry_run:
            body = given(
                project_id=target.id,
                branch_name=worktree.branch,
                work_type=_work_type(worktree),
                source=SOURCE,
                owner_id=worktree.owner,
                worktree_path=worktree.path,
                host=self.host if worktree.is_here else None,
                metadata=worktree.metadata,
            )
            try:
                item_id = self.api.post("/work", body)["id"]
            except Failure as failure:
                if held_by := failure.params.get("work_item_id"):  # somebody was faster
                    return _row(title, worktree, "existing", id=held_by)
                return _row(title, worktree, "refused", _reason(failure))
        target.held[worktree.branch] = item_id
        return _row(title, worktree, "created", id=item_id)


def _work_type(worktree: Worktree) -> str:
    """Its old type's, else what the branch's prefix says."""
    if worktree.kind and worktree.kind in WORK_TYPES.values():
        return worktree.kind
    prefix = worktree.branch.partition("/")[0]
    return WORK_TYPES.get(f"{worktree.kind}/") or WORK_TYPES.get(f"{prefix}/") or "feature"


def _row(
    title: str,
    worktree: Worktree | Passed | None,
    action: str,
    reason: str | None = None,
    id: str | None = None,
) -> dict[str, Any]:
    """A row of the report: a worktree's, or with None the project's own."""
    return {
        "project": title,
        "worktree": worktree and worktree.name,
        "branch_name": worktree and worktree.branch,
        "action": action,
        "id": id,
        "reason": reason,
    }


def _reason(failure: Failure) -> str:
    """Why the server would not have one row; any failure that concerns all of them goes on."""
    if failure.exit_code not in (USAGE, NOT_FOUND) and failure.code != "CONFLICT":
        raise failure
    return failure.message
