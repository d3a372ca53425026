"""`imi projects scan`: a folder of clones becomes projects and work items, as git tells it.

First every clone is read, several at a time. Then the registry is brought up to that, and only where it says
otherwise, so a second run changes nothing. A branch belongs to one clone: of two clones of one remote the one
that has it checked out, else the first by path. What happened to a branch is its `action`:

created, updated, unchanged    its work item, against what git says
merged                         nothing of it is left to merge, so it gets no work item
ended                          its work item was completed with this very commit
elsewhere                      another machine tracks it
newer                          the registry holds a report that is newer than this one
duplicate                      another clone here has it too
refused                        the server would not have it; `reason` says why
"""

from __future__ import annotations

import socket
from collections import Counter
from pathlib import Path
from typing import Any

from imi.cli.arguments import given
from imi.cli.client import Api
from imi.cli.outcome import CONFLICT, NOT_FOUND, USAGE, Failure
from imi.cli.render import Column, plain, table
from imi.worktrees import clones, git, names
from imi.worktrees.clones import Branch, Clone
from imi.worktrees.report import text


def scan(api: Api, folder: Path) -> dict[str, Any]:
    """Scan a folder. Answers {projects: {created, existing}, branches: {created, updated, unchanged, …},
    clones: [{path, remote_origin, project_id, trunk, branches: [{branch_name, action, work_item_id, reason,
    commits, files}]}], skipped: [{path, reason}]}."""
    read, skipped = clones.read(folder.absolute(), api.bar.show)
    projects: Counter[str] = Counter(created=0, existing=0)
    actions: Counter[str] = Counter(created=0, updated=0, unchanged=0)
    answer: dict[Path, dict[str, Any]] = {}
    found: list[tuple[str, Clone, Branch]] = []
    for done, clone in enumerate(read):
        api.bar.show("registering", done, len(read))
        try:
            status, project, _ = api.call("POST", "/projects", _registration(clone))
        except Failure as failure:
            skipped.append((clone.path, _reason(failure)))
            continue
        projects["created" if status == 201 else "existing"] += 1
        found += [(project["id"], clone, branch) for branch in clone.branches]
        answer[clone.path] = {
            "path": text(clone.path),
            "remote_origin": project["remote_origin"],
            "project_id": project["id"],
            "trunk": clone.trunk,
            "branches": [],
        }
    found.sort(key=lambda each: (each[0], each[2].worktree is None, each[1].path))
    registry: Registry | None = None
    for done, (project_id, clone, branch) in enumerate(found):
        api.bar.show("reporting", done, len(found))
        if registry is None or registry.project_id != project_id:
            registry = Registry(api, project_id)
        outcome = registry.report(clone, branch)
        actions[outcome["action"]] += 1
        answer[clone.path]["branches"].append(outcome)
    return {
        "projects": dict(projects),
        "branches": dict(actions),
        "clones": list(answer.values()),
        "skipped": [{"path": text(path), "reason": reason} for path, reason in skipped],
    }


def _registration(clone: Clone) -> dict[str, Any]:
    trunk_path = text(clone.trunk_path) if clone.trunk_path else None
    return given(remote_origin=clone.remote, default_branch=clone.trunk, trunk_path=trunk_path)


class Registry:
    """What the server holds of one project's branches, and how to bring it up to what git says."""

    def __init__(self, api: Api, project_id: str) -> None:
        self.api, self.project_id, self.host = api, project_id, socket.gethostname()
        self.reported: set[str] = set()
        items = [*api.all("/work", project_id=project_id, active="all")]
        self.active = {item["branch_name"]: item for item in items if item["active"]}
        self.ended = {
            (item["branch_name"], item["last_commit_hash"]): item for item in items if item["completed_at"]
        }

    def report(self, clone: Clone, branch: Branch) -> dict[str, Any]:
        """Bring one branch's work item up to date; answers what was done as a branch of `scan`'s answer."""
        outcome = {
            "branch_name": text(branch.name),
            "action": "refused",
            "work_item_id": None,
            "reason": None,
            "commits": f"+{branch.ahead} -{branch.behind}",
            "files": branch.uncommitted,
        }
        try:
            outcome["action"], item = self._bring_up(clone, branch)
            outcome["work_item_id"] = item and item["id"]
        except Failure as failure:
            outcome["reason"] = _reason(failure)
        if outcome["action"] not in ("merged", "refused"):
            self.reported.add(branch.name)
        return outcome

    def _bring_up(self, clone: Clone, branch: Branch) -> tuple[str, Any]:
        item = self.active.get(branch.name)
        ended = self.ended.get((branch.name, branch.commit))
        if branch.name in self.reported:
            return "duplicate", item
        if item and item["host"] not in (None, self.host):
            return "elsewhere", item
        if not item and branch.is_merged:
            return "merged", None
        if not item and ended and not branch.uncommitted:
            return "ended", ended
        place = {"worktree_path": branch.worktree and text(branch.worktree), "host": self.host}
        action = "unchanged" if item else "created"
        if not item:
            item = self.api.post("/work", place | self._new(branch))
        elif any(item[name] != value for name, value in place.items()):
            action, item = "updated", self.api.patch(f"/work/{item['id']}", place)
        state = git_state(branch)
        if any(item[name] != value for name, value in state.items()):
            state["observed_at"] = clone.observed_at.isoformat()
            item = self.api.patch(f"/work/{item['id']}/git-state", state)
            newer = any(item[name] != value for name, value in git_state(branch).items())
            action = "newer" if newer else "created" if action == "created" else "updated"
        return action, item

    def _new(self, branch: Branch) -> dict[str, Any]:
        return {
            "project_id": self.project_id,
            "branch_name": branch.name,
            "work_type": names.work_type(branch.name),
            "source": {"type": "manual", "ref": "scan"},
            "owner_id": text(branch.committer_email) or self.api.actor,
        }


def git_state(branch: Branch) -> dict[str, Any]:
    """The six git fields of a work item, from its branch."""
    return {
        "has_uncommitted_changes": branch.uncommitted > 0,
        "uncommitted_files_count": branch.uncommitted,
        "ahead_of_trunk": branch.ahead,
        "behind_trunk": branch.behind,
        "last_commit_hash": branch.commit,
        "last_commit_message": text(branch.subject),
    }


def state_in(folder: Path, branch_name: str) -> dict[str, Any]:
    """The six git fields of a branch in the clone that `folder` belongs to."""
    try:
        root = git.top_level(folder)
        clone = clones.inspect(git.common_dir(root), root)
    except git.GitError as error:
        raise Failure("GIT", str(error)) from None
    for branch in clone.branches:
        if branch.name == branch_name:
            return git_state(branch)
    raise Failure("NOT_FOUND", f"{folder} has no branch {branch_name}", exit_code=NOT_FOUND)


def _reason(failure: Failure) -> str:
    """Why the server would not have one thing; any failure that concerns all of them goes on."""
    if failure.exit_code not in (USAGE, CONFLICT) or failure.code in ("UNAUTHENTICATED", "FORBIDDEN"):
        raise failure
    return failure.message


def show(summary: dict[str, Any]) -> Any:
    """The scan for people: what changed, what was passed over and why, and the figures."""
    from rich.console import Group

    changed = [
        {"clone": clone["path"]} | branch
        for clone in summary["clones"]
        for branch in clone["branches"]
        if branch["action"] in ("created", "updated", "newer", "refused")
    ]
    parts: list[Any] = []
    if changed:
        action = Column("action", lambda each: each["reason"] or each["action"], cut=True)
        names = (Column("clone", "clone", cut=True), Column("branch", "branch_name", cut=True), action)
        parts.append(
            table(changed, *names, Column("commits", "commits"), Column("files", "files", right=True))
        )
    parts += [plain(f"skipped {each['path']}: {each['reason']}") for each in summary["skipped"]]
    figures = (
        f"{name}: {', '.join(f'{n} {what}' for what, n in summary[name].items())}"
        for name in ("projects", "branches")
    )
    return Group(*parts, *figures)
