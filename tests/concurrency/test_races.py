"""What must hold however calls interleave."""

import collections
import json
import uuid

from tests.concurrency.conftest import api, code
from tests.sql.test_remotes import SPELLINGS


async def count(connect, event_type, entity_id):
    """Events of a type about an entity."""
    connection = await connect()
    return await connection.fetchval(
        "select count(*) from bloodbank.events where event_type = $1 and payload ->> 'id' = $2",
        event_type,
        entity_id,
    )


async def make_project(connect):
    connection = await connect()
    made = await api(
        connection, "project_register", body={"remote_origin": f"https://h.example/{uuid.uuid4()}"}
    )
    return made["body"]


async def make_item(connect, project=None, branch="feat/x"):
    connection = await connect()
    project = project or await make_project(connect)
    made = await api(
        connection, "work_start", body={"project_id": project["id"], "branch_name": branch, "owner_id": "ada"}
    )
    return made["body"]


async def test_48_registrations_of_six_spellings_make_one_project(connect, race):
    def register(spelling):
        return lambda connection: api(connection, "project_register", body={"remote_origin": spelling})

    answers = await race([register(SPELLINGS[n % 6]) for n in range(48)])
    assert collections.Counter(a["status"] for a in answers) == {201: 1, 200: 47}
    (only,) = {a["body"]["id"] for a in answers}
    assert await count(connect, "imi.project.registered", only) == 1
    connection = await connect()
    assert await connection.fetchval("select count(*) from imi.projects where id = $1", uuid.UUID(only)) == 1


async def test_a_revival_raced_by_many_is_one_event(connect, race):
    project = await make_project(connect)
    await api(await connect(), "project_deactivate", project_id=uuid.UUID(project["id"]))
    answers = await race(
        [lambda c: api(c, "project_register", body={"remote_origin": project["remote_origin"]})] * 16
    )
    assert {(a["status"], a["body"]["active"]) for a in answers} == {(200, True)}
    assert await count(connect, "imi.project.reactivated", project["id"]) == 1


async def test_32_claims_have_one_winner_and_everybody_knows_it(connect, race):
    item = await make_item(connect)

    def claim(agent):
        return lambda c: api(c, "work_claim", work_item_id=uuid.UUID(item["id"]), body={"agent_id": agent})

    answers = await race([claim(f"agent-{n}") for n in range(32)])
    (winner,) = [next(iter(a.values()))["claim"] for a in answers if code(a) is None]
    losers = [json.loads(a.detail)["params"] for a in answers if code(a) == "CONFLICT"]
    assert winner["fencing_token"] == 1
    assert [p["agent_id"] for p in losers] == [winner["agent_id"]] * 31
    assert await count(connect, "imi.work.claimed", item["id"]) == 1


async def test_32_starts_of_one_branch_make_one_item(connect, race):
    project = await make_project(connect)
    body = {"project_id": project["id"], "branch_name": "b", "owner_id": "x"}
    answers = await race([lambda c: api(c, "work_start", body=body)] * 32)
    (made,) = [a["body"]["id"] for a in answers if code(a) is None]
    losers = [json.loads(a.detail)["params"]["work_item_id"] for a in answers if code(a) == "CONFLICT"]
    assert losers == [made] * 31


async def test_a_move_racing_registrations_leaves_one_owner(connect, race):
    for _ in range(20):
        project = await make_project(connect)
        target = f"https://h.example/{uuid.uuid4()}"

        def move(c, project=project, target=target):
            return api(
                c, "project_update", project_id=uuid.UUID(project["id"]), body={"remote_origin": target}
            )

        def register(c, target=target):
            return api(c, "project_register", body={"remote_origin": target})

        moved, *registered = await race([move, register, register])
        connection = await connect()
        owners = await connection.fetch(
            """select project_remotes.project_id::text, projects.id is not null as exists
               from imi.project_remotes left join imi.projects on projects.id = project_id
               where remote_key = (logic.remote_parse($1)).remote_key""",
            target,
        )
        ((owner, exists),) = owners
        assert exists
        assert {a["body"]["id"] for a in registered} == {owner}
        if code(moved) is None:
            assert owner == project["id"]
            assert {a["status"] for a in registered} == {200}
        else:
            assert code(moved) == "CONFLICT"
            assert owner != project["id"]
            assert sorted(a["status"] for a in registered) == [200, 201]
        current = await connection.fetchval(
            "select count(*) from imi.project_remotes where project_id = $1 and is_current",
            uuid.UUID(project["id"]),
        )
        assert current == 1


async def test_no_work_starts_in_a_project_that_is_being_deactivated(connect, race):
    for _ in range(10):
        project = await make_project(connect)

        def start(n, project=project):
            body = {"project_id": project["id"], "branch_name": f"b{n}", "owner_id": "x"}
            return lambda c: api(c, "work_start", body=body)

        def stop(c, project=project):
            return api(c, "project_deactivate", project_id=uuid.UUID(project["id"]))

        answers = await race([start(0), start(1), stop, start(2), start(3)])
        assert {code(a) for a in answers} <= {None, "NOT_FOUND"}
        connection = await connect()
        left = await connection.fetchval(
            "select count(*) from imi.work_items where project_id = $1 and active", uuid.UUID(project["id"])
        )
        assert left == 0


async def test_a_completed_item_is_never_claimed(connect, race):
    for _ in range(10):
        item = await make_item(connect)
        work_item_id = uuid.UUID(item["id"])
        answers = await race(
            [lambda c, w=work_item_id: api(c, "work_claim", work_item_id=w, body={"agent_id": "ada"})] * 3
            + [
                lambda c, w=work_item_id: api(
                    c, "work_complete", work_item_id=w, body={"completion_type": "merged"}
                )
            ]
            * 2
        )
        assert {code(a) for a in answers} <= {None, "CONFLICT"}
        connection = await connect()
        assert (
            await connection.fetchval(
                "select count(*) from imi.claims where work_item_id = $1 and agent_id is not null",
                work_item_id,
            )
            == 0
        )
        assert await count(connect, "imi.work.completed", item["id"]) == 1


async def test_one_idempotency_key_at_once_is_one_effect(connect, race):
    project = await make_project(connect)
    arguments = json.dumps(
        {"p_body": json.dumps({"project_id": project["id"], "branch_name": "once", "owner_id": "x"})}
    )
    context = json.dumps({"actor": "a", "principal": "p", "idempotency_key": str(uuid.uuid4())})

    async def call(connection):
        row = await connection.fetchrow(
            "select * from logic.once('api.work_start', $1, $2)", arguments, context
        )
        return row["status"], json.loads(row["body"])["id"]

    answers = await race([call] * 16)
    ((status, made),) = set(answers)
    assert status == 201
    assert await count(connect, "imi.work.started", made) == 1


async def test_git_reports_from_many_sides_keep_the_newest(connect, race):
    item = await make_item(connect)

    def report(n):
        body = {"ahead_of_trunk": n, "observed_at": f"2026-01-01T00:00:{n:02}Z"}
        return lambda c: api(c, "work_git_state_update", work_item_id=uuid.UUID(item["id"]), body=body)

    answers = await race([report(n) for n in range(30)])
    assert {code(a) for a in answers} == {None}
    connection = await connect()
    row = await connection.fetchrow(
        "select ahead_of_trunk, last_sync_at from imi.work_items where id = $1", uuid.UUID(item["id"])
    )
    assert (row["ahead_of_trunk"], row["last_sync_at"].second) == (29, 29)


async def test_one_folder_reported_by_many_has_one_item(connect, race):
    project = await make_project(connect)
    place = {
        "project_id": project["id"],
        "name": "w",
        "path": "/shared",
        "host": "h",
        "branch_name": "feat/w",
    }
    body = place | {"work": {"owner_id": "ada", "plane_ticket_id": "T-1", "git_state": {"ahead_of_trunk": 1}}}
    for _ in range(5):
        answers = await race([lambda c: api(c, "worktree_register", body=body)] * 10)
        assert {a["status"] for a in answers} <= {200, 201}
        (item_id,) = {a["body"]["work_item_id"] for a in answers}
        complete = {"completion_type": "abandoned"}
        ended = {"work_item_id": uuid.UUID(item_id), "body": complete}
        await race([lambda c, e=ended: api(c, "work_complete", **e)])
    connection = await connect()
    of_project = uuid.UUID(project["id"])
    count = "select count(*) from imi.{} where project_id = $1"
    assert await connection.fetchval(count.format("worktrees"), of_project) == 1
    assert await connection.fetchval(count.format("work_items"), of_project) == 5
    links = "imi.ticket_links join imi.work_items on work_items.id = ticket_links.work_item_id"
    assert await connection.fetchval(f"select count(*) from {links} where project_id = $1", of_project) == 5


async def test_a_path_that_is_freed_while_it_is_asked_for_has_an_answer(connect, race):
    project = await make_project(connect)
    body = {"project_id": project["id"], "name": "w", "path": "/w", "host": "h"}
    for _ in range(20):
        made = await api(await connect(), "worktree_register", body=body)
        worktree_id = uuid.UUID(made["body"]["id"])
        register = [lambda c: api(c, "worktree_register", body=body)] * 3
        removal, *answers = await race(
            [lambda c, w=worktree_id: api(c, "worktree_remove", worktree_id=w), *register]
        )
        assert removal["status"] == 204
        assert {a["status"] for a in answers} <= {200, 201}
        assert all(a["body"]["path"] == "/w" for a in answers)
