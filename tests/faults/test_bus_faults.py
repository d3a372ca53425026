"""What the bus must survive, at a size that fits; make soak runs the same scenarios as large as they come."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.rabbitmq import Broker, broker
from tests.soak.scenarios import SCENARIOS
from tests.soak.world import play


@pytest.fixture(scope="module")
def node() -> Iterator[Broker]:
    with broker() as running:
        yield running


@pytest.mark.parametrize("name", [each for each in SCENARIOS if not each.startswith("cut-")])
def test_every_event_is_stored_and_handled_once(name: str, node: Broker) -> None:
    scenario, small, _ = SCENARIOS[name]
    row = play(node, scenario, small)
    assert row.published == row.stored == row.handled >= small.events
    assert row.unacked == 0
