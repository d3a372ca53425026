"""The projects' names, for tables: the API's answers give a project by its id."""

from collections.abc import Iterable
from typing import Any

from imi.cli.client import Api
from imi.cli.render import Column

PROJECT = Column("project", "project", cut=True)
FEW = 50
"""Up to so many projects are asked for one by one; for more the whole list is read."""


def name_projects(api: Api, rows: Iterable[dict[str, Any]], key: str = "project_id") -> None:
    """Add to each row, as `project`, the name of the project whose id is its `key`."""
    rows = list(rows)
    ids = {row[key] for row in rows}
    if len(ids) <= FEW:
        known: Iterable[Any] = (api.get(f"/projects/{each}") for each in sorted(ids))
    else:
        known = api.all("/projects", active="all")
    names = {project["id"]: project["name"] for project in known}
    for row in rows:
        row["project"] = names.get(row[key])


def name_projects_of_page(api: Api, page: dict[str, Any]) -> None:
    """The same for a page of work items."""
    name_projects(api, page["items"])
