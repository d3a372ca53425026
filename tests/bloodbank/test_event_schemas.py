"""The schemas of events: what each file says holds for its examples, and refuses what is not so."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Iterator
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from referencing import Registry, Resource
from referencing.jsonschema import DRAFT202012

from imi import openapi
from imi.bloodbank.schemas import MOST, faults, faults_in, fits, schema, schemas, types
from imi.texts import FORMATS, complaints, validator

FOLDER = Path(str(resources.files("imi").joinpath("schemas", "events")))
FILES = {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.iterdir())}
ENVELOPE = openapi.expanded(openapi.read(), FILES["envelope"])
DESCRIBED = {**schemas(), "envelope": ENVELOPE}
SQL = "".join(path.read_text() for path in sorted((Path(__file__).parents[2] / "sql").glob("*.sql")))

named = pytest.mark.parametrize("name", DESCRIBED)
Step = str | int


def found(name: str, value: Any) -> list[str]:
    """The paths of what is wrong with a payload, or with an envelope."""
    if name == "envelope":
        return [each["path"] for each in complaints(validator(ENVELOPE), value)]
    return [each["path"] for each in faults(name.replace("*", "edit"), value)]


def described(node: Any, value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[tuple[Step, ...], Any]]:
    """Every part of an example that a schema describes: the way to it, and its schema."""
    if isinstance(value, dict):
        for key in node.get("properties", {}).keys() & value.keys():
            yield (*path, key), node["properties"][key]
            yield from described(node["properties"][key], value[key], (*path, key))
    elif isinstance(value, list) and value and "items" in node:
        yield (*path, 0), node["items"]
        yield from described(node["items"], value[0], (*path, 0))


def demanded(node: Any, value: Any, path: tuple[Step, ...] = ()) -> Iterator[tuple[Step, ...]]:
    """Every key that an object in an example must have."""
    for place, inner in [(path, node), *described(node, value, path)]:
        if isinstance(at(value, place), dict):
            yield from ((*place, key) for key in inner.get("required", []))


def at(value: Any, path: tuple[Step, ...]) -> Any:
    for step in path:
        value = value[step]
    return value


def dotted(path: tuple[Step, ...]) -> str:
    return ".".join(map(str, path))


@cache
def file_of(uri: str) -> Resource[Any]:
    text = Path(uri.removeprefix("file://")).read_text()
    read = yaml.safe_load if uri.endswith(".yaml") else json.loads
    return Resource(contents=read(text), specification=DRAFT202012)


class TestFiles:
    def test_what_there_is(self) -> None:
        assert len(FILES) == len(DESCRIBED) > 45
        for name, said in FILES.items():
            if name != "envelope":
                assert (
                    said["title"]
                    == said["x-event-type"]
                    == {"tool.mutation": "tool.mutation.*"}.get(name, name)
                )

    @pytest.mark.parametrize("name", FILES)
    def test_it_is_a_schema_and_so_is_what_its_references_make_of_it(self, name: str) -> None:
        said = FILES[name]
        assert said["$schema"] == Draft202012Validator.META_SCHEMA["$id"]
        assert re.fullmatch(r"[A-Z].*[^.]\.", said["description"])
        for each in (said, DESCRIBED[said["title"]]):
            Draft202012Validator.check_schema(each)
        assert '"$ref"' not in json.dumps(DESCRIBED[said["title"]])

    @pytest.mark.parametrize("name", FILES)
    def test_any_other_validator_reads_it_alike(self, name: str) -> None:
        here = f"file://{FOLDER / name}.json"
        registry: Registry[Any] = Registry(retrieve=file_of)
        own = Draft202012Validator({"$ref": here}, registry=registry, format_checker=FORMATS)
        required = DESCRIBED[FILES[name]["title"]]["required"]
        for example in FILES[name]["examples"]:
            assert list(own.iter_errors(example)) == []
            assert list(own.iter_errors({**example, "a key that nobody has described": 1})) == []
            assert list(own.iter_errors({key: said for key, said in example.items() if key != required[0]}))

    def test_no_reference_is_answered_by_its_name_alone(self) -> None:
        """`expanded` looks at what follows the #; so before it there is our own document or nothing."""
        references = re.findall(r'"\$ref": "([^"]*)"', "".join(map(json.dumps, FILES.values())))
        for reference in references:
            file, _, way = reference.partition("#")
            assert (file == "../../openapi.yaml") if way else (FOLDER / file).is_file(), reference
        assert len(references) > 90


class TestEveryType:
    @named
    def test_its_examples_fit(self, name: str) -> None:
        assert DESCRIBED[name]["examples"]
        for example in DESCRIBED[name]["examples"]:
            assert found(name, example) == []
            assert found(name, {**example, "a key that nobody has described": 1}) == []

    @named
    def test_what_is_required_is_missed(self, name: str) -> None:
        for example in DESCRIBED[name]["examples"]:
            for path in demanded(DESCRIBED[name], example):
                lacking = copy.deepcopy(example)
                del at(lacking, path[:-1])[path[-1]]
                assert dotted(path) in found(name, lacking), path
            assert set(DESCRIBED[name]["required"]) <= example.keys()

    @named
    def test_a_wrong_type_is_refused(self, name: str) -> None:
        wrongs = [True, 7, "text", None, [], {}]
        tried = 0
        for example in DESCRIBED[name]["examples"]:
            for path, inner in described(DESCRIBED[name], example):
                if "type" not in inner:
                    assert {"enum", "oneOf"} & inner.keys(), path
                kinds = inner.get("type", "boolean")
                is_one = Draft202012Validator({"type": kinds}).is_valid
                for wrong in (each for each in wrongs if not is_one(each)):
                    if "type" not in inner and wrong is None:  # which enumerations and alternatives may name
                        continue
                    mistaken = copy.deepcopy(example)
                    at(mistaken, path[:-1])[path[-1]] = wrong
                    paths = found(name, mistaken)
                    assert any(
                        each == dotted(path) or each.startswith(f"{dotted(path)}.") for each in paths
                    ), (path, wrong)
                    tried += 1
        assert tried

    @named
    def test_every_property_has_a_type_or_its_words(self, name: str) -> None:
        for key, inner in DESCRIBED[name]["properties"].items():
            assert {"type", "enum", "oneOf"} & inner.keys(), key

    @named
    def test_a_payload_is_an_object(self, name: str) -> None:
        assert found(name, []) == found(name, None) == [""]


class TestAlternatives:
    """Where one key may stand in another's place."""

    @pytest.mark.parametrize(
        ("name", "without", "missed"),
        [
            ("imi.cmd.start_work", {"project_id"}, {"project_id"}),
            ("imi.cmd.link_ticket", {"work_item_id"}, {"project_id", "branch_name"}),
            ("imi.cmd.complete_work", {"work_item_id"}, {"branch_name", "project_id"}),
            ("git.push", {"repository", "branch"}, {"repository", "branch"}),
            ("git.pr.opened", {"repository"}, {"repository"}),
            ("git.pr.merged", {"repository"}, {"repository"}),
        ],
    )
    def test_neither(self, name: str, without: set[str], missed: set[str]) -> None:
        example = DESCRIBED[name]["examples"][0]
        assert without <= example.keys()
        assert set(found(name, {key: said for key, said in example.items() if key not in without})) == missed

    @pytest.mark.parametrize(
        ("name", "more"),
        [
            ("imi.cmd.complete_work", {"remote_origin": "https://github.com/33GOD/iMi", "branch_name": "a"}),
            (
                "imi.cmd.complete_work",
                {"project_id": "01980c1e-5a1f-7cc0-9d07-3e1d8a5c2b10", "branch_name": "a"},
            ),
        ],
    )
    def test_the_other(self, name: str, more: dict[str, str]) -> None:
        assert found(name, {"completion_type": "merged", **more}) == []

    def test_a_repository_is_an_object_or_its_remote(self) -> None:
        example = DESCRIBED["git.pr.merged"]["examples"][0]
        assert found("git.pr.merged", {**example, "repository": "git@github.com:33GOD/iMi.git"}) == []
        assert found("git.pr.merged", {**example, "repository": {"name": "iMi"}}) == ["repository.remote_url"]


class TestTypes:
    def test_they_are_listed_in_order(self) -> None:
        listed = types()
        assert [each["event_type"] for each in listed] == sorted(schemas())
        assert {
            "event_type": "plane.ticket.created",
            "description": FILES["plane.ticket.created"]["description"],
            "required": ["ticket_id"],
        } in listed

    def test_an_unknown_type_has_no_faults(self) -> None:
        assert schema("nobody.described.this") is None
        assert faults("nobody.described.this", {}) == faults("envelope", {}) == []

    @pytest.mark.parametrize(
        ("event_type", "fitting"),
        [
            ("tool.mutation.edit", True),
            ("tool.mutation.*", True),
            ("tool.mutation", False),
            ("tool.mutation.", False),
            ("tool.mutation.edit.more", False),
            ("my.tool.mutation.edit", False),
            ("tool-mutation.edit", False),
        ],
    )
    def test_a_star_is_one_word(self, event_type: str, fitting: bool) -> None:
        assert fits("tool.mutation.*", event_type) is fitting
        assert bool(faults(event_type, {})) is fitting

    def test_the_matcher_agrees_with_itself_on_plain_types(self) -> None:
        assert fits("git.push", "git.push")
        assert not fits("git.push", "git_push")

    def test_every_type_that_the_sql_publishes_has_a_schema(self) -> None:
        """They stand there as literals; those of a pull request's state are put together."""
        calls = [each.partition(");")[0] for each in SQL.split("perform logic.event_append(")[1:]]
        literals = [re.findall(r"'(imi\.[a-z_.]*)'", call) for call in calls]
        assert len(calls) > 20 and all(literals)
        published = {each for found in literals for each in found} - {"imi.pr."}
        states = {f"imi.pr.{state}" for state in ("merged", "closed", "updated", "reopened")}
        assert published | states <= schemas().keys()


class TestManyAtOnce:
    good: dict[str, Any] = {"event_type": "plane.ticket.created", "payload": {"ticket_id": "PROJ-1"}}  # noqa: RUF012
    bad: dict[str, Any] = {"event_type": "plane.ticket.created", "payload": {"ticket_id": 1}}  # noqa: RUF012

    def test_one_envelope(self) -> None:
        assert faults_in(self.good) == []
        assert faults_in(self.bad) == [{"path": "payload.ticket_id", "message": "is not of type string"}]

    def test_a_list_of_them(self) -> None:
        lacking = {"event_type": "bmad.workflow.completed", "payload": {}}
        assert [each["path"] for each in faults_in([self.good, self.bad, lacking])] == [
            "1.payload.ticket_id",
            "2.payload.workflow_id",
        ]

    def test_of_many_the_first(self) -> None:
        paths = [each["path"] for each in faults_in([self.bad] * 1000)]
        assert paths == [f"{n}.payload.ticket_id" for n in range(MOST)]
