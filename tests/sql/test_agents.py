"""sql/agents.sql: who reports, what was touched, and where two touched the same."""

import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.sql.conftest import CONTEXT, refused

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)


def ago(seconds):
    return (NOW - timedelta(seconds=seconds)).isoformat()


@pytest.fixture
async def noon(at):
    await at(NOW.isoformat())


@pytest.fixture
def report(call, item):
    """`await report(a, b, …)`: activities with these fields; answers whether each was new."""

    async def send(*activities, **context):
        plain = {"work_item_id": item["id"], "activity_type": "file_change"}
        body = [{"id": str(uuid.uuid4())} | plain | a for a in activities]
        answer = await call("api.activity_report", body=body, context=CONTEXT | context)
        assert answer["status"] == 202
        assert [i["id"] for i in answer["body"]["items"]] == [a["id"] for a in body]
        return [i["new"] for i in answer["body"]["items"]]

    return send


@pytest.fixture
async def other(call, project):
    """A second work item of the same project."""
    body = {"project_id": project["id"], "branch_name": "feat/nozzle", "owner_id": "bob"}
    return (await call("api.work_start", body=body))["body"]


async def test_an_agent_is_known_from_its_first_word_and_seen_once_a_minute(db, call, at):
    assert (await call("api.agent_list"))["items"] == []
    await db.execute("select logic.agent_seen(null)")
    versions = []
    for second in (0, 30, 60, 61):
        await at((NOW + timedelta(seconds=second)).isoformat())
        await db.execute("select logic.agent_seen('ada')")
        versions.append(await db.fetchval("select ctid from imi.agents"))
    (ada,) = (await call("api.agent_list"))["items"]
    assert ada | {"id": "ada", "name": None, "type": None, "host": None, "metadata": {}} == ada
    assert ada["last_seen"] == (NOW + timedelta(seconds=61)).isoformat()
    assert versions[0] == versions[1] == versions[2] != versions[3]


async def test_whoever_makes_an_event_is_seen(call, project, noon):
    await call(
        "api.project_update",
        project_id=project["id"],
        body={"name": "x"},
        context=CONTEXT | {"agent_id": "grace"},
    )
    assert [(a["id"], a["last_seen"]) for a in (await call("api.agent_list"))["items"]] == [
        ("grace", NOW.isoformat())
    ]


async def test_agents_are_listed_last_seen_first(db, call):
    for n, agent in enumerate("bca"):
        await db.execute(
            "insert into imi.agents (id, last_seen) values ($1, $2)", agent, NOW + timedelta(seconds=n // 2)
        )
    assert [a["id"] for a in (await call("api.agent_list"))["items"]] == ["a", "b", "c"]
    page = await call("api.agent_list", offset=1, limit=1)
    assert (page["total"], [a["id"] for a in page["items"]]) == (3, ["b"])


async def test_activities_are_kept_whole(db, report, noon):
    told = {"agent_id": "ada", "path": "a/b.py", "details": {"lines": 3}, "occurred_at": ago(30)}
    assert await report(told, {"activity_type": "commit"}, agent_id="grace") == [True, True]
    rows = await db.fetch(
        "select agent_id, activity_type, path, details, occurred_at from imi.activities order by occurred_at"
    )
    assert [tuple(r) for r in rows] == [
        ("ada", "file_change", "a/b.py", '{"lines": 3}', NOW - timedelta(seconds=30)),
        ("grace", "commit", None, "{}", NOW),
    ]
    assert {r[0] for r in await db.fetch("select id from imi.agents")} == {"ada", "grace"}


async def test_the_same_activity_again_is_skipped_and_makes_no_event(db, events, report):
    before = await events()
    one, two = {"id": str(uuid.uuid4()), "path": "x"}, {"id": str(uuid.uuid4())}
    assert await report(one, one, two) == [True, False, True]
    assert await report(two, {}, one | {"path": "y"}) == [False, True, False]
    assert await report() == []
    assert await db.fetch("select path from imi.activities where path is not null") == [("x",)]
    assert await events() == before


async def test_a_clock_that_is_ahead_counts_as_now(db, report, noon):
    await report({"occurred_at": ago(-3600)})
    assert await db.fetchval("select occurred_at from imi.activities") == NOW


async def test_an_unknown_work_item_refuses_the_whole_list(db, report):
    stranger = str(uuid.uuid4())
    with refused(400, "INVALID_REFERENCE") as error:
        await report({"agent_id": "ada"}, {"work_item_id": stranger}, {"work_item_id": str(uuid.uuid4())})
    assert error["params"] == {"index": 1, "work_item_id": stranger}
    assert (
        await db.fetchval("select (select count(*) from imi.activities) + (select count(*) from imi.agents)")
        == 0
    )


async def test_two_agents_on_one_file_are_a_conflict(call, project, item, other, report, noon):
    theirs = {"work_item_id": other["id"], "agent_id": "bob"}
    await report(
        {"agent_id": "ada", "path": "shared.py", "occurred_at": ago(50)},
        {"agent_id": "ada", "path": "shared.py", "occurred_at": ago(20)},
        {"agent_id": "ada", "path": "mine.py"},
        theirs | {"path": "shared.py", "occurred_at": ago(10)},
        theirs | {"path": "theirs.py"},
    )
    page = await call("api.conflict_list")
    assert (page["total"], page["offset"], page["limit"]) == (1, 0, 100)
    assert page["items"] == [
        {
            "path": "shared.py",
            "project_id": project["id"],
            "touches": [
                {"agent_id": "bob", "work_item_id": other["id"], "at": ago(10)},
                {"agent_id": "ada", "work_item_id": item["id"], "at": ago(20)},
            ],
        }
    ]


@pytest.mark.parametrize(
    ("first", "second", "is_conflict"),
    [
        ({"agent_id": "ada"}, {"agent_id": "ada"}, False),
        ({"agent_id": "ada"}, {}, False),
        ({"agent_id": "ada"}, {"agent_id": "bob"}, True),
        ({"agent_id": "ada"}, {"agent_id": "ada", "elsewhere": True}, True),
        ({}, {"elsewhere": True}, True),
        ({"agent_id": "ada"}, {"agent_id": "bob", "path": "other.py"}, False),
        ({"agent_id": "ada", "path": None}, {"agent_id": "bob", "path": None}, False),
        ({"agent_id": "ada", "occurred_at": ago(61)}, {"agent_id": "bob"}, False),
        ({"agent_id": "ada", "occurred_at": ago(60)}, {"agent_id": "bob"}, True),
    ],
)
async def test_what_is_a_conflict(call, other, report, noon, first, second, is_conflict):
    for activity in (first, second):
        elsewhere = {"work_item_id": other["id"]} if activity.pop("elsewhere", False) else {}
        await report({"path": "a.py"} | activity | elsewhere)
    assert ((await call("api.conflict_list"))["total"] == 1) is is_conflict


async def test_the_same_path_in_two_projects_is_no_conflict(call, report, noon):
    far = (await call("api.project_register", body={"remote_origin": "https://h/far"}))["body"]
    body = {"project_id": far["id"], "branch_name": "b", "owner_id": "o"}
    item = (await call("api.work_start", body=body))["body"]
    await report(
        {"agent_id": "ada", "path": "README.md"},
        {"agent_id": "bob", "path": "README.md", "work_item_id": item["id"]},
    )
    assert (await call("api.conflict_list"))["items"] == []


async def test_conflicts_are_narrowed_paged_and_newest_first(call, project, report, noon):
    for n, path in enumerate(("old", "new")):
        await report(*({"agent_id": a, "path": path, "occurred_at": ago(600 - n)} for a in ("ada", "bob")))
    assert (await call("api.conflict_list"))["total"] == 0
    wide = {"window_seconds": 600}
    assert [c["path"] for c in (await call("api.conflict_list", **wide))["items"]] == ["new", "old"]
    page = await call("api.conflict_list", **wide, project_id=project["id"], offset=1, limit=1)
    assert (page["total"], [c["path"] for c in page["items"]]) == (2, ["old"])
    assert (await call("api.conflict_list", **wide, project_id=uuid.uuid4()))["items"] == []


async def test_old_activities_cost_a_conflict_list_nothing(db, call, item):
    await db.execute(
        """insert into imi.activities (id, work_item_id, activity_type, path, occurred_at)
           select uuidv7(), $1, 'file_change', 'p' || n, now() - n * interval '1 minute' from generate_series(2, 20000) as n""",
        uuid.UUID(item["id"]),
    )
    await db.execute("analyze imi.activities")
    scans = "select seq_scan, idx_tup_fetch from pg_stat_xact_user_tables where relname = 'activities'"
    before = await db.fetchrow(scans)
    assert (await call("api.conflict_list"))["items"] == []
    after = await db.fetchrow(scans)
    assert after["seq_scan"] == before["seq_scan"]
    assert after["idx_tup_fetch"] - before["idx_tup_fetch"] < 10


async def test_activities_of_a_work_item_are_those_of_late_newest_first(call, item, other, report, noon):
    await report(
        {"agent_id": "ada", "path": "old", "occurred_at": ago(3601)},
        {"agent_id": "ada", "path": "a.py", "occurred_at": ago(3600)},
        {"agent_id": "bob", "path": "b.py", "details": {"lines": 3}, "occurred_at": ago(1)},
        {"path": "elsewhere", "work_item_id": other["id"]},
    )
    answer = await call("api.activity_list", work_item_id=item["id"])
    assert (answer["status"], answer["body"]["total"]) == (200, 2)
    newest, oldest = answer["body"]["items"]
    assert (newest["agent_id"], newest["path"], newest["details"]) == ("bob", "b.py", {"lines": 3})
    assert (oldest["path"], oldest["work_item_id"]) == ("a.py", item["id"])
    page = (await call("api.activity_list", work_item_id=item["id"], window_seconds=4000, offset=2))["body"]
    assert (page["total"], [each["path"] for each in page["items"]]) == (3, ["old"])
    missing = await call("api.activity_list", work_item_id=uuid.uuid4())
    assert (missing["status"], missing["body"]["detail"]["code"]) == (404, "NOT_FOUND")


async def test_a_heartbeat_waits_for_nobody(connect):
    holder, other = [await connect() for _ in range(2)]
    await other.execute("insert into imi.agents (id, last_seen) values ('busy', now() - interval '1 hour')")
    async with holder.transaction():
        await holder.execute("select from imi.agents where id = 'busy' for no key update")
        await other.execute("set lock_timeout = '1ms'")
        await other.execute("select logic.agent_seen('busy')")
    before = await other.fetchval("select last_seen from imi.agents where id = 'busy'")
    await other.execute("select logic.agent_seen('busy')")
    assert await other.fetchval("select last_seen from imi.agents where id = 'busy'") > before
    await other.execute("delete from imi.agents where id = 'busy'")


async def test_heartbeats_and_published_events_make_an_agent_known(call, db, item):
    async def seen(name):
        return await db.fetchval("select exists (select from imi.agents where id = $1)", name)

    context = {"actor": "x", "scope": "write"}
    await call(
        "api.work_git_state_update",
        work_item_id=item["id"],
        body={},
        context=context | {"agent_id": "watcher"},
    )
    await call(
        "api.event_publish",
        body={"event_type": "a", "payload": {}},
        context=context | {"agent_id": "speaker"},
    )
    assert [await seen(name) for name in ("watcher", "speaker", "nobody")] == [True, True, False]
