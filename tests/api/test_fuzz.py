"""Schemathesis over every operation: no 500, no answer that the document does not name, no body it does not describe.

Bounded and seeded. Beyond what the document promises its clients, an object here may have no undescribed field.
"""

from __future__ import annotations

import copy
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode

from imi.server.contract import Operation
from tests.conftest import Database
from tests.serving import CONTRACT, Things


def closed(node: Any) -> Any:
    """The same schemas, in which an object has no field that is not described."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    if "properties" in node and node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    return node


DOCUMENT = copy.deepcopy(CONTRACT.document)
DOCUMENT["components"]["schemas"] = {
    name: schema if name == "EventPublish" else closed(schema)
    for name, schema in DOCUMENT["components"]["schemas"].items()
}
for item in DOCUMENT["paths"].values():
    for said in item.values():
        if isinstance(said, dict):
            del said["security"]  # every request here has its key; wrong ones are another test's
schema = schemathesis.openapi.from_dict(DOCUMENT)
# What fits the schema may still break a rule: INVALID_REMOTE_ORIGIN, INVALID_REFERENCE, a work item without owner.
by_schema_alone = schemathesis.checks.positive_data_acceptance


@pytest.fixture(scope="module", autouse=True)
def something_there(things: Things, database: Database) -> None:
    """Rows of every kind, so that lists have items and ids can be found."""
    item = things.new_work()["id"]
    things.post(f"/work/{item}/claim", agent_id="ada")
    things.post("/links/ticket", work_item_id=item, plane_ticket_id="P-1")
    letters = "select logic.intake(array['{}'], array['\\xff00'::bytea], array['is odd'])"
    database.server.run(letters, database=database.name)


@pytest.mark.parametrize("mode", list(GenerationMode), ids=lambda mode: mode.name.lower())
@pytest.mark.parametrize("operation", CONTRACT.operations, ids=lambda operation: operation.id)
def test_the_document_holds(operation: Operation, mode: GenerationMode, api: httpx.Client) -> None:
    headers = {"Authorization": api.headers["Authorization"]}

    @settings(
        max_examples=20,
        derandomize=True,
        deadline=None,
        database=None,
        phases=(Phase.explicit, Phase.generate),
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[operation.path][operation.method].as_strategy(generation_mode=mode))
    def holds(case: schemathesis.Case) -> None:
        case.call_and_validate(base_url=str(api.base_url), headers=headers, excluded_checks=[by_schema_alone])

    holds()
