"""sql/commands.sql: every command is answered once, done or failed."""

import json
import re
import uuid
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

REMOTE = "git@github.com:Acme/rocket.git"
README = Path(__file__).parents[2] / "README.md"


@pytest.fixture
def command(db):
    """`await command(name, payload)`: the type and payload of each answer; the answers are handled too."""

    async def send(name, payload, **more):
        event = {"event_id": str(uuid.uuid4()), "event_type": f"imi.cmd.{name}", "payload": payload} | more
        await db.execute("select logic.event_ingest(array[$1::jsonb], 'bus', '{}')", json.dumps(event))
        await db.execute(
            "select logic.handle_commands(events) from bloodbank.events where event_id = $1",
            event["event_id"],
        )
        answers = await db.fetch(
            "select * from bloodbank.events where event_type in ('imi.cmd.done', 'imi.cmd.failed') "
            "and correlation_ids = array[$1::uuid] order by position",
            event["event_id"],
        )
        before = await db.fetchval("select count(*) from bloodbank.events")
        for answer in answers:
            await db.execute(
                "select logic.handle_commands(events) from bloodbank.events where event_id = $1",
                answer["event_id"],
            )
        assert await db.fetchval("select count(*) from bloodbank.events") == before
        (answer,) = answers
        said = json.loads(answer["payload"])
        assert (said.pop("command"), said.pop("event_id")) == (event["event_type"], event["event_id"])
        send.event_id = event["event_id"]
        return answer["event_type"].removeprefix("imi.cmd."), said.get("result") or said["error"]

    return send


async def test_a_project_is_registered_and_again_still_done(command, events):
    outcome, made = await command("register_project", {"remote_origin": REMOTE, "name": "Rocket"})
    assert (outcome, made["name"]) == ("done", "Rocket")
    again = await command("register_project", {"remote_origin": "https://github.com/acme/rocket", "cups": 2})
    assert again == ("done", made)
    assert (await events()).count("imi.project.registered") == 1


async def test_work_is_started_by_remote_or_id_with_the_event_as_its_source(command, project):
    agent = {"type": "claude-code", "name": "claude-7"}
    outcome, item = await command(
        "start_work", {"remote_origin": REMOTE, "branch_name": "feat/a"}, agent_context=agent
    )
    assert (outcome, item["project_id"], item["owner_id"]) == ("done", project["id"], "claude-7")
    assert item["source"] == {"type": "bloodbank_command", "ref": command.event_id}
    given = {
        "project_id": project["id"],
        "branch_name": "feat/b",
        "owner_id": "ada",
        "source": {"type": "plane_ticket", "ref": "PROJ-1"},
        "work_type": "fix",
        "metadata": {"a": 1},
    }
    outcome, item = await command("start_work", given)
    assert outcome == "done" and item | given == item


async def test_what_the_work_does_is_caused_by_the_command(command, project, db):
    await command("start_work", {"remote_origin": REMOTE, "branch_name": "feat/a", "owner_id": "ada"})
    started = await db.fetchrow("select * from bloodbank.events where event_type = 'imi.work.started'")
    assert [str(each) for each in started["correlation_ids"]] == [command.event_id]


async def test_work_is_completed_by_id_or_branch_and_again_still_done(command, item):
    given = {"remote_origin": REMOTE, "branch_name": "feat/engine", "completion_type": "abandoned"}
    outcome, done = await command("complete_work", given)
    assert (outcome, done["id"], done["status"]) == ("done", item["id"], "abandoned")
    assert done["completion_evidence"] == {"rule": "imi.cmd.complete_work", "event_id": command.event_id}
    assert await command("complete_work", given) == ("done", done)
    by_id = {"work_item_id": item["id"], "completion_type": "merged"}
    assert (await command("complete_work", by_id))[1]["code"] == "CONFLICT"


async def test_a_ticket_is_linked_by_id_or_branch(command, item):
    given = {"plane_ticket_id": "PROJ-1", "ticket_title": "Fly"}
    by_branch = given | {"project_id": item["project_id"], "branch_name": "feat/engine"}
    outcome, link = await command("link_ticket", by_branch)
    assert (outcome, link["work_item_id"], link["ticket_title"]) == ("done", item["id"], "Fly")
    assert link["evidence"]["rule"] == "imi.cmd.link_ticket"
    assert await command("link_ticket", given | {"work_item_id": item["id"]}) == ("done", link)


NOBODY = "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10"


@pytest.mark.parametrize(
    ("name", "payload", "code", "message"),
    [
        ("fly", {"name": 2}, "UNKNOWN_COMMAND", "There is no command imi.cmd.fly"),
        ("register_project", {}, "VALIDATION_ERROR", "no remote_origin"),
        ("register_project", {"remote_origin": "nonsense"}, "INVALID_REMOTE_ORIGIN", "Not a git remote"),
        (
            "register_project",
            {"remote_origin": REMOTE, "name": 7},
            "VALIDATION_ERROR",
            "name is of another type",
        ),
        ("register_project", {"remote_origin": REMOTE, "project_id": NOBODY}, "FORBIDDEN", "admin key"),
        ("register_project", {"remote_origin": "/srv/x", "name": ""}, "VALIDATION_ERROR", "is_not_empty"),
        ("start_work", {"remote_origin": REMOTE}, "VALIDATION_ERROR", "no branch_name"),
        ("start_work", {"branch_name": "b"}, "VALIDATION_ERROR", "no remote_origin"),
        ("start_work", {"branch_name": "b", "project_id": "x"}, "VALIDATION_ERROR", "uuid"),
        ("start_work", {"branch_name": "b", "remote_origin": "/srv/none"}, "NOT_FOUND", "No project"),
        ("start_work", {"branch_name": "b", "project_id": NOBODY, "owner_id": "a"}, "NOT_FOUND", "Project"),
        ("start_work", {"branch_name": "b", "remote_origin": REMOTE}, "VALIDATION_ERROR", "needs an owner"),
        (
            "start_work",
            {"branch_name": "b", "remote_origin": REMOTE, "owner_id": "a", "work_type": "fun"},
            "VALIDATION_ERROR",
            "work_type_is_known",
        ),
        (
            "start_work",
            {"branch_name": "feat/engine", "remote_origin": REMOTE, "owner_id": "a"},
            "CONFLICT",
            "holds this branch",
        ),
        ("complete_work", {"work_item_id": NOBODY}, "VALIDATION_ERROR", "no completion_type"),
        ("complete_work", {"work_item_id": NOBODY, "completion_type": "merged"}, "NOT_FOUND", "Work item"),
        (
            "complete_work",
            {"remote_origin": REMOTE, "branch_name": "x", "completion_type": "merged"},
            "NOT_FOUND",
            "No work item has this branch",
        ),
        (
            "complete_work",
            {"remote_origin": REMOTE, "branch_name": "feat/engine", "completion_type": "gone"},
            "VALIDATION_ERROR",
            "completion_type_is_known",
        ),
        ("link_ticket", {"work_item_id": NOBODY, "plane_ticket_id": "P"}, "INVALID_REFERENCE", "work item"),
        (
            "link_ticket",
            {"work_item_id": NOBODY, "plane_ticket_id": ["P"]},
            "VALIDATION_ERROR",
            "another type",
        ),
    ],
)
async def test_what_a_request_would_be_refused_for_fails_at_once(
    db, command, item, events, name, payload, code, message
):
    before = await events()
    outcome, error = await command(name, payload)
    assert (outcome, error["code"]) == ("failed", code)
    assert message in error["message"]
    assert await events() == [*before, f"imi.cmd.{name}", "imi.cmd.failed"]
    assert await db.fetchval("select count(*) from bloodbank.dead_letters") == 0


async def test_another_fault_is_tried_thrice_then_answered_and_laid_aside(connect):
    owner = await connect()
    worker = await connect("worker")
    await owner.execute("create sequence imi.tries")
    # a fault that is nobody's mistake, each time the command gets as far as the event
    await owner.execute(
        "create function imi.burn() returns trigger language plpgsql as $$ begin "
        "perform nextval('imi.tries'); raise exception using errcode = 'XX001', message = 'the disk burns'; end $$; "
        "create trigger burns before insert on imi.projects for each row execute function imi.burn()"
    )
    event = {
        "event_id": str(uuid.uuid4()),
        "event_type": "imi.cmd.register_project",
        "timestamp": datetime.now(UTC).isoformat(),
        "payload": {"remote_origin": REMOTE},
    }
    try:
        await worker.execute("select logic.intake(array[$1])", json.dumps(event))
        said = json.loads(await worker.fetchval("select logic.subscription_run('imi.commands')"))
        assert (said["handled"], said["dead"]) == (0, 1)
        said = json.loads(await worker.fetchval("select logic.subscription_run('imi.commands')"))
        assert (said["handled"], said["dead"]) == (1, 0)
        assert await owner.fetchval("select last_value from imi.tries") == 3
        (letter,) = await owner.fetch("select * from bloodbank.dead_letters")
        assert (letter["subscription"], letter["reason"], letter["attempts"]) == (
            "imi.commands",
            "the disk burns",
            3,
        )
        (failed,) = await owner.fetch("select * from bloodbank.events where event_type = 'imi.cmd.failed'")
        assert json.loads(failed["payload"])["error"] == {
            "code": "INTERNAL_ERROR",
            "message": "the disk burns",
        }
        await owner.execute("drop trigger burns on imi.projects")
        assert await owner.fetchval("select ops.replay($1)", letter["id"]) == "replayed"
        assert (
            await owner.fetchval("select count(*) from bloodbank.events where event_type = 'imi.cmd.done'")
            == 1
        )
    finally:
        await owner.execute("drop function imi.burn() cascade; drop sequence imi.tries")


async def test_the_worker_sees_how_many_events_found_no_work(connect):
    owner: asyncpg.Connection = await connect()
    worker = await connect("worker")
    pushes = [
        {
            "event_id": str(uuid.uuid4()),
            "event_type": "git.push",
            "payload": {"repository": REMOTE, "branch": "nobody", "commits": []},
        }
        for _ in range(3)
    ]
    await worker.execute("select logic.intake($1)", [json.dumps(each) for each in pushes])
    await owner.execute("update bloodbank.subscriptions set position = 0 where name = 'imi.git_events'")
    said = json.loads(await worker.fetchval("select logic.subscription_run('imi.git_events')"))
    assert (said["handled"], said["passed"], said["dead"]) == (3, 3, 0)


async def test_the_one_in_the_readme(command):
    (text,) = re.findall(r"```json\n(\{\"event_id\".*?)```", README.read_text(), re.DOTALL)
    event = json.loads(text)
    await command("register_project", {"remote_origin": REMOTE})
    name = event.pop("event_type").removeprefix("imi.cmd.")
    outcome, made = await command(name, event.pop("payload"), **event)
    assert (outcome, made["branch_name"], made["owner_id"]) == ("done", "feat/telemetry", "ada")
