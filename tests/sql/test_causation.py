"""sql/causation.sql: what followed from an event and what led to it, in four formats."""

import json
import re
import uuid

import pytest

MIB = 1 << 20


def id_of(name):
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


@pytest.fixture
def log(call):
    """`await log(a=[], b=["a"])`: events by name with their causes, a second apart; `each` has what else they hold."""

    async def publish(each=lambda name: {}, **causes):
        await call(
            "api.event_publish",
            body=[
                {
                    "event_id": id_of(name),
                    "event_type": f"test.{name}",
                    "timestamp": f"2026-01-01T00:{second // 60:02}:{second % 60:02}Z",
                    "correlation_ids": [id_of(cause) for cause in because],
                    "payload": {},
                    **each(name),
                }
                for second, (name, because) in enumerate(causes.items())
            ],
        )

    return publish


@pytest.fixture
def ask(call):
    async def get(name, towards="descendants", status=200, **more):
        answer = await call(f"api.event_{towards}", event_id=id_of(name), **more)
        assert answer["status"] == status
        return answer["body"]

    return get


def name_of(event):
    return event["event_type"].removeprefix("test.")


def drawn(node, depth=0):
    """A tree as {name: {name: …}}; the depths must be right."""
    assert node["depth"] == depth
    return {
        name_of(node["event"]): {k: v for each in node["children"] for k, v in drawn(each, depth + 1).items()}
    }


def listed(flat):
    return [(name_of(item["event"]), item["depth"]) for item in flat["items"]]


DIAMOND = {"a": [], "b": ["a"], "c": ["a"], "d": ["c", "b"], "e": ["d", "a"]}


async def test_a_tree_has_each_event_once_under_the_earliest_that_is_nearest(log, ask):
    await log(**DIAMOND)
    tree = await ask("a")
    assert drawn(tree) == {"a": {"b": {"d": {}}, "c": {}, "e": {}}}
    assert list(drawn(tree)["a"]) == ["b", "c", "e"]
    assert tree["truncated"] is False and "truncated" not in tree["children"][0]
    assert drawn(await ask("d")) == {"d": {"e": {}}}


async def test_ancestors_are_the_same_backwards(log, ask):
    await log(**DIAMOND)
    assert drawn(await ask("e", "ancestors")) == {"e": {"a": {}, "d": {"b": {}, "c": {}}}}
    assert drawn(await ask("a", "ancestors")) == {"a": {}}
    assert listed(await ask("e", "ancestors", format="flat")) == [
        ("e", 0),
        ("a", 1),
        ("d", 1),
        ("b", 2),
        ("c", 2),
    ]


async def test_the_events_are_shown_as_they_came(log, ask, call):
    await call(
        "api.event_publish",
        body={"event_id": id_of("x"), "event_type": "test.x", "payload": {"é": '"]}'}, "odd": [1]},
    )
    await log(y=["x"])
    whole = (await call("api.event_get", event_id=id_of("x")))["body"]
    tree, flat = await ask("x"), await ask("x", format="flat")
    assert tree["event"] == flat["items"][0]["event"] == whole
    assert whole["odd"] == [1]


async def test_flat_is_by_depth_then_time_then_id(log, ask):
    def each(name):
        return {"timestamp": "2030-01-01T00:00:00Z" if name == "late" else "2026-01-01T00:00:00Z"}

    await log(each, a=[], late=["a"], p=["a"], q=["a"], deep=["p"])
    flat = await ask("a", format="flat")
    same = sorted(["p", "q"], key=id_of)
    assert listed(flat) == [("a", 0), *((name, 1) for name in same), ("late", 1), ("deep", 2)]
    assert flat["truncated"] is False


async def test_a_graph_has_every_edge_between_its_nodes(log, ask):
    await log(**DIAMOND, f=["d", "elsewhere", "stranger"], stranger=[])
    graph = await ask("b", format="graph")
    assert [(name_of(node), node["depth"]) for node in graph["nodes"]] == [
        ("b", 0),
        ("d", 1),
        ("e", 2),
        ("f", 2),
    ]
    assert set(graph["nodes"][0]) == {"event_id", "event_type", "timestamp", "depth"}
    assert [(edge["source"], edge["target"]) for edge in graph["edges"]] == [
        (id_of(cause), id_of(effect)) for cause, effect in ("bd", "de", "df")
    ]
    backwards = await ask("e", "ancestors", format="graph")
    assert {(edge["source"], edge["target"]) for edge in backwards["edges"]} == {
        (id_of(cause), id_of(effect)) for cause, effect in ("ab", "ac", "bd", "cd", "de", "ae")
    }


def label(n, name, second):
    return f'  n{n}["test.{name}<br/>2026-01-01 00:00:0{second}Z<br/>{id_of(name)}"]\n'


async def test_mermaid_is_plain_text_with_short_names(log, call):
    await log(a=[], b=["a"], **{"c-d_e": ["a", "b"]})
    answer = await call("api.event_descendants", event_id=id_of("a"), format="mermaid")
    assert json.loads(json.dumps(answer["headers"])) == {"Content-Type": "text/plain; charset=utf-8"}
    assert answer["body"] == (
        "flowchart LR\n"
        + label(1, "a", 0)
        + label(2, "b", 1)
        + label(3, "c-d_e", 2)
        + "  n1 --> n2\n  n1 --> n3\n  n2 --> n3\n"
    )
    cut = await call("api.event_descendants", event_id=id_of("a"), format="mermaid", max_depth=0)
    assert cut["body"] == f'flowchart LR\n{label(1, "a", 0)}  more["… more"]\n  %% truncated\n'
    assert (await call("api.event_descendants", event_id=id_of("a"), format="flat"))["headers"] is None


async def test_loops_and_self_causes_end(log, ask):
    await log(a=["c", "a"], b=["a", "b"], c=["b"], d=["c"])
    assert drawn(await ask("a")) == {"a": {"b": {"c": {"d": {}}}}}
    assert drawn(await ask("b")) == {"b": {"c": {"a": {}, "d": {}}}}
    assert drawn(await ask("b", "ancestors")) == {"b": {"a": {"c": {}}}}
    edges = (await ask("a", format="graph"))["edges"]
    assert {"source": id_of("a"), "target": id_of("a")} in edges and len(edges) == 6


async def test_children_may_be_there_before_their_parents(log, ask):
    await log(grandchild=["child"])
    await log(child=["parent"])
    assert drawn(await ask("grandchild", "ancestors")) == {"grandchild": {"child": {}}}
    await ask("parent", status=404)
    await log(parent=[])
    assert drawn(await ask("parent")) == {"parent": {"child": {"grandchild": {}}}}
    assert drawn(await ask("grandchild", "ancestors")) == {"grandchild": {"child": {"parent": {}}}}


async def test_a_cause_that_is_not_in_the_log_is_left_out(log, ask):
    await log(a=["gone", "lost"], b=["gone", "a"])
    assert drawn(await ask("b", "ancestors")) == {"b": {"a": {}}}
    assert (await ask("b", "ancestors", format="flat", max_depth=1))["truncated"] is False
    graph = await ask("b", "ancestors", format="graph")
    assert len(graph["nodes"]) == 2 and len(graph["edges"]) == 1 and graph["truncated"] is False
    error = (await ask("gone", status=404))["detail"]
    assert (error["code"], error["params"]) == ("NOT_FOUND", {"event_id": id_of("gone")})


async def test_max_depth_cuts_and_says_so(log, ask):
    chain = [f"n{n}" for n in range(103)]
    await log(**{name: chain[n - 1 : n] if n else [] for n, name in enumerate(chain)})
    for form in ("tree", "flat", "graph"):
        assert (await ask("n0", format=form))["truncated"] is True
        assert (await ask("n2", format=form))["truncated"] is False  # exactly 100 steps
    assert len((await ask("n0", format="flat"))["items"]) == 101
    assert drawn(await ask("n0", max_depth=0)) == {"n0": {}}
    assert drawn(await ask("n9", "ancestors", max_depth=2)) == {"n9": {"n8": {"n7": {}}}}
    assert (await ask("n102", max_depth=0))["truncated"] is False


async def fanned_out(db, effects):
    """Events caused by one; their ids begin with it."""
    await db.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, arrived)
           select md5('effect ' || n)::uuid, 'test.effect', timestamptz '2026-01-02Z' + n * interval '1 second', '1', '{}', array[$1::uuid], '{}', 'bus'
           from generate_series(1, $2::integer) as n""",
        id_of("a"),
        effects,
    )
    await db.execute(
        "insert into bloodbank.causes select $1, event_id from bloodbank.events where event_type = 'test.effect'",
        id_of("a"),
    )
    # After that the statistics say that to look up a cause is to read every edge.
    await db.execute("analyze bloodbank.causes, bloodbank.events")


async def test_a_hundred_thousand_children_are_too_many(log, ask, db):
    await log(a=[])
    await fanned_out(db, 99_999)
    tree = await ask("a")
    assert (len(tree["children"]), tree["truncated"]) == (99_999, False)
    times = [child["event"]["timestamp"] for child in tree["children"]]
    assert times == sorted(times)
    await log(one_more=["a"])
    for form, key in (("tree", "children"), ("flat", "items"), ("graph", "nodes")):
        answer = await ask("a", format=form)
        assert answer["truncated"] is True
        assert len(answer[key]) == 100_000 - (form == "tree"), form
    assert len(answer["edges"]) == 99_999
    mermaid = await ask("a", format="mermaid")
    assert mermaid.endswith('  more["… more"]\n  %% truncated\n') and mermaid.count("-->") == 99_999


@pytest.mark.parametrize("form", ["tree", "flat"])
async def test_an_answer_ends_at_32_mib(log, db, form):
    large = {"payload": {"text": "x" * (MIB - 1000)}}
    await log(lambda name: large, a=[], **{f"c{n}": ["a"] for n in range(60)})
    body = await db.fetchval("select body from api.event_descendants($1, $2)", id_of("a"), form)
    assert 31 * MIB < len(body) <= 32 * MIB
    answer = json.loads(body)
    shown = answer["children"] if form == "tree" else answer["items"][1:]
    assert answer["truncated"] is True
    assert [name_of(child["event"]) for child in shown] == [f"c{n}" for n in range(len(shown))]


async def test_a_graph_ends_at_32_mib(log, db):
    """900 events, each caused by all before it and by itself, have 400,000 edges."""
    await log(a=[])
    await db.execute(
        """insert into bloodbank.events (event_id, event_type, "timestamp", version, source, correlation_ids, payload, arrived)
           select md5('dense ' || n)::uuid, 'test.dense', timestamptz '2026-01-02Z' + n * interval '1 second', '1', '{}',
             $1::uuid || array(select md5('dense ' || m)::uuid from generate_series(1, n) as m), '{}', 'bus'
           from generate_series(1, 900) as n""",
        id_of("a"),
    )
    await db.execute("""insert into bloodbank.causes select unnest(correlation_ids), event_id from bloodbank.events
                        where event_type = 'test.dense'""")
    body = await db.fetchval("select body from api.event_descendants($1, 'graph')", id_of("a"))
    assert 31 * MIB < len(body) <= 32 * MIB
    graph = json.loads(body)
    assert (len(graph["nodes"]), graph["truncated"]) == (901, True)
    assert drawn(json.loads(await db.fetchval("select body from api.event_descendants($1)", id_of("a"))))


async def test_the_readers_connection_is_enough(connect, call_live):
    made = await call_live("api.event_publish", body={"event_type": "test.seen", "payload": {}})
    reader = await connect("reader")
    assert await reader.fetchval("show transaction_read_only") == "on"
    for form in ("tree", "flat", "graph", "mermaid"):
        for towards in ("descendants", "ancestors"):
            row = await reader.fetchrow(
                f"select * from api.event_{towards}($1, $2)", made["body"]["event_id"], form
            )
            assert row["status"] == 200 and re.search(r"test\.seen", row["body"])
