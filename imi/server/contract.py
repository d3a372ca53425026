"""The contract: imi/openapi.yaml as routes, checks and statements, and the catalogue that judges it.

Each operation names its SQL function (x-sql). Parameter foo is its argument p_foo (save one with x-check), a
JSON body p_body, and what is not a GET also gives p_context. Every value travels as text and PostgreSQL casts
it; an absent one is null.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from imi import __version__, openapi
from imi.bloodbank.schemas import faults_in
from imi.server.errors import invalid, invalids
from imi.texts import Check, complaints, json_check, parse, validator, value_check

METHODS = ("get", "post", "patch", "put", "delete")
BODY_LIMIT = 1 << 20

# All that Python ever asks of the catalogue: the functions of api, with their arguments and columns.
CATALOGUE = """
select p.oid, p.proname as name, p.provolatile::text as volatility,
  a.mode, a.name as argument, format_type(a.type, null) as type,
  has_function_privilege('imi_reader', p.oid, 'execute') as readable
from pg_proc as p
left join lateral unnest(
  p.proargnames,
  coalesce(p.proargmodes::text[], array_fill('i'::text, array[p.pronargs])),
  coalesce(p.proallargtypes, p.proargtypes::oid[])) as a (name, mode, type) on true
where p.pronamespace = 'api'::regnamespace
"""


class ContractError(Exception):
    """The document and the database do not fit; each line says where."""


@dataclass(slots=True)
class Operation:
    """One operation of the document, compiled. A call is a list of texts, one for each of `arguments`."""

    id: str
    method: str
    path: str
    function: str  # or "": imi/stream answers it
    scope: str
    status: int
    batch: dict[str, int]  # calls that may go as one statement, and statements at a time; or {}
    volatility: str
    body: Any  # a validator, or None
    body_limit: int
    arguments: list[str]
    in_path: list[Check]
    in_query: dict[str, tuple[int, Check]]
    in_header: dict[str, Check]
    required: list[str]
    statement: str = ""
    batch_statement: str = ""

    def call(self, segments: Sequence[str], query: str) -> list[str | None]:
        """A call with what the path and the query say; 400 for what does not fit."""
        call: list[str | None] = [None] * len(self.arguments)
        errors: list[tuple[str, str | None]] = []
        for index, text in enumerate(segments):
            call[index] = text
            errors.append((self.arguments[index][2:], self.in_path[index](text)))
        if query or self.required:
            try:
                pairs = parse_qsl(query, keep_blank_values=True, errors="strict", max_num_fields=100)
            except ValueError:  # UnicodeDecodeError is one
                raise invalid("the query", "is not UTF-8, or has more than 100 parts") from None
            for name, text in pairs:
                if name not in self.in_query:
                    errors.append((name[:100], "is not known here"))
                    continue
                index, check = self.in_query[name]
                errors.append((name, check(text) if call[index] is None else "stands here twice"))
                call[index] = text
            missing = (name for name in self.required if call[self.in_query[name][0]] is None)
            errors += ((name, "is required") for name in missing)
        if wrong := [{"path": name, "message": message} for name, message in errors if message]:
            raise invalids(wrong)
        return call

    def headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        """Those of the request's headers that the document knows; 400 for one that does not fit."""
        given = {name: headers[name] for name in self.in_header if name in headers}
        for name, text in given.items():
            if wrong := self.in_header[name](text):
                raise invalid(name, wrong)
        return given

    def text(self, body: bytes, checked: bool) -> str:
        """The body, if it is JSON that PostgreSQL can hold and that fits (and passes x-check); else 400."""
        try:
            value = parse(body)
        except ValueError as error:
            raise invalid("", str(error)) from None
        errors = complaints(self.body, value) or (faults_in(value) if checked else [])
        if errors:
            raise invalids(errors)
        return body.decode()

    def bind(self, inputs: Mapping[str, str], outputs: Iterable[str]) -> None:
        """Write the statements: a row (status, body, headers), or in a batch one for each call.

        In FROM its answer would be set aside, in a file if it is long; `offset 0` has it called once.
        """
        columns = ", ".join(f"(r).{each}" for each in ("status", "body", "headers") if each in outputs)

        def statement(text: str, items: str) -> str:
            given = ", ".join(
                f"{name} => {text.format(n)}::{inputs[name]}" for n, name in enumerate(self.arguments, 1)
            )
            calls = f"select {self.function}({given}) as r{items} offset 0"
            return f"select {columns or 'null::integer, r'} from ({calls}) as c"

        arrays, texts = (
            ", ".join(form.format(n) for n in range(1, len(self.arguments) + 1))
            for form in ("${}::text[]", "t{}")
        )
        items = f", k.n from unnest({arrays}) with ordinality as k ({texts}, n)"
        self.statement = statement("${}::text", "")
        self.batch_statement = statement("k.t{}", items) + " order by n"


class Contract:
    """The document, its operations but for those of the stream, and the way from a path to all of them."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self.operations: list[Operation] = []
        self._tree: dict[str, Any] = {}
        for path, item in document["paths"].items():
            branch = self._tree
            for segment in path[1:].split("/"):
                branch = branch.setdefault("{}" if segment.startswith("{") else segment, {})
            branch["/"] = {
                each.upper(): compiled(document, path, each, item) for each in METHODS if each in item
            }
            self.operations += (each for each in branch["/"].values() if each.function)

    def find(self, path: str) -> tuple[dict[str, Operation], list[str]]:
        """The operations at a path by their methods, and the texts in place of {parameters}; or ({}, [])."""
        branch, texts = self._tree, []
        try:
            for segment in path[1:].split("/"):
                text = unquote(segment, errors="strict") if "%" in segment else segment
                if (found := branch.get(text)) is None or text in ("{}", "/"):
                    found = branch["{}"] if text else {}
                    texts.append(text)
                branch = found
            return branch["/"], texts
        except KeyError:
            return {}, []
        except UnicodeDecodeError:
            raise invalid("the path", "is not UTF-8") from None

    def judge(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Hold the catalogue's rows against the document, and let every operation write its statements.

        Raises ContractError with all that does not fit.
        """
        functions: dict[str, list[Mapping[str, Any]]] = {}
        for row in rows:
            functions.setdefault("api." + row["name"], []).append(row)
        routes: dict[str, list[Operation]] = {}
        for operation in self.operations:
            routes.setdefault(operation.function, []).append(operation)
        wrong = [f"{name} has no route" for name in functions.keys() - routes.keys()]
        wrong += [f"{name} does not exist" for name in routes.keys() - functions.keys()]
        for name in routes.keys() & functions.keys():
            if len({row["oid"] for row in functions[name]}) > 1:
                wrong.append(f"{name} exists more than once")
                continue
            inputs = {
                row["argument"]: row["type"] for row in functions[name] if row["mode"] in ("i", "b", "v")
            }
            outputs = [row["argument"] for row in functions[name] if row["mode"] in ("o", "b", "t")]
            given = {argument for operation in routes[name] for argument in operation.arguments}
            wrong += [f"{name} takes {each}, which no route gives" for each in inputs.keys() - given - {None}]
            wrong += [f"{name} does not take {each}" for each in given - inputs.keys()]
            for operation in routes[name]:
                if functions[name][0]["volatility"] != operation.volatility[0]:
                    wrong.append(f"{name} must be {operation.volatility} for {operation.id}")
                if operation.method == "GET" and not functions[name][0]["readable"]:
                    wrong.append(f"{name} may not be executed by imi_reader, for {operation.id}")
                if given <= inputs.keys():
                    operation.bind(inputs, outputs)
        if wrong:
            raise ContractError(
                "\n  ".join(("imi/openapi.yaml and the database do not fit:", *sorted(wrong)))
            )


def load() -> Contract:
    """Read the document that travels with this package."""
    document = openapi.read()
    document["info"]["version"] = __version__
    del document["x-shared"]
    return Contract(document)


def compiled(document: dict[str, Any], path: str, method: str, item: dict[str, Any]) -> Operation:
    """One operation of the document."""
    said = openapi.expanded(document, item[method])
    parameters = openapi.expanded(document, item.get("parameters", [])) + said.get("parameters", [])
    passed = [each for each in parameters if "x-check" not in each]
    names = [each["name"] for place in ("path", "query") for each in passed if each["in"] == place]
    body = said.get("requestBody")
    is_get = method == "get"

    def checks(place: str) -> dict[str, Check]:
        return {
            each["name"]: json_check(each["content"]["application/json"]["schema"])
            if "content" in each
            else value_check(each["schema"])
            for each in parameters
            if each["in"] == place
        }

    return Operation(
        id=said["operationId"],
        method=method.upper(),
        path=path,
        function=said.get("x-sql", ""),
        scope=next(iter(said["security"][0].values()))[0],
        status=min(int(status) for status in said["responses"] if status.startswith("2")),
        batch=said.get("x-batch", {}),
        volatility="stable" if is_get and not said.get("x-volatile") else "volatile",
        body=body and validator(body["content"]["application/json"]["schema"]),
        body_limit=said.get("x-body-limit", BODY_LIMIT),
        arguments=[f"p_{name}" for name in names] + ["p_body"] * bool(body) + ["p_context"] * (not is_get),
        in_path=list(checks("path").values()),
        # until the body is there, its place in the call is that of a parameter with x-check
        in_query={name: ([*names, name].index(name), check) for name, check in checks("query").items()},
        in_header=checks("header"),
        required=[each["name"] for each in parameters if each["in"] == "query" and each.get("required")],
    )
