"""`imi migrate-v2` from a sample database of each shape, over the API, its report held against the registry."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from imi import config
from tests.commandline import Imi, Live
from tests.repositories import Git

pytestmark = pytest.mark.usefixtures("live")
numbers = count(1)
HOST = socket.gethostname()

GUIDE = """
create table worktrees (
    id integer primary key autoincrement, name text not null unique, path text not null, branch text not null,
    created_at text not null, last_accessed text not null, metadata json);
create table activities (
    id integer primary key autoincrement, worktree_id integer not null, agent_id text, activity_type text not null,
    timestamp text not null, details json, foreign key (worktree_id) references worktrees(id));
create table agents (
    id text primary key, name text not null, type text not null, current_worktree_id integer,
    last_seen text not null, foreign key (current_worktree_id) references worktrees(id));
"""
LATER = """
create table repositories (
    id text primary key, name text not null unique, path text not null, remote_url text, default_branch text,
    created_at text, updated_at text, active boolean default 1);
create table worktree_types (
    id integer primary key, name text unique, branch_prefix text, worktree_prefix text, description text);
create table worktrees (
    id text primary key, repo_name text references repositories(name), worktree_name text, branch_name text,
    worktree_type text, path text, created_at text, updated_at text, active boolean default 1, agent_id text,
    unique (repo_name, worktree_name));
create table agent_activities (id text primary key, agent_id text, worktree_id text, activity_type text);
create table claims (worktree_id text, agent_id text);
"""


class Old:
    """A database of iMi 2 to fill, of either shape."""

    def __init__(self, file: Path, schema: str) -> None:
        self.file = file
        with closing(sqlite3.connect(file)) as database:
            database.executescript(schema)

    def insert(self, table: str, **values: Any) -> None:
        names, marks = ", ".join(values), ", ".join("?" * len(values))
        with closing(sqlite3.connect(self.file)) as database, database:
            database.execute(f"insert into {table} ({names}) values ({marks})", [*values.values()])

    def repository(self, name: str, **values: Any) -> str:
        """A row of repositories; answers its id."""
        row = {
            "id": str(uuid4()),
            "path": f"/gone/{name}",
            "remote_url": f"https://git.example.org/v2/{name}-{next(numbers)}",
            "default_branch": "main",
        }
        self.insert("repositories", name=name, **row | values)
        return str((row | values)["id"])

    def worktree(self, repo_name: Any, name: Any, branch: Any, kind: Any = "feat", **values: Any) -> None:
        row = {"id": str(uuid4()), "path": f"/gone/{repo_name}/{name}"} | values
        self.insert(
            "worktrees",
            repo_name=repo_name,
            worktree_name=name,
            branch_name=branch,
            worktree_type=kind,
            **row,
        )

    def place(self, name: str, path: object, branch: object, metadata: object = None) -> None:
        """A row of the guide's worktrees."""
        at = "2025-09-01T10:00:00Z"
        self.insert(
            "worktrees",
            name=name,
            path=str(path),
            branch=branch,
            created_at=at,
            last_accessed=at,
            metadata=metadata,
        )


@pytest.fixture
def later(tmp_path: Path) -> Old:
    """shop (trunk, feat/a of claude-7, fix/b, one of each other type), and one repository that is inactive."""
    old = Old(tmp_path / "later.db", LATER)
    old.repository("shop")
    old.worktree("shop", "trunk-main", "main", "trunk")
    old.worktree("shop", "feat-a", "feat/a", agent_id="claude-7")
    old.worktree("shop", "fix-b", "fix/b", "fix")
    old.worktree("shop", "pr-12", "pr/12", "pr")
    old.worktree("shop", "review-13", "thirteen", "review")
    old.worktree("shop", "spike", "exp/spike", "custom")
    old.worktree("shop", "feat-old", "feat/old", active=0)
    old.repository("left", active=0)
    old.worktree("left", "feat-x", "feat/x")
    old.insert("agent_activities", id="1", agent_id="claude-7")
    old.insert("claims", worktree_id="1", agent_id="claude-7")
    old.insert("claims", worktree_id="2", agent_id="codex-2")
    return old


@pytest.fixture
def guide(git: Git, tmp_path: Path) -> tuple[Old, Path, str]:
    """One clone with worktrees for feat/a (claude-7 is in it) and fix/b; its folder and its remote too."""
    code, remote = tmp_path / "code", f"https://git.example.org/v2/guide-{next(numbers)}"
    clone = git.clone(git.origin(tmp_path / "origin.git"), code / "trunk-main")
    git(clone, "remote", "set-url", "origin", remote)
    old = Old(tmp_path / "guide.db", GUIDE)
    old.place("trunk-main", clone, "main")
    for folder, branch in (("feat-a", "feat/a"), ("fix-b", "fix/b")):
        git(clone, "worktree", "add", "-q", "-b", branch, str(code / folder))
        old.place(folder, code / folder, branch, '{"note": "ü"}' if folder == "feat-a" else None)
    for agent, seen in (("codex-2", "2025-09-01"), ("claude-7", "2025-09-02")):
        old.insert("agents", id=agent, name=agent, type="ai", current_worktree_id=2, last_seen=seen)
    old.insert("activities", worktree_id=2, activity_type="commit", timestamp="2025-09-01")
    return old, code, remote


def items(imi: Imi, project: str) -> dict[str, Any]:
    listed = imi.data("work", "list", "--project", project, "--active", "all", "--all")["items"]
    return {item["branch_name"]: item for item in listed}


def reasons(summary: dict[str, Any], action: str = "skipped") -> dict[str, str]:
    """Why rows were passed over: by the worktree's name, or the project's."""
    rows = (row for row in summary["rows"] if row["action"] == action)
    return {row["project"] if row["worktree"] is None else row["worktree"]: row["reason"] for row in rows}


def counts(**numbers: int) -> dict[str, int]:
    return dict.fromkeys(("created", "existing", "skipped", "refused"), 0) | numbers


def project_ids(imi: Imi) -> set[str]:
    return {each["id"] for each in imi.data("projects", "list", "--active", "all", "--all")["items"]}


def old_ids(old: Old) -> dict[str, str]:
    with closing(sqlite3.connect(old.file)) as database:
        return dict(database.execute("select name, id from repositories").fetchall())


class TestTheLaterShape:
    def test_repositories_become_projects_and_worktrees_their_work(self, imi: Imi, later: Old) -> None:
        summary = imi.data("migrate-v2", later.file)
        assert summary["projects"] == counts(created=1, skipped=1)
        assert summary["worktrees"] == counts(created=5, skipped=3)
        assert summary["not_migrated"] == {"worktree_types": 0, "agent_activities": 1, "claims": 2}
        project = imi.data("projects", "get", old_ids(later)["shop"])
        assert (project["name"], project["default_branch"], project["active"]) == ("shop", "main", True)
        assert project["trunk_path"] is None, "its folder is not here"
        assert "v2_id" not in project["metadata"]
        found = items(imi, project["id"])
        assert {name: item["work_type"] for name, item in found.items()} == {
            "feat/a": "feature",
            "fix/b": "fix",
            "pr/12": "review",
            "thirteen": "review",
            "exp/spike": "experiment",
        }
        a = found["feat/a"]
        assert (a["owner_id"], found["fix/b"]["owner_id"]) == ("claude-7", "ada")
        assert a["source"] == {"type": "manual", "ref": "migrate-v2"}
        assert (a["worktree_path"], a["host"], a["claim"]) == ("/gone/shop/feat-a", None, None)
        ids = {row["branch_name"]: row["id"] for row in summary["rows"] if row["action"] == "created"}
        assert ids == {name: item["id"] for name, item in found.items()} | {None: project["id"]}
        assert reasons(summary) == {
            "left": "not active in iMi 2",
            "feat-x": "its repository is not there, or was skipped itself",
            "trunk-main": "the trunk is no work item",
            "feat-old": "not active in iMi 2",
        }

    def test_a_second_run_changes_nothing(self, imi: Imi, later: Old) -> None:
        imi("migrate-v2", later.file)
        shop = old_ids(later)["shop"]
        imi("work", "complete", items(imi, shop)["fix/b"]["id"], "--type", "abandoned")
        before, events = items(imi, shop), imi.data("stats")["total_events"]
        summary = imi.data("migrate-v2", later.file)
        assert summary["projects"] == counts(existing=1, skipped=1)
        assert summary["worktrees"] == counts(existing=5, skipped=3), "work that has ended is not begun again"
        assert items(imi, shop) == before
        assert imi.data("stats")["total_events"] == events

    def test_a_dry_run_says_it_all_and_writes_nothing(self, imi: Imi, later: Old) -> None:
        later.worktree("shop", "again", "feat/a")
        ids, events = project_ids(imi), imi.data("stats")["total_events"]
        planned = imi.data("migrate-v2", later.file, "--dry-run")
        assert (project_ids(imi), imi.data("stats")["total_events"]) == (ids, events)
        done = imi.data("migrate-v2", later.file)
        assert [row | {"id": None} for row in done["rows"]] == planned["rows"]
        assert [planned[each] for each in ("projects", "worktrees")] == [
            done[each] for each in ("projects", "worktrees")
        ]
        assert done["worktrees"] == counts(created=5, existing=1, skipped=3)
        assert imi("migrate-v2", later.file, "--dry-run").lines[-3:] == [
            "projects: would be 0 created, 1 existing, 1 skipped, 0 refused",
            "worktrees: would be 0 created, 6 existing, 3 skipped, 0 refused",
            "not migrated: 0 of worktree_types, 1 of agent_activities, 2 of claims",
        ]

    def test_work_that_is_active_already_counts_as_existing(self, imi: Imi, later: Old) -> None:
        remote = f"https://git.example.org/v2/known-{next(numbers)}"
        project = imi.data("projects", "register", remote)
        item = imi.data("work", "start", project["id"], "feat/a")
        ours = later.repository("known", remote_url=f"{remote}.git")
        later.worktree("known", "feat-a", "feat/a", agent_id="codex-2")
        later.worktree("known", "feat-n", "feat/n")
        rows = [row for row in imi.data("migrate-v2", later.file)["rows"] if row["project"] == "known"]
        assert [(row["worktree"], row["action"]) for row in rows] == [
            (None, "existing"),
            ("feat-a", "existing"),
            ("feat-n", "created"),
        ]
        assert rows[0]["reason"] == f"it is registered as {project['id']}, in iMi 2 it was {ours}"
        assert rows[1]["id"] == item["id"]
        assert items(imi, project["id"])["feat/a"] == item, "as it was"

    def test_an_id_that_is_no_uuid_is_kept_in_the_metadata(self, imi: Imi, later: Old) -> None:
        remote = f"https://git.example.org/v2/odd-{next(numbers)}"
        later.repository("odd", id="repo-42", remote_url=remote)
        imi("migrate-v2", later.file)
        assert imi.data("projects", "get", remote)["metadata"] == {"v2_id": "repo-42"}
        again = [row for row in imi.data("migrate-v2", later.file)["rows"] if row["project"] == "odd"]
        assert [(row["action"], row["reason"]) for row in again] == [("existing", None)]

    def test_an_id_that_another_project_has(self, imi: Imi, later: Old) -> None:
        taken = imi.data("projects", "register", f"https://git.example.org/v2/other-{next(numbers)}")
        remote = f"https://git.example.org/v2/new-{next(numbers)}"
        later.repository("thief", id=taken["id"], remote_url=remote)
        later.worktree("thief", "feat-t", "feat/t")
        for arguments in (("--dry-run",), ()):
            ran = imi("migrate-v2", later.file, *arguments, code=1)
            assert f"Another project has this id (project_id: {taken['id']})" in ran.out
            assert "its project was refused" in ran.out
            assert imi.error(3, "projects", "get", remote)["code"] == "NOT_FOUND", "never half a project"
        assert imi.data("projects", "get", taken["id"]) == taken
        assert len(items(imi, old_ids(later)["shop"])) == 5, "the others came over"

    def test_a_key_that_may_not_choose_an_id_ends_it(self, imi: Imi, later: Old) -> None:
        key = imi("keys", "create", "writer", "--scope", "write").out.strip()
        before = project_ids(imi)
        refused = imi.error(4, "migrate-v2", later.file, "--api-key", key)
        assert (refused["code"], "admin key" in str(refused["hint"])) == ("FORBIDDEN", True)
        assert str(refused["message"]).startswith("shop: ")
        assert project_ids(imi) == before

    def test_a_run_that_broke_off_goes_on(
        self, imi: Imi, later: Old, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request, sent = httpx.Client.request, count(1)

        def break_off(client: httpx.Client, method: str, url: str, **arguments: Any) -> httpx.Response:
            if method == "POST" and url.endswith("/work") and next(sent) == 3:
                raise httpx.ConnectError("gone")
            return request(client, method, url, **arguments)

        with monkeypatch.context() as patch:
            patch.setattr(httpx.Client, "request", break_off)
            assert imi.error(5, "migrate-v2", later.file)["code"] == "UNREACHABLE"
        summary = imi.data("migrate-v2", later.file)
        assert summary["worktrees"] == counts(created=3, existing=2, skipped=3)
        assert len(items(imi, old_ids(later)["shop"])) == 5

    def test_what_somebody_else_started_meanwhile_counts_as_existing(
        self, imi: Imi, later: Old, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        request = httpx.Client.request

        def be_overtaken(client: httpx.Client, method: str, url: str, **arguments: Any) -> httpx.Response:
            if method == "POST" and url.endswith("/work"):
                request(client, method, url, **arguments)
            return request(client, method, url, **arguments)

        monkeypatch.setattr(httpx.Client, "request", be_overtaken)
        assert imi.data("migrate-v2", later.file)["worktrees"] == counts(existing=5, skipped=3)

    def test_a_project_that_was_removed_since_stays_removed(self, imi: Imi, later: Old) -> None:
        imi("migrate-v2", later.file)
        shop = old_ids(later)["shop"]
        imi("projects", "remove", shop)
        later.worktree("shop", "late", "feat/late")
        summary = imi.data("migrate-v2", later.file)
        assert reasons(summary)["late"] == "its project was removed; registering it revives it"
        assert imi.data("projects", "get", shop)["active"] is False

    def test_without_a_remote_git_says_it(self, imi: Imi, git: Git, later: Old, tmp_path: Path) -> None:
        remote = f"https://git.example.org/v2/here-{next(numbers)}"
        clone = git.clone(git.origin(tmp_path / "origin.git"), tmp_path / "here/trunk-main")
        git(clone, "remote", "set-url", "origin", remote)
        ours = later.repository("here", remote_url=None, path=str(clone), default_branch=None)
        later.worktree("here", "feat-h", "feat/h", path=str(clone))
        later.repository("nowhere", remote_url="")
        summary = imi.data("migrate-v2", later.file)
        assert reasons(summary)["nowhere"] == "its path is gone"
        project = imi.data("projects", "get", remote)
        assert (project["id"], project["trunk_path"]) == (ours, str(clone))
        assert items(imi, ours)["feat/h"]["host"] == HOST


class TestTheGuidesShape:
    def test_the_project_is_the_clones_remote(self, imi: Imi, git: Git, guide: tuple[Old, Path, str]) -> None:
        old, code, remote = guide
        old.place("moved", code / "gone", "feat/gone")
        old.place("relative", "code/feat-a", "feat/relative")
        (code / "plain").mkdir()
        old.place("plain", code / "plain", "feat/plain")
        git(code, "init", "-q", "lonely")
        old.place("lonely", code / "lonely", "feat/lonely")
        summary = imi.data("migrate-v2", old.file)
        assert summary["projects"] == counts(created=1)
        assert summary["worktrees"] == counts(created=2, skipped=5)
        assert summary["not_migrated"] == {"activities": 1}
        assert reasons(summary) == {
            "trunk-main": "the trunk is no work item",
            "moved": "its path is gone",
            "relative": "its path is not absolute",
            "plain": "at its path is no worktree any more",
            "lonely": "no remote: give it one with `git remote add origin URL`",
        }
        project = imi.data("projects", "get", remote)
        assert (project["default_branch"], project["trunk_path"]) == ("main", str(code / "trunk-main"))
        found = items(imi, project["id"])
        a, b = found["feat/a"], found["fix/b"]
        assert (a["work_type"], a["owner_id"], a["metadata"]) == ("feature", "claude-7", {"note": "ü"})
        assert (b["work_type"], b["owner_id"], b["metadata"]) == ("fix", "ada", {})
        assert (b["worktree_path"], b["host"]) == (str(code / "fix-b"), HOST)

    def test_a_second_run_changes_nothing(self, imi: Imi, guide: tuple[Old, Path, str]) -> None:
        old, _, remote = guide
        planned = imi.data("migrate-v2", old.file, "--dry-run")
        assert imi.error(3, "projects", "get", remote)["code"] == "NOT_FOUND"
        assert planned["worktrees"] == imi.data("migrate-v2", old.file)["worktrees"]
        before = items(imi, remote)
        again = imi.data("migrate-v2", old.file)
        assert (again["projects"], again["worktrees"]) == (
            counts(existing=1),
            counts(existing=2, skipped=1),
        )
        assert items(imi, remote) == before

    def test_two_clones_of_one_remote_are_one_project(
        self, imi: Imi, git: Git, guide: tuple[Old, Path, str]
    ) -> None:
        old, code, remote = guide
        git(code, "clone", "-q", str(code / "trunk-main"), "zweiter")
        git(code / "zweiter", "remote", "set-url", "origin", f"{remote}.git")
        old.place("again", code / "zweiter", "feat/a")
        for arguments in (("--dry-run",), ()):
            summary = imi.data("migrate-v2", old.file, *arguments)
            assert summary["projects"] == counts(created=1, existing=1)
            assert summary["worktrees"] == counts(created=2, existing=1, skipped=1)


class TestHostileContents:
    def test_rows_that_cannot_be_used_are_skipped_with_the_reason(self, imi: Imi, later: Old) -> None:
        evil = "\x1b]0;owned\x07\u202e"
        later.worktree("shop", "nul", "feat/\0nul")
        later.worktree("shop", "bytes", b"feat/bytes")
        later.worktree("shop", "none", None)
        later.worktree("shop", "dash", "-f")
        later.worktree("shop", "dots", "feat/../../x")
        later.worktree("shop", "space", "feat/a b")
        later.worktree("shop", "long", "x" * 256)
        later.worktree("shop", "huge", "h" * 5_000_000)
        later.worktree("shop", "owner", "feat/owner", agent_id=b"\xff")
        later.worktree("shop", "path", "feat/path", path="/" + "p" * 2048)
        later.worktree("shop", evil, f"feat/{evil}")
        later.worktree("nobody", "orphan", "feat/orphan")
        later.repository("\0")
        with closing(sqlite3.connect(later.file)) as database, database:
            database.execute(
                "insert into worktrees (id, repo_name, worktree_name, branch_name, path)"
                " values ('x', 'shop', 'latin', cast(x'666561742fff' as text), '/x')"
            )
        summary = imi.data("migrate-v2", later.file)
        found = reasons(summary)
        assert found["nul"] == found["latin"] == "its branch holds a NUL, or bytes that are not UTF-8"
        assert found["bytes"] == "its branch is no text"
        assert found["none"] == "it has no branch"
        assert found["dash"] == "git takes no branch of that name: it starts with a dash"
        for name in ("dots", "space", evil):
            assert found[name].startswith("git takes no branch of that name (git check-ref-format")
        assert found["long"] == found["huge"] == "its branch is longer than 255 characters"
        assert found["owner"] == "its agent is no text"
        assert found["path"] == "its path is longer than 2048 characters"
        assert found["orphan"] == "its repository is not there, or was skipped itself"
        assert found["\0"] == "its name holds a NUL, or bytes that are not UTF-8"
        assert summary["worktrees"]["created"] == len(items(imi, old_ids(later)["shop"])) == 5
        shown = imi("migrate-v2", later.file).out
        assert r"\x1b]0;owned\x07\u202e" in shown
        assert all(character.isprintable() or character == "\n" for character in shown)

    def test_a_remote_that_is_none_is_refused(self, imi: Imi, later: Old) -> None:
        later.repository("odd", remote_url="--upload-pack=touch /tmp/x")
        later.worktree("odd", "feat-o", "feat/o")
        ran = imi("migrate-v2", later.file, "--json", code=1)
        assert "Not a git remote that iMi can tell apart" in ran.out
        assert '"success": false' in ran.out
        assert "upload-pack" not in ran.out

    @pytest.mark.parametrize(
        "metadata", ["[1]", "{", '{"x": NaN}', '{"x": 1e999}', "[" * 60_000, "7", '"' * 70_000, b"{}"]
    )
    def test_metadata_that_is_no_object(
        self, imi: Imi, guide: tuple[Old, Path, str], metadata: object
    ) -> None:
        old, code, _ = guide
        old.place("odd", code / "fix-b", "feat/odd", metadata)
        assert "its metadata" in reasons(imi.data("migrate-v2", old.file))["odd"]

    @pytest.mark.parametrize("metadata", ['{"x": "\\u0000"}', '{"x": "\\ud800"}'])
    def test_metadata_that_no_document_can_hold(
        self, imi: Imi, guide: tuple[Old, Path, str], metadata: str
    ) -> None:
        old, code, remote = guide
        old.place("odd", code / "fix-b", "feat/odd", metadata)
        ran = imi("migrate-v2", old.file, "--json", code=1)
        document = json.loads(ran.out)
        assert reasons(document["data"], "refused")["odd"].startswith("the body ")
        assert document["success"] is False
        assert document["data"]["worktrees"] == counts(created=2, skipped=1, refused=1)
        assert set(items(imi, remote)) == {"feat/a", "fix/b"}

    def test_a_table_with_a_hostile_name_is_counted(self, imi: Imi, later: Old) -> None:
        name = 'x" ; drop table worktrees; --\x1b[31m'
        with closing(sqlite3.connect(later.file)) as database, database:
            database.execute("create table " + '"' + name.replace('"', '""') + '" as select 1 as one')
        assert imi.data("migrate-v2", later.file)["not_migrated"][name] == 1
        assert r"1 of x" in (shown := imi("migrate-v2", later.file).out)
        assert "\x1b" not in shown

    def test_a_table_whose_module_is_not_there(self, imi: Imi, later: Old) -> None:
        with closing(sqlite3.connect(later.file)) as database, database:
            database.execute("pragma writable_schema = on")
            database.execute(
                "insert into sqlite_master values ('table', 'v', 'v', 0, 'create virtual table v using evil(x)')"
            )
        refused = imi.error(1, "migrate-v2", later.file)
        assert refused["code"] == "UNREADABLE"


class TestTheFile:
    def test_it_and_its_folder_stay_as_they_are(self, imi: Imi, tmp_path: Path) -> None:
        (tmp_path / "kept").mkdir()
        old = Old(tmp_path / "kept/wal.db", f"pragma journal_mode = wal; {LATER}")
        ours = old.repository("wal")
        before = old.file.read_bytes(), old.file.stat().st_mtime_ns
        imi("migrate-v2", old.file)
        assert (old.file.read_bytes(), old.file.stat().st_mtime_ns) == before
        assert [*(tmp_path / "kept").iterdir()] == [old.file]
        assert imi.data("projects", "get", ours)["name"] == "wal"

    def test_what_stands_in_the_log_beside_it_is_read_too(self, imi: Imi, tmp_path: Path) -> None:
        old = Old(tmp_path / "wal.db", f"pragma journal_mode = wal; {LATER}")
        with closing(sqlite3.connect(old.file)) as running:
            running.execute("select * from worktrees").fetchall()
            old.repository("wal")
            assert (tmp_path / "wal.db-wal").stat().st_size > 0
            assert imi.data("migrate-v2", old.file)["projects"] == counts(created=1)

    @pytest.mark.parametrize(
        ("schema", "lacks"),
        [
            ("", "it has no table worktrees"),
            ("create table other (x)", "it has no table worktrees"),
            ("create view worktrees as select 1 as id", "it has no table worktrees"),
            ("create table repositories (id, name, path)", "remote_url, default_branch, active in its table"),
            (
                LATER.replace("agent_id text,\n    unique", "unique"),
                "no column agent_id in its table worktrees",
            ),
            (GUIDE.replace("create table agents", "create table people"), "it has no table agents"),
        ],
    )
    def test_a_database_of_something_else_is_refused(
        self, imi: Imi, tmp_path: Path, schema: str, lacks: str
    ) -> None:
        file = tmp_path / "other ?#%.db"
        Old(file, schema)
        refused = imi.error(2, "migrate-v2", file)
        assert str(refused["message"]).startswith(f"{file} is no database of iMi 2: ")
        assert lacks in str(refused["message"])

    def test_a_file_that_is_no_database(self, imi: Imi, tmp_path: Path) -> None:
        (tmp_path / "text").write_text("x" * 4096)
        refused = imi.error(1, "migrate-v2", tmp_path / "text")
        assert refused["message"] == f"cannot read {tmp_path / 'text'}: file is not a database"
        os.mkfifo(tmp_path / "pipe")
        assert imi.error(2, "migrate-v2", tmp_path / "pipe")["code"] == "USAGE"
        assert imi.error(2, "migrate-v2", tmp_path / "gone")["code"] == "USAGE"

    def test_a_database_that_is_damaged(self, imi: Imi, later: Old) -> None:
        whole = later.file.read_bytes()
        later.file.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
        assert imi.error(1, "migrate-v2", later.file)["code"] == "UNREADABLE"


def test_the_old_setting_names_the_command(live: Live) -> None:
    with pytest.raises(config.ConfigError, match="`imi migrate-v2 DB` brings its data over"):
        config.parse({"IMI_DB_PATH": "/old.db"}, strict=True)
