"""What somebody on the bus may say by mistake or malice, and what must not come of it."""

import json
import uuid
from datetime import UTC, datetime, timedelta

import pytest

NOW = datetime.now(UTC)
R = "https://github.com/acme/rocket"
CTX = json.dumps({"actor": "t", "scope": "write", "correlation_ids": []})


def env(kind, payload, ts=None, **more):
    return {
        "event_id": str(uuid.uuid4()),
        "event_type": kind,
        "timestamp": (ts or datetime.now(UTC)).isoformat(),
        "payload": payload,
    } | more


class World:
    def __init__(self, c):
        self.c = c

    async def take(self, *events):
        await self.c.fetchval("select logic.intake($1)", [json.dumps(e) for e in events])

    async def run(self, name):
        return json.loads(await self.c.fetchval("select logic.subscription_run($1)", name))

    async def project(self):
        return json.loads(
            (
                await self.c.fetchrow(
                    "select * from api.project_register($1, $2)", json.dumps({"remote_origin": R}), CTX
                )
            )["body"]
        )["id"]

    async def item(self, project, branch):
        body = json.dumps({"project_id": project, "branch_name": branch, "owner_id": "ada"})
        return uuid.UUID(
            json.loads((await self.c.fetchrow("select * from api.work_start($1, $2)", body, CTX))["body"])[
                "id"
            ]
        )


@pytest.fixture
async def world(fresh_database):
    connection = await fresh_database.connect()
    yield World(connection)
    connection.terminate()


def pr(state, n, branch, ts=None, **more):
    return env(
        f"git.pr.{state}",
        {"repository": R, "number": n, "url": f"{R}/pull/{n}", "head_branch": branch} | more,
        ts,
    )


@pytest.mark.parametrize("name", ["", "".join(uuid.uuid4().hex for _ in range(300))])
async def test_a_command_of_an_impossible_agent_is_a_dead_letter_and_the_next_has_its_turn(world, name):
    await world.take(
        env("imi.cmd.register_project", {"remote_origin": "/srv/a"}, agent_context={"name": name}),
        env("imi.cmd.register_project", {"remote_origin": "/srv/b"}),
    )
    await world.run("imi.commands")
    assert await world.c.fetchval("select count(*) from imi.projects") >= 1


@pytest.mark.parametrize("handler", ["elsewhere.ours.f", "a.b.c.d", "f(int) --"])
async def test_one_bad_handler_stops_nobody_else(world, handler):
    await world.c.execute("insert into bloodbank.subscriptions values ('bad', '{#}', $1)", handler)
    await world.take(env("a.b", {}))
    assert "imi.commands" in await world.c.fetchval("select logic.subscriptions_waiting()")
    assert await world.c.fetchval("select logic.health()")


async def test_a_pr_from_the_future_can_still_be_merged(world):
    await world.item(await world.project(), "a")
    await world.take(pr("opened", 1, "a", NOW + timedelta(days=36500)), pr("merged", 1, "a", NOW))
    await world.run("imi.git_events")
    assert await world.c.fetchval("select pr_state from imi.pr_links") == "merged"


async def test_an_old_merge_does_not_complete_the_next_work_on_the_branch(world):
    project = await world.project()
    first = await world.item(project, "a")
    await world.c.execute(
        "select logic.work_complete($1, '{\"completion_type\": \"abandoned\"}', '{}')", first
    )
    second = await world.item(project, "a")
    await world.take(pr("merged", 1, "a", NOW - timedelta(days=3)))
    await world.run("imi.git_events")
    assert await world.c.fetchval("select active from imi.work_items where id = $1", second)


async def test_a_merge_wins_over_an_open_link_that_was_reported_late(world):
    item = await world.item(await world.project(), "a")
    await world.c.fetch(
        "select * from api.link_pr($1, $2)",
        json.dumps({"work_item_id": str(item), "pr_number": 1, "pr_url": f"{R}/pull/1"}),
        CTX,
    )
    await world.take(pr("merged", 1, "a", datetime.now(UTC) - timedelta(seconds=2)))
    await world.run("imi.git_events")
    assert await world.c.fetchval("select pr_state from imi.pr_links") == "merged"


async def test_a_sign_of_life_does_not_swallow_a_push(world):
    item = await world.item(await world.project(), "a")
    now = datetime.now(UTC)
    await world.take(
        env(
            "git.push",
            {"repository": R, "branch": "a", "after": "a" * 40, "commits": []},
            now - timedelta(seconds=3),
        ),
        env("tool.mutation.edit", {"repo": {"remote_url": R, "branch": "a"}}, now - timedelta(seconds=1)),
    )
    await world.run("imi.mutation_events")
    await world.run("imi.git_events")
    assert (
        await world.c.fetchval("select last_commit_hash from imi.work_items where id = $1", item) == "a" * 40
    )


@pytest.mark.parametrize(
    "url", ["javascript:alert(1)", "https://ada:secret@github.com/a/b/pull/1", "https://x y/1"]
)
async def test_no_link_is_a_script_or_holds_a_password(world, url):
    project = await world.project()
    await world.item(project, "feat/a")
    link = {"remote_origin": R, "branch_name": "feat/a", "plane_ticket_id": "T-1", "ticket_url": url}
    await world.take(pr("opened", 1, "feat/a", url=url), env("imi.cmd.link_ticket", link))
    assert (await world.run("imi.git_events"))["dead"] == 1
    assert (await world.run("imi.commands"))["dead"] == 0
    answer = await world.c.fetchval(
        "select payload #>> '{error,code}' from bloodbank.events where event_type = 'imi.cmd.failed'"
    )
    assert answer == "VALIDATION_ERROR"
    assert await world.c.fetchval("select count(*) from imi.pr_links") == 0
    assert await world.c.fetchval("select count(*) from imi.ticket_links") == 0


@pytest.mark.parametrize("commit", ["", "d"])
async def test_a_deploy_is_not_guessed_from_a_stub_of_a_commit(world, commit):
    await world.item(await world.project(), "a")
    await world.take(
        env("git.push", {"repository": R, "branch": "a", "after": commit, "commits": []}),
        env(
            "ci.deploy.completed",
            {"repository": R, "deploy_id": "d", "environment": "p", "commit_hash": "d" + "1" * 39},
        ),
    )
    await world.run("imi.git_events")
    await world.run("imi.deploy_events")
    assert await world.c.fetchval("select count(*) from imi.deploy_links") == 0


async def test_our_own_events_fit_the_bus(world):
    body = {"remote_origin": "/srv/a", "metadata": {"x": "m" * 945000}}
    await world.take(env("imi.cmd.register_project", body, source={"host": "h" * 103000}))
    await world.run("imi.commands")
    assert (
        await world.c.fetchval(
            "select max(octet_length(logic.event_envelope(events)::text)) from bloodbank.events where arrived = 'local'"
        )
        <= 1 << 20
    )


async def test_a_replay_makes_no_other_letter(world):
    await world.c.execute(
        "create schema ours; create function ours.f(e bloodbank.events) returns void language plpgsql as $$begin raise 'x'; end$$; insert into bloodbank.subscriptions values ('z', '{#}', 'ours.f')"
    )
    await world.take(env("a.b", {}))
    await world.run("z")
    await world.c.fetchval("select ops.replay(id) from bloodbank.dead_letters")
    await world.run("z")
    assert await world.c.fetchval("select count(*) from bloodbank.dead_letters") == 1
