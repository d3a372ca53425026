"""Every error code there is, provoked over HTTP; and nothing of PostgreSQL's own words in any of them."""

from __future__ import annotations

import json
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import pytest

from imi.database import DatabaseError
from imi.server.errors import ApiError, translate
from tests.conftest import Database
from tests.serving import Things, code, live

UNKNOWN = str(uuid4())


def test_400_validation_error(api: httpx.Client) -> None:
    assert code(api.post("/api/v1/projects", json={})) == (400, "VALIDATION_ERROR")


def test_400_invalid_remote_origin(api: httpx.Client) -> None:
    for remote in ("", "not a remote", "https://", "ftp://a/b", "x" * 2049, "https://u:secret@h/../x"):
        answer = api.post("/api/v1/projects", json={"remote_origin": remote})
        assert code(answer) == (400, "INVALID_REMOTE_ORIGIN"), remote
        assert "secret" not in answer.text and answer.json()["detail"]["hint"]
    assert (
        code(api.get("/api/v1/projects/by-origin", params={"remote_origin": "nope"}))[1]
        == "INVALID_REMOTE_ORIGIN"
    )


def test_400_invalid_reference(api: httpx.Client, things: Things) -> None:
    body = {
        "project_id": things.project["id"],
        "work_item_id": UNKNOWN,
        "name": "a",
        "path": "/a",
        "host": "h",
    }
    assert code(api.post("/api/v1/worktrees", json=body)) == (400, "INVALID_REFERENCE")
    link = {"work_item_id": UNKNOWN, "plane_ticket_id": "P-1"}
    assert code(api.post("/api/v1/links/ticket", json=link)) == (400, "INVALID_REFERENCE")
    component = {"parent_project_id": UNKNOWN, "name": "a", "path": "a", "kind": "local"}
    assert code(api.post("/api/v1/components", json=component)) == (400, "INVALID_REFERENCE")


def test_400_invalid_cursor(api: httpx.Client) -> None:
    assert code(api.get("/api/v1/events", params={"after": 2**62})) == (400, "INVALID_CURSOR")


def test_a_long_fraction_is_kept_and_a_whole_number_has_none(api: httpx.Client, things: Things) -> None:
    body = {"project_id": things.project["id"], "branch_name": "x", "owner_id": "a", "metadata": {"n": 1}}
    answer = api.post("/api/v1/work", content=json.dumps(body).replace('"n": 1', '"n": 0.' + "0" * 250 + "1"),
                      headers={"Content-Type": "application/json"})  # fmt: skip
    assert answer.status_code == 201
    item = answer.json()["id"]
    for number in (b"1.0", b"1e0"):
        answer = api.patch(f"/api/v1/work/{item}/git-state", content=b'{"ahead_of_trunk": ' + number + b"}",
                           headers={"Content-Type": "application/json"})  # fmt: skip
        assert code(answer) == (400, "VALIDATION_ERROR")
        assert "integer" in answer.json()["detail"]["message"]


def test_401_and_429(api: httpx.Client, database: Database) -> None:
    with live(database.url) as client:
        del client.headers["Authorization"]
        for n in range(20):
            answer = client.get("/api/v1/projects", headers={"X-API-Key": f"imi_{n:064x}"})
            assert code(answer) == (401, "UNAUTHENTICATED")
        answer = client.get("/api/v1/projects", headers={"X-API-Key": "imi_" + "f" * 64})
        assert code(answer) == (429, "TOO_MANY_REQUESTS")
        assert 1 <= int(answer.headers["Retry-After"]) <= 60
        assert "20 a minute" in answer.json()["detail"]["hint"]
        # a neighbour's good key is not locked out, and a request without a key tries none
        assert client.get(
            "/api/v1/projects", headers={"X-API-Key": api.headers["Authorization"][7:]}
        ).is_success
        assert code(client.get("/api/v1/projects")) == (401, "UNAUTHENTICATED")


def test_429_before_any_look(api: httpx.Client, database: Database, key: Any) -> None:
    """After 20 wrong keys a 21st is not looked up: the look, and so the database, is only for known ones."""
    good, fresh = key("read"), key("read")
    with live(database.url) as client:
        del client.headers["Authorization"]
        assert client.get("/api/v1/projects", headers={"X-API-Key": good}).is_success
        for n in range(20):
            client.get("/api/v1/projects", headers={"X-API-Key": f"imi_{n:064x}"})
        answer = client.get("/api/v1/projects", headers={"X-API-Key": fresh})
        assert code(answer) == (429, "TOO_MANY_REQUESTS")
        assert client.get("/api/v1/projects", headers={"X-API-Key": good}).is_success


def test_403_forbidden(api: httpx.Client, anybody: httpx.Client, key: Any) -> None:
    answer = anybody.post("/api/v1/api-keys", json={"name": "x"}, headers={"X-API-Key": key("write")})
    assert code(answer) == (403, "FORBIDDEN")
    event = {"event_type": "imi.project.registered", "payload": {}}
    answer = anybody.post("/api/v1/events", json=event, headers={"X-API-Key": key("write")})
    assert code(answer) == (403, "FORBIDDEN")
    body = {"remote_origin": "/tmp/chosen", "project_id": UNKNOWN}
    assert code(anybody.post("/api/v1/projects", json=body, headers={"X-API-Key": key("write")})) == (
        403,
        "FORBIDDEN",
    )


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/nothing/here", None),
        ("GET", "/projects/{id}", None),
        ("GET", "/projects/by-origin?remote_origin=/tmp/none", None),
        ("PATCH", "/projects/{id}", {}),
        ("DELETE", "/projects/{id}", None),
        ("POST", "/work", {"project_id": UNKNOWN, "branch_name": "b", "owner_id": "a"}),
        ("GET", "/work/{id}", None),
        ("PATCH", "/work/{id}", {}),
        ("PATCH", "/work/{id}/git-state", {}),
        ("PATCH", "/work/git-state", {"project_id": UNKNOWN, "branch_name": "b"}),
        ("POST", "/work/{id}/complete", {"completion_type": "merged"}),
        ("POST", "/work/{id}/claim", {"agent_id": "a"}),
        ("POST", "/work/{id}/renew", {"agent_id": "a"}),
        ("POST", "/work/{id}/release", {"agent_id": "a"}),
        ("PATCH", "/worktrees/{id}", {}),
        ("DELETE", "/worktrees/{id}", None),
        ("PATCH", "/links/pr/{id}", {"pr_state": "merged"}),
        ("GET", "/links?work_item_id={id}", None),
        ("GET", "/components/{id}", None),
        ("PATCH", "/components/{id}", {}),
        ("GET", "/components/{id}/relationships", None),
        ("GET", "/components/{id}/graph", None),
        ("GET", "/events/{id}", None),
        ("GET", "/workflows/{id}", None),
        ("GET", "/workflows/{id}/events", None),
        ("GET", "/events/{id}/descendants", None),
        ("GET", "/events/{id}/ancestors?format=mermaid", None),
        ("GET", "/dead-letters/{id}", None),
        ("POST", "/dead-letters/{id}/replay", None),
        ("DELETE", "/api-keys/{id}", None),
    ],
)
def test_404_not_found(api: httpx.Client, method: str, path: str, body: Any) -> None:
    answer = api.request(method, "/api/v1" + path.replace("{id}", UNKNOWN), json=body)
    assert code(answer) == (404, "NOT_FOUND")
    if "{id}" in path:
        assert UNKNOWN in answer.json()["detail"]["params"].values()


def test_405_method_not_allowed(api: httpx.Client) -> None:
    for path in ("/health", "/metrics", "/docs", "/openapi.json", "/"):
        answer = api.post(path)
        assert code(answer) == (405, "METHOD_NOT_ALLOWED")
        assert answer.headers["Allow"] == "GET, HEAD"


def test_409_conflict(api: httpx.Client, things: Things) -> None:
    body = {"project_id": things.project["id"], "branch_name": things.work["branch_name"], "owner_id": "a"}
    answer = api.post("/api/v1/work", json=body)
    assert code(answer) == (409, "CONFLICT")
    assert answer.json()["detail"]["params"]["work_item_id"] == things.work["id"]


def test_409_stale_claim(api: httpx.Client, things: Things) -> None:
    item = things.new_work()["id"]
    claim = things.post(f"/work/{item}/claim", agent_id="ada")["claim"]
    answer = api.patch(f"/api/v1/work/{item}/git-state", json={"fencing_token": claim["fencing_token"] + 1})
    assert code(answer) == (409, "STALE_CLAIM")


def test_409_names_the_row_in_the_way(api: httpx.Client, things: Things) -> None:
    same = {"project_id": things.project["id"], "name": "one", "host": "h"}
    first = api.post("/api/v1/worktrees", json=same | {"path": "/1"})
    answer = api.post("/api/v1/worktrees", json=same | {"path": "/2"})
    assert code(answer) == (409, "CONFLICT")
    assert answer.json()["detail"]["params"]["worktree_id"] == first.json()["id"]


def test_a_constraint_is_named() -> None:
    error = asyncpg.PostgresError.new({"C": "23505", "M": "secret", "n": "one_owner_per_thing"})
    assert translate(error, "id").detail["params"] == {"constraint": "one_owner_per_thing"}


def test_410_gone(api: httpx.Client, things: Things, database: Database) -> None:
    third = "select position from bloodbank.events order by position offset 2 limit 1"
    database.server.run(
        f"insert into bloodbank.cursors (name, position) values ('pruned', ({third}))",
        f"delete from bloodbank.events where position <= ({third})",
        database=database.name,
    )
    answer = api.get("/api/v1/events", params={"after": 1})
    assert code(answer) == (410, "GONE")
    assert api.get("/api/v1/events", params={"after": answer.json()["detail"]["params"]["oldest"]}).is_success
    assert api.get("/api/v1/events", params={"after": 0}).is_success


def test_413_too_large(api: httpx.Client) -> None:
    event = {"event_type": "a.b", "payload": {"text": "x" * (1 << 20)}}
    answer = api.post("/api/v1/events", json=event)
    assert code(answer) == (400, "VALIDATION_ERROR")
    assert code(api.post("/api/v1/projects", json={"remote_origin": "x" * (1 << 20)})) == (413, "TOO_LARGE")


def test_415_unsupported_media_type(api: httpx.Client) -> None:
    assert code(api.post("/api/v1/projects", data={"a": "b"})) == (415, "UNSUPPORTED_MEDIA_TYPE")


def test_500_says_nothing_but_the_request(fresh_database: Database) -> None:
    """A function that breaks in a way nobody foresaw."""
    fresh_database.server.run(
        """create or replace function api.agent_list(p_offset integer default null, p_limit integer default null)
           returns json language plpgsql stable security definer set search_path = '' as
           $$begin raise exception 'secret' using detail = 'row (secret)', hint = 'secret'; end$$""",
        database=fresh_database.name,
    )
    with live(fresh_database.url) as client:
        answer = client.get("/api/v1/agents", headers={"X-Request-ID": "find-me"})
        assert code(answer) == (500, "INTERNAL_ERROR")
        assert "secret" not in answer.text
        assert answer.json()["detail"]["params"] == {"request_id": "find-me"}


STATES = {
    "23505": (409, "CONFLICT"),
    "23503": (400, "INVALID_REFERENCE"),
    **dict.fromkeys(
        ("23502", "23514", "22P02", "22003", "22P05", "54000", "54001"), (400, "VALIDATION_ERROR")
    ),
    **dict.fromkeys(("25006", "42501"), (403, "FORBIDDEN")),
    **dict.fromkeys(
        (
            "40001",
            "40P01",
            "55P03",
            "57014",
            "25P03",
            "25P04",
            "53300",
            "53100",
            "57P01",
            "57P03",
            "08006",
            "0A000",
            "XX000",
            "3F000",
            "42883",
            "42P01",
            "28P01",
            "28000",
        ),
        (503, "UNAVAILABLE"),
    ),
    **dict.fromkeys(("P0001", "XX001", "42601", "2F005", "IMxxx"), (500, "INTERNAL_ERROR")),
    "IM404": (404, "NOT_FOUND"),
    "IM418": (418, "TEAPOT"),
}


@pytest.mark.parametrize("state", STATES)
def test_a_state_has_one_meaning(state: str) -> None:
    error = asyncpg.PostgresError.new({"C": state, "M": "secret words", "D": "secret row"})
    if state.startswith("IM"):
        word = {"IM404": "NOT_FOUND", "IM418": "TEAPOT"}.get(state, "")
        error = asyncpg.PostgresError.new(
            {"C": state, "M": "Said", "D": json.dumps({"code": word, "params": {"a": 1}}), "H": "do"}
        )
    answer = translate(error, "id")
    assert (answer.status, answer.detail["code"]) == STATES[state]
    assert "secret" not in answer.body().decode()
    assert ("Retry-After" in answer.headers) == (answer.status == 503)
    if state == "IM418":
        assert json.loads(answer.body()) == {
            "detail": {"code": "TEAPOT", "message": "Said", "params": {"a": 1}, "hint": "do"}
        }


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.InterfaceError("secret"),
        asyncpg.InternalClientError("secret"),
        TimeoutError(),
        DatabaseError("secret"),
        ConnectionRefusedError("secret"),
    ],
)
def test_a_database_that_is_away_is_503(error: Exception) -> None:
    answer = translate(error, "id")
    assert (answer.status, answer.headers) == (503, {"Retry-After": "1"})
    assert "secret" not in answer.body().decode()


def test_an_error_of_ours_passes_and_a_stranger_is_500() -> None:
    mine = ApiError(409, "CONFLICT", "Mine")
    assert translate(mine, "id") is mine
    assert translate(ZeroDivisionError("secret"), "id").detail["params"] == {"request_id": "id"}
