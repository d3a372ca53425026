"""The event types: a JSON Schema of each one's payload, and what a payload lacks by it.

They stand in imi/schemas/events, a file a type. Its x-event-type says whose payload it is, `*` being one
word. What is said elsewhere already is a reference: a payload that is an entity or a body of the API leads
into the OpenAPI document, one that is another type's to that file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from itertools import islice
from typing import Any

import orjson

from imi import openapi

MOST = 20  # faults that are named


@cache
def schemas() -> dict[str, dict[str, Any]]:
    """By event type or pattern, in their order: the schemas, without references."""
    document = openapi.read()
    folder = resources.files("imi").joinpath("schemas", "events")
    files = {each.name: orjson.loads(each.read_bytes()) for each in folder.iterdir()}

    def whole(schema: dict[str, Any]) -> dict[str, Any]:
        if schema.get("$ref") in files:
            schema = files[schema["$ref"]] | {key: said for key, said in schema.items() if key != "$ref"}
        resolved: dict[str, Any] = openapi.expanded(document, schema)
        return resolved

    types = {each["x-event-type"]: whole(each) for each in files.values() if "x-event-type" in each}
    return dict(sorted(types.items()))


def types() -> list[dict[str, Any]]:
    """Every event type or pattern: {event_type, description, required}."""
    return [
        {"event_type": name, "description": each["description"], "required": each["required"]}
        for name, each in schemas().items()
    ]


def schema(event_type: str) -> dict[str, Any] | None:
    """The schema of a type's payload; a type that nobody has described has none."""
    known = schemas()
    name = event_type if event_type in known else next((each for each in known if fits(each, event_type)), "")
    return known.get(name)


def fits(pattern: str, event_type: str) -> bool:
    """Whether a type is one of the pattern's."""
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[^.]+"), event_type) is not None


def faults(event_type: str, payload: Any) -> list[dict[str, str]]:
    """What a payload lacks by its type's schema: {path, message}; [] for a type without one."""
    from imi.texts import complaints  # jsonschema takes a second, which a list of the types need not wait for

    described = schema(event_type)
    return complaints(_validator(described["x-event-type"]), payload) if described else []


@cache
def _validator(name: str) -> Any:
    from imi.texts import validator

    return validator(schemas()[name])


def faults_in(body: Any) -> list[dict[str, str]]:
    """The same of an envelope or a list of them, with paths from there; the first ones if there are many."""
    return list(islice(_faults_in(body, ""), MOST))


def _faults_in(body: Any, place: str) -> Iterator[dict[str, str]]:
    if isinstance(body, list):
        for n, each in enumerate(body):
            yield from _faults_in(each, f"{n}.")
    else:
        for each in faults(body["event_type"], body["payload"]):
            path = f"{place}payload.{each['path']}" if each["path"] else f"{place}payload"
            yield {"path": path, "message": each["message"]}
