"""sql/prelude.sql: clock, errors, pages, partial updates, topics."""

import datetime as dt
import json

import pytest

from tests.sql.conftest import refused


async def test_the_clock_moves_within_a_transaction_and_tests_can_stop_it(db, at):
    first, second = await db.fetchval("select logic.now()"), await db.fetchval("select logic.now()")
    assert first < second
    await at("2030-02-03T04:05Z")
    assert await db.fetchval("select logic.now()") == dt.datetime(2030, 2, 3, 4, 5, tzinfo=dt.UTC)


async def test_fail_carries_code_params_and_hint(db):
    with refused(418, "TEAPOT") as error:
        await db.execute("select logic.fail(418, 'TEAPOT', 'Short', '{\"spout\": 1}', 'Tip it over')")
    assert error["params"] == {"spout": 1}
    assert (error["message"], error["hint"]) == ("Short", "Tip it over")


@pytest.mark.parametrize(
    ("pattern", "topic", "matches"),
    [
        ("a", "a", True),
        ("a", "a.b", False),
        ("*", "a", True),
        ("*", "a.b", False),
        ("#", "a.b.c", True),
        ("a.#", "a", True),
        ("a.#", "a.b.c", True),
        ("a.#", "ab", False),
        ("a.*", "a.b", True),
        ("a.*", "a", False),
        ("a.*", "a.b.c", False),
        ("#.c", "c", True),
        ("#.c", "a.b.c", True),
        ("a.#.c", "a.c", True),
        ("a.#.c", "a.b.b.c", True),
        ("a.#.c", "a.b", False),
        ("*.#", "a", True),
        ("#.*", "a.b", True),
        ("#.#", "a", True),
        ("*.b.#", "a.b", True),
        ("bmad.workflow.*", "bmad.workflow.phase.completed", False),
        ("bmad.workflow.#", "bmad.workflow.phase.completed", True),
        ("a_b.c-d", "a_b.c-d", True),
        ("a_b", "axb", False),
    ],
)
async def test_topics_match_as_amqp_says(db, pattern, topic, matches):
    assert await db.fetchval("select logic.topic_matches($1, $2)", pattern, topic) is matches


@pytest.mark.parametrize(
    "pattern", ["", ".", "a.", ".a", "a..b", "a*", "a.b#", "a b", "(x)", "a.%", "x" * 256]
)
async def test_other_patterns_are_refused(db, pattern):
    with refused(400, "INVALID_PATTERN"):
        await db.fetchval("select logic.topic_matches($1, 'a')", pattern)


async def test_a_page_ends_at_32_mib_but_holds_at_least_one(db):
    big = json.dumps("x" * (20 << 20))
    cut = json.loads(await db.fetchval("select logic.page($1::json[], 3, 0, 100)", [big, big, '"small"']))
    assert (len(cut["items"]), cut["total"]) == (1, 3)
    one = json.loads(
        await db.fetchval("select logic.page($1::json[], 1, 0, 1)", [json.dumps("x" * (33 << 20))])
    )
    assert len(one["items"]) == 1
    empty = json.loads(await db.fetchval("select logic.page('{}', 0, null, null)"))
    assert empty == {"items": [], "total": 0, "offset": 0, "limit": 100}


async def test_pick_keeps_nulls_and_drops_other_keys(db):
    picked = await db.fetchval("""select logic.pick('{"a": null, "b": 1, "id": 2}', 'a', 'b', 'c')""")
    assert json.loads(picked) == {"a": None, "b": 1}
    assert await db.fetchval("select logic.pick('{}', 'a')") == "{}"


async def test_an_abbreviated_commit_is_the_same_commit(db):
    agree = "select logic.commits_agree($1, $2)"
    pairs = [
        ("abc1234", "abc1234"),
        ("abc1234", "abc12345"),
        ("abc12345", "abc1234"),
        ("abc1234", "abc1235"),
        (None, "a"),
    ]
    assert [await db.fetchval(agree, *pair) for pair in pairs] == [True, True, True, False, None]
