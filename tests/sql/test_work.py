"""sql/work.sql: starting, reporting, completing and finding work items."""

import itertools
import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused


def rule(completion, dirty, ahead, behind):
    """The status rule once more, written otherwise."""
    if completion:
        return completion
    if dirty:
        return "uncommitted"
    return {(True, True): "diverged", (True, False): "ahead", (False, True): "behind"}.get(
        (ahead > 0, behind > 0), "clean"
    )


async def test_status_and_in_flight_agree_for_every_combination(db, call, project):
    combinations = list(
        itertools.product(
            (None, "merged", "abandoned", "superseded"), (False, True), (0, 2), (0, 3), (False, True)
        )
    )
    for n, (completion, dirty, ahead, behind, active) in enumerate(combinations):
        await db.execute(
            """insert into imi.work_items (project_id, branch_name, owner_id, completion_type, completed_at,
                 has_uncommitted_changes, ahead_of_trunk, behind_trunk, active)
               values ($1, $2, 'x', $3, case when $3::text is not null then now() end, $4, $5, $6, $7)""",
            uuid.UUID(project["id"]), f"b{n}", completion, dirty, ahead, behind, active and completion is None,
        )  # fmt: skip
    rows = await db.fetch("""
        select w.*, logic.work_status(w) as status, w.id in (select id from logic.work_in_flight) as in_flight
        from imi.work_items w""")
    assert len(rows) == len(combinations)
    for row in rows:
        expected = rule(
            row["completion_type"], row["has_uncommitted_changes"], row["ahead_of_trunk"], row["behind_trunk"]
        )
        assert row["status"] == expected
        assert row["in_flight"] == (
            row["active"] and expected not in ("clean", "merged", "abandoned", "superseded")
        )
    statuses = {r["status"] for r in rows}
    assert len(statuses) == 8
    for status in statuses:
        listed = await call("api.work_list", status=status, active="all", limit=1000)
        assert listed["total"] == len(listed["items"]) == sum(r["status"] == status for r in rows)
    flying = await call("api.work_inflight", limit=1000)
    assert {i["id"] for i in flying["items"]} == {str(r["id"]) for r in rows if r["in_flight"]}


async def test_start_answers_the_whole_item_with_defaults(call, events, item, project):
    assert item["project_id"] == project["id"]
    assert (item["work_type"], item["source"], item["status"]) == (
        "feature",
        {"type": "manual", "ref": None},
        "clean",
    )
    assert (item["active"], item["claim"], item["metadata"]) == (True, None, {})
    assert await events() == ["imi.project.registered", "imi.work.started"]


async def test_the_owner_is_the_caller_unless_named(call, project):
    body = {"project_id": project["id"], "branch_name": "a"}
    made = await call("api.work_start", body=body, context=CONTEXT | {"agent_id": "grace"})
    assert made["body"]["owner_id"] == "grace"
    with refused(400, "VALIDATION_ERROR"):
        await call("api.work_start", body=body | {"branch_name": "b"})


async def test_one_active_item_a_branch(call, item):
    with refused(409, "CONFLICT") as error:
        await call(
            "api.work_start",
            body={"project_id": item["project_id"], "branch_name": item["branch_name"], "owner_id": "x"},
        )
    assert error["params"] == {"work_item_id": item["id"], "owner_id": "ada"}


async def test_a_completed_branch_can_be_started_again(call, item):
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "merged"})
    again = await call(
        "api.work_start",
        body={"project_id": item["project_id"], "branch_name": item["branch_name"], "owner_id": "x"},
    )
    assert again["status"] == 201


async def test_work_needs_an_active_project(call, project):
    with refused(404, "NOT_FOUND"):
        await call(
            "api.work_start", body={"project_id": str(uuid.uuid4()), "branch_name": "a", "owner_id": "x"}
        )


async def test_work_on_an_inactive_project_is_refused(call, project):
    await call("api.project_deactivate", project_id=project["id"], context=CONTEXT)
    with refused(404, "NOT_FOUND"):
        await call("api.work_start", body={"project_id": project["id"], "branch_name": "a", "owner_id": "x"})


async def test_completing_twice_fills_what_was_null_and_contradicts_nothing(call, events, item):
    async def complete(**completion):
        return await call("api.work_complete", work_item_id=item["id"], body=completion)

    done = await complete(completion_type="merged", evidence={"rule": "git", "test": "patch-id"})
    assert (done["status"], done["active"]) == ("merged", False)
    assert done["completion_evidence"] == {"rule": "git", "test": "patch-id"}
    assert done["completed_at"] is not None
    assert await complete(completion_type="merged", evidence={"rule": "other"}) == done
    filled = await complete(completion_type="merged", merge_commit_hash="ABC1234", merged_by="ada")
    assert (filled["merge_commit_hash"], filled["completed_at"]) == ("abc1234", done["completed_at"])
    assert (await events())[2:] == ["imi.work.completed", "imi.work.updated"]
    with refused(409, "CONFLICT"):
        await complete(completion_type="merged", merge_commit_hash="other12")


@pytest.mark.parametrize("function", ["work_update", "work_git_state_update"])
async def test_a_completed_item_changes_no_more(call, item, function):
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    with refused(409, "CONFLICT") as error:
        await call(f"api.{function}", work_item_id=item["id"], body={})
    assert error["params"]["completion_type"] == "abandoned"


async def test_another_completion_is_refused(call, item):
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    with refused(409, "CONFLICT"):
        await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "merged"})


async def test_update_replaces_and_clears(call, events, item):
    changed = await call(
        "api.work_update", work_item_id=item["id"],
        body={"owner_id": "grace", "host": "h", "worktree_path": "/w", "work_type": "fix", "metadata": {"a": 1}, "active": False},
    )  # fmt: skip
    assert (changed["owner_id"], changed["work_type"], changed["metadata"], changed["active"]) == (
        "grace",
        "fix",
        {"a": 1},
        True,
    )
    cleared = await call("api.work_update", work_item_id=item["id"], body={"host": None})
    assert (cleared["host"], cleared["worktree_path"]) == (None, "/w")
    assert await call("api.work_update", work_item_id=item["id"], body={}) == cleared
    assert (await events()).count("imi.work.updated") == 2


async def test_lists_filter_by_every_trait(call, project, item):
    other = (
        await call(
            "api.work_start",
            body={"project_id": project["id"], "branch_name": "fix/leak", "work_type": "fix", "owner_id": "grace", "host": "h2",
                  "source": {"type": "plane_ticket", "ref": "PROJ-1"}},
        )
    )["body"]  # fmt: skip
    for filters in (
        {"owner_id": "grace"},
        {"work_type": "fix"},
        {"source_ref": "PROJ-1"},
        {"host": "h2"},
        {"branch_name": "fix/leak"},
        {"limit": 1},
    ):
        assert [i["id"] for i in (await call("api.work_list", **filters))["items"]] == [other["id"]], filters
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "merged"})
    assert [i["id"] for i in (await call("api.work_list", status="merged"))["items"]] == [item["id"]]
    assert [i["id"] for i in (await call("api.work_list", active="false"))["items"]] == [item["id"]]
    assert (await call("api.work_list", project_id=project["id"]))["total"] == 1
    assert (await call("api.work_list", project_id=uuid.uuid4()))["total"] == 0


async def test_in_flight_says_its_age_and_the_age_of_its_facts(call, at, item):
    await at("2030-01-01T00:00:00Z")
    await call("api.work_git_state_update", work_item_id=item["id"], body={"ahead_of_trunk": 1})
    await at("2030-01-01T00:01:30.9Z")
    (flying,) = (await call("api.work_inflight", owner_id="ada"))["items"]
    assert flying["observed_age_seconds"] == 90
    assert flying["age_seconds"] > 90
    assert (await call("api.work_inflight", owner_id="grace"))["total"] == 0
    assert (await call("api.work_inflight", project_id=item["project_id"]))["total"] == 1


async def test_unknown_work_items(call):
    answer = await call("api.work_get", work_item_id=uuid.uuid4())
    assert (answer["status"], answer["body"]["detail"]["code"]) == (404, "NOT_FOUND")
    with refused(404, "NOT_FOUND"):
        await call("api.work_complete", work_item_id=uuid.uuid4(), body={"completion_type": "merged"})
