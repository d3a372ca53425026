"""`imi doctor`: what works here and what does not, each with its remedy."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

from imi.cli.client import Api, connect, segment
from imi.cli.command import Agent, ApiKey, ApiUrl, command, group
from imi.cli.outcome import Failure
from imi.config import ConfigError
from imi.worktrees import git, layout, repairs, settings, spool
from imi.worktrees.git import GitError
from imi.worktrees.names import LayoutError
from imi.worktrees.tree import Tree

app = group("What works here, and what does not.")

OLDEST_GIT = (2, 39)
INOTIFY = Path("/proc/sys/fs/inotify")
LEASES_OF = timedelta(days=7)


class Finding(NamedTuple):
    """What a check found: `state` is ok, warning or failed."""

    check: str
    state: str
    detail: str
    remedy: str | None = None


def show(data: list[dict[str, Any]]) -> str:
    """A line a check, and below it what to do."""
    lines = []
    for each in data:
        lines.append(f"{each['state']:<8} {each['check']:<9} {' '.join(each['detail'].split())}")
        lines += [f"{'':<18} {each['remedy']}"] if each["remedy"] else []
    return "\n".join(lines)


@command(
    app,
    "doctor",
    example="imi doctor",
    show=show,
    failed=lambda data: any(each["state"] == "failed" for each in data),
)
def doctor(agent: Agent = None, api_url: ApiUrl = None, api_key: ApiKey = None) -> Any:
    """Check git, the settings, the server, what waits for it, the shell, leases and inotify. Changes nothing.

    Each line is ok, warning or failed, and what to do stands below it. Exit 1 if something failed. --json:
    a list of {check, state, detail, remedy}.
    """
    found = [_git(), _config(), *_server(agent, api_url, api_key), *_spool(), _shell()]
    project = _project()
    return [each._asdict() for each in (*found, project, *_inotify())]


def _git() -> Finding:
    remedy = f"install git {OLDEST_GIT[0]}.{OLDEST_GIT[1]} or newer"
    try:
        said = git.run(Path("/"), "--version").strip()
    except GitError as error:
        return Finding("git", "failed", str(error), remedy)
    version = re.search(r"(\d+)\.(\d+)", said)
    if not version or tuple(map(int, version.groups())) < OLDEST_GIT:
        return Finding("git", "failed", said, remedy)
    return Finding("git", "ok", said)


def _config() -> Finding:
    try:
        settings.load()
    except ConfigError as error:
        return Finding("config", "failed", str(error), "correct it; imi config show says what is read")
    file = settings.path()
    return Finding("config", "ok", str(file) if file.exists() else f"the defaults; there is no {file}")


def _server(agent: str | None, api_url: str | None, api_key: str | None) -> Iterator[Finding]:
    """The server, its database and bus, the key, and the leases of whoever acts."""
    import httpx

    try:
        with connect(agent=agent, api_url=api_url, api_key=api_key, quiet=True) as api:
            url = api.found.shown
            try:
                answer = api.http.get("/health")
                health = answer.json()
                yield Finding("server", "ok", f"iMi {health['version']} at {url}")
                yield from _health(health)
            except httpx.HTTPError as error:
                yield Finding("server", "failed", f"{url} cannot be reached: {error}", api.away)
                return
            except (ValueError, TypeError, KeyError):
                detail = f"what answers at {url} is not iMi"
                yield Finding("server", "failed", detail, "name the right one: --api-url or IMI_API_URL")
                return
            if health["database"] == "connected":
                yield from _key(api)
    except Failure as failure:
        yield Finding("server", "failed", failure.message, failure.hint or "correct that setting")


def _health(health: dict[str, Any]) -> Iterator[Finding]:
    database, bus = health["database"], health["bloodbank"]
    if database == "connected":
        yield Finding("database", "ok", database)
    else:
        yield Finding("database", "failed", database, "imi db status, on the server's machine")
    if bus == "disconnected":
        remedy = "events wait in the log: look at the server's IMI_RABBITMQ_URL and the broker"
        yield Finding("bus", "warning", bus, remedy)
    else:
        yield Finding("bus", "ok", bus)
    for name, trouble in (health.get("followers") or {}).items():
        yield Finding("bus", "warning", f"{name}: {trouble}", "is imi up or imi worker running?")


def _key(api: Api) -> Iterator[Finding]:
    try:
        api.get("/agents", limit=1)
        yield Finding("key", "ok", f"accepted; {api.actor} acts")
        yield from _leases(api)
    except Failure as failure:
        yield Finding("key", "failed", failure.message, failure.hint or "name another: --api-key")


def _leases(api: Api) -> Iterator[Finding]:
    """The leases that this agent took in the last days and neither kept up nor gave back."""
    since = (datetime.now(UTC) - LEASES_OF).isoformat()
    last: dict[str, tuple[str, str, str | None]] = {}
    for kind in ("claimed", "released"):
        events = api.get("/events", event_type=f"imi.work.{kind}", start_time=since, limit=1000)
        for event in events:
            item, claim = event["payload"], event["payload"].get("claim")
            last[item["id"]] = max(
                last.get(item["id"], ("", "", None)),
                (event["timestamp"], item["branch_name"], claim and claim["agent_id"]),
                key=lambda each: each[0],
            )
    mine = {item_id: branch for item_id, (_, branch, holder) in last.items() if holder == api.actor}
    found = False
    for item_id, branch in mine.items():
        item = api.get(f"/work/{segment(item_id)}")
        if item["active"] and item["claim"] is None:
            found = True
            remedy = f"claim it again, or complete it: imi work claim {item_id}"
            yield Finding("lease", "warning", f"the lease of {branch} has run out", remedy)
    if not found:
        yield Finding("lease", "ok", "none has run out")


def _spool() -> Iterator[Finding]:
    folder = spool.folder()
    there = next(each for each in (folder, *folder.parents) if os.access(each, os.F_OK))
    waiting, refused = spool.waiting(), sorted(folder.glob("*.refused"))
    if not os.access(there, os.R_OK | os.W_OK | os.X_OK):
        yield Finding("reports", "failed", f"cannot write to {there}", "give yourself the right to")
    elif waiting:
        oldest = datetime.fromtimestamp(waiting[0].stat().st_mtime).strftime("%Y-%m-%d %H:%M")
        detail = f"{spool.count()} wait for the server, the oldest since {oldest}"
        yield Finding("reports", "warning", detail, "imi reconcile delivers them when it answers")
    else:
        yield Finding("reports", "ok", "none waits")
    if refused:
        detail = f"the server refused {len(refused)}, such as {refused[-1]}"
        yield Finding("reports", "warning", detail, "read them, then remove them")


def _shell() -> Finding:
    if shell := os.environ.get("IMI_SHELL"):
        return Finding("shell", "ok", f"imi go changes directory in {shell}")
    own = Path(os.environ.get("SHELL", "")).name
    name = own if own in ("bash", "zsh", "fish") else "bash"
    line = "imi shell-init fish | source" if name == "fish" else f'eval "$(imi shell-init {name})"'
    file = {"fish": "~/.config/fish/config.fish", "zsh": "~/.zshrc"}.get(name, "~/.bashrc")
    detail = "without its shell function imi go cannot change directory"
    return Finding("shell", "warning", detail, f"add to {file}: {line}")


def _project() -> Finding:
    try:
        return Finding("project", "ok", str(layout.find(Path.cwd()).root))
    except GitError as error:
        try:
            repairs.located(Path.cwd())
        except (GitError, LayoutError, ConfigError):
            return Finding("project", "failed", str(error), "is its repository gone? imi init URL")
        return Finding("project", "failed", str(error), "imi reconcile")
    except LayoutError as error:
        return Finding("project", "ok", error.message)
    except ConfigError as error:
        return Finding("project", "failed", str(error), "correct that setting")


def _inotify() -> Iterator[Finding]:
    """How many folders Linux lets a user watch, against those of this project."""
    try:
        watches, instances = (
            int((INOTIFY / f"max_user_{each}").read_text()) for each in ("watches", "instances")
        )
    except (OSError, ValueError):
        return
    try:
        tree = Tree(settings.load().exclude_patterns)
        for each in layout.find(Path.cwd()).worktrees:
            if not each.bare and git.is_work_tree(each.path):
                tree.adopt(os.fspath(each.path))
        folders = len(tree.folders) + len(tree.git)
    except (LayoutError, ConfigError, GitError):
        folders = 0
    detail = f"a user may watch {watches} folders, with {instances} watchers"
    detail += f"; this project has {folders}" if folders else ""
    if folders > watches:
        remedy = f"sysctl fs.inotify.max_user_watches={2 ** folders.bit_length()}; until then some are polled"
        yield Finding("inotify", "warning", detail, remedy)
    else:
        yield Finding("inotify", "ok", detail)
