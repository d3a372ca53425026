"""Many who say the same at once: one of them writes, and there is one event."""

import asyncio
import uuid

from tests.sql.conftest import caller


async def test_a_ticket_is_linked_once(connect):
    first = await connect()
    live = caller(first)
    project = (await live("api.project_register", body={"remote_origin": "https://host/race.git"}))["body"]
    item = (
        await live("api.work_start", body={"project_id": project["id"], "branch_name": "b", "owner_id": "o"})
    )["body"]
    body = {"work_item_id": item["id"], "plane_ticket_id": "RACE-1", "ticket_title": "t"}
    racers = [await connect() for _ in range(6)]
    async with first.transaction():  # everybody reads "not there", then waits for this lock
        await first.execute(
            "select from imi.work_items where id = $1 for no key update", uuid.UUID(item["id"])
        )
        racing = [asyncio.create_task(caller(r)("api.link_ticket", body=body)) for r in racers]
        waiting = "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
        observer = await connect("superuser")
        while await observer.fetchval(waiting) < len(racers):
            assert not any(r.done() for r in racing)
    answers = await asyncio.gather(*racing)
    assert sorted(a["status"] for a in answers) == [200] * 5 + [201]
    assert len({a["body"]["id"] for a in answers}) == 1
    logged = await first.fetch(
        "select from bloodbank.events where event_type like 'imi.link.%' and payload ->> 'plane_ticket_id' = 'RACE-1'"
    )
    assert len(logged) == 1


async def test_a_pull_request_is_made_and_merged_once(connect, race):
    live = caller(await connect())
    project = (await live("api.project_register", body={"remote_origin": "https://host/merge.git"}))["body"]
    item = await live(
        "api.work_start", body={"project_id": project["id"], "branch_name": "b", "owner_id": "o"}
    )
    named = {"work_item_id": item["body"]["id"], "pr_state": "merged"}

    def merge(number):
        body = named | {"pr_number": number, "pr_url": f"https://host/pull/{number}"}
        return lambda connection: caller(connection)("api.link_pr", body=body)

    answers = await race([merge(1 + n % 2) for n in range(12)])
    assert sorted(a["status"] for a in answers) == [200] * 10 + [201] * 2
    counted = await (await connect()).fetch(
        """select event_type, count(*) from bloodbank.events
           where event_type like 'imi.pr.%' or event_type = 'imi.work.completed' group by 1 order by 1"""
    )
    assert [tuple(r) for r in counted] == [
        ("imi.pr.created", 2),
        ("imi.pr.merged", 2),
        ("imi.work.completed", 1),
    ]


async def test_a_component_is_registered_and_related_once(connect, race):
    live = caller(await connect())
    project = (await live("api.project_register", body={"remote_origin": "https://host/race.git"}))["body"]
    body = {"parent_project_id": project["id"], "name": "n", "path": "p", "kind": "local"}
    source = (await live("api.component_register", body=body | {"name": "source"}))["body"]["id"]

    def register(connection):
        return caller(connection)("api.component_register", body=body)

    made = await race([register] * 12)
    assert sorted(a["status"] for a in made) == [200] * 11 + [201]
    (target,) = {a["body"]["id"] for a in made}

    def relate(connection):
        to = {"target_component_id": target, "relationship_type": "depends_on", "metadata": {"a": 1}}
        return caller(connection)("api.component_relate", component_id=source, body=to)

    related = await race([relate] * 12)
    assert sorted(a["status"] for a in related) == [200] * 11 + [201]
    counted = await (await connect()).fetch(
        "select event_type, count(*) from bloodbank.events where event_type like 'imi.component.%' group by 1 order by 1"
    )
    assert [tuple(r) for r in counted] == [("imi.component.registered", 2), ("imi.component.related", 1)]
