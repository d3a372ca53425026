"""sql/handlers.sql: what events of git hosts, Plane, tools and CI change."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
REMOTE = "https://github.com/Acme/rocket"
URL = "https://github.com/acme/rocket/pull/42"
HANDLERS = {"plane": "plane", "git": "git", "tool": "mutation", "ci": "deploy"}
SHA = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def happens(db):
    """`await happens(type, payload, minutes)`: the event of that time is handled; whether it found no work."""

    async def happen(event_type, payload, minutes=0, **more):
        envelope = {
            "event_id": str(uuid.uuid4()),
            "event_type": event_type,
            "timestamp": (NOW + timedelta(minutes=minutes)).isoformat(),
            "payload": payload,
        } | more
        await db.execute("select logic.event_ingest(array[$1::jsonb], 'bus', '{}')", json.dumps(envelope))
        await db.execute("select set_config('imi.passed', '0', true)")
        handler = HANDLERS[event_type.partition(".")[0]]
        async with db.transaction():
            await db.execute(
                f"select logic.handle_{handler}(events) from bloodbank.events where event_id = $1",
                envelope["event_id"],
            )
        happen.event_id = envelope["event_id"]
        return await db.fetchval("select current_setting('imi.passed')") == "1"

    return happen


@pytest.fixture
def made(db):
    """What iMi has published, in log order: type, payload and causes."""

    async def events(prefix):
        rows = await db.fetch(
            "select event_type, payload, correlation_ids from bloodbank.events where starts_with(event_type, $1) "
            "order by position",
            prefix,
        )
        return [
            (row["event_type"], json.loads(row["payload"]), [str(each) for each in row["correlation_ids"]])
            for row in rows
        ]

    return events


async def work(call, item):
    return (await call("api.work_get", work_item_id=item["id"]))["body"]


def push(*ids, **more):
    commits = [
        {"id": each, "message": f"Say {each[0]}", "author": "ada", "timestamp": "2026-05-01T11:00:00Z"}
        for each in ids
    ]
    return {"repository": {"remote_url": REMOTE}, "branch": "feat/engine", "commits": commits} | more


async def test_a_push_moves_the_last_commit_of_its_branch(call, item, happens, made):
    assert not await happens("git.push", push("a" * 40, "b" * 40), 0)
    now = await work(call, item)
    assert (now["last_commit_hash"], now["last_commit_message"]) == ("b" * 40, "Say b")
    assert datetime.fromisoformat(now["last_sync_at"]) == NOW
    (event,) = await made("imi.work.git_state")
    assert event[2] == [happens.event_id]


@pytest.mark.parametrize("branch", [{"branch": "refs/heads/feat/engine"}, {"ref": "refs/heads/feat/engine"}])
@pytest.mark.parametrize(
    "repo",
    [
        {"repository": "git@github.com:acme/rocket.git"},
        {"repo": {"remote_url": "ssh://git@github.com/acme/rocket"}},
        {"repo": "https://github.com/acme/rocket.git"},
    ],
)
async def test_a_push_is_understood_in_each_spelling(call, item, happens, branch, repo):
    payload = {"commits": [{"id": "C" * 40, "message": "m"}], "after": "C" * 40} | branch | repo
    assert not await happens("git.push", payload)
    assert (await work(call, item))["last_commit_hash"] == "c" * 40


async def test_the_commit_of_a_push_is_the_one_named_after(call, item, happens):
    await happens("git.push", push("a" * 40, "b" * 40, after="a" * 40))
    assert (await work(call, item))["last_commit_message"] == "Say a"
    await happens("git.push", push(after="d" * 40), 1)
    now = await work(call, item)
    assert (now["last_commit_hash"], now["last_commit_message"]) == ("d" * 40, None)


async def test_a_push_without_commits_keeps_what_is_known(call, item, happens):
    await happens("git.push", push("a" * 40))
    await happens("git.push", push(after="A" * 40), 1)
    await happens("git.push", push(), 2)
    now = await work(call, item)
    assert (now["last_commit_hash"], now["last_commit_message"]) == ("a" * 40, "Say a")
    assert datetime.fromisoformat(now["last_sync_at"]) == NOW + timedelta(minutes=2)


async def test_late_pushes_deleted_branches_and_tags_change_nothing(call, item, happens):
    await happens("git.push", push("b" * 40), 5)
    before = await work(call, item)
    for payload, minutes in (
        (push("a" * 40), 4),
        (push(after="0" * 40), 6),
        (push("a" * 40, branch="refs/tags/feat/engine"), 6),
    ):
        assert not await happens("git.push", payload, minutes)
    assert await work(call, item) == before


async def test_a_clock_that_is_ahead_does_not_win_for_ever(db, call, item, happens):
    century = 50_000_000  # minutes
    given = {"work_item_id": item["id"], "plane_ticket_id": "PROJ-1"}
    await call("api.link_ticket", body=given)
    await happens("git.push", push("a" * 40), century)
    await happens("git.pr.opened", pr(), century)
    await happens("plane.ticket.updated", ticket(state="Doing"), century)
    later = int((datetime.now(UTC) - NOW).total_seconds() / 60) + 1
    await happens("git.push", push("b" * 40), later)
    await happens("git.pr.closed", pr(), later)
    await happens("plane.ticket.updated", ticket(state="Done"), later)
    now = await work(call, item)
    assert now["last_commit_hash"] == "b" * 40
    assert now["links"]["prs"][0]["pr_state"] == "closed"
    assert now["links"]["tickets"][0]["ticket_state"] == "Done"


@pytest.mark.parametrize(
    "payload",
    [
        push("a" * 40, branch="other"),
        push("a" * 40, repository={"remote_url": "https://github.com/acme/other"}),
        push("a" * 40, repository=None),
        push("a" * 40, branch=None),
    ],
)
async def test_what_is_nobodys_here_is_passed_over(call, item, happens, payload):
    assert await happens("git.push", payload)


@pytest.mark.parametrize(
    ("event_type", "payload", "missing"),
    [
        ("git.push", {"branch": "b", "commits": []}, "repository"),
        ("git.push", {"repository": {}, "branch": "feat/engine", "commits": []}, "repository.remote_url"),
        ("git.push", {"repo": {}, "branch": "feat/engine", "commits": []}, "repo.remote_url"),
        ("git.push", {"repository": REMOTE, "commits": []}, "branch"),
        ("git.push", {"repository": REMOTE, "branch": "feat/engine"}, "commits"),
        ("git.pr.opened", {"repository": REMOTE, "number": 1, "head_branch": "b"}, "url"),
        ("git.pr.opened", {"repository": REMOTE, "url": URL, "head_branch": "b"}, "number"),
        ("git.pr.merged", {"repository": REMOTE, "url": URL, "number": 1}, "head_branch"),
        ("git.pr.closed", {"url": URL, "number": 1, "head_branch": "b"}, "repository"),
        ("plane.ticket.created", {"title": "t"}, "ticket_id"),
        ("tool.mutation.edit", {"tool_name": "Edit"}, "repo"),
        ("tool.mutation.edit", {"repo": {"remote_url": REMOTE}}, "repo.branch"),
        ("tool.mutation.edit", {"repo": {"branch": "b"}}, "repo.remote_url"),
        ("ci.deploy.completed", {"environment": "p", "commit_hash": SHA, "repository": REMOTE}, "deploy_id"),
        ("ci.deploy.completed", {"deploy_id": "d", "commit_hash": SHA, "repository": REMOTE}, "environment"),
        ("ci.deploy.completed", {"deploy_id": "d", "environment": "p", "repository": REMOTE}, "commit_hash"),
        ("ci.deploy.completed", {"deploy_id": "d", "environment": "p", "commit_hash": SHA}, "repository"),
    ],
)
async def test_a_key_that_is_needed_and_missing_is_named(item, happens, event_type, payload, missing):
    with pytest.raises(asyncpg.PostgresError, match=rf"The payload has no {missing}\n"):
        await happens(event_type, payload)


def pr(**more):
    return {
        "repository": {"remote_url": REMOTE},
        "number": 42,
        "url": URL,
        "title": "Engine",
        "head_branch": "feat/engine",
        "base_branch": "main",
    } | more


async def test_a_pull_request_is_linked_and_its_merge_completes_the_work(call, item, happens, made):
    assert not await happens("git.pr.opened", pr())
    (link,) = (await work(call, item))["links"]["prs"]
    assert (link["pr_number"], link["pr_state"], link["pr_title"]) == (42, "open", "Engine")
    assert link["evidence"]["rule"] == "git.pr.opened" and link["evidence"]["event_id"] == happens.event_id
    await happens("git.pr.merged", pr(merge_commit_sha=SHA, merged_by="grace"), 1)
    now = await work(call, item)
    assert (now["status"], now["merge_commit_hash"], now["merged_by"]) == ("merged", SHA, "grace")
    assert now["links"]["prs"][0]["pr_state"] == "merged"
    assert [each[0] for each in await made("imi.pr.")] == ["imi.pr.created", "imi.pr.merged"]
    (completed,) = await made("imi.work.completed")
    assert completed[2] == [happens.event_id]


async def test_one_first_seen_merged_was_also_created(call, item, happens, made):
    await happens("git.pr.merged", pr(merge_commit_sha=SHA, merged_by="grace"))
    assert [each[0] for each in await made("imi.pr.")] == ["imi.pr.created", "imi.pr.merged"]
    assert (await work(call, item))["status"] == "merged"
    await happens("git.pr.opened", pr(), -1)
    assert len(await made("imi.pr.")) == 2


async def test_a_pull_request_closes_and_opens_again_and_late_news_are_passed_over(call, item, happens, made):
    for event_type, minutes in (("opened", 0), ("closed", 5), ("opened", 1), ("reopened", 6), ("closed", 4)):
        await happens(f"git.pr.{event_type}", pr(), minutes)
    assert [each[0] for each in await made("imi.pr.")] == [
        "imi.pr.created",
        "imi.pr.closed",
        "imi.pr.reopened",
    ]


async def test_a_merge_after_the_end_of_its_work_goes_to_the_work_that_it_was_opened_for(call, item, happens):
    await happens("git.pr.opened", pr())
    done = {"completion_type": "abandoned"}
    await call("api.work_complete", work_item_id=item["id"], body=done)
    again = await call(
        "api.work_start",
        body={"project_id": item["project_id"], "branch_name": "feat/engine", "owner_id": "grace"},
    )
    assert not await happens("git.pr.merged", pr(merge_commit_sha=SHA), 1)
    old, new = await work(call, item), await work(call, again["body"])
    assert (old["status"], old["links"]["prs"][0]["pr_state"]) == ("abandoned", "merged")
    assert (new["active"], new["links"]["prs"]) == (True, [])


async def test_a_pull_request_of_a_strange_branch_or_of_another_kind_changes_nothing(happens, item, made):
    assert await happens("git.pr.opened", pr(head_branch="other"))
    assert not await happens("git.pr.labeled", {})
    assert await made("imi.pr.") == []


@pytest.fixture
async def served(call, project):
    """Work that says that it serves ticket PROJ-1."""
    body = {
        "project_id": project["id"],
        "branch_name": "feat/ticket",
        "owner_id": "ada",
        "source": {"type": "plane_ticket", "ref": "PROJ-1"},
    }
    return (await call("api.work_start", body=body))["body"]


def ticket(**more):
    return {"ticket_id": "PROJ-1", "title": "Fly", "url": "https://plane.so/PROJ-1", "state": "Todo"} | more


async def test_a_ticket_is_linked_to_the_work_whose_source_it_is(call, served, item, happens, made):
    assert not await happens("plane.ticket.created", ticket())
    (link,) = (await work(call, served))["links"]["tickets"]
    assert (link["plane_ticket_id"], link["ticket_title"], link["ticket_state"]) == ("PROJ-1", "Fly", "Todo")
    assert link["evidence"] == {
        "rule": "plane.ticket.created",
        "event_id": happens.event_id,
        "at": link["evidence"]["at"],
    }
    assert (await work(call, item))["links"]["tickets"] == []
    assert [each[0] for each in await made("imi.link.")] == ["imi.link.ticket_linked"]


async def test_a_ticket_that_nobody_works_for_is_passed_over(served, happens, made):
    assert await happens("plane.ticket.created", ticket(ticket_id="PROJ-2"))
    assert await happens("plane.ticket.updated", ticket(state="Done"))
    assert not await happens("plane.ticket.deleted", {})
    assert await made("imi.link.") == []


async def test_a_ticket_that_changes_changes_its_links_and_late_news_do_not(call, item, happens, made):
    given = {"work_item_id": item["id"], "plane_ticket_id": "PROJ-1"}
    await call("api.link_ticket", body=given)
    await happens("plane.ticket.updated", ticket(state="Doing"), 0)
    await happens("plane.ticket.updated", ticket(state="Done", title=None), 9)
    await happens("plane.ticket.updated", ticket(state="Doing"), 5)
    (link,) = (await work(call, item))["links"]["tickets"]
    assert (link["ticket_title"], link["ticket_state"]) == ("Fly", "Done")
    assert datetime.fromisoformat(link["evidence"]["state"]["at"]) == NOW + timedelta(minutes=9)
    assert link["evidence"]["rule"] == "api"
    await call("api.link_ticket", body=given | {"ticket_state": "Mine"})
    assert len(await made("imi.link.ticket_updated")) == 3


def mutation(**more):
    return {
        "tool_name": "Edit",
        "agent_id": "claude-7",
        "repo": {
            "git_root": "/home/ada/rocket",
            "branch": "feat/engine",
            "head_sha": SHA,
            "remote_url": REMOTE,
        },
        "file_path": "/home/ada/rocket/src/engine.c",
        "lines_changed": 3,
    } | more


async def test_a_mutation_is_a_sign_of_life_and_a_touched_file(db, call, item, happens, made):
    before = await made("imi.")
    assert not await happens("tool.mutation.edit", mutation())
    now = await work(call, item)
    assert datetime.fromisoformat(now["last_sync_at"]) == NOW
    assert now["last_commit_hash"] is None
    (row,) = await db.fetch("select * from imi.activities")
    assert (str(row["id"]), str(row["work_item_id"]), row["agent_id"]) == (
        happens.event_id,
        item["id"],
        "claude-7",
    )
    assert (row["activity_type"], row["path"], row["occurred_at"]) == ("file_change", "src/engine.c", NOW)
    assert json.loads(row["details"]) == {"tool_name": "Edit", "lines_changed": 3, "head_sha": SHA}
    assert await db.fetchval("select true from imi.agents where id = 'claude-7'")
    assert await made("imi.") == before
    await happens("tool.mutation.edit", mutation(file_path="README"), -5)
    assert datetime.fromisoformat((await work(call, item))["last_sync_at"]) == NOW
    assert await db.fetchval("select count(*) from imi.activities where path = 'README'") == 1


@pytest.mark.parametrize(
    "repo", [None, {"remote_url": REMOTE, "branch": "x"}, {"remote_url": None, "branch": "x"}]
)
async def test_a_mutation_elsewhere_is_a_sign_of_its_agent_alone(db, item, happens, repo):
    assert await happens("tool.mutation.write", mutation(repo=repo))
    assert await db.fetchval("select count(*) from imi.activities") == 0
    assert await db.fetchval("select true from imi.agents where id = 'claude-7'")


async def test_the_agent_of_a_mutation_may_stand_in_the_envelope(db, item, happens):
    payload = {key: value for key, value in mutation().items() if key != "agent_id"}
    await happens("tool.mutation.edit", payload, agent_context={"type": "claude-code", "name": "grace-hook"})
    assert await db.fetchval("select agent_id from imi.activities") == "grace-hook"


def deploy(**more):
    return {
        "deploy_id": "d1",
        "environment": "production",
        "commit_hash": SHA,
        "repository": {"remote_url": REMOTE},
        "deployed_at": "2026-05-01T11:59:00Z",
    } | more


async def deploys(call, item):
    return [
        (each["deploy_id"], each["commit_hash"], each["evidence"].get("matched"))
        for each in (await work(call, item))["links"]["deploys"]
    ]


async def test_a_deploy_is_linked_by_last_commit_merge_commit_or_pull_request(call, project, happens, made):
    items = {}
    for branch in ("last", "merged", "pr", "none"):
        body = {"project_id": project["id"], "branch_name": branch, "owner_id": "ada"}
        items[branch] = (await call("api.work_start", body=body))["body"]
    await call(
        "api.work_git_state_update", work_item_id=items["last"]["id"], body={"last_commit_hash": "a" * 40}
    )
    await call(
        "api.work_complete",
        work_item_id=items["merged"]["id"],
        body={"completion_type": "merged", "merge_commit_hash": "b" * 40},
    )
    await call("api.link_pr", body={"work_item_id": items["pr"]["id"], "pr_number": 7, "pr_url": URL})
    payload = deploy(commits=["A" * 40, {"id": "b" * 40}], pr_numbers=[7, 8])
    assert not await happens("ci.deploy.completed", payload)
    assert await deploys(call, items["last"]) == [("d1", SHA, "last_commit")]
    assert await deploys(call, items["merged"]) == [("d1", SHA, "merge_commit")]
    assert await deploys(call, items["pr"]) == [("d1", SHA, "pr")]
    assert await deploys(call, items["none"]) == []
    assert {each[2][0] for each in await made("imi.deploy.completed")} == {happens.event_id}


async def test_a_deploy_of_another_project_or_of_nothing_known_is_not_guessed(call, project, item, happens):
    await call("api.work_git_state_update", work_item_id=item["id"], body={"last_commit_hash": SHA})
    await call("api.project_register", body={"remote_origin": "https://github.com/acme/other"})
    for payload in (
        deploy(repository="https://github.com/acme/other"),
        deploy(commit_hash="f" * 40, commits=["012345"], pr_numbers=None),
    ):
        assert await happens("ci.deploy.completed", payload)
    assert await deploys(call, item) == []
    assert not await happens("ci.deploy.failed", {})


async def test_a_deploy_without_its_time_was_when_it_was_said(call, item, happens):
    await call("api.work_git_state_update", work_item_id=item["id"], body={"last_commit_hash": SHA[:10]})
    await happens("ci.deploy.completed", deploy(deployed_at=None))
    (link,) = (await work(call, item))["links"]["deploys"]
    assert datetime.fromisoformat(link["deployed_at"]) == NOW
