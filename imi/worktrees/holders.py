"""Who holds what: the server's work items of the watched projects, as they were a moment ago."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from imi.cli.client import Api
from imi.cli.outcome import Failure
from imi.worktrees import registry
from imi.worktrees.layout import Project
from imi.worktrees.overlaps import Touch


class Holders:
    """The active work items by project and branch, and by id. `failure` is why they could not be had."""

    def __init__(self, api: Api) -> None:
        self.api = api
        self.ids: dict[Path, str] = {}  # the server's id of each project, by its repository
        self.items: dict[tuple[Path, str], dict[str, Any]] = {}
        self.by_id: dict[str, dict[str, Any]] = {}
        self.failure: str | None = None

    def ask(self, projects: list[Project]) -> None:
        """Ask the server for the work items of these projects: one request each, two the first time."""
        items: dict[tuple[Path, str], dict[str, Any]] = {}
        try:
            for project in projects:
                if project_id := self._id(project):
                    for item in self.api.all("/work", project_id=project_id):
                        items[project.repository, item["branch_name"]] = item
        except Failure as failure:
            self.failure = failure.message
            return
        self.failure = None
        self.items = items
        self.by_id = {item["id"]: item for item in items.values()}

    def now(self, project: Project, branch: str) -> str | None:
        """The agent that holds a branch's work item at this moment; Failure if the server does not say it."""
        if project_id := self.ids.get(project.repository):
            for item in self.api.get("/work", project_id=project_id, branch_name=branch)["items"]:
                self.items[project.repository, branch] = item
        return self.of(project, branch)

    def of(self, project: Project, branch: str | None) -> str | None:
        """The agent that holds a branch's work item."""
        item = self.items.get((project.repository, branch or ""))
        return str(item["claim"]["agent_id"]) if item and item["claim"] else None

    def touch(self, repository: Path, roots: Mapping[str | None, Path], touch: dict[str, Any]) -> Touch:
        """A touch as the server tells it; its place is one of `roots`, given by branch, when its branch is
        checked out here."""
        item = self.by_id.get(touch["work_item_id"])
        root = roots.get(item["branch_name"]) if item else None
        name = root.name if root else item["branch_name"] if item else touch["work_item_id"]
        if item and not root and item["host"]:
            name += f" on {item['host']}"
        place = str(root) if root else touch["work_item_id"]
        return Touch(place, name, touch["agent_id"], datetime.fromisoformat(touch["at"]))

    def _id(self, project: Project) -> str | None:
        if project.repository not in self.ids:
            found = registry.project(self.api, project)
            if found is None:
                return None
            self.ids[project.repository] = str(found["id"])
        return self.ids[project.repository]
