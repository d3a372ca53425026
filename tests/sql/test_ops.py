"""sql/ops.sql: what an operator sees, and the figures behind /health and /metrics."""

import asyncio
import json
from datetime import timedelta

import asyncpg
import pytest

# In tests nobody follows the log unless they say so.
ALONE = {"workers"}
VIEWS = ("health", "lag", "locks", "subscriptions", "dead_letters", "keys", "log_size", "settings")
MINUTE = timedelta(minutes=1)


@pytest.fixture
async def operator(connect):
    """A connection that is an operator and nothing more."""
    connection = await connect("superuser")
    await connection.execute("set role imi_operator")
    return connection


@pytest.fixture
def publish(call):
    async def published(*types):
        body = [{"event_type": each, "payload": {}} for each in types]
        return (await call("api.event_publish", body=body))["body"]["items"]

    return published


async def unhealthy(db):
    return {row["subject"]: row for row in await db.fetch("select * from ops.health where not ok")}


async def test_an_operator_reads_every_view_and_nothing_else(operator):
    for view in VIEWS:
        await operator.fetch(f"select * from ops.{view}")
    for forbidden in ("imi.api_keys", "imi_meta.secrets", "bloodbank.dead_letters", "analytics.projects"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await operator.fetch(f"select * from {forbidden}")


async def test_there_are_no_other_views(db):
    found = await db.fetch(
        "select relname from pg_class where relnamespace = 'ops'::regnamespace and relkind = 'v'"
    )
    assert {row[0] for row in found} == set(VIEWS)


async def test_a_new_database_is_all_right_when_somebody_follows_its_log(db, connect):
    assert set(await unhealthy(db)) == ALONE
    await connect("worker")
    other = await connect()  # what a transaction has seen of the sessions it sees to its end
    assert await unhealthy(other) == {}
    assert await other.fetchval("select logic.workers()") == 1
    assert await other.fetchval("select count(remedy) from ops.health") == 0
    assert await other.fetchval("select count(*) from ops.health") == 9


async def test_lag_is_counted_in_events_and_time(db, publish, at):
    await at("2026-06-01T00:00Z")
    first = (await publish("test.a"))[0]["cursor"]
    await at("2026-06-01T00:01Z")
    await publish("test.b", "test.c")
    await db.execute("delete from bloodbank.subscriptions; delete from bloodbank.cursors")
    await db.execute(
        "insert into bloodbank.cursors (name, position) values ('reader', $1), ('pruned', 0)", first
    )
    await db.execute(
        "insert into bloodbank.subscriptions values ('mine', '{#}', 'logic.event_envelope', 1000000000)"
    )
    await at("2026-06-01T00:03Z")
    rows = await db.fetch(
        "select follower, kind, behind_events, behind_for, handler_resolves from ops.lag order by follower"
    )
    assert [tuple(row) for row in rows] == [
        ("mine", "subscription", 0, timedelta(0), True),
        ("reader", "cursor", 2, 2 * MINUTE, None),
    ]


async def test_the_relay_does_not_wait_for_what_came_from_the_bus(db, publish):
    await publish("test.a")
    await db.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           select uuidv7(), 'test.b', now(), '1', '{}', '{}', 'bus' from generate_series(1, 3)"""
    )
    await db.execute("insert into bloodbank.cursors (name) values ('reader')")
    lags = dict(await db.fetch("select follower, behind_events from ops.lag"))
    assert lags["relay"] == lags["reader"] - 3


async def test_a_follower_that_lags_or_has_no_handler_is_unhealthy_unless_it_is_paused(db, publish, at):
    async def faults():
        return json.loads(await db.fetchval("select logic.health()"))["followers"]

    await at("2026-06-01T00:00Z")
    await publish("test.a")
    await db.execute("update bloodbank.cursors set position = 1000000000")
    await db.execute("update bloodbank.subscriptions set position = 1000000000")
    await db.execute(
        "insert into bloodbank.subscriptions values ('mine', '{#}', 'logic.no_such', 1000000000)"
    )
    found = (await unhealthy(db))["followers"]
    assert (found["finding"], "ops.lag" in found["remedy"]) == ("mine: its handler is missing", True)
    assert await faults() == {"mine": "its handler is missing"}
    await db.execute(
        "update bloodbank.subscriptions set handler = 'logic.event_envelope', position = 0 where name = 'mine'"
    )
    assert "followers" not in await unhealthy(db)
    await at("2026-06-01T00:01Z")
    assert (await unhealthy(db))["followers"]["finding"] == "mine: behind for 00:01:00"
    assert await faults() == {"mine": "behind for 00:01:00"}
    await db.execute("update bloodbank.subscriptions set paused = true")
    assert "followers" not in await unhealthy(db) and await faults() == {}


@pytest.mark.parametrize("handler", ["logic.no_such", "nowhere.handle", 'not a name "', "secret.handle"])
async def test_a_handler_that_cannot_be_called_does_not_resolve(db, handler):
    await db.execute(
        "reset role; create schema secret; create function secret.handle(bloodbank.events) returns int language sql return 1"
    )
    await db.execute("set role imi_owner")
    await db.execute("insert into bloodbank.subscriptions values ('mine', '{#}', $1)", handler)
    assert await db.fetchval("select handler_resolves from ops.lag where follower = 'mine'") is False


async def test_locks_show_who_waits_for_whom(operator, connect):
    holder, waiter = await connect(), await connect()
    await waiter.execute("set application_name = 'the waiter'")
    async with holder.transaction():
        await holder.execute("lock table imi.projects")
        waiting = asyncio.create_task(waiter.fetch("select count(*) from imi.projects"))
        async with asyncio.timeout(20):
            while not (rows := await operator.fetch("select * from ops.locks")):
                await asyncio.sleep(0)
        (row,) = rows
        assert (row["pid"], row["blocker_pid"]) == (waiter.get_server_pid(), holder.get_server_pid())
        assert (row["application"], row["lock_on"], row["mode"]) == (
            "the waiter",
            "imi.projects",
            "AccessShareLock",
        )
        finding = "select finding from ops.health where subject = 'locks'"
        assert await operator.fetchval(finding) == "1 sessions wait"
    await waiting
    assert await operator.fetch("select * from ops.locks") == []


async def test_a_writer_that_does_not_end_is_found(db, connect):
    holder = await connect()
    async with holder.transaction():
        await holder.execute("select logic.event_append('test.held', '{}', '{}')")
        other = await connect()
        await other.execute("select set_config('imi.now', (now() - interval '31 seconds')::text, false)")
        await other.execute("select logic.event_append('test.waits', '{}', '{}')")
        reader = await connect()
        assert (await unhealthy(reader))["log"]["finding"] == "1 events held back"
        assert json.loads(await reader.fetchval("select logic.metrics()"))["log_events_held_back"] == 1
    assert "log" not in await unhealthy(reader)


async def test_dead_letters_are_unhealthy_until_they_are_replayed(db, publish):
    event_id = (await publish("test.failed"))[0]["event_id"]
    letter = "insert into bloodbank.dead_letters (source, event_id, raw, reason, subscription) values ('subscription', $1, $2, 'no such branch', 'mine')"
    await db.execute(letter, event_id, b"a\xff\x00b")
    row = await db.fetchrow("select * from ops.dead_letters")
    assert (row["event_type"], row["raw"]) == ("test.failed", r"a\377\000b")
    assert (await unhealthy(db))["dead letters"]["finding"] == "1 wait"
    assert json.loads(await db.fetchval("select logic.metrics()"))["dead_letters"] == 1
    await db.execute("update bloodbank.dead_letters set replayed_at = now()")
    assert set(await unhealthy(db)) == ALONE


async def test_subscriptions_are_handlers_and_queues(db):
    await db.execute("delete from bloodbank.subscriptions where name <> 'imi.git_events'")
    await db.execute("insert into bloodbank.bindings values ('letta', 'b.#'), ('letta', 'a.*')")
    rows = await db.fetch("select name, kind, patterns, handler from ops.subscriptions order by name")
    assert [tuple(row) for row in rows] == [
        ("imi.git_events", "handler", ["git.push", "git.pr.*"], "logic.handle_git"),
        ("letta", "queue", ["a.*", "b.#"], None),
    ]


async def test_keys_are_valid_until_they_expire_or_are_revoked(db, call, at):
    await at("2026-06-01T00:00Z")
    for name, more in (("open", {}), ("short", {"expires_at": "2026-06-02T00:00Z"}), ("gone", {})):
        made = await call("api.api_key_create", body={"name": name} | more)
    await call("api.api_key_revoke", api_key_id=made["id"], context={})
    valid = "select name from ops.keys where valid order by name"
    assert [row[0] for row in await db.fetch(valid)] == ["open", "short"]
    await at("2026-06-02T00:00Z")
    assert [row[0] for row in await db.fetch(valid)] == ["open"]
    columns = [column.name for column in (await db.prepare("select * from ops.keys")).get_attributes()]
    assert not any("hash" in column for column in columns)


async def test_log_size_says_how_fast_the_log_grows(fresh_database):
    db = await fresh_database.connect()
    empty = await db.fetchrow("select * from ops.log_size")
    assert (empty["events"], empty["bytes_per_event"], empty["oldest_at"], empty["events_per_day"]) == (
        0,
        None,
        None,
        0,
    )
    await db.execute("set imi.now = '2026-06-08T00:00Z'")
    await db.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, payload, arrived)
           select uuidv7(), 'test.grows', timestamptz '2026-06-08Z' - n * interval '1 hour', '1', '{}', '{}', 'local'
           from generate_series(0, 335) as n"""
    )
    row = await db.fetchrow("select * from ops.log_size")
    assert (row["events"], row["events_last_day"], row["events_per_day"]) == (336, 24, 24)
    assert row["newest_at"] - row["oldest_at"] == timedelta(hours=335)
    assert row["bytes"] // 336 == row["bytes_per_event"] and row["bytes_per_day"] == 24 * row["bytes"] // 336
    await db.close()


async def test_metrics_estimate_what_the_planner_knows_and_count_what_it_does_not(fresh_database):
    db = await fresh_database.connect()

    async def figures():
        return json.loads(await db.fetchval("select logic.metrics()"))

    await db.execute("select logic.event_append('test.a', '{}', '{}') from generate_series(1, 500)")
    assert (await figures())["total_events"] == 500
    await db.execute("analyze bloodbank.events")
    await db.execute("select logic.event_append('test.a', '{}', '{}') from generate_series(1, 500)")
    now = await figures()
    assert now["total_events"] == pytest.approx(1000, rel=0.1)
    assert (now["relay_lag"], now["log_end"], now["dead_letters"]) == (1000, 1000, 0)
    assert 0 < now["log_growth_rate"] <= 100 and (now["ingest_rate"], now["log_pruned"]) == (0, 0)
    assert now["log_bytes"] > 1000 * 100
    await db.execute("update bloodbank.cursors set position = 990 where name = 'relay'")
    now = await figures()
    assert (now["relay_lag"], now["lag_events_by_follower"]["relay"]) == (10, 10)
    assert now["lag_events_by_follower"]["imi.commands"] == 1000
    assert 0 < now["lag_seconds_by_follower"]["relay"] <= now["lag_seconds_by_follower"]["imi.commands"]
    assert all(isinstance(value, int | float | dict) for value in now.values())
    await db.close()


async def test_the_server_asks_for_its_figures_as_the_reader(connect):
    reader = await connect("reader")
    assert json.loads(await reader.fetchval("select logic.health()"))["followers"] == {}
    assert json.loads(await reader.fetchval("select logic.metrics()"))["log_bytes"] > 0
    api = await connect("api")
    for door in ("health", "metrics"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await api.fetchval(f"select logic.{door}()")


async def test_settings_show_the_release_the_server_and_the_limits_of_the_logins(operator, database):
    settings = {
        (row["scope"], row["name"]): row["value"]
        for row in await operator.fetch("select * from ops.settings")
    }
    assert settings["imi", "sql"].startswith("3.")
    assert settings["server", "server_version"].startswith("18")
    assert settings[f"{database.name}_api", "statement_timeout"] == "10s"
    assert settings[f"{database.name}_reader", "default_transaction_read_only"] == "on"
