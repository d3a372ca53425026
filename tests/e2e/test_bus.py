"""The bus as others see it, from a running iMi; the same on RabbitMQ and on the embedded bus."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

import pytest

from imi.bloodbank.schemas import faults_in
from tests.e2e.outside import Event, World, ours, until
from tests.e2e.worlds import WORLDS, RabbitWorld

BURST, OUTAGE = 500, 1000
AGENT = {"type": "claude-code", "name": "claude-6"}


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """iMi, its bus and an outsider; one for the module."""
    with WORLDS[request.param]() as found:
        yield found


def types(events: list[Event]) -> list[str]:
    return [each["event_type"] for each in events]


def ids(events: list[Event]) -> list[str]:
    return [each["event_id"] for each in events]


def done(world: World, command: str, **payload: object) -> tuple[Event, Event]:
    """A command, and its imi.cmd.done."""
    asked = world.publish(f"imi.cmd.{command}", payload, agent_context=AGENT)
    answer = world.effect(asked, "imi.cmd.done")["payload"]
    assert (answer["command"], answer["event_id"]) == (f"imi.cmd.{command}", asked["event_id"])
    return asked, answer["result"]


def test_what_others_say_changes_imi_from_the_first_command_to_the_deploy(world: World) -> None:
    remote, branch = "git@github.com:33GOD/story.git", "feat/story"
    repository = {"remote_url": "https://github.com/33god/story"}
    url, first, merge = "https://github.com/33GOD/story/pull/7", "a" * 40, "b" * 40

    register, project = done(world, "register_project", remote_origin=remote)
    assert types(world.effects(register)) == ["imi.project.registered", "imi.cmd.done"]
    assert world.get("/projects/by-origin", remote_origin=remote) == project
    again, same = done(world, "register_project", remote_origin=repository["remote_url"])
    assert same == project
    assert types(world.effects(again)) == ["imi.cmd.done"]

    source = {"type": "plane_ticket", "ref": "STORY-1"}
    start, started = done(world, "start_work", remote_origin=remote, branch_name=branch, source=source)
    assert types(world.effects(start)) == ["imi.work.started", "imi.cmd.done"]

    def work() -> Event:
        found: Event = world.get(f"/work/{started['id']}")
        return found

    assert started == {key: value for key, value in work().items() if key != "links"}
    assert (started["project_id"], started["source"]) == (project["id"], source)
    assert started["owner_id"] == AGENT["name"]

    ticket = {"ticket_id": "STORY-1", "title": "A story", "state": "Todo"}
    linked = world.effect(world.publish("plane.ticket.created", ticket), "imi.link.ticket_linked")
    assert [linked["payload"]] == work()["links"]["tickets"]
    assert (linked["payload"]["ticket_title"], linked["payload"]["ticket_state"]) == ("A story", "Todo")
    renewed = world.effect(
        world.publish("plane.ticket.updated", ticket | {"state": "In Progress"}), "imi.link.ticket_updated"
    )
    assert [renewed["payload"]] == work()["links"]["tickets"]
    assert renewed["payload"]["ticket_state"] == "In Progress"

    for agent in ("claude-7", "claude-8"):  # two, so that their activities show as a conflict
        edit = world.publish(
            "tool.mutation.edit",
            {
                "tool_name": "Edit",
                "agent_id": agent,
                "repo": repository | {"git_root": "/code/story", "branch": branch},
                "file_path": "/code/story/README.md",
            },
        )
    at = datetime.fromisoformat(edit["timestamp"])
    until(
        lambda: (said := work()["last_sync_at"]) and datetime.fromisoformat(said) == at,
        "last_sync_at of the mutation",
    )
    (conflict,) = world.get("/conflicts", project_id=project["id"])["items"]
    assert conflict["path"] == "README.md"
    assert {(each["agent_id"], each["work_item_id"]) for each in conflict["touches"]} == {
        ("claude-7", started["id"]),
        ("claude-8", started["id"]),
    }
    assert {"claude-7", "claude-8"} <= {each["id"] for each in world.get("/agents")["items"]}

    push = {"repository": repository, "branch": branch, "commits": [{"id": first, "message": "Tell it"}]}
    moved = world.effect(world.publish("git.push", push), "imi.work.git_state_updated")["payload"]
    assert moved["last_commit_hash"] == work()["last_commit_hash"] == first
    assert moved["last_commit_message"] == "Tell it"

    pr = {"repository": repository, "number": 7, "url": url, "title": "A story", "head_branch": branch}
    created = world.effect(world.publish("git.pr.opened", pr), "imi.pr.created")["payload"]
    assert [created] == work()["links"]["prs"]
    assert (created["pr_url"], created["pr_state"]) == (url, "open")
    merged = world.publish("git.pr.merged", pr | {"merge_commit_sha": merge, "merged_by": "ada"})
    completed = world.effect(merged, "imi.work.completed")["payload"]
    assert types(world.effects(merged)) == ["imi.pr.merged", "imi.work.completed"]
    assert completed == {key: value for key, value in work().items() if key != "links"}
    assert (completed["status"], completed["completion_type"]) == ("merged", "merged")
    assert (completed["merge_commit_hash"], completed["merged_by"]) == (merge, "ada")
    assert work()["links"]["prs"][0]["pr_state"] == "merged"

    deploy = {
        "deploy_id": "deploy-1",
        "environment": "production",
        "commit_hash": merge,
        "repository": repository,
        "deployed_at": "2026-02-11T12:00:00Z",
    }
    deployed = world.effect(world.publish("ci.deploy.completed", deploy), "imi.deploy.completed")["payload"]
    assert [deployed] == work()["links"]["deploys"]
    chain = world.get("/trace/ticket/STORY-1")["chain"]
    assert chain == work()["links"] | {"work_items": [completed]}
    assert [len(chain[kind]) for kind in ("tickets", "work_items", "prs", "deploys")] == [1, 1, 1, 1]


def test_what_else_others_can_say(world: World) -> None:
    remote, branch = "https://h.example/rest", "feat/rest"
    here = {"remote_origin": remote, "branch_name": branch}
    done(world, "register_project", remote_origin=remote)
    _, started = done(world, "start_work", **here)

    def links() -> Event:
        found: Event = world.get("/links", work_item_id=started["id"])
        return found

    ticket, link = done(world, "link_ticket", **here, plane_ticket_id="REST-1", ticket_title="The rest")
    assert types(world.effects(ticket)) == ["imi.link.ticket_linked", "imi.cmd.done"]
    assert links()["tickets"] == [link]

    def push(commit: str, **envelope: object) -> Event:
        commits = [{"id": commit * 40, "message": commit}]
        payload = {"repo": remote, "ref": f"refs/heads/{branch}", "commits": commits, "after": commit * 40}
        return world.publish("git.push", payload, **envelope)

    world.effect(push("a"), "imi.work.git_state_updated")
    ignored = [push("b", timestamp=started["created_at"]), push("0")]  # an older one, a deleted branch
    world.effect(push("c"), "imi.work.git_state_updated")
    assert [world.effects(each) for each in ignored] == [[], []]

    pr = {"repo": remote, "number": 9, "url": f"{remote}/pull/9", "head_branch": branch}
    world.effect(world.publish("git.pr.opened", pr), "imi.pr.created")
    closed = world.effect(world.publish("git.pr.closed", pr), "imi.pr.closed")["payload"]
    assert links()["prs"] == [closed]
    assert closed["pr_state"] == "closed"

    deploy = {"deploy_id": "d1", "environment": "test", "commit_hash": "d" * 40, "repository": remote}
    deploy["deployed_at"] = "2026-02-11T12:00:00Z"
    nobodys = world.publish("ci.deploy.completed", deploy)
    named = world.publish("ci.deploy.completed", deploy | {"deploy_id": "d2", "pr_numbers": [9]})
    deployed = world.effect(named, "imi.deploy.completed")["payload"]
    assert links()["deploys"] == [deployed]
    assert world.effects(nobodys) == []

    complete, completed = done(world, "complete_work", **here, completion_type="abandoned")
    assert types(world.effects(complete)) == ["imi.work.completed", "imi.cmd.done"]
    assert (completed["id"], completed["status"], completed["active"]) == (started["id"], "abandoned", False)
    repeated, same = done(world, "complete_work", **here, completion_type="abandoned")
    assert types(world.effects(repeated)) == ["imi.cmd.done"]
    assert same == completed

    refused = world.publish(
        "imi.cmd.start_work", {"remote_origin": "https://h.example/no", "branch_name": "b"}
    )
    failed = world.effect(refused, "imi.cmd.failed")["payload"]
    assert (failed["event_id"], failed["error"]["code"]) == (refused["event_id"], "NOT_FOUND")


def test_an_unknown_command_gets_one_answer(world: World) -> None:
    unknown = world.publish("imi.cmd.make_coffee", {"size": "large"})
    failed = world.effect(unknown, "imi.cmd.failed")
    assert failed["payload"]["command"] == "imi.cmd.make_coffee"
    assert failed["payload"]["event_id"] == unknown["event_id"]
    assert failed["payload"]["error"]["code"] == "UNKNOWN_COMMAND"
    # commands are handled in log order: once this one is answered, the failure itself has been passed over
    done(world, "register_project", remote_origin="https://h.example/coffee")
    assert world.effects(unknown) == [failed]
    assert world.effects(failed) == []


def test_an_event_that_comes_three_times_takes_effect_once(world: World) -> None:
    remote = "https://h.example/thrice"
    command = world.publish("imi.cmd.register_project", {"remote_origin": remote})
    world.send(command)
    world.send(command)
    world.effect(command, "imi.cmd.done")
    done(world, "start_work", remote_origin=remote, branch_name="b")
    push = {"repository": remote, "branch": "b", "commits": [{"id": "c" * 40, "message": "Once"}]}
    pushed = world.publish("git.push", push)
    world.send(pushed)
    world.send(pushed)
    world.effect(pushed, "imi.work.git_state_updated")
    # each subscription works in log order: when this is handled, all of the above is
    last = world.publish("git.push", push | {"commits": [{"id": "d" * 40, "message": "Then"}]})
    world.effect(last, "imi.work.git_state_updated")
    done(world, "register_project", remote_origin=remote)
    assert types(world.effects(command)) == ["imi.project.registered", "imi.cmd.done"]
    assert types(world.effects(pushed)) == ["imi.work.git_state_updated"]


def test_everything_arrives_once_in_log_order_and_says_what_it_is(world: World) -> None:
    world.start_work("https://h.example/burst", BURST)
    log = world.log()
    assert types(log).count("imi.work.started") >= BURST
    until(lambda: ids(world.received())[-1:] == ids(log)[-1:], "the last event of the log")
    deliveries = [each for each in world.deliveries if ours(each.event)]
    assert ids([each.event for each in deliveries]) == ids(log)
    assert [each.event for each in deliveries] == log
    assert [each.marks for each in deliveries] == [world.marks(each) for each in log]
    place = {each.event["event_id"]: n for n, each in reversed(list(enumerate(world.deliveries)))}
    for event in log:
        for cause in event["correlation_ids"]:
            assert place[cause] < place[event["event_id"]]
    assert faults_in(log) == []
    assert world.get("/dead-letters")["items"] == []


@pytest.mark.parametrize("world", ["rabbitmq"], indirect=True)
def test_a_dead_broker_holds_nothing_up_and_nothing_is_lost(world: World) -> None:
    assert isinstance(world, RabbitWorld)
    assert world.health()["status"] == "healthy"
    world.node.kill()
    before = len(world.log())
    world.start_work("https://h.example/outage", OUTAGE)
    assert world.health() | {"status": "degraded", "bloodbank": "disconnected"} == world.health()
    world.node.start()
    log = world.log()
    assert len(log) == before + 1 + OUTAGE
    until(lambda: set(ids(log)) <= set(ids(world.received())), "what happened in the outage", 60)
    # what was on its way when the broker died may come twice
    assert list(dict.fromkeys(ids(world.received()))) == ids(log)
    until(lambda: world.health()["status"] == "healthy", "a healthy iMi")
    done(world, "register_project", remote_origin="https://h.example/outage")
