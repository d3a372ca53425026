"""sql/worktrees.sql: folders that hold branches."""

import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused


@pytest.fixture
def body(project):
    return {
        "project_id": project["id"],
        "name": "feat-engine",
        "path": "/code/rocket/feat-engine",
        "host": "h1",
    }


@pytest.fixture
async def worktree(call, body):
    return (await call("api.worktree_register", body=body))["body"]


async def test_registering_again_fills_what_was_null(call, events, body, worktree, item):
    assert worktree["branch_name"] is None
    again = await call(
        "api.worktree_register", body=body | {"work_item_id": item["id"], "branch_name": "feat/engine"}
    )
    assert (again["status"], again["body"]["id"], again["body"]["work_item_id"]) == (
        200,
        worktree["id"],
        item["id"],
    )
    same = await call("api.worktree_register", body=body | {"branch_name": "other"})
    assert same["body"] == again["body"]
    assert [e for e in await events() if "worktree" in e] == ["imi.worktree.created", "imi.worktree.synced"]


async def test_a_path_of_another_worktree_is_refused(call, body, worktree):
    with refused(409, "CONFLICT") as error:
        await call("api.worktree_register", body=body | {"name": "other"})
    assert error["params"]["worktree_id"] == worktree["id"]


async def test_a_removed_worktree_frees_its_path(call, events, body, worktree):
    for _ in range(2):
        assert (await call("api.worktree_remove", worktree_id=worktree["id"], context=CONTEXT))[
            "status"
        ] == 204
    again = await call("api.worktree_register", body=body)
    assert again["status"] == 201
    assert again["body"]["id"] != worktree["id"]
    assert (await events()).count("imi.worktree.removed") == 1
    with refused(409, "CONFLICT"):
        await call("api.worktree_update", worktree_id=worktree["id"], body={"path": "/x"})
    listed = [(await call("api.worktree_list", active=a))["total"] for a in (None, "false", "all")]
    assert listed == [1, 1, 2]


async def test_update_is_an_event_but_being_looked_at_is_not(call, events, worktree):
    seen = await call(
        "api.worktree_update", worktree_id=worktree["id"], body={"last_accessed": "2030-01-01T00:00:00Z"}
    )
    assert seen["last_accessed"] == "2030-01-01T00:00:00+00:00"
    moved = await call(
        "api.worktree_update", worktree_id=worktree["id"], body={"path": "/new", "metadata": {"a": 1}}
    )
    assert (moved["path"], moved["metadata"], moved["last_accessed"]) == (
        "/new",
        {"a": 1},
        seen["last_accessed"],
    )
    assert [e for e in await events() if "worktree" in e] == ["imi.worktree.created", "imi.worktree.synced"]


async def test_lists_filter(call, project, worktree, item, body):
    await call(
        "api.worktree_register",
        body=body | {"name": "n2", "path": "/p2", "host": "h2", "work_item_id": item["id"]},
    )
    for filters in ({"host": "h2"}, {"path": "/p2"}, {"work_item_id": item["id"]}, {"limit": 1}):
        assert [w["name"] for w in (await call("api.worktree_list", **filters))["items"]] == ["n2"], filters
    assert (await call("api.worktree_list", project_id=project["id"]))["total"] == 2


@pytest.mark.parametrize("function", ["worktree_update", "worktree_remove"])
async def test_unknown_worktrees(call, function):
    extra = {"body": {}} if function == "worktree_update" else {"context": CONTEXT}
    with refused(404, "NOT_FOUND"):
        await call(f"api.{function}", worktree_id=uuid.uuid4(), **extra)


async def test_conflicts_and_references_name_the_row(call, body, worktree):
    with refused(409, "CONFLICT") as error:
        await call("api.worktree_register", body=body | {"path": "/elsewhere"})
    assert error["params"]["worktree_id"] == worktree["id"]
    other = (await call("api.worktree_register", body=body | {"path": "/elsewhere", "name": "other"}))["body"]
    with refused(409, "CONFLICT") as error:
        await call("api.worktree_update", worktree_id=other["id"], body={"path": body["path"]})
    assert error["params"]["worktree_id"] == worktree["id"]
    for name in ("project_id", "work_item_id"):
        stranger = str(uuid.uuid4())
        with refused(400, "INVALID_REFERENCE") as error:
            await call("api.worktree_register", body=body | {"path": "/new", "name": "new", name: stranger})
        assert error["params"] == {name: stranger}


WORK = {"work_type": "fix", "source": {"type": "manual", "ref": "reconcile"}, "owner_id": "ada"}


async def test_with_work_the_branch_gets_its_item_ticket_and_state(call, events, body):
    state = {"uncommitted_files_count": 2, "last_commit_hash": "9FCEB02"}
    work = WORK | {"plane_ticket_id": "PROJ-1", "git_state": state}
    made = (await call("api.worktree_register", body=body | {"branch_name": "fix/a", "work": work}))["body"]
    item = (await call("api.work_get", work_item_id=made["work_item_id"]))["body"]
    told = ("work_type", "owner_id", "status", "last_commit_hash", "worktree_path", "host")
    assert [item[name] for name in told] == ["fix", "ada", "uncommitted", "9fceb02", body["path"], "h1"]
    assert [link["plane_ticket_id"] for link in item["links"]["tickets"]] == ["PROJ-1"]
    assert (await events())[1:] == [
        "imi.work.started",
        "imi.worktree.created",
        "imi.link.ticket_linked",
    ]


async def test_with_work_an_active_item_goes_on_and_an_ended_one_is_followed(call, body, project, item):
    given = body | {"branch_name": "feat/engine", "work": WORK}
    first = (await call("api.worktree_register", body=given))["body"]
    assert first["work_item_id"] == item["id"]
    assert (await call("api.work_get", work_item_id=item["id"]))["body"]["work_type"] == "feature"
    again = await call("api.worktree_register", body=given)
    assert (again["status"], again["body"]) == (200, first)
    await call("api.work_complete", work_item_id=item["id"], body={"completion_type": "abandoned"})
    new = (await call("api.worktree_register", body=given))["body"]
    assert (new["id"], new["work_item_id"] != item["id"]) == (first["id"], True)
    switched = given | {"branch_name": "feat/x", "metadata": {"observed_at": "now"}}
    other = (await call("api.worktree_register", body=switched))["body"]
    (started,) = (await call("api.work_list", branch_name="feat/x"))["items"]
    told = (other["id"], other["branch_name"], other["work_item_id"], other["metadata"])
    assert told == (first["id"], "feat/x", started["id"], {"observed_at": "now"})


async def test_registering_looks_at_few_rows_however_many_there_are(call, db, body):
    for number in range(200):
        await call("api.worktree_register", body=body | {"path": f"/{number}", "name": f"n{number}"})
    looked_at = (
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'worktrees'"
    )
    assert await db.fetchval(looked_at) < 2000


async def test_work_is_of_a_branch_and_stands_for_the_item(call, body, item):
    for wrong in ({"work": {}}, {"work": {}, "branch_name": "feat/engine", "work_item_id": item["id"]}):
        with refused(400, "VALIDATION_ERROR") as error:
            await call("api.worktree_register", body=body | wrong)
        assert error["params"]["errors"][0]["path"] == "work"
