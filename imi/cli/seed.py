"""`imi components seed`: a components.toml becomes the components of a project."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

from imi.cli.arguments import json_text
from imi.cli.client import Api, is_uuid
from imi.cli.outcome import NOT_FOUND, Failure, usage
from imi.worktrees import clones, git

FIELDS = ("path", "kind", "enabled")


def seed(api: Api, file: Path, project: str | None, dry_run: bool) -> dict[str, Any]:
    """Bring the project's components up to the manifest. Answers {dry_run, project_id, created, updated,
    unchanged, components: [{name, action}]}; project_id is null when a dry run would have registered it."""
    wanted = manifest(file)
    project_id = _project_id(api, project or _remote(file), dry_run)
    held = _components(api, project_id) if project_id else {}
    done = []
    for number, (name, fields) in enumerate(wanted.items()):
        api.bar.show("seeding", number, len(wanted))
        current = held.get(name)
        same = current is not None and all(current[field] == value for field, value in fields.items())
        action = "unchanged" if same else "updated" if current else "created"
        done.append({"name": name, "action": action})
        if not (same or dry_run):
            try:
                api.post("/components", {"parent_project_id": project_id, "name": name} | fields)
            except Failure as failure:
                failure.message = f"{name}: {failure.message}"
                raise
    counts = {
        what: sum(each["action"] == what for each in done) for what in ("created", "updated", "unchanged")
    }
    return {"dry_run": dry_run, "project_id": project_id, **counts, "components": done}


def manifest(file: Path) -> dict[str, dict[str, Any]]:
    """The manifest's components by name, each as the fields of a registration: path (the name, if it says
    none), kind (local), enabled (true), and whatever else it says as metadata."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise Failure("UNREADABLE", f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        usage(f"{file} is not TOML: {error}")
    except RecursionError:
        usage(f"{file} is nested too deeply")
    entries = document.get("components")
    if not isinstance(entries, dict):
        usage(f"{file} has no table [components]", 'such as: api = { path = "api", kind = "local" }')
    wanted = {}
    for name, entry in entries.items():
        if not isinstance(entry, dict):
            usage(f"{file}: component {name} is no table", f'such as: {name} = {{ path = "{name}" }}')
        try:
            fields = {"path": name, "kind": "local", "enabled": True} | json.loads(json_text(entry))
        except ValueError as error:
            usage(f"{file}: component {name} {error}")
        rest = {key: fields.pop(key) for key in list(fields) if key not in FIELDS}
        if rest:
            fields["metadata"] = rest
        wanted[name] = fields
    return wanted


def _remote(file: Path) -> str:
    try:
        folder = git.top_level(file.absolute().parent)
        return clones.remote_of(git.common_dir(folder), folder)[1]
    except git.GitError as error:
        usage(f"no git remote says whose components these are ({error})", "say it: --project ID or REMOTE")


def _project_id(api: Api, project: str, dry_run: bool) -> str | None:
    if is_uuid(project):
        return project
    if not dry_run:
        return str(api.post("/projects", {"remote_origin": project})["id"])
    try:
        return api.project_id(project)
    except Failure as failure:
        if failure.exit_code != NOT_FOUND:
            raise
        return None


def _components(api: Api, project_id: str) -> dict[str, dict[str, Any]]:
    listed = api.all("/components", parent_project_id=project_id)
    return {component["name"]: component for component in listed}
