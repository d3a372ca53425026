"""The SQLite database of iMi 2, in both shapes that it had: which repositories it knew, and their worktrees.

The guide's shape has worktrees, activities and agents; a worktree's repository is the clone at its path. The
later one has repositories and worktrees, which name theirs. The file is opened read-only, and whatever is in
it is looked at before anything of its repository is handed on: a row that cannot be used is passed over with
the reason.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from imi.cli.outcome import Failure, usage
from imi.cli.v2_values import LONGEST_PATH, SkipError, branch_of, metadata_of, optional, shown, text
from imi.worktrees import clones, git
from imi.worktrees.clones import Clone
from imi.worktrees.parallel import Progress

LATER = {
    "repositories": ("id", "name", "path", "remote_url", "default_branch", "active"),
    "worktrees": (
        "id",
        "repo_name",
        "worktree_name",
        "branch_name",
        "worktree_type",
        "path",
        "active",
        "agent_id",
    ),
}
GUIDE = {
    "worktrees": ("id", "name", "path", "branch", "metadata"),
    "agents": ("id", "current_worktree_id", "last_seen"),
}
REPOSITORIES = "select id, name, path, remote_url, default_branch, active from repositories order by name"
LATER_WORKTREES = """
    select repo_name, active, worktree_name as name, branch_name as branch, worktree_type as kind, path,
      null as metadata, agent_id
    from worktrees order by repo_name, name
"""
GUIDE_WORKTREES = """
    select name, branch, null as kind, path, metadata,
      (select agents.id from agents where current_worktree_id = worktrees.id order by last_seen desc limit 1)
      as agent_id
    from worktrees order by name
"""
SQLITE_WAL = b"\x02"
INACTIVE = "not active in iMi 2"


@dataclass(frozen=True, slots=True)
class Worktree:
    """A worktree that becomes a work item. `kind` is its old type, `is_here` whether its folder is on
    this disk, `owner` the agent that had it."""

    name: str
    branch: str
    kind: str | None
    path: str
    is_here: bool
    owner: str | None
    metadata: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Repository:
    """A repository that becomes a project. `title` is what people are shown, `name` what it was called."""

    title: str
    remote: str
    v2_id: str | None
    name: str | None
    trunk: str | None
    trunk_path: str | None
    worktrees: list[Worktree] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Passed:
    """A row that was passed over: `name` is null for a repository's own."""

    title: str
    name: str | None
    branch: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Old:
    """All of it: `left` is how many rows each table holds that is not brought over."""

    repositories: list[Repository]
    passed: list[Passed]
    left: dict[str, int]


def read(file: Path, progress: Progress) -> Old:
    """Read the database. A Failure says what a file lacks that is none; `progress` is told how far it is."""
    try:
        with closing(_open(file)) as database:
            tables = _tables(database)
            shape, read_rows = (LATER, _later) if "repositories" in tables else (GUIDE, _guide)
            for table, columns in shape.items():
                missing = [column for column in columns if column not in tables.get(table, ())]
                if missing:
                    lacks = f"column {', '.join(missing)} in its table" if table in tables else "table"
                    usage(
                        f"{file} is no database of iMi 2: it has no {lacks} {table}",
                        "name the file that it kept",
                    )
            left = {table: _count(database, table) for table in tables if table not in shape}
            passed: list[Passed] = []
            return Old(read_rows(database, passed, progress), passed, left)
    except (sqlite3.Error, OSError, UnicodeError) as error:
        raise Failure("UNREADABLE", f"cannot read {file}: {error}") from None


def _open(file: Path) -> sqlite3.Connection:
    """The database, which nothing is written to, nor beside it: a WAL without its log would be made anew."""
    if not file.is_file():
        usage(f"{file} is no file")
    mode = "mode=ro"
    with file.open("rb") as opened:
        is_wal = opened.read(20)[18:19] == SQLITE_WAL
    if is_wal and not Path(f"{file}-wal").exists():
        mode += "&immutable=1"
    database = sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True)
    database.row_factory = sqlite3.Row
    database.text_factory = lambda text: text.decode(errors="surrogateescape")
    database.execute("pragma trusted_schema = off")
    return database


def _tables(database: sqlite3.Connection) -> dict[str, list[str]]:
    """The columns of each table, SQLite's own aside."""
    listed = database.execute(
        "select tables.name, columns.name"
        " from sqlite_master as tables, pragma_table_info(tables.name) as columns"
        " where tables.type = 'table' and tables.name not like 'sqlite\\_%' escape '\\'"
    )
    tables: dict[str, list[str]] = {}
    for table, column in listed:
        tables.setdefault(table, []).append(column)
    return tables


def _count(database: sqlite3.Connection, table: str) -> int:
    quoted = table.replace('"', '""')
    return int(database.execute(f'select count(*) from "{quoted}"').fetchone()[0])


def _later(database: sqlite3.Connection, passed: list[Passed], progress: Progress) -> list[Repository]:
    found: dict[Any, Repository] = {}
    for row in database.execute(REPOSITORIES):
        try:
            found[row["name"]] = _repository(row)
        except SkipError as reason:
            passed.append(Passed(shown(row["name"]), None, None, str(reason)))
    for row in _rows(database, LATER_WORKTREES, progress):
        try:
            repository = found.get(row["repo_name"])
            if repository is None:
                raise SkipError("its repository is not there, or was skipped itself")
            if row["active"] == 0:
                raise SkipError(INACTIVE)
            repository.worktrees.append(_worktree(row, repository.trunk or "main"))
        except SkipError as reason:
            passed.append(_passed(shown(row["repo_name"]), row, reason))
    return list(found.values())


def _repository(row: sqlite3.Row) -> Repository:
    name = text(row["name"], "name")
    if row["active"] == 0:
        raise SkipError(INACTIVE)
    path = text(row["path"], "path", LONGEST_PATH)
    remote = optional(row["remote_url"], "remote", LONGEST_PATH) or _clone(path, {}).remote
    return Repository(
        title=name,
        remote=remote,
        v2_id=optional(row["id"], "id"),
        name=name,
        trunk=branch_of(row["default_branch"]) if row["default_branch"] else None,
        trunk_path=path if _is_here(path) else None,
    )


def _guide(database: sqlite3.Connection, passed: list[Passed], progress: Progress) -> list[Repository]:
    found: dict[Path, Repository] = {}
    read: dict[Path, Clone] = {}
    for row in _rows(database, GUIDE_WORKTREES, progress):
        title = shown(row["path"])
        try:
            clone = _clone(text(row["path"], "path", LONGEST_PATH), read)
            title = shown(str(clone.path))
            if clone.path not in found:
                trunk_path = str(clone.trunk_path) if clone.trunk_path else None
                found[clone.path] = Repository(title, clone.remote, None, None, clone.trunk, trunk_path)
            found[clone.path].worktrees.append(_worktree(row, clone.trunk))
        except SkipError as reason:
            passed.append(_passed(title, row, reason))
    return list(found.values())


def _rows(database: sqlite3.Connection, query: str, progress: Progress) -> Iterator[sqlite3.Row]:
    rows = database.execute(query).fetchall()
    for done, row in enumerate(rows):
        progress("reading worktrees", done, len(rows))
        yield row


def _passed(title: str, row: sqlite3.Row, reason: SkipError) -> Passed:
    return Passed(title, shown(row["name"]), shown(row["branch"]), str(reason))


def _worktree(row: sqlite3.Row, trunk: str | None) -> Worktree:
    name, branch = text(row["name"], "name"), branch_of(row["branch"])
    kind, owner = optional(row["kind"], "type"), optional(row["agent_id"], "agent")
    if branch == trunk or kind == "trunk" or name == f"trunk-{branch}":
        raise SkipError("the trunk is no work item")
    path = text(row["path"], "path", LONGEST_PATH)
    return Worktree(name, branch, kind, path, _is_here(path), owner, metadata_of(row["metadata"]))


def _is_here(path: str) -> bool:
    return path.startswith("/") and git.is_work_tree(Path(path))


def _clone(path: str, read: dict[Path, Clone]) -> Clone:
    """The clone that has a worktree at the path; `read` keeps those that were read already."""
    folder = Path(path)
    if not folder.is_absolute():
        raise SkipError("its path is not absolute")
    try:
        if not folder.is_dir():
            raise SkipError("its path is gone")
        if not git.is_work_tree(folder):
            raise SkipError("at its path is no worktree any more")
        repository = git.common_dir(folder)
        if repository not in read:
            read[repository] = clones.inspect(repository, folder)
    except (git.GitError, OSError, RuntimeError) as error:
        raise SkipError(str(error)) from None
    return read[repository]
