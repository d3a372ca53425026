"""Every command over the API, against the real server: what it does, its document, what people see."""

from __future__ import annotations

import re
import uuid
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.commandline import Imi

pytestmark = pytest.mark.usefixtures("live")
numbers = count(1)
UUID = r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"


@pytest.fixture
def remote() -> str:
    """The remote of a repository that nobody has registered."""
    return f"https://git.example.org/team/repo-{next(numbers)}"


@pytest.fixture
def project(imi: Imi, remote: str) -> dict[str, Any]:
    return dict(imi.data("projects", "register", remote))


@pytest.fixture
def item(imi: Imi, project: dict[str, Any]) -> dict[str, Any]:
    return dict(imi.data("work", "start", project["id"], "feat/login"))


class TestProjects:
    def test_register_prints_the_id_alone(self, imi: Imi, remote: str) -> None:
        first = imi("projects", "register", remote, "--name", "shop", "--metadata", '{"team": "x"}')
        assert re.fullmatch(UUID + "\n", first.out)
        assert "shop" in first.err
        again = imi(
            "projects", "register", remote.replace("https://", "git@").replace("org/", "org:") + ".git"
        )
        assert again.out == first.out, "another spelling is the same project"

    def test_get_takes_the_id_or_any_spelling(self, imi: Imi, project: dict[str, Any], remote: str) -> None:
        by_id = imi.data("projects", "get", project["id"])
        assert by_id["name"] == remote.rpartition("/")[2]
        assert imi.data("projects", "get", remote + ".git/") == by_id
        assert project["id"] in imi("projects", "get", remote).out

    def test_list_searches_filters_and_pages(self, imi: Imi) -> None:
        names = [f"listed-{n}" for n in range(5)]
        for name in names:
            imi.data("projects", "register", f"/srv/{name}", "--name", name, "--metadata", '{"l": [1]}')
        asked = ("projects", "list", "--metadata", '{"l": [1]}')
        page = imi.data(*asked, "--limit", 2, "--offset", 1)
        assert (page["total"], page["offset"], page["limit"]) == (5, 1, 2)
        assert [each["name"] for each in page["items"]] == ["listed-3", "listed-2"]
        assert [each["name"] for each in imi.data(*asked, "--all")["items"]] == names[::-1]
        assert imi(*asked, "--limit", 2).lines[-1] == "1 to 2 of 5; all of them: --all"
        assert imi.data("projects", "list", "--search", "isted-4")["items"][0]["name"] == "listed-4"
        imi("projects", "remove", "/srv/listed-0")
        assert imi.data(*asked)["total"] == 4
        assert [each["name"] for each in imi.data(*asked, "--active", "false")["items"]] == ["listed-0"]

    def test_all_goes_on_where_pages_are_shorter(self, imi: Imi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("imi.cli.client.PAGE", 3)
        for n in range(7):
            imi.data("projects", "register", f"/srv/short-{n}", "--metadata", '{"s": 1}')
        whole = imi.data("projects", "list", "--metadata", '{"s": 1}', "--all")
        assert [each["name"] for each in whole["items"]] == [f"short-{n}" for n in reversed(range(7))]
        assert (whole["total"], whole["offset"], whole["limit"]) == (7, 0, 7)

    def test_update_changes_what_is_given(self, imi: Imi, project: dict[str, Any], remote: str) -> None:
        changed = imi.data("projects", "update", remote, "--description", "new", "--default-branch", "trunk")
        assert (changed["description"], changed["default_branch"]) == ("new", "trunk")
        assert changed["name"] == project["name"]
        moved = remote + "-moved"
        assert (
            imi.data("projects", "update", project["id"], "--remote-origin", moved)["remote_origin"] == moved
        )
        assert imi.data("projects", "get", remote)["id"] == project["id"], "the old remote goes on finding it"

    def test_remove_is_soft_and_repeatable(self, imi: Imi, project: dict[str, Any]) -> None:
        assert imi.data("projects", "remove", project["id"]) is None
        assert imi("projects", "remove", project["id"]).out.startswith("removed")
        assert imi.data("projects", "get", project["id"])["active"] is False

    def test_what_is_not_there(self, imi: Imi) -> None:
        assert imi.error(3, "projects", "get", uuid.uuid4())["code"] == "NOT_FOUND"
        assert imi.error(3, "projects", "remove", "https://git.example.org/no/such")["code"] == "NOT_FOUND"
        refused = imi.error(2, "projects", "register", "nonsense")
        assert refused["code"] == "INVALID_REMOTE_ORIGIN"
        assert refused["hint"], "the server says what it takes"


class TestWork:
    def test_start_prints_the_id_alone(self, imi: Imi, project: dict[str, Any]) -> None:
        ran = imi("work", "start", project["remote_origin"], "fix/x", "--type", "fix", "--owner", "grace")
        assert re.fullmatch(UUID + "\n", ran.out)
        [item] = imi.data("work", "list", "--project", project["id"])["items"]
        assert (item["id"], item["work_type"], item["owner_id"]) == (ran.out.strip(), "fix", "grace")

    def test_start_says_where_it_comes_from(self, imi: Imi, project: dict[str, Any]) -> None:
        source = ("--source-type", "plane_ticket", "--source-ref", "PROJ-7")
        item = imi.data("work", "start", project["id"], "x", *source, "--worktree-path", "/w", "--host", "h")
        assert item["source"] == {"type": "plane_ticket", "ref": "PROJ-7"}
        assert (item["owner_id"], item["worktree_path"], item["host"]) == ("ada", "/w", "h")
        asked = ("work", "list", "--source-ref", "PROJ-7", "--host", "h", "--branch", "x")
        assert imi.data(*asked)["items"][0]["id"] == item["id"]

    def test_a_held_branch_is_refused_with_its_holder(self, imi: Imi, item: dict[str, Any]) -> None:
        refused = imi.error(4, "work", "start", item["project_id"], item["branch_name"])
        assert refused["code"] == "CONFLICT"
        assert item["id"] in str(refused["message"])

    def test_list_by_owner_type_and_status(self, imi: Imi, item: dict[str, Any]) -> None:
        asked = ("work", "list", "--project", item["project_id"])
        assert imi.data(*asked, "--owner", "ada", "--type", "feature", "--status", "clean")["total"] == 1
        assert imi.data(*asked, "--owner", "nobody")["total"] == 0
        imi.data("work", "complete", item["id"], "--type", "abandoned")
        assert imi.data(*asked)["total"] == 0
        assert imi.data(*asked, "--active", "all")["total"] == 1
        assert imi.data(*asked, "--status", "abandoned")["total"] == 1

    def test_update_reports_and_changes(self, imi: Imi, item: dict[str, Any]) -> None:
        facts = ("--uncommitted", 2, "--ahead", 3, "--behind", 1, "--commit", "a" * 40, "--message", "Do it")
        changed = imi.data("work", "update", item["id"], "--owner", "grace", *facts)
        assert (changed["owner_id"], changed["status"], changed["uncommitted_files_count"]) == (
            "grace",
            "uncommitted",
            2,
        )
        assert imi.data("work", "update", item["id"], "--uncommitted", 0)["status"] == "diverged"
        late = imi.data("work", "update", item["id"], "--ahead", 9, "--observed-at", "2001-01-01T00:00:00Z")
        assert late["ahead_of_trunk"] == 3, "a later report is never overwritten"
        assert imi.data("work", "update", item["id"])["id"] == item["id"], "nothing given: nothing changed"

    def test_inflight_is_what_is_not_clean(self, imi: Imi, item: dict[str, Any]) -> None:
        asked = ("work", "inflight", "--project", item["project_id"])
        assert imi(*asked).out == "none\n"
        imi("work", "update", item["id"], "--ahead", 1)
        [found] = imi.data(*asked, "--owner", "ada")["items"]
        assert found["age_seconds"] >= 0
        assert "feat/login" in imi(*asked).out

    @pytest.mark.parametrize("few", [0, 50])
    def test_tables_say_in_which_project_and_who_holds_it(
        self,
        imi: Imi,
        item: dict[str, Any],
        project: dict[str, Any],
        monkeypatch: pytest.MonkeyPatch,
        few: int,
    ) -> None:
        monkeypatch.setattr("imi.cli.names.FEW", few)
        imi("work", "update", item["id"], "--ahead", 1)
        imi("components", "register", project["id"], "part", "part")
        for asked in ("work list", "work inflight", "components list"):
            header, row = imi(*asked.split(), "--project", project["id"]).lines
            assert ("project" in header, project["name"] in row, "holder" in header) == (True, True, False)
        assert project["name"] in imi("trace", "work", item["id"]).out
        imi("work", "claim", item["id"], "--agent", "holder-7")
        for asked in ("work list", "work inflight"):
            header, row = imi(*asked.split(), "--project", project["id"]).lines
            assert ("holder" in header, "holder-7" in row) == (True, True)
            assert "project" not in imi.data(*asked.split(), "--project", project["id"])["items"][0]

    def test_get_shows_its_claim_and_links(
        self, imi: Imi, item: dict[str, Any], project: dict[str, Any]
    ) -> None:
        assert imi.data("work", "get", item["id"])["links"] == {"tickets": [], "prs": [], "deploys": []}
        imi("work", "claim", item["id"], "--agent", "holder-7")
        imi("links", "ticket", item["id"], "GET-1")
        shown = imi("work", "get", item["id"]).out
        assert re.search(r"^claim +holder-7 until .*, token 1$", shown, re.MULTILINE)
        assert re.search(rf"^project +{project['name']}$", shown, re.MULTILINE)
        assert "GET-1" in shown
        assert imi.error(3, "work", "get", uuid.uuid4())["code"] == "NOT_FOUND"

    def test_complete_once(self, imi: Imi, item: dict[str, Any]) -> None:
        done = ("work", "complete", item["id"], "--type", "merged")
        assert imi(*done).out == "feat/login is merged\n"
        filled = imi.data(*done, "--commit", "b" * 40, "--merged-by", "grace")
        assert (filled["merge_commit_hash"], filled["merged_by"]) == ("b" * 40, "grace")
        assert imi.error(4, "work", "complete", item["id"], "--type", "abandoned")["code"] == "CONFLICT"

    def test_claim_renew_release(self, imi: Imi, item: dict[str, Any]) -> None:
        claimed = imi.data("work", "claim", item["id"], "--agent", "one", "--ttl", 60)
        assert claimed["claim"]["agent_id"] == "one"
        token = claimed["claim"]["fencing_token"]
        refused = imi.error(4, "work", "claim", item["id"], "--agent", "two")
        assert "one" in str(refused["message"])
        renewed = imi.data("work", "renew", item["id"], "--agent", "one", "--fencing-token", token)
        assert renewed["claim"]["lease_until"] > claimed["claim"]["lease_until"]
        assert imi.error(4, "work", "release", item["id"], "--agent", "two")
        assert imi("work", "release", item["id"], "--agent", "one").out == "feat/login is free\n"
        again = imi("work", "claim", item["id"], "--agent", "two").out
        assert re.match(rf"feat/login is held by two until .*, token {token + 1}\n", again)
        stale = imi.error(4, "work", "update", item["id"], "--ahead", 1, "--fencing-token", token)
        assert stale["code"] == "STALE_CLAIM"


class TestLinksAndTrace:
    def test_from_ticket_to_deploy_and_back(self, imi: Imi, item: dict[str, Any]) -> None:
        ticket, url = f"PROJ-{item['id']}", f"https://git.example.org/pr/{item['id']}/42?tab=files"
        linked = imi("links", "ticket", item["id"], ticket, "--title", "Log in", "--state", "open")
        assert re.fullmatch(UUID + "\n", linked.out)
        pr = imi.data("links", "pr", item["id"], url, "--title", "Log in")
        assert (pr["pr_number"], pr["pr_state"]) == (42, "open")
        deploy = ("links", "deploy", item["id"], "deploy-1", "--environment", "prod", "--commit", "c" * 40)
        assert imi.data(*deploy)["deploy_id"] == "deploy-1"
        for kind, entity in (
            ("ticket", ticket),
            ("pr", url),
            ("deploy", "deploy-1"),
            ("branch", "feat/login"),
            ("commit", "c" * 8),
            ("work", item["id"]),
        ):
            chain = imi.data("trace", kind, entity, "--project", item["project_id"])["chain"]
            counts = {name: len(rows) for name, rows in chain.items()}
            assert counts == {"tickets": 1, "work_items": 1, "prs": 1, "deploys": 1}, kind
        assert imi.data("links", "pr-update", pr["id"], "--state", "merged")["pr_state"] == "merged"
        seen = imi("trace", "ticket", ticket).out
        for word in (ticket, "feat/login", "merged", url, "deploy-1", "c" * 12):
            assert word in seen
        assert imi.error(4, "links", "pr-update", pr["id"], "--state", "open")["code"] == "CONFLICT"

    def test_a_pr_without_a_number_in_its_url(self, imi: Imi, item: dict[str, Any]) -> None:
        refused = imi.error(2, "links", "pr", item["id"], "https://git.example.org/change/I8f3")
        assert refused == {
            "code": "USAGE",
            "message": "the URL holds no number",
            "hint": "say it with --number",
        }
        pr = imi.data("links", "pr", item["id"], "https://git.example.org/change/I8f3", "--number", 7)
        assert pr["pr_number"] == 7

    def test_nothing_linked_is_said(self, imi: Imi) -> None:
        assert imi("trace", "ticket", "NO-1").out == "nothing is linked to ticket NO-1\n"
        assert imi.data("trace", "ticket", "NO-1", "--transitive")["chain"]["tickets"] == []


class TestComponents:
    @pytest.fixture
    def parts(self, imi: Imi, project: dict[str, Any]) -> dict[str, str]:
        """Three components of a project: a needs b, b needs c."""
        names = ("a", "b", "c")
        ids = {
            name: imi("components", "register", project["id"], name, f"{name}/x").out.strip()
            for name in names
        }
        for source, target in (("a", "b"), ("b", "c")):
            imi("components", "relate", source, "depends_on", target, "--project", project["id"])
        return ids

    def test_register_again_changes_what_is_given(self, imi: Imi, project: dict[str, Any]) -> None:
        linked = imi.data("projects", "register", project["remote_origin"] + "-linked")
        registered = ("components", "register", project["id"], "api")
        first = imi.data(
            *registered, "api", "--kind", "submodule", "--linked-project", linked["remote_origin"]
        )
        assert (first["kind"], first["linked_project_id"]) == ("submodule", linked["id"])
        again = imi.data(*registered, "other", "--kind", "local", "--disabled", "--metadata", '{"x": 1}')
        assert (again["id"], again["path"], again["enabled"]) == (first["id"], "other", False)
        listed = ("components", "list", "--project", project["id"])
        assert imi.data(*listed, "--disabled", "--kind", "local", "--metadata", '{"x": 1}')["total"] == 1
        assert imi.data(*listed, "--enabled")["total"] == 0

    def test_graph_and_impact(self, imi: Imi, project: dict[str, Any], parts: dict[str, str]) -> None:
        within = ("--project", project["remote_origin"])
        graph = imi.data("components", "graph", "a", *within)
        assert [(node["name"], node["depth"]) for node in graph["nodes"]] == [("a", 0), ("b", 1), ("c", 2)]
        impact = imi.data("components", "impact", parts["c"])
        assert [node["name"] for node in impact["nodes"]] == ["c", "b", "a"]
        near = imi("components", "graph", "a", *within, "--depth", 1, "--type", "depends_on")
        assert near.lines[1].split() == ["0", "a", "local", "depends_on", "b"]
        assert near.lines[-1] == "cut: there is more behind; see --depth"

    def test_a_name_must_be_the_only_one(
        self, imi: Imi, parts: dict[str, str], project: dict[str, Any]
    ) -> None:
        other = imi.data("projects", "register", project["remote_origin"] + "-other")
        imi("components", "register", other["id"], "a", "a")
        assert imi.error(4, "components", "graph", "a")["hint"] == "say whose with --project, or pass its id"
        assert imi.error(3, "components", "graph", "zzz")["code"] == "NOT_FOUND"


class TestSeed:
    MANIFEST = """
    # what the shop is made of
    [components]
    api   = { path = "services/api", kind = "submodule", enabled = true }
    web   = { path = "web", kind = "local", enabled = false }
    tools = { path = "tools", kind = "external", owner = "ada", since = 2024-05-01 }
    bare  = {}
    """

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "components.toml"
        file.write_text(self.MANIFEST)
        return file

    def test_a_second_run_changes_nothing(self, imi: Imi, file: Path, remote: str) -> None:
        first = imi.data("components", "seed", file, "--project", remote)
        assert {n: first[n] for n in ("created", "updated", "unchanged")} == {
            "created": 4,
            "updated": 0,
            "unchanged": 0,
        }
        listed = imi.data("components", "list", "--project", remote, "--all")
        held = {component["name"]: component for component in listed["items"]}
        assert (held["api"]["path"], held["api"]["kind"], held["web"]["enabled"]) == (
            "services/api",
            "submodule",
            False,
        )
        assert held["tools"]["metadata"] == {"owner": "ada", "since": "2024-05-01"}
        assert (held["bare"]["path"], held["bare"]["kind"], held["bare"]["enabled"]) == (
            "bare",
            "local",
            True,
        )
        assert (
            imi("components", "seed", file, "--project", remote).out == "0 created, 0 updated, 4 unchanged\n"
        )
        assert imi.data("components", "list", "--project", remote, "--all") == listed, "not even updated_at"

    def test_only_what_the_manifest_changed_is_updated(self, imi: Imi, file: Path, remote: str) -> None:
        imi("components", "seed", file, "--project", remote)
        file.write_text(self.MANIFEST.replace("services/api", "api") + "new = { path = 'n' }\n")
        seeded = imi.data("components", "seed", file, "--project", remote)
        changed = {each["name"]: each["action"] for each in seeded["components"]}
        assert changed["api"] == "updated"
        assert changed["new"] == "created"
        assert seeded["unchanged"] == 3

    def test_a_dry_run_registers_nothing(self, imi: Imi, file: Path, remote: str) -> None:
        would = imi.data("components", "seed", file, "--project", remote, "--dry-run")
        assert (would["created"], would["project_id"], would["dry_run"]) == (4, None, True)
        assert imi.error(3, "projects", "get", remote)["code"] == "NOT_FOUND"
        seen = imi("components", "seed", file, "--project", remote, "--dry-run")
        assert seen.lines[-1] == "would be 4 created, 0 updated, 0 unchanged"

    def test_the_project_is_the_repository_that_holds_the_file(
        self, imi: Imi, git: Any, file: Path, remote: str
    ) -> None:
        assert "--project" in str(imi.error(2, "components", "seed", file)["hint"])
        git(file.parent, "init", "-q")
        assert "no remote" in str(imi.error(2, "components", "seed", file)["message"])
        git(file.parent, "remote", "add", "origin", remote)
        seeded = imi.data("components", "seed", file)
        assert imi.data("projects", "get", remote)["id"] == seeded["project_id"]

    def test_a_project_by_its_id(self, imi: Imi, file: Path, project: dict[str, Any]) -> None:
        would = imi.data("components", "seed", file, "--project", project["id"], "--dry-run")
        assert (would["project_id"], would["created"]) == (project["id"], 4)
        assert imi.data("components", "seed", file, "--project", project["remote_origin"])["created"] == 4
        assert imi.error(2, "components", "seed", file, "--project", "nonsense", "--dry-run")

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("[components", "is not TOML"),
            ("[other]", r"has no table \[components\]"),
            ("[components]\nx = 1", "component x is no table"),
            ("\udcff", "is not TOML"),
            (f"[components]\nx = {{ y = {'[' * 3000}{']' * 3000} }}", "is nested too deeply"),
            ("[components]\nx = { y = nan }", "component x holds a number that JSON has not"),
            ("[components]\nx = { path = inf }", "component x holds a number that JSON has not"),
        ],
    )
    def test_a_manifest_that_is_none(
        self, imi: Imi, file: Path, remote: str, text: str, message: str
    ) -> None:
        file.write_bytes(text.encode(errors="surrogateescape"))
        refused = imi.error(2, "components", "seed", file, "--project", remote)
        assert re.search(message, str(refused["message"]))

    def test_the_component_that_the_server_refuses_is_named(self, imi: Imi, file: Path, remote: str) -> None:
        file.write_text("[components]\nodd = { kind = 'unheard-of' }\n")
        refused = imi.error(2, "components", "seed", file, "--project", remote)
        assert str(refused["message"]).startswith("odd: ")


class TestKeysAndStats:
    def test_a_key_is_shown_once(self, imi: Imi) -> None:
        made = imi("keys", "create", "ci", "--scope", "write", "--expires-at", "2100-01-01T00:00:00Z")
        key = made.out.strip()
        assert re.fullmatch("imi_[0-9a-f]{64}", key)
        [listed] = [each for each in imi.data("keys", "list")["items"] if each["name"] == "ci"]
        assert (listed["scope"], "key" in listed) == ("write", False)
        assert key not in imi("keys", "list").out
        imi.data("work", "list", "--api-key", key)
        refused = imi.error(4, "keys", "list", "--api-key", key)
        assert (refused["code"], str(refused["hint"]).endswith("--scope admin")) == ("FORBIDDEN", True)
        assert imi.data("keys", "revoke", listed["id"]) is None
        assert imi("keys", "revoke", listed["id"]).out.startswith("revoked")

    def test_stats_counts(self, imi: Imi, item: dict[str, Any]) -> None:
        figures = imi.data("stats")
        assert figures["active_work_items"] >= 1
        lines = dict(line.rsplit(maxsplit=1) for line in imi("stats").lines if line[-1].isdigit())
        assert lines["total_projects"] == str(figures["total_projects"])
        assert lines["  clean"] == str(figures["work_items_by_status"]["clean"])

    def test_who_acts_stands_in_the_log(self, imi: Imi, item: dict[str, Any]) -> None:
        assert item["owner_id"] == "ada", "IMI_AGENT"
        other = imi.data("work", "start", item["project_id"], "y", "--agent", "grace")
        assert other["owner_id"] == "grace", "--agent comes first"
