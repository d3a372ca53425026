"""sql/links.sql: tickets and deploys of work items."""

import json
import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused

COMMIT = "9fceb02d0ae598e95dc970b74767f19372d61af8"


@pytest.fixture
def ticket(item):
    return {"work_item_id": item["id"], "plane_ticket_id": "PROJ-123"}


@pytest.fixture
def deploy(item):
    return {
        "work_item_id": item["id"],
        "deploy_id": "d-1",
        "environment": "production",
        "commit_hash": COMMIT,
    }


async def test_a_ticket_is_linked_once_and_what_is_given_wins(call, events, ticket):
    made = await call("api.link_ticket", body=ticket | {"ticket_title": "Engine", "metadata": {"a": 1}})
    assert made["status"] == 201
    assert (
        made["body"] | ticket | {"ticket_title": "Engine", "ticket_url": None, "metadata": {"a": 1}}
        == made["body"]
    )
    again = await call("api.link_ticket", body=ticket)
    assert again == {"status": 200, "body": made["body"]}
    changed = await call("api.link_ticket", body=ticket | {"ticket_state": "done", "ticket_title": None})
    assert (changed["status"], changed["body"]["id"]) == (200, made["body"]["id"])
    assert (changed["body"]["ticket_title"], changed["body"]["ticket_state"]) == (None, "done")
    assert changed["body"]["metadata"] == {"a": 1}
    assert [e for e in await events() if "link" in e] == ["imi.link.ticket_linked", "imi.link.ticket_updated"]


async def test_a_repeat_writes_nothing(db, call, ticket, deploy):
    for function, body in (
        ("ticket", ticket | {"ticket_url": "https://plane/1"}),
        ("deploy", deploy | {"metadata": {"n": 1}}),
    ):
        await call(f"api.link_{function}", body=body)
        versions = f"select xmin, xmax, ctid, l.* from imi.{function}_links l"
        before = await db.fetch(versions)
        assert (await call(f"api.link_{function}", body=body))["status"] == 200
        assert await db.fetch(versions) == before


async def test_the_event_carries_the_link_as_the_api_shows_it(db, call, ticket):
    cause = str(uuid.uuid4())
    context = CONTEXT | {"correlation_ids": [cause], "request_id": "r-1"}
    link = (await call("api.link_ticket", body=ticket, context=context))["body"]
    event = await db.fetchrow("select * from bloodbank.events order by position desc limit 1")
    assert json.loads(event["payload"]) == link
    assert [str(c) for c in event["correlation_ids"]] == [cause]
    assert link["evidence"] == {
        "rule": "api",
        "actor": "tester",
        "request_id": "r-1",
        "at": link["evidence"]["at"],
    }


async def test_a_deploy_keeps_its_commit(call, events, deploy):
    made = await call("api.link_deploy", body=deploy | {"commit_hash": COMMIT.upper()})
    assert (made["status"], made["body"]["commit_hash"], made["body"]["metadata"]) == (201, COMMIT, {})
    assert (await call("api.link_deploy", body=deploy)) == {"status": 200, "body": made["body"]}
    for extra in ({}, {"metadata": {"b": 2}}):
        with refused(409, "CONFLICT") as error:
            await call("api.link_deploy", body=deploy | {"commit_hash": "abcdef0"} | extra)
        assert error["params"] == {"deploy_link_id": made["body"]["id"], "commit_hash": COMMIT}
    later = await call("api.link_deploy", body=deploy | {"deployed_at": "2026-03-01T10:00:00Z"})
    assert (later["status"], later["body"]["deployed_at"]) == (200, "2026-03-01T10:00:00+00:00")
    staging = await call(
        "api.link_deploy", body=deploy | {"environment": "staging", "commit_hash": "abcdef0"}
    )
    assert staging["status"] == 201
    expected = ["imi.deploy.completed", "imi.deploy.updated", "imi.deploy.completed"]
    assert [e for e in await events() if "deploy" in e] == expected


@pytest.mark.parametrize(
    ("function", "body"),
    [
        ("link_ticket", {"plane_ticket_id": "P-1"}),
        ("link_pr", {"pr_number": 1, "pr_url": "https://x/1"}),
        ("link_deploy", {"deploy_id": "d", "environment": "e", "commit_hash": COMMIT}),
    ],
)
async def test_a_work_item_that_is_not_there(call, function, body):
    stranger = str(uuid.uuid4())
    with refused(400, "INVALID_REFERENCE") as error:
        await call(f"api.{function}", body=body | {"work_item_id": stranger})
    assert error["params"] == {"work_item_id": stranger}


async def test_all_links_of_a_work_item_newest_first(call, item, ticket, deploy):
    nothing = {"tickets": [], "prs": [], "deploys": []}
    assert await call("api.link_list", work_item_id=item["id"]) == nothing
    for n in range(2):
        await call("api.link_ticket", body=ticket | {"plane_ticket_id": f"P-{n}"})
    pr = await call("api.link_pr", body={"work_item_id": item["id"], "pr_number": 4, "pr_url": "https://x/4"})
    made = await call("api.link_deploy", body=deploy)
    links = await call("api.link_list", work_item_id=item["id"])
    assert [t["plane_ticket_id"] for t in links["tickets"]] == ["P-1", "P-0"]
    assert (links["prs"], links["deploys"]) == ([pr["body"]], [made["body"]])
    assert (await call("api.work_get", work_item_id=item["id"]))["body"]["links"] == links
    with refused(404, "NOT_FOUND"):
        await call("api.link_list", work_item_id=uuid.uuid4())


async def test_work_items_of_a_ticket(call, project, item, ticket):
    await call("api.link_ticket", body=ticket)
    body = {"project_id": project["id"], "branch_name": "feat/nozzle", "owner_id": "bob"}
    other = (await call("api.work_start", body=body))["body"]
    await call("api.link_ticket", body=ticket | {"work_item_id": other["id"]})
    page = await call("api.link_ticket_work_items", plane_ticket_id="PROJ-123")
    assert (page["total"], page["items"]) == (2, [other, item])
    second = await call("api.link_ticket_work_items", plane_ticket_id="PROJ-123", offset=1, limit=1)
    assert (second["total"], second["offset"], second["items"]) == (2, 1, [item])
    assert (await call("api.link_ticket_work_items", plane_ticket_id="PROJ-9"))["items"] == []
