"""The document itself, and the catalogue that judges it."""

from __future__ import annotations

import copy
import json
import re
from typing import Any

import pytest
import yaml

from imi import __version__
from imi.config import Settings
from imi.database.pool import pools
from imi.openapi import expanded
from imi.server import contract
from imi.server.calls import Calls
from imi.server.contract import CATALOGUE, Contract, ContractError
from imi.texts import FORMATS, complaints, validator
from tests.conftest import Database
from tests.serving import CONTRACT, OPERATIONS

DOCUMENT = CONTRACT.document
SCHEMAS = DOCUMENT["components"]["schemas"]


def nodes(node: Any, path: tuple[str, ...] = ()) -> Any:
    """Every object in the document, with the way to it."""
    if isinstance(node, dict):
        yield path, node
        for key, value in node.items():
            yield from nodes(value, (*path, key))
    elif isinstance(node, list):
        for n, value in enumerate(node):
            yield from nodes(value, (*path, str(n)))


async def catalogue(database: Database) -> list[dict[str, Any]]:
    async with pools(database.url, Settings()) as opened:
        return [dict(row) for row in await opened.api.fetch(CATALOGUE)]


async def test_the_database_fits(database: Database) -> None:
    async with pools(database.url, Settings()) as opened:
        fresh = contract.load()
        await Calls(opened).bind(fresh)
    assert all(operation.statement for operation in fresh.operations)
    assert len(fresh.operations) == 56


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda rows: [row for row in rows if row["name"] != "stats_get"], "api.stats_get does not exist"),
        (lambda rows: [*rows, {**rows[0], "oid": 1, "name": "left_over"}], "api.left_over has no route"),
        (
            lambda rows: [*rows, *({**row, "oid": 1} for row in rows if row["name"] == "work_get")],
            "api.work_get exists more than once",
        ),
        (
            lambda rows: [row for row in rows if (row["name"], row["argument"]) != ("work_list", "p_host")],
            "api.work_list does not take p_host",
        ),
        (
            lambda rows: [
                *rows,
                next({**row, "argument": "p_new"} for row in rows if row["argument"] == "p_host"),
            ],
            "takes p_new, which no route gives",
        ),
        (
            lambda rows: [
                {**row, "volatility": "v"} if row["name"] == "project_get" else row for row in rows
            ],
            "api.project_get must be stable for project_get",
        ),
        (
            lambda rows: [{**row, "volatility": "s"} if row["name"] == "event_list" else row for row in rows],
            "api.event_list must be volatile for event_list",
        ),
        (
            lambda rows: [{**row, "volatility": "s"} if row["name"] == "work_start" else row for row in rows],
            "api.work_start must be volatile for work_start",
        ),
        (
            lambda rows: [{**row, "readable": False} if row["name"] == "stats_get" else row for row in rows],
            "api.stats_get may not be executed by imi_reader, for stats_get",
        ),
    ],
)
async def test_what_does_not_fit_is_named(database: Database, change: Any, complaint: str) -> None:
    rows = change(await catalogue(database))
    with pytest.raises(ContractError) as refused:
        contract.load().judge(rows)
    assert [line for line in str(refused.value).splitlines()[1:] if complaint in line], refused.value
    assert len(str(refused.value).splitlines()) == 2


async def test_each_thing_that_does_not_fit_is_named_at_once(database: Database) -> None:
    rows = [row for row in await catalogue(database) if row["name"] not in ("work_get", "agent_list")]
    with pytest.raises(ContractError, match=r"api.agent_list does not exist\n  api.work_get does not exist"):
        contract.load().judge(rows)


def test_the_version_stands_in_one_place() -> None:
    assert DOCUMENT["info"]["version"] == __version__


def test_every_reference_is_used_and_leads_somewhere() -> None:
    used = {node["$ref"] for _, node in nodes(DOCUMENT) if "$ref" in node}
    there = {
        f"#/components/{kind}/{name}"
        for kind in ("schemas", "parameters", "responses")
        for name in DOCUMENT["components"][kind]
    }
    assert used == there


def test_no_object_schema_stands_inline() -> None:
    for path, node in nodes(DOCUMENT):
        if (path[:2] != ("components", "schemas") and "schema" in path[-1:]) or (
            path[:2] == ("components", "schemas") and len(path) > 3 and "examples" not in path
        ):
            assert "properties" not in node, path


def test_bodies_refuse_unknown_fields() -> None:
    for operation in CONTRACT.operations:
        if operation.body and operation.id != "event_publish":  # an envelope keeps unknown keys
            content = DOCUMENT["paths"][operation.path][operation.method.lower()]["requestBody"]["content"]
            schema = expanded(DOCUMENT, content["application/json"]["schema"])
            assert schema.get("items", schema)["additionalProperties"] is False, operation.id


def test_every_example_fits_its_schema() -> None:
    examples = 0
    for name, schema in SCHEMAS.items():
        whole = expanded(DOCUMENT, schema)
        for example in whole.get("examples", []):
            examples += 1
            assert not complaints(validator(whole), example), name
    assert examples > 25


def test_every_error_shows_an_example_of_its_own() -> None:
    error = validator(expanded(DOCUMENT, SCHEMAS["Error"]))
    codes = set()
    for name, response in DOCUMENT["components"]["responses"].items():
        if "content" in response:
            example = response["content"]["application/json"]["example"]
            assert not complaints(error, example), name
            assert example["detail"]["code"] in response["description"], name
            codes.add(example["detail"]["code"])
    assert len(codes) == len(DOCUMENT["components"]["responses"]) - 1


def test_nothing_optional_is_sent_unless_it_is_filled_in() -> None:
    """A parameter's example stands in the docs page's field already, and is sent."""
    for path, node in nodes(DOCUMENT):
        if node.get("in") in ("query", "header") and not node.get("required"):
            assert "example" not in node, path


def test_every_large_number_has_an_example() -> None:
    for path, node in nodes(SCHEMAS):
        if node.get("maximum", 0) > 10**9:
            assert node["examples"][0] < 1000, path


def test_every_format_in_use_refuses_something() -> None:
    wrong = {
        "uuid": "{018f3a5e-0000-7000-8000-000000000000}",
        "date-time": "2026-02-30T10:00:00Z",
        "uri": "a b",
    }
    used = {node["format"] for _, node in nodes(DOCUMENT) if isinstance(node.get("format"), str)}
    assert used == set(wrong) == set(FORMATS.checkers)
    for name, value in wrong.items():
        assert complaints(validator({"format": name}), value), name
        assert not complaints(validator({"format": name}), 5)


@pytest.mark.parametrize(
    "text", ["yesterday", "infinity", "2026-02-11", "2026-02-11T10:00:00", "2026-02-11T10:00:00Z\n", "1969-12-31T23:59:59Z",
             "2026-13-01T00:00:00Z", "2026-02-11 10:00:00Z", "20260211T100000Z"],
)  # fmt: skip
def test_a_time_is_rfc_3339_with_its_zone(text: str) -> None:
    time = validator(SCHEMAS["Time"])
    assert complaints(time, text)
    assert not complaints(time, "2026-02-11T10:00:00.123456+05:30")


@pytest.mark.parametrize("operation", CONTRACT.operations, ids=lambda operation: operation.id)
def test_an_operation_says_what_it_needs(operation: Any) -> None:
    said = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert said["summary"] and said["tags"][0] in {tag["name"] for tag in DOCUMENT["tags"]}
    assert said["x-sql"] == f"api.{operation.id}" or operation.id == "trace_get_by_id"
    scopes = {tuple(*each.values()) for each in said["security"]}
    keys = "/api-keys" in operation.path
    admin = keys or "/dead-letters" in operation.path
    assert scopes == {("admin",) if admin else ("read",) if operation.method == "GET" else ("write",)}
    assert {"400", "401", "403", "429", "500", "503"} <= set(said["responses"])
    assert ("413" in said["responses"]) == ("415" in said["responses"]) == bool(operation.body)
    idempotent = operation.method == "POST" and not keys
    assert ("Idempotency-Key" in operation.in_header) == idempotent
    assert {"X-Request-ID", "X-Correlation-ID"} <= set(operation.in_header)
    assert ("X-Agent-Id" in operation.in_header) == (operation.method != "GET")
    placed = re.findall(r"{(\w+)}", operation.path)
    assert operation.arguments[: len(placed)] == [f"p_{name}" for name in placed]
    if "offset" in operation.in_query:
        assert not operation.in_query["limit"][1]("1000") and operation.in_query["limit"][1]("1001")


def test_what_asks_for_a_check_is_no_argument_and_has_a_body() -> None:
    asking = [
        (operation, each)
        for operation in CONTRACT.operations
        for each in DOCUMENT["paths"][operation.path][operation.method.lower()].get("parameters", [])
        if "x-check" in each
    ]
    assert [(operation.id, each["name"]) for operation, each in asking] == [("event_publish", "validate")]
    for operation, each in asking:
        index, _ = operation.in_query[each["name"]]
        assert operation.arguments[index] == "p_body"
        assert each["schema"]["type"] == "boolean" and not each.get("required")


def test_a_path_finds_its_operation() -> None:
    find = CONTRACT.find
    assert find("/api/v1/projects/by-origin")[0]["GET"].id == "project_by_origin"
    methods, texts = find("/api/v1/projects/01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10")
    assert set(methods) == {"GET", "PATCH", "DELETE"} and texts == ["01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10"]
    assert find("/api/v1/trace/branch/feat%2Fx%20y")[1] == ["branch", "feat/x y"]
    assert find("/api/v1/links/ticket/{}")[1] == ["{}"]
    assert find("/api/v1/links/ticket/%2F")[1] == ["/"]
    for path in ("", "/", "*", "/api/v1", "/api/v1/", "/api/v1/projects/", "/api/v1//", "/api/v1/projects/a/b",
                 "/api/v1/projects/by-origin/x", "/api/v1/trace/branch/feat/x", "/api/v1/links/ticket/{}/x"):  # fmt: skip
        assert find(path) == ({}, []), path


def test_what_stands_beside_a_reference_wins() -> None:
    document = {"a": {"type": "string", "description": "far"}, "b": {"$ref": "#/a", "description": "near"}}
    assert expanded(document, document["b"]) == {"type": "string", "description": "near"}


def test_the_source_is_plain_yaml_and_serves_no_helpers() -> None:
    assert "x-shared" not in DOCUMENT
    assert json.loads(json.dumps(DOCUMENT)) == DOCUMENT
    again = Contract(copy.deepcopy(DOCUMENT))
    assert [operation.id for operation in again.operations] == list(OPERATIONS)
    assert yaml.safe_load(yaml.safe_dump(DOCUMENT)) == DOCUMENT
