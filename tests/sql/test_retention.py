"""sql/retention.sql: what leaves the log, what stays in it, and who is told."""

import asyncio
import json
import uuid
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from tests.sql.conftest import CONTEXT, refused

NEW_YEAR = datetime(2026, 1, 1, tzinfo=UTC)
WAITS = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like $1"


@pytest.fixture
def store(db):
    """An event that came in on a day of January, as a row; followers have seen it. Answers its id."""

    async def stored(day, kind="test.happened", *, on=None, flow=None, causes=()):
        event_id = uuid.uuid4()
        await add(db, event_id, day, kind, on=on, flow=flow, causes=causes)
        return event_id

    return stored


async def add(db, event_id, day, kind="test.happened", *, on=None, flow=None, causes=()):
    taken_in = NEW_YEAR + timedelta(days=day - 1)
    await db.execute(
        """with stored as (
             insert into bloodbank.events (
               event_id, event_type, "timestamp", version, source, correlation_ids, payload, ingested_at, arrived)
             values ($1, $2, $3, '1', '{}', $4, $5, $6, 'local'))
           insert into bloodbank.causes select unnest($4::uuid[]), $1""",
        event_id,
        kind,
        on or taken_in,
        list(causes),
        json.dumps({"workflow_id": str(flow)} if flow else {}),
        taken_in,
    )
    await catch_up(db)


async def catch_up(db):
    for table in ("cursors", "subscriptions"):
        await db.execute(
            f"""update bloodbank.{table} set position = (select max(position) from bloodbank.events)
                where name <> 'pruned'"""
        )


@pytest.fixture
def flow(db):
    """A workflow, as the projections would have it."""

    async def known(completed=False):
        workflow_id = uuid.uuid4()
        await db.execute(
            "insert into bloodbank.workflow_state values ($1, 'rocket', null, null, $2, $2, $3)",
            workflow_id,
            NEW_YEAR,
            NEW_YEAR if completed else None,
        )
        return workflow_id

    return known


@pytest.fixture
def complete(db):
    async def completed(workflow_id):
        await db.execute(
            "update bloodbank.workflow_state set completed_at = started_at where workflow_id = $1",
            workflow_id,
        )

    return completed


@pytest.fixture
def prune(db):
    """All batches before a day; what each answered."""

    async def pruned(day, batch=10000):
        answers = []
        while True:
            rows = await db.fetch(
                "select * from ops.prune_events($1, false, $2)", NEW_YEAR + timedelta(days=day - 1), batch
            )
            if not rows:
                return answers
            answers.append(tuple(rows[0]))

    return pruned


@pytest.fixture
def left(db):
    """The ids in the log, in its order; the edges are always those of what is there."""

    async def ids():
        edges, causes = [
            {tuple(row) for row in await db.fetch(query)}
            for query in (
                "select cause, effect from bloodbank.causes",
                "select unnest(correlation_ids), event_id from bloodbank.events",
            )
        ]
        assert edges == causes
        return [row[0] for row in await db.fetch("select event_id from bloodbank.events order by position")]

    return ids


async def test_a_dry_run_counts_all_at_once_and_removes_nothing(db, store, prune, left):
    stored = [await store(day) for day in (1, 2, 3, 4)]
    before = NEW_YEAR + timedelta(days=2)
    for call in ("ops.prune_events($1)", "ops.prune_events($1, true, 1)", "ops.prune_events($1, null)"):
        assert [tuple(row) for row in await db.fetch(f"select * from {call}", before)] == [(2, 0, 0)]
    assert await left() == stored
    assert await db.fetchval("select logic.log_pruned()") == 0
    assert await prune(3) == [(2, 0, 0)]
    assert await left() == stored[2:]
    assert tuple(await db.fetchrow("select * from ops.prune_events($1)", before)) == (0, 0, 0)


async def test_one_batch_a_call_says_what_is_left(store, prune, left):
    stored = [await store(1) for _ in range(10)] + [await store(5)]
    assert await prune(3, batch=4) == [(4, 0, 6), (4, 0, 2), (2, 0, 0)]
    assert await left() == stored[10:]


async def test_positions_that_a_restore_left_out_cost_nothing(db, store, prune, left):
    await store(1)
    await db.execute("select setval('bloodbank.events_position_seq', 1 + (1::bigint << 32))")
    await store(2)
    young = await store(8)
    assert await prune(5, batch=1) == [(1, 0, 1), (1, 0, 0)]
    assert await left() == [young]


async def test_it_goes_by_when_an_event_came_in_and_stops_at_the_first_that_is_younger(store, prune, left):
    await store(1, on=NEW_YEAR + timedelta(days=300))
    told_late = await store(9, on=NEW_YEAR - timedelta(days=300))
    behind_it = await store(1)
    assert await prune(5) == [(1, 0, 0)]
    assert await left() == [told_late, behind_it]


async def test_a_workflow_leaves_as_a_whole_when_it_is_completed_and_old(store, flow, complete, prune, left):
    goes_on, other = await flow(), await store(1)
    first = await store(1, "bmad.workflow.started", flow=goes_on)
    caused = await store(2, causes=[goes_on, other])
    assert await prune(4) == [(1, 2, 0)]
    assert await left() == [first, caused]
    last = await store(10, "bmad.workflow.completed", flow=goes_on)
    await complete(goes_on)
    neighbour = await store(11)
    assert await prune(10) == []  # its last event is still young, and so is what is above the mark
    assert await left() == [first, caused, last, neighbour]
    assert await prune(12) == [(4, 0, 0)]
    assert await left() == []


async def test_a_completed_workflow_stays_while_an_event_of_it_is_young(store, flow, prune, left):
    ended = await flow(completed=True)
    kept = [await store(1, flow=ended), await store(2, causes=[ended])]
    await store(2)
    kept.append(await store(9, causes=[ended]))
    assert await prune(5) == [(1, 2, 0)]
    assert await left() == kept
    assert await prune(10) == [(3, 0, 0)]


async def test_a_workflow_that_no_projection_knows_stays_while_an_event_of_it_is_young(store, prune, left):
    await store(1, flow="theirs")
    ours = [await store(1, flow="ours"), await store(9, flow="ours")]
    assert await prune(5) == [(1, 1, 0)]
    assert await left() == ours
    assert await prune(10) == [(2, 0, 0)]


async def test_an_event_of_two_workflows_waits_for_both(store, flow, complete, prune, left):
    one, other = await flow(), await flow()
    shared = await store(1, flow=one, causes=[other])
    await complete(one)
    assert await prune(3) == [(0, 1, 0)]
    await store(4, flow=one)
    assert await prune(5) == [(1, 0, 0)]  # one's last; what it shares with the other stays
    assert await left() == [shared]
    await complete(other)
    await store(6, flow=other)
    assert await prune(7) == [(2, 0, 0)]
    assert await left() == []


async def test_what_was_kept_of_a_long_workflow_leaves_in_batches_too(db, store, flow, complete, prune, left):
    long = await flow()
    for _ in range(7):
        await store(1, flow=long)
    assert await prune(3) == [(0, 7, 0)]
    mark = await db.fetchval("select logic.log_pruned()")
    await complete(long)
    await store(4, flow=long)
    assert (await db.fetchrow("select * from ops.prune_events('2026-01-06Z', false, 3)"))["removed"] == 3
    assert await db.fetchval("select logic.log_pruned()") == mark
    assert await prune(6, batch=3) == [(3, 0, 2), (2, 0, 0)]
    assert await left() == []


@pytest.mark.parametrize(
    ("name", "kind", "fall_back"),
    [
        ("relay", "cursor", "update bloodbank.cursors set position = $1 where name = 'relay'"),
        ("imi.commands", "subscription", "update bloodbank.subscriptions set position = $1 where name = 'imi.commands'"),
        ("imi.commands", "subscription",
         "update bloodbank.subscriptions set position = $1, paused = true where name = 'imi.commands'"),
        ("mine", "subscription", "insert into bloodbank.subscriptions values ('mine', '{#}', 'logic.no_such', $1)"),
    ],
)  # fmt: skip
async def test_no_follower_loses_anything(db, store, left, name, kind, fall_back):
    stored = [await store(1) for _ in range(4)]
    at = await db.fetchval("select position from bloodbank.events where event_id = $1", stored[1])
    await db.execute(fall_back, at)
    prune = "select * from ops.prune_events('2026-01-05Z', {}, 2)"
    with refused(409, "CONFLICT") as error:
        async with db.transaction():
            await db.fetch(prune.format("true"))
    assert (error["params"]["follower"], error["params"]["kind"], error["params"]["position"]) == (
        name,
        kind,
        at,
    )
    assert name in error["message"]
    assert tuple(await db.fetchrow(prune.format("false"))) == (2, 0, 2)  # what it has read
    with refused(409, "CONFLICT") as error:
        async with db.transaction():
            await db.fetch(prune.format("false"))
    assert error["params"]["follower"] == name
    assert await left() == stored[2:]


async def test_an_effect_that_stays_keeps_naming_its_cause(db, call, store, prune, left):
    cause = await store(1)
    effect = await store(9, causes=[cause])
    assert await prune(5) == [(1, 0, 0)]
    assert await left() == [effect]
    assert (await call("api.event_get", event_id=effect))["body"]["correlation_ids"] == [str(cause)]
    (found,) = (await call("api.event_list", correlation_id=cause))["body"]
    assert found["event_id"] == str(effect)


async def test_cursors_below_the_mark_are_told_and_the_beginning_is_the_mark(db, call, store, flow, prune):
    goes_on = await flow()
    kept = await store(1, flow=goes_on)
    await store(2)
    young = [await store(9), await store(9)]
    positions = dict(await db.fetch("select event_id, position from bloodbank.events"))
    assert await prune(5) == [(1, 1, 0)]
    mark = positions[kept] + 1
    with refused(410, "GONE") as error:
        await call("api.event_list", after=positions[kept])
    assert error["params"]["oldest"] == mark

    async def read(after):
        page = await call("api.event_list", after=after, limit=1)
        return [event["event_id"] for event in page["body"]], int(page["headers"]["X-Next-Cursor"])

    assert await read(0) == ([str(young[0])], positions[young[0]])
    assert await read(mark) == ([str(young[0])], positions[young[0]])
    assert await read(positions[young[0]]) == ([str(young[1])], positions[young[1]])
    for filters in ({"workflow_id": goes_on}, {"end_time": NEW_YEAR + timedelta(days=2)}):
        assert [event["event_id"] for event in (await call("api.event_list", **filters))["body"]] == [
            str(kept)
        ]
    assert (await call("api.event_get", event_id=kept))["status"] == 200


async def test_a_dead_letter_outlives_its_event(db, call, store, prune):
    event_id = await store(1)
    letter = await db.fetchval(
        "select logic.dead_letter('subscription', $1, null, 'why', 'XX000', 3, 'imi.commands')", event_id
    )
    assert await prune(5) == [(1, 0, 0)]
    shown = await db.fetchrow("select * from ops.dead_letters where dead_letter_id = $1", letter)
    assert (shown["event_id"], shown["event_type"]) == (event_id, None)
    with refused(409, "CONFLICT") as error:
        await call("api.dead_letter_replay", dead_letter_id=letter, context=CONTEXT)
    assert error["message"] == "The event is no longer in the log"


async def test_what_was_removed_is_new_when_it_comes_again(call, store, prune, left):
    event_id = await store(1)
    await prune(5)
    again = {"event_id": str(event_id), "event_type": "test.happened", "payload": {}}
    assert (await call("api.event_publish", body=again))["body"]["new"]
    assert await left() == [event_id]


@pytest.mark.parametrize("arguments", ["null", "'infinity'", "now() + interval '1 hour'"])
async def test_the_moment_lies_in_the_past(db, arguments):
    with refused(400, "VALIDATION_ERROR"):
        await db.fetch(f"select * from ops.prune_events({arguments}, false)")


@pytest.mark.parametrize("batch", ["0", "-1", "100001", "null"])
async def test_a_batch_has_limits(db, batch):
    with refused(400, "VALIDATION_ERROR"):
        await db.fetch(f"select * from ops.prune_events('2026-01-01Z', false, {batch})")


async def test_an_event_that_may_still_appear_is_waited_for(db, connect, store):
    writer = await connect()
    await writer.execute("begin; select logic.log_enter()")
    await store(1)
    assert await db.fetch("select * from ops.prune_events('2026-01-05Z', false)") == []
    await writer.execute("rollback")
    assert (await db.fetchrow("select * from ops.prune_events('2026-01-05Z', false)"))["removed"] == 1


async def test_operators_prune_and_nobody_deletes(connect):
    operator = await connect("superuser")
    await operator.execute("set role imi_operator")
    assert await operator.fetch("select * from ops.prune_events('2026-01-05Z', false)") == []
    others = [await connect(kind) for kind in ("api", "reader", "worker")]
    for one in others:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await one.fetch("select * from ops.prune_events('2026-01-05Z')")
    for one in [operator, *others]:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await one.execute("delete from bloodbank.events")


async def waits(watcher, query):
    async with asyncio.timeout(30):
        while not await watcher.fetchval(WAITS, query):
            await asyncio.sleep(0.01)


async def test_a_reader_that_is_overtaken_is_told(fresh_database):
    pruner, watcher = [await fresh_database.connect("superuser") for _ in range(2)]
    reader = await fresh_database.connect("reader")
    for _ in range(3):
        await add(pruner, uuid.uuid4(), 1)
    async with pruner.transaction():
        await pruner.execute("lock table bloodbank.causes")
        page = "select * from api.event_list(p_after => 1, p_correlation_id => $1)"
        reading = asyncio.create_task(
            reader.fetchrow(page, uuid.uuid4())
        )  # it has asked for the mark, and reads
        await waits(watcher, "%event_list%")
        assert (await pruner.fetchrow("select * from ops.prune_events('2026-01-05Z', false)"))["removed"] == 3
    with refused(410, "GONE"):
        await reading
    for connection in (pruner, watcher, reader):
        await connection.close()


async def test_of_two_at_once_the_second_goes_on_where_the_first_ended(fresh_database):
    first, second, watcher = [await fresh_database.connect("superuser") for _ in range(3)]
    for _ in range(5):
        await add(first, uuid.uuid4(), 1)
    prune = "select * from ops.prune_events('2026-01-05Z', false, 3)"
    transaction = first.transaction()
    await transaction.start()
    assert tuple(await first.fetchrow(prune)) == (3, 0, 2)
    waiting = asyncio.create_task(second.fetchrow(prune))
    await waits(watcher, "%prune_events%")
    await transaction.commit()
    assert tuple(await waiting) == (2, 0, 0)
    assert await watcher.fetchval("select count(*) from bloodbank.events") == 0
    for connection in (first, second, watcher):
        await connection.close()
