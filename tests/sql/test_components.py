"""sql/components.sql: registering, relating, and walks that end."""

import random
import uuid
from collections import deque

import pytest

from tests.sql.conftest import refused

TYPES = ("depends_on", "produces_events_for", "consumes_events_from")


@pytest.fixture
def body(project):
    return {"parent_project_id": project["id"], "name": "engine", "path": "parts/engine", "kind": "submodule"}


@pytest.fixture
async def component(call, body):
    return (await call("api.component_register", body=body))["body"]


@pytest.fixture
def relate(call):
    """`await relate(a, b)`: the status and the relationship from a to b."""

    async def link(source, target, kind="depends_on", **more):
        body = {"target_component_id": str(target), "relationship_type": kind} | more
        return await call("api.component_relate", component_id=source, body=body)

    return link


async def of_components(events):
    return [e.removeprefix("imi.component.") for e in await events() if "component" in e]


async def test_a_component_is_registered_once_and_what_is_given_wins(call, events, project, body, component):
    assert component | body | {"enabled": True, "linked_project_id": None, "metadata": {}} == component
    assert await call("api.component_register", body=body) == {"status": 200, "body": component}
    linked = {"linked_project_id": project["id"], "enabled": False, "kind": "local"}
    changed = await call("api.component_register", body=body | linked | {"metadata": {"a": 1}})
    assert changed == {
        "status": 200,
        "body": changed["body"] | linked | {"id": component["id"], "metadata": {"a": 1}},
    }
    kept = await call("api.component_register", body=body | {"kind": "local", "linked_project_id": None})
    assert (kept["body"]["enabled"], kept["body"]["linked_project_id"], kept["body"]["metadata"]) == (
        False,
        None,
        {"a": 1},
    )
    assert await of_components(events) == ["registered", "updated", "updated"]


async def test_a_repeat_writes_nothing(db, call, relate, body, component):
    target = (await call("api.component_register", body=body | {"name": "nozzle"}))["body"]
    await relate(component["id"], target["id"], metadata={"a": 1})
    versions = "select xmin, ctid, t.id from imi.{} t order by id"
    before = [await db.fetch(versions.format(t)) for t in ("components", "component_relationships")]
    await call("api.component_register", body=body)
    await call(
        "api.component_update",
        component_id=component["id"],
        body={"path": body["path"], "kind": body["kind"]},
    )
    assert (await relate(component["id"], target["id"]))["status"] == 200
    assert [await db.fetch(versions.format(t)) for t in ("components", "component_relationships")] == before


async def test_update_replaces_and_null_clears(call, events, project, component):
    linked = await call(
        "api.component_update", component_id=component["id"], body={"linked_project_id": project["id"]}
    )
    assert linked["linked_project_id"] == project["id"]
    cleared = await call(
        "api.component_update",
        component_id=component["id"],
        body={"linked_project_id": None, "enabled": False},
    )
    assert (cleared["linked_project_id"], cleared["enabled"], cleared["path"]) == (
        None,
        False,
        component["path"],
    )
    assert (await call("api.component_get", component_id=component["id"])) == {"status": 200, "body": cleared}
    assert await of_components(events) == ["registered", "updated", "updated"]


async def test_ids_that_name_nothing(call, relate, body, component):
    stranger = str(uuid.uuid4())
    for field in ("parent_project_id", "linked_project_id"):
        with refused(400, "INVALID_REFERENCE") as error:
            await call("api.component_register", body=body | {field: stranger})
        assert error["params"] == {field: stranger}
    with refused(400, "INVALID_REFERENCE"):
        await call("api.component_update", component_id=component["id"], body={"linked_project_id": stranger})
    with refused(400, "INVALID_REFERENCE") as error:
        await relate(component["id"], stranger)
    assert error["params"] == {"target_component_id": stranger}
    with refused(404, "NOT_FOUND"):
        await relate(stranger, component["id"])
    with refused(404, "NOT_FOUND"):
        await call("api.component_update", component_id=stranger, body={})
    for function in ("component_relationships", "component_graph"):
        with refused(404, "NOT_FOUND"):
            await call(f"api.{function}", component_id=stranger)
    missing = await call("api.component_get", component_id=stranger)
    assert (missing["status"], missing["body"]["detail"]["code"]) == (404, "NOT_FOUND")


async def test_lists_filter(call, project, body, component):
    far = (await call("api.project_register", body={"remote_origin": "https://h/other"}))["body"]
    extra = {"enabled": False, "kind": "external", "metadata": {"team": "x", "n": 1}}
    other = (await call("api.component_register", body=body | {"parent_project_id": far["id"]} | extra))[
        "body"
    ]
    assert (await call("api.component_list"))["items"] == [other, component]
    assert (await call("api.component_list", offset=1, limit=1))["items"] == [component]
    for narrow in (
        {"parent_project_id": far["id"]},
        {"kind": "external"},
        {"enabled": False},
        {"metadata": {"team": "x"}},
    ):
        page = await call("api.component_list", **narrow)
        assert (page["total"], page["items"]) == (1, [other]), narrow


async def test_a_relationship_has_two_ends(call, events, relate, body, component):
    target = (await call("api.component_register", body=body | {"name": "nozzle"}))["body"]
    made = await relate(component["id"], target["id"], metadata={"a": 1})
    ends = {"source_component_id": component["id"], "target_component_id": target["id"]}
    assert made["status"] == 201
    assert made["body"] | ends | {"relationship_type": "depends_on", "metadata": {"a": 1}} == made["body"]
    again = await relate(component["id"], target["id"], metadata={"a": 2})
    assert again == {"status": 200, "body": made["body"] | {"metadata": {"a": 2}}}
    back = (await relate(target["id"], component["id"], "produces_events_for"))["body"]
    both = await call("api.component_relationships", component_id=component["id"])
    assert both == {"outgoing": [again["body"]], "incoming": [back]}
    with pytest.raises(Exception, match="component_is_not_related_to_itself"):
        await relate(target["id"], target["id"])
    assert (await of_components(events))[2:] == ["related"] * 3


def walked(edges, root, direction, depth, kind):
    """The walk once more: {node: least depth}."""
    found, queue = {root: 0}, deque([root])
    while queue:
        here = queue.popleft()
        for source, target, of in edges:
            for start, end, ways in ((source, target, ("out", "both")), (target, source, ("in", "both"))):
                if start == here and direction in ways and kind in (None, of) and end not in found:
                    found[end] = found[here] + 1
                    queue.append(end)
    within = {node: d for node, d in found.items() if d <= depth}
    return within, len(within) < len(found)


@pytest.fixture
def plant(db, project):
    """`await plant(n, edges)`: n components, related as pairs of their numbers and a type say; answers their ids."""

    async def make(number, edges):
        ids = [uuid.uuid4() for _ in range(number)]
        rows = [(i, uuid.UUID(project["id"]), f"c{n}") for n, i in enumerate(ids)]
        await db.executemany(
            "insert into imi.components (id, parent_project_id, name, path, kind) values ($1, $2, $3, '.', 'local')",
            rows,
        )
        await db.executemany(
            """insert into imi.component_relationships (source_component_id, target_component_id, relationship_type)
               values ($1, $2, $3)""",
            [(ids[a], ids[b], kind) for a, b, kind in edges],
        )
        return ids

    return make


@pytest.mark.parametrize("seed", range(4))
async def test_the_graph_meets_everything_once_at_its_least_depth(call, plant, seed):
    chance = random.Random(seed)
    pairs = {
        (chance.randrange(24), chance.randrange(24), chance.choice(TYPES)) for _ in range(24 + 12 * seed)
    }
    edges = sorted((a, b, kind) for a, b, kind in pairs if a != b)
    ids = await plant(24, edges)
    for direction in ("out", "in", "both"):
        for depth, kind in ((100, None), (1, None), (2, "depends_on"), (0, None), (100, "depends_on")):
            for root in range(0, 24, 5):
                graph = await call(
                    "api.component_graph", component_id=ids[root], direction=direction, depth=depth, type=kind
                )
                expected, is_cut = walked(edges, root, direction, depth, kind)
                nodes = [(ids.index(uuid.UUID(n["id"])), n["depth"]) for n in graph["nodes"]]
                assert len(nodes) == len(expected)
                assert dict(nodes) == expected
                assert [d for _, d in nodes] == sorted(expected.values())
                drawn = [
                    (ids.index(uuid.UUID(e["source"])), ids.index(uuid.UUID(e["target"])), e["type"])
                    for e in graph["edges"]
                ]
                assert sorted(drawn) == [
                    e for e in edges if e[0] in expected and e[1] in expected and kind in (None, e[2])
                ]
                assert graph["truncated"] is is_cut


async def test_a_graph_defaults_to_outward_and_all_the_way(call, plant):
    ids = await plant(
        4, [(0, 1, "depends_on"), (1, 2, "depends_on"), (2, 0, "depends_on"), (3, 0, "depends_on")]
    )
    graph = await call("api.component_graph", component_id=ids[0])
    named = {(n["name"], n["kind"], n["depth"]) for n in graph["nodes"]}
    assert named == {("c0", "local", 0), ("c1", "local", 1), ("c2", "local", 2)}
    assert (len(graph["edges"]), graph["truncated"]) == (3, False)


async def test_a_complete_graph_ends(call, plant):
    """On 40 components that all depend on each other a walk along every path would take forever."""
    ids = await plant(40, [(a, b, "depends_on") for a in range(40) for b in range(40) if a != b])
    graph = await call("api.component_graph", component_id=ids[0])
    assert (len(graph["nodes"]), len(graph["edges"]), graph["truncated"]) == (40, 40 * 39, False)


async def test_a_graph_has_an_end(db, call, project, plant):
    (hub,) = await plant(1, [])
    await db.execute(
        """with leaf as (
             insert into imi.components (parent_project_id, name, path, kind)
             select $1, 'leaf ' || n, '.', 'local' from generate_series(1, 10000) as n returning id
           )
           insert into imi.component_relationships (source_component_id, target_component_id, relationship_type)
           select $2, leaf.id, kind from leaf, unnest($3::text[]) as kind""",
        uuid.UUID(project["id"]), hub, list(TYPES),
    )  # fmt: skip
    graph = await call("api.component_graph", component_id=hub)
    assert graph["truncated"] is True
    assert len({n["id"] for n in graph["nodes"]}) == 10_000
    assert len(graph["edges"]) == 9_999 * 3
