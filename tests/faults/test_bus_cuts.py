"""The network cut between iMi and what it works with: in a file of its own, since it waits for timeouts."""

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


@pytest.mark.parametrize("name", ["cut-broker", "cut-postgres"])
def test_imi_notices_that_nobody_answers_and_goes_on(name: str, node: Broker) -> None:
    scenario, small, _ = SCENARIOS[name]
    row = play(node, scenario, small)
    assert row.published == row.stored == row.handled >= small.events
    assert row.unacked == 0
