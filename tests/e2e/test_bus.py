"""The bus as others see it, from a running iMi; the same on RabbitMQ and on the embedded bus."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.worlds import WORLDS, World


@pytest.fixture(scope="module", params=list(WORLDS))
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """iMi, its bus and an outsider; one for the module."""
    with WORLDS[request.param]() as found:
        yield found


def test_an_unknown_command_gets_one_answer(world: World) -> None:
    unknown = world.publish("imi.cmd.make_coffee", {"size": "large"})
    failed = world.effect(unknown, "imi.cmd.failed")
    assert failed["payload"]["command"] == "imi.cmd.make_coffee"
    assert failed["payload"]["event_id"] == unknown["event_id"]
    assert failed["payload"]["error"]["code"] == "UNKNOWN_COMMAND"
    # commands are handled in log order: once this one is answered, the failure itself has been passed over
    after = world.publish("imi.cmd.register_project", {"remote_origin": "https://h.example/coffee"})
    world.effect(after, "imi.cmd.done")
    assert world.effects(unknown) == [failed]
    assert world.effects(failed) == []
