"""What the command line and publishers know by themselves is what the API says."""

import re
from importlib import resources
from typing import Any, get_args

import pytest
import yaml

from imi.cli import arguments, causation, client, sessions, trace
from imi.rules import EVENT_TYPE, LONGEST_EVENT_TYPE
from imi.texts import is_uuid

CONTRACT = yaml.safe_load(resources.files("imi").joinpath("openapi.yaml").read_bytes())
SCHEMAS = CONTRACT["components"]["schemas"]


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        (arguments.WorkType, "WorkType"),
        (arguments.SourceType, "SourceType"),
        (arguments.CompletionType, "CompletionType"),
        (arguments.Status, "WorkStatus"),
        (arguments.PrState, "PrState"),
        (arguments.Kind, "ComponentKind"),
        (arguments.Relation, "RelationshipType"),
        (arguments.Scope, "Scope"),
        (arguments.LetterSource, "DeadLetterSource"),
        (sessions.SessionStatus, "SessionStatus"),
        (causation.Shape, "CausationFormat"),
    ],
)
def test_choices(ours: Any, theirs: str) -> None:
    assert set(get_args(ours)) == set(SCHEMAS[theirs]["enum"])


def test_what_a_trace_begins_with() -> None:
    kinds = {"work_item" if kind == "work" else kind for kind in get_args(trace.Kind)}
    assert kinds == set(SCHEMAS["EntityType"]["enum"])


@pytest.mark.parametrize(
    "text",
    [
        "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
        "01980C1E-5A1F-7CC0-9D07-3E1D8A5C2B10",
        "01980c1e5a1f7cc09d073e1d8a5c2b10",
        "{01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10}",
        "urn:uuid:01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10",
        "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10\n",
    ],
)
def test_an_id(text: str) -> None:
    assert client.is_uuid(text) is is_uuid(text)


@pytest.mark.parametrize(
    "text", ["a", "a.b", "A-1.b_2.*", "a..b", ".a", "a.", "", "a b", "a.b\n", "ä.b", "a#", "imi.work.started"]
)
def test_an_event_type(text: str) -> None:
    pattern = SCHEMAS["EventType"]["pattern"].removeprefix("^").removesuffix("$")
    assert bool(EVENT_TYPE.fullmatch(text)) is bool(re.fullmatch(pattern, text))
    assert SCHEMAS["EventType"]["maxLength"] == LONGEST_EVENT_TYPE
