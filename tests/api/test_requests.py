"""The manners of every operation, generated from the document."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from imi.openapi import expanded
from imi.server.contract import Operation
from tests.serving import CONTRACT, Things, code

every = pytest.mark.parametrize("operation", CONTRACT.operations, ids=lambda each: each.id)
every_body = pytest.mark.parametrize(
    "operation", [each for each in CONTRACT.operations if each.body], ids=lambda each: each.id
)
UNKNOWN = str(uuid4())
# Query parameters that any of those words may be.
FREE = {
    "search",
    "owner_id",
    "source_ref",
    "host",
    "branch_name",
    "path",
    "id",
    "event_type",
    "remote_origin",
    "reason",
    "subscription",
    "agent_type",
    "agent",
    "phase",
    "project_name",
}


def body_of(operation: Operation) -> Any:
    """The document's own example of a body."""
    said = CONTRACT.document["paths"][operation.path][operation.method.lower()]
    schema = expanded(CONTRACT.document, said["requestBody"]["content"]["application/json"]["schema"])
    return example(schema)


def example(schema: dict[str, Any]) -> Any:
    if "else" in schema:
        return example(schema["else"])
    return [example(schema["items"])] if schema["type"] == "array" else schema["examples"][0]


def path_of(operation: Operation, **values: str) -> str:
    """Its path, unknown but well-formed ids in place of the parameters."""
    known = {"entity_type": "ticket", "entity_id": "none", "plane_ticket_id": "none"} | values
    path = operation.path
    for argument in operation.arguments:
        path = path.replace(f"{{{argument[2:]}}}", known.get(argument[2:], UNKNOWN))
    return path


def query_of(operation: Operation) -> dict[str, str]:
    known = {"remote_origin": "/tmp/nothing", "id": "none", "work_item_id": UNKNOWN}
    return {name: known[name] for name in operation.required}


def send(client: httpx.Client, operation: Operation, **given: Any) -> httpx.Response:
    """The operation's request as the document has it, but for what is given."""
    request: dict[str, Any] = {"params": query_of(operation)}
    if operation.body and "content" not in given:
        request["json"] = body_of(operation)
    if "params" in given:
        given["params"] = request["params"] | given["params"]
    return client.request(operation.method, given.pop("path", path_of(operation)), **(request | given))


@every
def test_without_a_key_nothing_is_said(anybody: httpx.Client, operation: Operation) -> None:
    answer = (
        send(anybody, operation, content=b"{")
        if operation.body
        else send(anybody, operation, params={"x": "y"})
    )
    assert code(answer) == (401, "UNAUTHENTICATED")
    assert answer.headers["WWW-Authenticate"] == "Bearer"


@every
def test_a_smaller_key_is_forbidden(
    anybody: httpx.Client, key: Callable[[str], str], operation: Operation
) -> None:
    smaller = {"admin": "write", "write": "read", "read": None}[operation.scope]
    if smaller:
        answer = send(anybody, operation, headers={"X-API-Key": key(smaller)})
        assert code(answer) == (403, "FORBIDDEN")
        assert answer.json()["detail"]["params"] == {"scope": smaller, "needed": operation.scope}
    equal = send(anybody, operation, headers={"X-API-Key": key(operation.scope)})
    assert equal.status_code not in (401, 403, 500, 503), equal.text


@every
def test_unknown_query_parameters_are_refused(api: httpx.Client, operation: Operation) -> None:
    answer = send(api, operation, params={"nonsense": "1"})
    assert code(answer) == (400, "VALIDATION_ERROR")
    assert answer.json()["detail"]["params"]["errors"] == [
        {"path": "nonsense", "message": "is not known here"}
    ]


@every
def test_every_parameter_refuses_a_nul_and_nonsense(api: httpx.Client, operation: Operation) -> None:
    for name in operation.in_query:
        for text in ("\0", "\ud800x", ""):
            query = "&".join(f"{name}={value}" for name, value in query_of(operation).items() if name)
            raw = text.encode("utf-8", "surrogatepass")
            hexed = "".join(f"%{byte:02x}" for byte in raw)
            if text == "" and name in ("remote_origin",):
                continue
            answer = api.request(operation.method, f"{path_of(operation)}?{query}&{name}={hexed}")
            assert code(answer)[0] == 400, (name, text)
    for argument, check in zip(operation.arguments, operation.in_path, strict=False):
        assert check("\0")
        for text in ("%00", "%ff", "%ed%a0%80"):
            answer = send(api, operation, path=path_of(operation, **{argument[2:]: text}))
            assert code(answer) == (400, "VALIDATION_ERROR"), (argument, text)


@every
def test_numbers_out_of_range_and_unknown_words_are_refused(api: httpx.Client, operation: Operation) -> None:
    for name in operation.in_query:
        if name in FREE:
            continue
        for text in ("99999999999999999999", "-1", "1e3", "sideways"):
            answer = send(api, operation, params={name: text})
            assert code(answer) == (400, "VALIDATION_ERROR"), (name, text)
            assert answer.json()["detail"]["params"]["errors"][0]["path"] == name


@every
def test_headers_are_checked(api: httpx.Client, operation: Operation) -> None:
    wrong = {
        "X-Correlation-ID": "yesterday",
        "X-Agent-Id": "a" * 256,
        "Idempotency-Key": "k" * 256,
    }
    for name in operation.in_header.keys() - {"X-Request-ID"}:
        answer = send(api, operation, headers={name: wrong[name]})
        assert code(answer) == (400, "VALIDATION_ERROR"), name
        assert answer.json()["detail"]["params"]["errors"][0]["path"] == name


@every
def test_other_methods_are_not_allowed(api: httpx.Client, operation: Operation) -> None:
    there = {each.method for each in CONTRACT.operations if each.path == operation.path}
    there |= {"HEAD"} if "GET" in there else set()
    for method in ("GET", "POST", "PATCH", "PUT", "DELETE", "OPTIONS", "TRACE", "PROPFIND"):
        if method not in there:
            answer = api.request(method, path_of(operation))
            assert code(answer) == (405, "METHOD_NOT_ALLOWED")
            assert answer.headers["Allow"] == ", ".join(sorted(there))


@every
def test_head_is_get_without_the_body(api: httpx.Client, operation: Operation) -> None:
    if operation.method == "GET":
        got, head = send(api, operation), api.head(path_of(operation), params=query_of(operation))
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["Content-Type"] == got.headers["Content-Type"]


@every
def test_the_request_id_comes_back(api: httpx.Client, operation: Operation) -> None:
    assert send(api, operation, headers={"X-Request-ID": "4711/a"}).headers["X-Request-ID"] == "4711/a"
    ids = {send(api, operation, params={"x": "y"}).headers["X-Request-ID"] for _ in range(3)}
    assert len(ids) == 3
    for unfit in ("x" * 129, "a b", b"\xe9"):
        answer = send(api, operation, headers={"X-Request-ID": unfit}, params={"x": "y"})
        assert code(answer) == (400, "VALIDATION_ERROR")
        assert answer.json()["detail"]["params"]["errors"][0]["path"] == "x"
        assert answer.headers["X-Request-ID"] != unfit


@every_body
def test_only_json_is_taken(api: httpx.Client, operation: Operation) -> None:
    for kind in (
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=latin-1",
        "application/jsonx",
    ):
        answer = send(api, operation, content=b"{}", headers={"Content-Type": kind})
        assert code(answer) == (415, "UNSUPPORTED_MEDIA_TYPE"), kind
    assert code(send(api, operation, content=b"{}")) == (415, "UNSUPPORTED_MEDIA_TYPE")
    for kind in ("application/json; charset=utf-8", 'Application/JSON;charset="UTF-8"'):
        answer = send(api, operation, content=b"", headers={"Content-Type": kind})
        assert code(answer) == (400, "VALIDATION_ERROR"), kind


@every_body
@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"{", id="half"),
        pytest.param(b"null", id="null"),
        pytest.param(b'"text"', id="text"),
        pytest.param(b"\xff\xfe", id="latin"),
        pytest.param(rb'{"metadata": {"a": "\u0000"}}', id="nul"),
        pytest.param(rb'{"metadata": {"a": "\ud800"}}', id="surrogate"),
        pytest.param(b'{"metadata": {"a": 1e131071}}', id="huge"),
        pytest.param(b'{"metadata": {"a": 1e-400000}}', id="tiny"),
        pytest.param(b'{"metadata":' + b"[" * 20_000 + b"]" * 20_000 + b"}", id="deep"),
        pytest.param(b'{"metadata": ' + b'{"a":' * 101 + b"1" + b"}" * 102, id="nested"),
    ],
)
def test_what_is_no_json_or_hurts_is_refused(api: httpx.Client, operation: Operation, content: bytes) -> None:
    answer = send(api, operation, content=content, headers={"Content-Type": "application/json"})
    assert code(answer) == (400, "VALIDATION_ERROR")
    assert answer.json()["detail"]["params"]["errors"]


@every_body
def test_unknown_fields_are_refused(api: httpx.Client, operation: Operation) -> None:
    if operation.id == "event_publish":
        return  # an envelope's unknown keys are kept
    body = body_of(operation)
    one = body[0] if isinstance(body, list) else body
    answer = send(
        api, operation, json=[one | {"nonsense": 1}] if isinstance(body, list) else one | {"nonsense": 1}
    )
    assert code(answer) == (400, "VALIDATION_ERROR")
    place = "0.nonsense" if isinstance(body, list) else "nonsense"
    assert {"path": place, "message": "is not known here"} in answer.json()["detail"]["params"]["errors"]


@every_body
def test_every_field_refuses_another_type(api: httpx.Client, operation: Operation) -> None:
    body = body_of(operation)
    one = body[0] if isinstance(body, list) else body
    for name in one:
        for value in (1.5, [], [{}], 10**30, -1):
            wrong = one | {name: value}
            answer = send(api, operation, json=[wrong] if isinstance(body, list) else wrong)
            assert code(answer)[0] == 400, (name, value)


@every_body
def test_a_body_over_its_limit_is_too_large(api: httpx.Client, operation: Operation) -> None:
    def chunks() -> Any:
        for _ in range(operation.body_limit // 65536 + 1):
            yield b" " * 65536

    headers = {"Content-Type": "application/json"}
    announced = send(api, operation, content=b" " * (operation.body_limit + 1), headers=headers)
    assert code(announced) == (413, "TOO_LARGE")
    assert announced.json()["detail"]["params"] == {"limit": operation.body_limit}
    assert code(send(api, operation, content=chunks(), headers=headers)) == (413, "TOO_LARGE")
    at_limit = send(api, operation, content=b" " * operation.body_limit, headers=headers)
    assert code(at_limit) == (400, "VALIDATION_ERROR")


@every_body
def test_only_a_post_that_may_be_stored_takes_an_idempotency_key(
    api: httpx.Client, operation: Operation
) -> None:
    if operation.method == "POST" and "Idempotency-Key" not in operation.in_header:
        answer = send(api, operation, headers={"Idempotency-Key": "a"})
        assert code(answer) == (400, "VALIDATION_ERROR")


def test_a_list_of_millions_is_refused_at_its_first_faults(api: httpx.Client) -> None:
    content = b"[" + b"1," * (8 << 20)
    for path in ("/api/v1/events", "/api/v1/activities"):
        answer = api.post(
            path, content=content[: (16 << 20) - 2] + b"1]", headers={"Content-Type": "application/json"}
        )
        assert code(answer) == (400, "VALIDATION_ERROR")
        assert len(answer.json()["detail"]["params"]["errors"]) == 20


def test_limits_stand_where_the_design_puts_them() -> None:
    large = {each.id for each in CONTRACT.operations if each.body_limit == 16 << 20}
    assert large == {"event_publish", "activity_report"}
    assert {each.body_limit for each in CONTRACT.operations if each.id not in large} == {1 << 20}


def test_a_repeated_parameter_is_refused(api: httpx.Client) -> None:
    answer = api.get("/api/v1/projects?limit=1&limit=2")
    assert code(answer) == (400, "VALIDATION_ERROR")
    assert code(api.get("/api/v1/projects?" + "&".join(f"a{n}=1" for n in range(200))))[0] == 400


def test_a_required_parameter_is_required(api: httpx.Client) -> None:
    answer = api.get("/api/v1/links")
    assert answer.json()["detail"]["params"]["errors"] == [{"path": "work_item_id", "message": "is required"}]


def test_several_faults_are_told_at_once(api: httpx.Client, things: Things) -> None:
    body = {
        "project_id": "x",
        "branch_name": "",
        "work_type": "chore",
        "source": {"type": "manual", "ref": 5},
    }
    errors = api.post("/api/v1/work", json=body).json()["detail"]["params"]["errors"]
    assert {each["path"] for each in errors} == {"project_id", "branch_name", "work_type", "source.ref"}
    errors = api.get("/api/v1/work?limit=0&offset=x").json()["detail"]["params"]["errors"]
    assert [each["path"] for each in errors] == ["limit", "offset"]


def test_a_compressed_body_is_not_taken(api: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    body = b'{"remote_origin": "/tmp/zip"}'
    for encoding in ("gzip", "deflate", "br", "zstd", "x", "identity, gzip"):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        for content in (gzip.compress(body), body):
            answer = api.post("/api/v1/projects", content=content, headers=headers)
            assert code(answer) == (415, "UNSUPPORTED_MEDIA_TYPE"), encoding
    assert not [each for each in caplog.records if each.exc_info or each.name == "imi.http"]
    headers["Content-Encoding"] = "Identity"
    assert api.post("/api/v1/projects", content=body, headers=headers).status_code == 201


def test_a_secret_in_a_link_is_refused(api: httpx.Client, things: Things) -> None:
    link = {"work_item_id": things.work["id"], "pr_number": 1, "pr_url": "https://u:tok3n@host/x/1"}
    ticket = {"work_item_id": things.work["id"], "plane_ticket_id": "T-1"}
    for answer in (
        api.post("/api/v1/links/pr", json=link),
        *(
            api.post("/api/v1/links/ticket", json=ticket | {"ticket_url": url})
            for url in (
                "http://tok3n@host",
                "https://host@tok3n:1/",
                "https://u:tok3n%2f@host#",
                "ftp://host/x",
            )
        ),
    ):
        assert code(answer) == (400, "VALIDATION_ERROR")
        assert "must be an http or https URL without user" in answer.text and "tok3n" not in answer.text
    for url in ("https://host/@scope/x", "http://host:1?a=b@c", "https://host#@", "http://[::1]:80/x", None):
        assert api.post("/api/v1/links/ticket", json=ticket | {"ticket_url": url}).is_success, url


def test_an_agents_name_is_what_its_header_may_hold(api: httpx.Client, things: Things) -> None:
    touch = {"id": UNKNOWN, "work_item_id": things.work["id"], "activity_type": "commit"}
    for name in (" ", "a ", "", "\u00e9"):
        for path in ("claim", "renew", "release"):
            answer = api.post(f"/api/v1/work/{things.work['id']}/{path}", json={"agent_id": name})
            assert code(answer) == (400, "VALIDATION_ERROR"), (path, name)
        assert code(api.post("/api/v1/activities", json=[touch | {"agent_id": name}]))[0] == 400


@pytest.mark.parametrize("text", ["yesterday", "2026-02-11T10:30:00", "2026-02-11T10:30:00+01:00"])
def test_a_time_that_does_not_fit_is_told_in_words(api: httpx.Client, text: str) -> None:
    answer = api.get(f"/api/v1/events?start_time={text}")
    assert answer.json()["detail"]["message"] == (
        "start_time must be a time with its zone, such as 2026-02-11T10:30:00Z, from 1970 to 2200 "
        "(in a URL + is written %2B)"
    )


@pytest.mark.parametrize("text", ["bmad.workflow.", "bmad..x", "wörter", ""])
def test_a_pattern_that_does_not_fit_is_told_in_words(api: httpx.Client, text: str) -> None:
    answer = api.get(f"/api/v1/events?event_type={text}")
    assert answer.json()["detail"]["message"] == (
        "event_type must be words of letters, digits, _ and - with dots between, where * is one word and # "
        "zero or more (in a URL # is written %23)"
    )


def test_expect_continue_is_answered(api: httpx.Client) -> None:
    import socket

    body = b'{"remote_origin": "/tmp/expect"}'
    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as wire:
        head = f"POST /api/v1/projects HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n"
        head += f"Content-Type: application/json\r\nExpect: 100-continue\r\nAuthorization: {api.headers['Authorization']}\r\n\r\n"
        wire.sendall(head.encode())
        assert wire.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
        wire.sendall(body)
        assert wire.recv(100).startswith(b"HTTP/1.1 201 ")


def test_what_is_not_http_is_a_plain_400(api: httpx.Client, caplog: pytest.LogCaptureFixture) -> None:
    import socket

    with socket.create_connection((api.base_url.host, api.base_url.port or 0), timeout=10) as wire:
        wire.sendall(b"GET / HTTP/1.1\r\nno header\r\n\r\n")
        assert wire.recv(100).startswith(b"HTTP/1.0 400 ")
    assert code(api.get("/api/v1/" + "x" * 500)) == (404, "NOT_FOUND")
    (line,) = [each for each in caplog.records if each.name == "imi.http"]
    assert (line.levelname, line.exc_info) == ("WARNING", None)
