"""sql/keys.sql: keys, and calls that may come twice."""

import hashlib
import json
import uuid

import pytest

from tests.sql.conftest import CONTEXT, refused


def digest(key):
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
async def key(call):
    return await call("api.api_key_create", body={"name": "ci", "scope": "write"})


async def test_a_key_is_shown_once_and_only_its_hash_is_kept(db, call, key, events):
    assert key["key"].startswith("imi_")
    assert len(key["key"]) == 68
    (listed,) = (await call("api.api_key_list"))["items"]
    assert listed == {k: v for k, v in key.items() if k != "key"}
    assert await db.fetchval("select encode(key_hash, 'hex') from imi.api_keys") == digest(key["key"])
    other = await call("api.api_key_create", body={"name": "ci"})
    assert (other["scope"], other["key"] != key["key"]) == ("read", True)
    assert await events() == []


async def test_a_key_opens_until_it_is_revoked(call, key):
    seen = await call("logic.key_check", key_hash=digest(key["key"]))
    assert (str(seen["key_id"]), seen["name"], seen["scope"]) == (key["id"], "ci", "write")
    for _ in range(2):
        await call("api.api_key_revoke", api_key_id=key["id"], context=CONTEXT)
    (listed,) = (await call("api.api_key_list"))["items"]
    assert listed["revoked_at"] is not None


async def test_revoked_expired_and_unknown_keys_open_nothing(db, call, key, at):
    await call("api.api_key_revoke", api_key_id=key["id"], context=CONTEXT)
    short = await call("api.api_key_create", body={"name": "short", "expires_at": "2030-01-01T00:00:00Z"})
    check = "select count(*) from logic.key_check($1)"
    assert await db.fetchval(check, digest(short["key"])) == 1
    await at("2030-01-01T00:00:00Z")
    for secret in (key["key"], short["key"], "imi_unknown"):
        assert await db.fetchval(check, digest(secret)) == 0
    with refused(404, "NOT_FOUND"):
        await call("api.api_key_revoke", api_key_id=uuid.uuid4(), context=CONTEXT)


async def test_use_is_noted_once_a_minute(db, call, key, at):
    times = []
    for time in ("2030-01-01T00:00:00Z", "2030-01-01T00:00:59Z", "2030-01-01T00:01:01Z"):
        await at(time)
        await call("logic.key_check", key_hash=digest(key["key"]))
        times.append(await db.fetchval("select last_used_at from imi.api_keys"))
    assert times[0] == times[1] < times[2]


@pytest.fixture
def once(db):
    async def run(function, key="k", principal="p", context=CONTEXT, **arguments):
        async with db.transaction():
            row = await db.fetchrow(
                "select * from logic.once($1, $2, $3)",
                function,
                json.dumps(
                    {f"p_{k}": json.dumps(v) if isinstance(v, dict) else v for k, v in arguments.items()}
                ),
                json.dumps(context | {"principal": principal, "idempotency_key": key}),
            )
        return row["status"], json.loads(row["body"]) if row["body"] else None

    return run


async def test_the_same_request_answers_the_stored_reply(once, events):
    body = {"remote_origin": "https://h.example/a"}
    first = await once("api.project_register", body=body)
    assert first[0] == 201
    assert await once("api.project_register", body=body) == first
    assert (await once("api.project_register", key="k2", body=body))[0] == 200
    assert (await once("api.project_register", principal="p2", body=body))[0] == 200
    assert await events() == ["imi.project.registered"]


async def test_a_request_looks_at_few_keys_however_many_there_are(once, db):
    for number in range(200):
        await once("api.project_register", key=f"k{number}", body={"remote_origin": "https://h.example/a"})
    looked_at = (
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'idempotency_keys'"
    )
    assert await db.fetchval(looked_at) < 2000


async def test_a_request_finds_its_operation_without_a_look_at_all(once, db):
    looked_at = "select seq_tup_read + idx_tup_fetch from pg_stat_xact_sys_tables where relname = 'pg_proc'"
    await once("api.project_register", key="warm", body={"remote_origin": "https://h.example/a"})
    before = await db.fetchval(looked_at)
    for number in range(10):
        await once("api.project_register", key=f"k{number}", body={"remote_origin": "https://h.example/a"})
    assert await db.fetchval(looked_at) - before < 100


async def test_another_body_or_path_under_the_same_key_is_refused(once, item):
    await once("api.work_claim", work_item_id=item["id"], body={"agent_id": "ada"})
    for changed in ({"work_item_id": str(uuid.uuid4())}, {"body": {"agent_id": "bob"}}):
        with refused(409, "CONFLICT") as error:
            await once(
                "api.work_claim", **({"work_item_id": item["id"], "body": {"agent_id": "ada"}} | changed)
            )
        assert error["params"] == {"idempotency_key": "k"}


async def test_errors_are_not_stored(once, call, project):
    body = {"project_id": project["id"], "branch_name": "a"}
    with refused(400, "VALIDATION_ERROR"):
        await once("api.work_start", body=body)
    assert (await once("api.work_start", body=body | {"owner_id": "x"}))[0] == 201


async def test_nor_is_an_error_that_is_an_answer(db, once):
    message = {"event_id": str(uuid.uuid4()), "event_type": "a.b"}
    lay = "select logic.dead_letter('intake', null, $1, 'x', 'IM400', 1)"
    letter = str(await db.fetchval(lay, json.dumps(message).encode()))
    assert (await once("api.dead_letter_replay", dead_letter_id=letter))[0] == 409
    corrected = json.dumps(message | {"payload": {}}).encode()
    await db.execute("update bloodbank.dead_letters set raw = $1", corrected)
    replayed = await once("api.dead_letter_replay", dead_letter_id=letter)
    assert replayed[0] == 200
    assert await once("api.dead_letter_replay", dead_letter_id=letter) == replayed


async def test_after_seven_days_a_key_is_new_again_and_old_ones_are_swept(db, once, at):
    body = {"remote_origin": "https://h.example/a"}
    await at("2030-01-01T00:00Z")
    assert (await once("api.project_register", body=body))[0] == 201
    await once("api.project_register", key="old", body=body)
    await at("2030-01-08T00:00:01Z")
    assert (await once("api.project_register", body=body | {"name": "other"}))[0] == 200
    assert [r[0] for r in await db.fetch("select key from imi.idempotency_keys")] == ["k"]


@pytest.mark.parametrize("function", ["api.project_list", "logic.log_floor", "pg_catalog.now", "api.nothing"])
async def test_only_mutations_go_through_once(db, once, function):
    import asyncpg

    with pytest.raises(asyncpg.PostgresError):
        await once(function)
