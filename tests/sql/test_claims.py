"""sql/claims.sql: leases and fencing tokens."""

import uuid

import pytest

from tests.sql.conftest import refused


@pytest.fixture
def do(call, item):
    async def verb(name, agent="ada", **more):
        return await call(f"api.work_{name}", work_item_id=item["id"], body={"agent_id": agent} | more)

    return verb


async def test_one_holder_at_a_time(do, events):
    held = await do("claim", ttl_seconds=60)
    assert (held["claim"]["agent_id"], held["claim"]["fencing_token"]) == ("ada", 1)
    assert await do("claim") == held
    with refused(409, "CONFLICT") as error:
        await do("claim", agent="grace")
    assert (error["params"]["agent_id"], error["params"]["lease_until"]) == (
        "ada",
        held["claim"]["lease_until"],
    )


async def test_tokens_grow_over_release_and_expiry(do, at, events):
    await at("2030-01-01T00:00Z")
    assert (await do("claim", ttl_seconds=60))["claim"]["fencing_token"] == 1
    assert (await do("release"))["claim"] is None
    assert (await do("release"))["claim"] is None
    assert (await do("claim", agent="grace", ttl_seconds=60))["claim"]["fencing_token"] == 2
    await at("2030-01-01T00:01Z")
    taken = await do("claim", agent="ada", ttl_seconds=60)
    assert (taken["claim"]["fencing_token"], taken["claim"]["lease_until"]) == (
        3,
        "2030-01-01T00:02:00+00:00",
    )
    assert (await events())[2:] == [
        "imi.work.claimed",
        "imi.work.released",
        "imi.work.claimed",
        "imi.work.claimed",
    ]


async def test_renewal_prolongs_without_an_event(do, at, events):
    await at("2030-01-01T00:00Z")
    await do("claim", ttl_seconds=60)
    before = await events()
    await at("2030-01-01T00:00:30Z")
    assert (await do("renew", ttl_seconds=60))["claim"]["lease_until"] == "2030-01-01T00:01:30+00:00"
    assert await events() == before


async def test_only_a_living_claim_can_be_renewed(do, at):
    await at("2030-01-01T00:00Z")
    await do("claim", ttl_seconds=60)
    await at("2030-01-01T00:01Z")
    with refused(409, "CONFLICT"):
        await do("renew")


@pytest.mark.parametrize("verb", ["renew", "release"])
async def test_others_can_neither_renew_nor_release(do, verb):
    await do("claim")
    with refused(409, "CONFLICT") as error:
        await do(verb, agent="grace")
    assert error["params"]["agent_id"] == "ada"


@pytest.mark.parametrize("verb", ["git_state_update", "complete", "renew", "release"])
async def test_a_stale_token_is_refused_everywhere(do, call, item, verb):
    await do("claim")
    await do("release")
    current = (await do("claim"))["claim"]["fencing_token"]
    body = {"agent_id": "ada", "completion_type": "merged", "ahead_of_trunk": 1}
    for token in (current - 1, current + 1):
        with refused(409, "STALE_CLAIM") as error:
            await call(f"api.work_{verb}", work_item_id=item["id"], body=body | {"fencing_token": token})
        assert error["params"]["agent_id"] == "ada"
    answer = await call(f"api.work_{verb}", work_item_id=item["id"], body=body | {"fencing_token": current})
    assert answer["id"] == item["id"]


async def test_completing_ends_the_claim_and_can_be_repeated_with_its_token(do, call, item):
    token = (await do("claim"))["claim"]["fencing_token"]
    done = await do("complete", completion_type="merged", fencing_token=token)
    assert done["claim"] is None
    assert await do("complete", completion_type="merged", fencing_token=token) == done
    with refused(409, "CONFLICT") as error:
        await do("claim")
    assert error["params"]["status"] == "merged"


@pytest.mark.parametrize("verb", ["claim", "renew", "release"])
async def test_unknown_items(call, verb):
    with refused(404, "NOT_FOUND"):
        await call(f"api.work_{verb}", work_item_id=uuid.uuid4(), body={"agent_id": "ada"})


async def test_claiming_makes_the_agent_known(do, db):
    await do("claim", agent="new-agent")
    assert await db.fetchval("select count(*) from imi.agents where id = 'new-agent'") == 1
