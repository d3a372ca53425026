"""sql/pull_requests.sql: what a pull request goes through, and what that does to its work item."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.sql.conftest import CONTEXT, refused

URL = "https://github.com/acme/rocket/pull/42"
LEGAL = {("open", "merged"), ("open", "closed"), ("closed", "open")}
STATES = ("open", "merged", "closed")
NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def pr(item):
    return {"work_item_id": item["id"], "pr_number": 42, "pr_url": URL}


@pytest.fixture
def happened(call, pr):
    """`await happened("git.pr.closed", minutes, pr_state=…)`: an event of that time says so."""

    async def say(rule, minutes, **changes):
        made = await call(
            "logic.link_pr", body=pr | changes, evidence={"rule": rule, "event_id": "e"},
            observed_at=NOW + timedelta(minutes=minutes), context=json.dumps(CONTEXT),
        )  # fmt: skip
        return await call("logic.pr_link_document", link_id=made["link_id"])

    return say


async def of_pr(events):
    return [e for e in await events() if e.startswith(("imi.pr.", "imi.work.c", "imi.work.u"))]


async def test_a_pr_is_linked_once_and_what_is_given_wins(call, events, pr):
    made = await call("api.link_pr", body=pr | {"pr_title": "Engine"})
    assert made["status"] == 201
    assert made["body"] | pr | {"pr_state": "open", "pr_title": "Engine", "metadata": {}} == made["body"]
    assert await call("api.link_pr", body=pr) == {"status": 200, "body": made["body"]}
    changed = await call("api.link_pr", body=pr | {"metadata": {"a": 1}})
    assert (changed["status"], changed["body"]["metadata"], changed["body"]["pr_title"]) == (
        200,
        {"a": 1},
        "Engine",
    )
    assert await of_pr(events) == ["imi.pr.created", "imi.pr.updated"]


@pytest.mark.parametrize("old", STATES)
@pytest.mark.parametrize("new", STATES)
async def test_people_take_legal_steps_only(call, events, pr, old, new):
    link = (await call("api.link_pr", body=pr | {"pr_state": old}))["body"]
    before = await of_pr(events)
    steps = [
        ("api.link_pr", {"body": pr | {"pr_state": new}}),
        ("api.link_pr_update", {"pr_link_id": link["id"], "body": {"pr_state": new}}),
    ]
    if old != new and (old, new) not in LEGAL:
        for function, arguments in steps:
            with refused(409, "CONFLICT") as error:
                await call(function, **arguments)
            assert error["params"] == {"pr_link_id": link["id"], "pr_state": old}
        assert await of_pr(events) == before
        return
    for function, arguments in steps:  # the second is a repeat
        answer = await call(function, **arguments)
        assert answer.get("body", answer)["pr_state"] == new
    name = {
        "merged": ["imi.pr.merged", "imi.work.completed"],
        "closed": ["imi.pr.closed"],
        "open": ["imi.pr.reopened"],
    }[new]
    assert (await of_pr(events))[len(before) :] == ([] if old == new else name)


async def test_a_repeat_writes_nothing(db, call, pr):
    link = (await call("api.link_pr", body=pr | {"pr_title": "t", "metadata": {"n": 1}}))["body"]
    versions = "select xmin, xmax, ctid, l.* from imi.pr_links l"
    before = await db.fetch(versions)
    assert (await call("api.link_pr", body=pr | {"pr_title": "t", "metadata": {"n": 1}}))["status"] == 200
    assert await call("api.link_pr_update", pr_link_id=link["id"], body={}) == link
    assert await db.fetch(versions) == before


@pytest.mark.parametrize(
    ("state", "more"),
    [("open", []), ("closed", ["imi.pr.closed"]), ("merged", ["imi.pr.merged", "imi.work.completed"])],
)
async def test_a_pr_first_seen_in_any_state_was_created(call, events, pr, state, more):
    assert (await call("api.link_pr", body=pr | {"pr_state": state}))["status"] == 201
    assert await of_pr(events) == ["imi.pr.created", *more]


async def test_a_merge_completes_the_work_item(call, item, pr):
    link = (await call("api.link_pr", body=pr))["body"]
    await call("api.work_claim", work_item_id=item["id"], body={"agent_id": "ada"})
    context = CONTEXT | {"request_id": "r-7"}
    merged = await call(
        "api.link_pr_update", pr_link_id=link["id"], body={"pr_state": "merged"}, context=context
    )
    done = (await call("api.work_get", work_item_id=item["id"]))["body"]
    assert (done["status"], done["completion_type"], done["active"], done["claim"]) == (
        "merged",
        "merged",
        False,
        None,
    )
    assert done["completion_evidence"] == {
        "rule": "pr_merged", "actor": "tester", "request_id": "r-7", "pr_link_id": link["id"], "pr_url": URL,
    }  # fmt: skip
    assert merged["evidence"]["rule"] == "api"
    assert merged["evidence"]["state"] | {"rule": "api", "request_id": "r-7"} == merged["evidence"]["state"]


async def test_a_merge_leaves_what_ended_otherwise(call, events, item, pr):
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    made = await call("api.link_pr", body=pr | {"pr_state": "merged"})
    assert made["body"]["pr_state"] == "merged"
    assert (await call("api.work_get", work_item_id=item["id"]))["body"]["status"] == "abandoned"
    assert (await of_pr(events))[-1] == "imi.pr.merged"


async def test_a_second_pr_of_the_item_contradicts_nothing(call, happened, events, item, pr):
    await happened("git.pr.merged", 0, pr_state="merged", merge_commit_hash="a" * 40, merged_by="ada")
    await happened(
        "git.pr.merged", 1, pr_url=URL + "0", pr_state="merged", merge_commit_hash="b" * 40, merged_by="bob"
    )
    done = (await call("api.work_get", work_item_id=item["id"]))["body"]
    assert (done["merge_commit_hash"], done["merged_by"]) == ("a" * 40, "ada")
    assert (await events()).count("imi.pr.merged") == 2
    assert (await events()).count("imi.work.completed") == 1


async def test_events_skip_steps_but_never_go_back(happened, events):
    assert (await happened("git.pr.opened", 0))["pr_state"] == "open"
    assert (await happened("git.pr.closed", 2, pr_state="closed"))["pr_state"] == "closed"
    late = await happened("git.pr.opened", 1, pr_state="open", pr_title="old title")
    assert (late["pr_state"], late["pr_title"]) == ("closed", None)
    assert (await happened("git.pr.reopened", 3, pr_state="open"))["pr_state"] == "open"
    assert (await happened("git.pr.closed", 4, pr_state="closed"))["pr_state"] == "closed"
    merged = await happened("git.pr.merged", 5, pr_state="merged")  # we never saw it reopen
    assert merged["pr_state"] == "merged"
    assert merged["evidence"] | {"rule": "git.pr.opened", "event_id": "e"} == merged["evidence"]
    assert merged["evidence"]["state"]["rule"] == "git.pr.merged"
    assert (await happened("git.pr.closed", 6, pr_state="closed")) == merged
    names = ["created", "closed", "reopened", "closed", "merged"]
    assert await of_pr(events) == [f"imi.pr.{n}" for n in names] + ["imi.work.completed"]


async def test_a_late_event_fills_what_the_person_who_merged_did_not_say(call, happened, events, item, pr):
    await call("api.link_pr", body=pr | {"pr_state": "merged"})
    link = await happened(
        "git.pr.merged",
        -60 * 24 * 4000,
        pr_state="merged",
        merge_commit_hash="a" * 40,
        merged_by="ada",
        pr_title="x",
    )
    assert link["pr_title"] is None
    done = (await call("api.work_get", work_item_id=item["id"]))["body"]
    assert (done["merge_commit_hash"], done["merged_by"]) == ("a" * 40, "ada")
    assert (await of_pr(events))[-2:] == ["imi.work.completed", "imi.work.updated"]


async def test_an_unknown_link(call):
    with refused(404, "NOT_FOUND"):
        await call("api.link_pr_update", pr_link_id=uuid.uuid4(), body={"pr_state": "merged"})
