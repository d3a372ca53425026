"""sql/trace.sql: from any node to the whole chain."""

import random
import uuid

import pytest

from tests.sql.conftest import refused

EMPTY = {"tickets": [], "work_items": [], "prs": [], "deploys": []}
LAST = "1111111" + "a" * 33
MERGE = "2222222" + "b" * 33
DEPLOYED = "3333333" + "c" * 33
URL = "https://github.com/acme/rocket/pull/42"


@pytest.fixture
def start(call, project):
    """`await start("branch")`: a work item of the project, or of another one."""

    async def work(branch, project_id=project["id"]):
        body = {"project_id": project_id, "branch_name": branch, "owner_id": "ada"}
        return (await call("api.work_start", body=body))["body"]

    return work


@pytest.fixture
async def chain(call, item):
    """A work item with a ticket, a merged PR and a deploy, as a trace shows them."""
    await call("api.work_git_state_update", work_item_id=item["id"], body={"last_commit_hash": LAST})
    ids = {"work_item_id": item["id"]}
    ticket = await call(
        "api.link_ticket", body=ids | {"plane_ticket_id": "PROJ-123", "ticket_title": "Engine"}
    )
    completion = {"completion_type": "merged", "merge_commit_hash": MERGE}
    await call("api.work_complete", work_item_id=item["id"], body=completion)
    pr = await call("api.link_pr", body=ids | {"pr_number": 42, "pr_url": URL, "pr_state": "merged"})
    deploy = await call(
        "api.link_deploy", body=ids | {"deploy_id": "d/7", "environment": "prod", "commit_hash": DEPLOYED}
    )
    whole = (await call("api.work_get", work_item_id=item["id"]))["body"]
    del whole["links"]
    return {
        "tickets": [ticket["body"]],
        "work_items": [whole],
        "prs": [pr["body"]],
        "deploys": [deploy["body"]],
    }


def nodes(chain):
    """Every name that the work item of the fixture has."""
    yield from (
        ("ticket", "PROJ-123"),
        ("work_item", chain["work_items"][0]["id"]),
        ("branch", "feat/engine"),
    )
    yield from (("pr", "42"), ("pr", URL), ("deploy", "d/7"))
    for commit in (LAST, MERGE, DEPLOYED):
        yield from (("commit", commit), ("commit", commit[:7]), ("commit", commit[:20].upper()))


async def test_every_kind_of_node_leads_to_the_whole_chain(call, start, chain):
    await start("feat/other")
    for kind, name in nodes(chain):
        trace = await call("api.trace_get", entity_type=kind, entity_id=name)
        assert trace == {"entity": {"type": kind, "id": name}, "chain": chain}
        assert await call("api.trace_get", entity_type=kind, id=name) == trace


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("ticket", "NOPE-1"), ("work_item", "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10"), ("branch", "main"), ("pr", "7"), ("pr", "2147483647"),
        ("pr", "http://x/7"), ("deploy", "d"), ("commit", "0" * 40), ("commit", "0000000"),
    ],
)  # fmt: skip
async def test_what_nobody_linked_has_an_empty_chain(call, chain, kind, name):
    trace = await call("api.trace_get", entity_type=kind, entity_id=name)
    assert trace == {"entity": {"type": kind, "id": name}, "chain": EMPTY}
    assert (await call("api.trace_get", entity_type=kind, entity_id=name, transitive=True))["chain"] == EMPTY


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("work_item", "PROJ-1"), ("pr", "0"), ("pr", "-3"), ("pr", "#42"), ("pr", "2147483648"), ("pr", "ftp://x/1"),
        ("commit", "abc123"), ("commit", "abcdefg"), ("commit", "a" * 65), ("commit", "1111111%"),
    ],
)  # fmt: skip
async def test_malformed_names(call, kind, name):
    with refused(400, "INVALID_ENTITY_ID") as error:
        await call("api.trace_get", entity_type=kind, entity_id=name)
    assert error["params"] == {"entity_type": kind, "entity_id": name}


async def test_the_type_must_be_known_and_the_name_given_once(call):
    with refused(400, "INVALID_ENTITY_TYPE"):
        await call("api.trace_get", entity_type="sprint", entity_id="1")
    for names in ({}, {"entity_id": "a", "id": "a"}):
        with refused(400, "VALIDATION_ERROR"):
            await call("api.trace_get", entity_type="ticket", **names)


async def test_a_prefix_of_two_commits_is_refused_unless_one_begins_the_other(call, project, start, chain):
    async def deployed(item, commit):
        body = {"work_item_id": item["id"], "deploy_id": commit, "environment": "e", "commit_hash": commit}
        await call("api.link_deploy", body=body)

    async def traced(name, **narrow):
        found = await call("api.trace_get", entity_type="commit", entity_id=name, **narrow)
        return {i["branch_name"] for i in found["chain"]["work_items"]}

    await deployed(await start("short"), LAST[:10])
    assert await traced(LAST[:8]) == {"feat/engine", "short"}
    assert await traced(LAST) == {"feat/engine"}
    far = (await call("api.project_register", body={"remote_origin": "https://h/other"}))["body"]
    await deployed(await start("far", far["id"]), LAST[:9] + "f")
    for ambiguous in (LAST[:8], LAST[:9]):
        with refused(400, "INVALID_ENTITY_ID") as error:
            await traced(ambiguous)
        assert LAST[:9] + "f" in error["hint"]
    assert await traced(LAST[:10]) == {"feat/engine", "short"}
    assert await traced(LAST[:8], project_id=far["id"]) == {"far"}
    assert await traced(LAST[:8], project_id=project["id"]) == {"feat/engine", "short"}


async def test_a_project_narrows_and_a_number_is_not_unique(call, project, start, chain):
    far = (await call("api.project_register", body={"remote_origin": "https://h/other"}))["body"]
    other = await start("feat/engine", far["id"])
    await call(
        "api.link_pr", body={"work_item_id": other["id"], "pr_number": 42, "pr_url": "https://other/42"}
    )
    for kind, name in (("pr", "42"), ("branch", "feat/engine")):
        both = await call("api.trace_get", entity_type=kind, entity_id=name)
        assert [i["project_id"] for i in both["chain"]["work_items"]] == [far["id"], project["id"]]
        assert len(both["chain"]["prs"]) == 2
        one = await call("api.trace_get", entity_type=kind, entity_id=name, project_id=project["id"])
        assert one["chain"] == chain
    for kind, name in nodes(chain):
        none = await call("api.trace_get", entity_type=kind, entity_id=name, project_id=uuid.uuid4())
        assert none["chain"] == EMPTY


def reached(links, first, allowed):
    """The walk once more: everything joined to `first` by what it shares."""
    found, edge = {first}, {first}
    while edge:
        shared = {name for item, name in links if item in edge}
        edge = {item for item, name in links if name in shared and item in allowed} - found
        found |= edge
    return found


@pytest.mark.parametrize("seed", range(3))
async def test_the_transitive_walk_visits_everything_once(db, call, project, seed):
    chance = random.Random(seed)
    far = (await call("api.project_register", body={"remote_origin": "https://h/far"}))["body"]
    near = [uuid.uuid4() for _ in range(40)]
    items = near + [uuid.uuid4() for _ in range(20)]
    await db.executemany(
        "insert into imi.work_items (id, project_id, branch_name, owner_id) values ($1, $2, $3, 'x')",
        [(i, uuid.UUID(project["id"] if i in near else far["id"]), str(n)) for n, i in enumerate(items)],
    )
    tickets = {(chance.choice(items), f"T-{chance.randrange(30)}") for _ in range(55)}
    prs = {(chance.choice(items), f"https://h/{chance.randrange(30)}") for _ in range(25)}
    await db.executemany(
        "insert into imi.ticket_links (work_item_id, plane_ticket_id) values ($1, $2)", tickets
    )
    await db.executemany("insert into imi.pr_links (work_item_id, pr_number, pr_url) values ($1, 1, $2)", prs)
    # one deploy of everything joins nothing
    await db.executemany(
        "insert into imi.deploy_links (work_item_id, deploy_id, environment, commit_hash) values ($1, 'd', 'e', 'abcdef0')",
        [(i,) for i in items],
    )
    sizes = set()
    for narrow, allowed in (({}, set(items)), ({"project_id": uuid.UUID(project["id"])}, set(near))):
        for first in near:
            trace = await call(
                "api.trace_get", entity_type="work_item", entity_id=str(first), transitive=True, **narrow
            )
            expected = reached(tickets | prs, first, allowed)
            found = [uuid.UUID(i["id"]) for i in trace["chain"]["work_items"]]
            assert sorted(found) == sorted(expected)
            linked = [(uuid.UUID(t["work_item_id"]), t["plane_ticket_id"]) for t in trace["chain"]["tickets"]]
            assert sorted(linked) == sorted(t for t in tickets if t[0] in expected)
            assert len(trace["chain"]["deploys"]) == len(expected)
            sizes.add(len(found))
    assert max(sizes) > 10


async def test_a_chain_has_an_end(db, call, project):
    await db.execute(
        """with item as (
             insert into imi.work_items (project_id, branch_name, owner_id)
             select $1, 'b' || n, 'x' from generate_series(1, 1200) as n returning id
           )
           insert into imi.ticket_links (work_item_id, plane_ticket_id) select id, 'HUB' from item""",
        uuid.UUID(project["id"]),
    )
    whole = await call("api.trace_get", entity_type="branch", entity_id="b7")
    assert "truncated" not in whole
    for arguments in (
        {"entity_type": "ticket", "entity_id": "HUB"},
        {"entity_type": "branch", "entity_id": "b7", "transitive": True},
    ):
        trace = await call("api.trace_get", **arguments)
        assert trace["truncated"] is True
        assert len(trace["chain"]["work_items"]) == len(trace["chain"]["tickets"]) == 1000
        assert {t["work_item_id"] for t in trace["chain"]["tickets"]} == {
            i["id"] for i in trace["chain"]["work_items"]
        }


async def test_a_list_of_the_chain_ends_at_8_mebibytes(call, item):
    for n in range(10):
        body = {
            "work_item_id": item["id"],
            "plane_ticket_id": f"P-{n}",
            "metadata": {"blob": "x" * 900_000},
        }
        await call("api.link_ticket", body=body)
    trace = await call("api.trace_get", entity_type="ticket", entity_id="P-3")
    assert [t["plane_ticket_id"] for t in trace["chain"]["tickets"]] == [f"P-{n}" for n in range(9, 0, -1)]
    assert trace["truncated"] is True


async def test_indexes_answer_every_kind_of_trace(db, call):
    await db.execute("""
        with project as (
          insert into imi.projects (name, remote_origin) select 'p', 'r' from generate_series(1, 200) returning id
        ), item as (
          insert into imi.work_items (project_id, branch_name, owner_id, last_commit_hash, merge_commit_hash)
          select id, 'b' || n, 'x', encode(sha256((id || 'l' || n)::bytea), 'hex'), encode(sha256((id || 'm' || n)::bytea), 'hex')
          from project, generate_series(1, 100) as n
          returning id
        ), ticket as (
          insert into imi.ticket_links (work_item_id, plane_ticket_id)
          select id, 'T-' || row_number() over () / 2 from item
        ), pr as (
          insert into imi.pr_links (work_item_id, pr_number, pr_url)
          select id, n, 'https://h/' || n from (select id, row_number() over () / 2 + 1 as n from item) as item
        )
        insert into imi.deploy_links (work_item_id, deploy_id, environment, commit_hash)
        select id, 'd-' || row_number() over () / 3, 'e', encode(sha256(id::text::bytea), 'hex') from item
    """)
    await db.execute(
        "analyze imi.projects, imi.work_items, imi.ticket_links, imi.pr_links, imi.deploy_links, imi.claims"
    )
    scans = """
        select relname, seq_scan from pg_stat_xact_user_tables
        where relname in ('work_items', 'ticket_links', 'pr_links', 'deploy_links')"""
    one = await db.fetchrow(
        "select id, last_commit_hash, merge_commit_hash from imi.work_items offset 9000 limit 1"
    )
    names = [
        ("ticket", "T-4500"), ("work_item", str(one["id"])), ("branch", "b77"), ("pr", "4500"), ("pr", "https://h/4500"),
        ("deploy", "d-3000"), ("commit", one["last_commit_hash"]), ("commit", one["merge_commit_hash"][:12]),
    ]  # fmt: skip
    before = dict(await db.fetch(scans))
    for kind, name in names:
        for transitive in (False, True):
            trace = await call("api.trace_get", entity_type=kind, entity_id=name, transitive=transitive)
            assert trace["chain"]["work_items"], (kind, name)
            assert dict(await db.fetch(scans)) == before, (kind, name, transitive)


async def test_a_trace_needs_no_right_to_write(database, connect):
    reader = await connect("reader")
    assert await reader.fetchval("select api.trace_get('ticket', 'X-1')") is not None
