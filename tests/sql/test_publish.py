"""sql/publish.sql: publishing into the log."""

import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused


def event(kind="test.happened", **keys):
    return {"event_type": kind, "payload": {}} | keys


async def test_a_minimal_event_is_filled_in(call, at):
    await at("2030-01-01T00:00Z")
    taken = await call("api.event_publish", body=event())
    assert (taken["status"], taken["body"]["new"]) == (202, True)
    (listed,) = (await call("api.event_list"))["body"]
    assert listed == {
        "event_id": taken["body"]["event_id"],
        "event_type": "test.happened",
        "timestamp": "2030-01-01T00:00:00+00:00",
        "version": "1.0.0",
        "source": {"host": "testhost", "type": "manual", "meta": {"actor": "tester"}},
        "correlation_ids": [],
        "agent_context": None,
        "payload": {},
    }


async def test_a_whole_event_is_served_as_it_came_unknown_keys_too(call):
    whole = event(
        event_id=str(uuid.uuid4()),
        timestamp="2026-02-03T04:05:06.000007+00:00",
        version="2.1",
        source={"host": "h", "type": "something new", "extra": 1},
        correlation_ids=[str(uuid.uuid4()), str(uuid.uuid4())],
        agent_context={"type": "odd", "checkpoint_id": "c1"},
        payload={"deep": {"er": [1, None, "é"]}},
        priority=5,
        trace={"a": 1},
    )
    await call("api.event_publish", body=whole)
    got = await call("api.event_get", event_id=whole["event_id"])
    assert (got["status"], got["body"]) == (200, whole)


async def test_a_repeated_event_is_not_new_and_keeps_its_place(call, events):
    one = event(event_id=str(uuid.uuid4()))
    first = await call("api.event_publish", body=one)
    again = await call("api.event_publish", body=one | {"payload": {"other": 1}})
    assert (first["status"], again["status"]) == (202, 200)
    assert again["body"] == first["body"] | {"new": False}
    assert (await call("api.event_get", event_id=one["event_id"]))["body"]["payload"] == {}
    listed = await call("api.event_publish", body=[one, event("a.b"), event("a.c", event_id=one["event_id"])])
    assert listed["status"] == 202
    assert [i["new"] for i in listed["body"]["items"]] == [False, True, False]
    twice = event(event_id=str(uuid.uuid4()))
    inside = await call("api.event_publish", body=[twice, twice])
    assert [i["new"] for i in inside["body"]["items"]] == [True, False]
    assert len({i["cursor"] for i in inside["body"]["items"]}) == 1
    assert len(await events()) == 3


async def test_the_requests_causes_are_added_to_the_events_own(db, call):
    own, also = str(uuid.uuid4()), str(uuid.uuid4())
    answer = await call(
        "api.event_publish",
        body=event(correlation_ids=[own]),
        context=CONTEXT | {"correlation_ids": [also, own]},
    )
    served = (await call("api.event_get", event_id=answer["body"]["event_id"]))["body"]
    assert served["correlation_ids"] == [own, also]
    effects = await db.fetch(
        "select cause::text from bloodbank.causes where effect = $1", uuid.UUID(answer["body"]["event_id"])
    )
    assert {r[0] for r in effects} == {own, also}


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ([], "object"),
        ("x", "object"),
        ({"payload": {}}, "event_type"),
        ({"event_type": "a"}, "payload"),
        (event(payload=[]), "payload"),
        (event(event_id="x"), "event_id"),
        (event(event_id=5), "event_id"),
        (event(correlation_ids=["x"]), "correlation id"),
        (event(correlation_ids=[None]), "correlation id"),
        (event(event_id="01980c1e5-a1f-7cc0-9d07-3e1d8a5c2b10"), "event_id"),
        (event(correlation_ids="x"), "correlation_ids"),
        (event(source=[]), "source"),
        (event(agent_context="x"), "agent_context"),
        (event(timestamp="x"), "timestamp"),
        (event(timestamp="1969-12-31T23:59:59Z"), "1970"),
        (event(timestamp="2200-01-01T00:00:01Z"), "2200"),
        (event(timestamp="infinity"), "2200"),
        (event(version="x" * 21), "version"),
        (event(payload={"x": "y" * (1 << 20)}), "1 MiB"),
    ],
)
async def test_a_bad_event_refuses_the_whole_list_and_names_its_index(call, events, bad, message):
    with refused(400, "VALIDATION_ERROR") as error:
        await call("api.event_publish", body=[event(), bad])
    (fault,) = error["params"]["errors"]
    assert fault["path"] == "1"
    assert message in fault["message"]
    assert await events() == []


async def test_imis_own_types_need_an_admin(call):
    with refused(403, "FORBIDDEN") as error:
        await call("api.event_publish", body=[event(), event("imi.work.started")])
    assert error["params"]["index"] == 1
