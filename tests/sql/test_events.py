"""sql/events.sql: reading the log by filters and by cursor."""

import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest

from tests.sql.conftest import refused


@pytest.fixture
def publish(call):
    async def post(*events):
        answer = await call("api.event_publish", body=list(events))
        return answer["body"]["items"]

    return post


def event(kind="test.happened", **keys):
    return {"event_type": kind, "payload": {}} | keys


async def test_filters_by_type_pattern_workflow_cause_and_time(call, publish):
    flow, cause = str(uuid.uuid4()), str(uuid.uuid4())
    await publish(
        event(
            "bmad.workflow.started", payload={"workflow_id": flow.upper()}, timestamp="2026-01-01T00:00:00Z"
        ),
        event("bmad.workflow.phase.completed", correlation_ids=[flow], timestamp="2026-01-02T00:00:00Z"),
        event("agent.handoff.accepted", correlation_ids=[cause], timestamp="2026-01-03T00:00:00Z"),
        event("bmad.workflow.completed", timestamp="2026-01-04T00:00:00Z"),
    )

    async def days(**filters):
        return [e["timestamp"][8:10] for e in (await call("api.event_list", **filters))["body"]]

    assert await days() == ["04", "03", "02", "01"]
    assert await days(order="asc", limit=2) == ["01", "02"]
    assert await days(limit=2, offset=1) == ["03", "02"]
    assert await days(event_type="bmad.workflow.completed") == ["04"]
    assert await days(event_type="bmad.workflow.*") == ["04", "01"]
    assert await days(event_type="bmad.workflow.#") == ["04", "02", "01"]
    assert await days(event_type="nothing.#") == []
    assert await days(workflow_id=flow) == ["02", "01"]
    assert await days(correlation_id=cause) == ["03"]
    counted = await call("api.event_list", event_type="bmad.#", limit=1, count=True)
    assert counted["headers"]["X-Total-Count"] == "3"


PLAIN = """
select event_id::text, position from bloodbank.events
where ($1::text is null or logic.topic_matches($1, event_type))
  and ($2::timestamptz is null or "timestamp" >= $2) and ($3::timestamptz is null or "timestamp" <= $3)
  and ($4::uuid is null or (payload ->> 'workflow_id')::uuid = $4 or $4 = any (correlation_ids))
  and ($5::bigint is null or position > $5)
order by {} offset $6 limit $7
"""
ORDERS = {None: '"timestamp" desc, position desc', "asc": '"timestamp", position', "after": "position"}


async def test_whatever_is_asked_the_answer_is_that_of_a_plain_query(db, call):
    """Over a log with a gap as a restore makes it, times that repeat, and types that begin late."""
    chance = random.Random(7)
    day, flows = datetime(2026, 1, 1, tzinfo=UTC), [uuid.uuid4() for _ in range(4)]
    for n in range(300):
        if n == 150:
            await db.execute("select setval('bloodbank.events_position_seq', 30000)")
        words = chance.choices("abc" if n > 200 else "ab", k=chance.randint(1, 3))
        await db.execute(
            """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, arrived)
               values ($1, $2, $3, '1', '{}', $4, jsonb_build_object('workflow_id', $5::text), 'bus')""",
            uuid.uuid4(),
            ".".join(words),
            day + timedelta(hours=chance.randrange(40)),
            [chance.choice(flows)] if n % 3 else [],
            chance.choice([str, lambda flow: str(flow).upper()])(chance.choice(flows)) if n % 2 else None,
        )
    await db.execute(
        "insert into bloodbank.causes select unnest(correlation_ids), event_id from bloodbank.events"
    )
    found = 0
    for _ in range(200):
        kind = chance.choice([None, "asc", "after"])
        asked = {
            "event_type": chance.choice([None, "a.#", "#", "*.b", "c.#", "a.b", "#.c", "ab.#", "*.*.*"]),
            "start_time": chance.choice([None, day + timedelta(hours=chance.randrange(40))]),
            "end_time": chance.choice([None, day + timedelta(hours=chance.randrange(40))]),
            "workflow_id": chance.choice([None, None, *flows]),
            "after": chance.choice([0, 20, 140, 149, 29_990, 30_100]) if kind == "after" else None,
        }
        page = {
            "offset": 0 if kind == "after" else chance.choice([0, 3, 50]),
            "limit": chance.choice([1, 7, 1000]),
        }
        plain = await db.fetch(PLAIN.format(ORDERS[kind]), *asked.values(), *page.values())
        given = {name: value for name, value in (asked | page).items() if value is not None}
        if kind == "after":
            del given["offset"]
        answer = await call(
            "api.event_list", count=True, **given, **({"order": kind} if kind == "asc" else {})
        )
        assert [each["event_id"] for each in answer["body"]] == [row[0] for row in plain], (kind, given)
        whole = await db.fetch(PLAIN.format(ORDERS[kind]), *asked.values(), 0, None)
        assert answer["headers"]["X-Total-Count"] == str(len(whole))
        if kind == "after":
            full = len(plain) == page["limit"]
            last = await db.fetchval("select max(position) from bloodbank.events")
            assert int(answer["headers"]["X-Next-Cursor"]) == (plain[-1]["position"] if full else last)
        found += len(plain)
    assert found > 1000


async def test_time_bounds_are_inclusive(db, publish):
    await publish(*(event(timestamp=f"2026-01-0{day}T00:00:00Z") for day in (1, 2, 3)))
    rows = await db.fetchval("""
        select json_array_length(body) from api.event_list(p_start_time => '2026-01-02Z', p_end_time => '2026-01-03Z')""")
    assert rows == 2


async def test_a_cursor_walks_the_log_in_order_and_filters_move_it_on(call_live):
    (before,) = (await call_live("api.event_publish", body=[event("first")]))["body"]["items"]
    batch = [event("a.b" if n % 3 else "c.d") for n in range(10)]
    taken = (await call_live("api.event_publish", body=batch))["body"]["items"]
    seen, cursor = [], before["cursor"]
    while True:
        page = await call_live("api.event_list", after=cursor, limit=4)
        if not page["body"]:
            break
        seen += [e["event_id"] for e in page["body"]]
        cursor = int(page["headers"]["X-Next-Cursor"])
    assert seen == [t["event_id"] for t in taken]
    nothing = await call_live("api.event_list", after=0, event_type="x.y")
    assert int(nothing["headers"]["X-Next-Cursor"]) == taken[-1]["cursor"]


async def test_cursors_that_cannot_be_right(db, call, publish):
    _, taken = await publish(event(), event())
    for wrong in ({"order": "asc"}, {"offset": 0}):
        with refused(400, "VALIDATION_ERROR"):
            await call("api.event_list", after=0, **wrong)
    with refused(400, "INVALID_CURSOR"):
        await call("api.event_list", after=taken["cursor"] + 1000)
    await db.execute("insert into bloodbank.cursors (name, position) values ('pruned', $1)", taken["cursor"])
    with refused(410, "GONE") as error:
        await call("api.event_list", after=taken["cursor"] - 1)
    assert error["params"]["oldest"] == taken["cursor"]
    assert (await call("api.event_list", after=taken["cursor"]))["body"] == []


async def test_unknown_events(call):
    answer = await call("api.event_get", event_id=uuid.uuid4())
    assert (answer["status"], answer["body"]["detail"]["code"]) == (404, "NOT_FOUND")


async def test_a_page_of_envelopes_ends_at_32_mib(call_live):
    (before,) = (await call_live("api.event_publish", body=[event("first")]))["body"]["items"]
    for _ in range(3):
        await call_live("api.event_publish", body=[event(payload={"x": "y" * 1_000_000}) for _ in range(15)])
    page = await call_live("api.event_list", after=before["cursor"], limit=1000)
    assert 30 < len(page["body"]) < 45
    rest = await call_live("api.event_list", after=int(page["headers"]["X-Next-Cursor"]), limit=1000)
    assert len(page["body"]) + len(rest["body"]) == 45


async def test_types_are_found_by_hopping(db, publish):
    await publish(*(event(t) for t in ("a", "a.b", "a.b", "a.c", "b.c")))
    assert [r[0] for r in await db.fetch("select logic.event_types('a.#')")] == ["a", "a.b", "a.c"]
